"""What is told in part of a vendor's text tells no part of a secret."""

from __future__ import annotations

from dataclasses import replace

from tests.databricks.driving import HOST, Driver
from tests.databricks.fake_databricks import FIRST, FakeDatabricks
from tests.databricks.test_polls import FAILED, ended

from flyteagents._redact import remember
from flyteagents_databricks.failures import TEXT
from flyteagents_databricks.job import DatabricksJob


async def test_no_cut_goes_through_the_middle_of_a_secret(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    """Half of one is not known for one, so it is masked before."""
    secret = "c4nary" * 10
    remember(secret)
    for room in range(900, 1000, 7):
        text = f"{'x' * room} {secret} {'y' * 2000} {secret} {'z' * (2 * room)}"
        plan = replace(FAILED, error=f"ValueError: {text}", exit=text, logs="")
        databricks.runs.clear()
        databricks.tokens.clear()
        message = (await ended(databricks, driver, plan)).message or ""
        assert len(message) <= TEXT
        job = DatabricksJob(databricks_instance=HOST, run_id=str(FIRST))
        log = await driver.agent.logs(job, driver.call("logs", job), "", 100)
        [exited] = [line.message for line in log.lines if "exited with" in line.message]
        assert "c4n" not in message + exited
        assert "nary" not in message + exited


async def test_the_end_of_a_traceback_has_no_rest_of_a_key(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    key = "\n".join(
        ["-----BEGIN PRIVATE KEY-----", *["c4nary"] * 40, "-----END PRIVATE KEY-----", "wrong key"]
    )
    plan = replace(FAILED, error="ValueError: boom", trace=key)
    message = (await ended(databricks, driver, plan)).message
    assert message == "ValueError: boom\n[redacted]\nwrong key"
