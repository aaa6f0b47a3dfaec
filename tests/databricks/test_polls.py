"""What a poll answers: states, failures in the code's own words, outputs, numbers, links, logs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.databricks.driving import EXISTING, HOST, NEW, Driver
from tests.databricks.fake_databricks import FIRST, FakeDatabricks
from tests.databricks.runs import Plan
from tests.databricks.stored import error_pb, outputs_pb
from tests.vendors.refusing import NoCredentialsError, refusing_reads

from flyteagents import (
    Forbidden,
    JobNotFound,
    Kind,
    Phase,
    Status,
    Type,
    Unauthenticated,
    Unavailable,
)
from flyteagents.testing import Response
from flyteagents_databricks.failures import TEXT
from flyteagents_databricks.job import DatabricksJob
from flyteagents_databricks.run import RunTask
from flyteagents_databricks.runs import CUT, last_attempts

FAILED = Plan(
    result="FAILED",
    code="RUN_EXECUTION_ERROR",
    message="Workload failed, see run output for details",
)
OWN_FILE = {**EXISTING, "python_file": "/Workspace/mine.py"}


async def ended(
    databricks: FakeDatabricks,
    driver: Driver,
    plan: Plan,
    conf: dict[str, Any] = EXISTING,
    *,
    prefix: str = "",
    declared: Any = None,
    **options: Any,
) -> Status:
    """What is told of a run that goes by `plan`."""
    databricks.will("tasks", plan)
    job = await driver.create(driver.task(conf, **options))
    return await driver.get(job, prefix=prefix, declared=declared)


async def test_a_run_goes_through_its_states_and_says_why_it_waits(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    databricks.will("tasks", Plan(queued=math.inf))
    job = await driver.create(driver.task(EXISTING))
    status = await driver.get(job)
    assert status.phase is Phase.INITIALIZING
    assert status.message == "Queued due to reaching maximum active runs"
    for plan, phase in (
        (Plan(pending=math.inf), Phase.INITIALIZING),
        (Plan(running=math.inf), Phase.RUNNING),
        (Plan(), Phase.SUCCEEDED),
        (Plan(state={"state": {"life_cycle_state": "HIBERNATING"}}), None),
        (Plan(state={}), None),
    ):
        databricks.run.plan = plan
        assert (await driver.get(job)).phase is phase


async def test_what_our_entrypoint_says_is_the_codes_own_message_and_kind(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    for kind, phase in (
        ("TaskFailed", Phase.FAILED),
        ("RecoverableTaskFailed", Phase.RETRYABLE_FAILED),
    ):
        plan = replace(FAILED, error=f"{kind}: [USER:ValueError] no rows", trace="x")
        databricks.runs.clear()
        databricks.tokens.clear()
        status = await ended(databricks, driver, plan)
        assert status.phase is phase
        assert (status.code, status.message) == (None, "no rows")


async def test_what_databricks_has_of_the_failure_is_told_without_its_colours(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    trace = "\x1b[0;31mTraceback (most recent call last):\x1b[0m\n" + "\n".join(
        f"  line {n}" for n in range(50)
    )
    plan = replace(FAILED, error="ValueError: boom", trace=trace)
    status = await ended(databricks, driver, plan, OWN_FILE)
    assert status.phase is Phase.RETRYABLE_FAILED
    assert status.code == "RUN_EXECUTION_ERROR"
    assert status.message is not None
    first, *rest = status.message.splitlines()
    assert first == "ValueError: boom"
    assert rest[0] == "  line 20"
    assert len(rest) == 30
    assert "\x1b" not in status.message


async def test_code_that_failed_is_not_retried_where_that_is_switched_off(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN", "dapi-of-the-service")
    async with Driver(databricks.url, retry_failed_code=False).opened() as driver:
        status = await ended(databricks, driver, FAILED, OWN_FILE)
    assert status.phase is Phase.FAILED


async def test_the_task_that_failed_is_found_on_whichever_page(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    plan = replace(FAILED, error="ValueError: boom", tasks=230)
    status = await ended(databricks, driver, plan, OWN_FILE)
    assert status.message is not None
    assert "ValueError: boom" in status.message
    assert databricks.count("GET", "*/runs/get") == 1 + 3  # the page of the link, and three
    assert status.statistics["tasks"] == 230


async def test_all_tasks_that_failed_are_counted_and_speak_for_the_run_only_together(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    words = "RecoverableTaskFailed: [USER:Busy] come back"
    plan = replace(FAILED, error=words, tasks=230, ending=3)
    status = await ended(databricks, driver, plan)
    assert status.phase is Phase.RETRYABLE_FAILED
    assert str(status.message).count("come back") == 3
    assert str(status.message).splitlines()[0] == "task flyte_task: come back"
    databricks.run.plan = replace(plan, ending=130)
    job = DatabricksJob(databricks_instance=HOST, run_id=str(FIRST))
    status = await driver.get(job)
    assert "and 110 more tasks failed" in str(status.message)
    # What the others say is not known, so it is as if nothing had been said.
    assert status.code == "RUN_EXECUTION_ERROR"


async def test_of_many_tasks_the_one_that_failed_first_is_told_in_full(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    trace = "\n".join(f"  line {n} {'x' * 100}" for n in range(30))
    lost = replace(FAILED, running=0.3, error="ConnectionError: lost\nits peer", trace=trace)
    cause = replace(FAILED, running=0.2, error="KeyError: the cause", trace=trace)
    stopped = Plan(running=0.1, result="CANCELED", message="stopped")
    upstream = Plan(running=0.1, result="UPSTREAM_FAILED", message="upstream")
    each = (*[stopped] * 15, *[upstream] * 5, *[lost] * 24, cause, *[Plan()] * 5)
    tasks = [{"task_key": f"t{n}", "notebook_task": {"notebook_path": "/n"}} for n in range(50)]
    databricks.add(77, replace(FAILED, tasks=50, each=each), {"tasks": tasks})
    job = DatabricksJob(databricks_instance=HOST, run_id="77")

    message = str((await driver.get(job)).message)
    first, *rest = message.splitlines()
    assert first == "task t44: KeyError: the cause"
    assert "line 29" in message
    assert rest[-20:-1] == [f"task t{n}: ConnectionError: lost" for n in range(20, 39)]
    assert rest[-1] == "and 20 more tasks failed"
    assert databricks.count("GET", "*/runs/get-output") == 20
    assert len(message) <= TEXT

    log = await driver.agent.logs(job, driver.call("logs", job), "", 2000)
    texts = [line.message for line in log.lines]
    assert texts.count("KeyError: the cause") == 1
    assert "what 30 more tasks wrote is on the run's page" in texts


@pytest.mark.parametrize("last", [Plan(exit="3"), replace(FAILED, error="ValueError: the last")])
async def test_of_a_task_that_databricks_made_again_the_last_attempt_counts(
    databricks: FakeDatabricks, driver: Driver, last: Plan
) -> None:
    plan = replace(last, earlier=(replace(FAILED, error="KeyError: the first"),))
    declared = {"n": Type(Kind.INTEGER)}
    status = await ended(databricks, driver, plan, notebookPath="/n", declared=declared)
    assert status.outputs == ({"n": 3} if last.exit else None)
    assert "the first" not in str(status.message)
    assert ("the last" in str(status.message)) is bool(last.error)


def test_tasks_whose_long_keys_were_cut_are_not_taken_for_attempts_of_one() -> None:
    for letters, kept in ((CUT - 1, [2]), (CUT, [1, 2])):
        key = "k" * letters
        tasks = [RunTask(task_key=key, run_id=n + 1, attempt_number=n) for n in range(2)]
        assert [task.run_id for task in last_attempts(tasks)] == kept


async def test_a_notebook_beside_a_file_does_not_hide_what_the_files_code_left(
    databricks: FakeDatabricks, driver: Driver, tmp_path: Path
) -> None:
    error_pb(tmp_path, "USER:Unknown", "no rows like 5", recoverable=False)
    file = {"spark_python_task": {"python_file": "/mine.py"}}
    run = databricks.add(
        77, Plan(tasks=2), {"tasks": [file, {"notebook_task": {"notebook_path": "/n"}}]}
    )
    job = DatabricksJob(databricks_instance=HOST, run_id=str(run.id))
    assert (await driver.get(job, prefix=str(tmp_path))).phase is Phase.FAILED


async def test_a_running_run_costs_one_request(databricks: FakeDatabricks, driver: Driver) -> None:
    databricks.will("tasks", Plan(running=math.inf, tasks=230))
    job = await driver.create(driver.task(EXISTING))
    before = databricks.total
    await driver.get(job)
    assert databricks.total == before + 1


async def test_error_pb_is_told_after_a_failure_and_after_a_success(
    databricks: FakeDatabricks, driver: Driver, tmp_path: Path
) -> None:
    for plan in (FAILED, Plan()):
        for recoverable, phase in ((False, Phase.FAILED), (True, Phase.RETRYABLE_FAILED)):
            error_pb(tmp_path, "USER:Unknown", "no rows like 5", recoverable)
            databricks.runs.clear()
            databricks.tokens.clear()
            status = await ended(databricks, driver, plan, OWN_FILE, prefix=str(tmp_path))
            assert (status.phase, status.message) == (phase, "no rows like 5")
            assert status.code is None


async def test_a_success_that_cannot_be_checked_is_none(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    status = await ended(databricks, driver, Plan(), OWN_FILE, prefix="nowhere://x/0")
    assert status.phase is Phase.FAILED
    assert status.message is not None
    assert "nowhere://x/0/error.pb" in status.message


async def test_a_success_whose_store_refuses_waits_for_the_right_to_read_or_for_credentials(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    job = await driver.create(driver.task(OWN_FILE))
    with refusing_reads(), pytest.raises(Forbidden, match="the right to read"):
        await driver.get(job, prefix="memory://x/0")
    with (
        refusing_reads(NoCredentialsError()),
        pytest.raises(Unauthenticated, match="are missing or wrong"),
    ):
        await driver.get(job, prefix="memory://x/0")


@pytest.mark.parametrize("conf", [EXISTING, {**NEW, "python_file": "/mine.py"}])
async def test_a_run_that_fails_when_its_code_does_need_not_be_checked(
    databricks: FakeDatabricks, driver: Driver, conf: dict[str, Any]
) -> None:
    status = await ended(databricks, driver, Plan(), conf, prefix="nowhere://x/0")
    assert status.phase is Phase.SUCCEEDED


async def test_our_entrypoint_is_known_where_an_operator_has_put_it(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN", "dapi-of-the-service")
    async with Driver(databricks.url, entrypoint_path="/Volumes/a/e.py").opened() as driver:
        status = await ended(databricks, driver, Plan(), prefix="nowhere://x/0")
    assert status.phase is Phase.SUCCEEDED


async def test_a_run_in_the_shape_of_2_0_is_its_own_task(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    run = databricks.add(77, replace(FAILED, error="boom", tasks=0))
    job = DatabricksJob(databricks_instance=HOST, run_id="77")
    assert (await driver.get(job)).message == "boom"
    run.plan = Plan(tasks=0)
    assert (await driver.get(job, prefix="nowhere://x")).phase is Phase.FAILED


async def test_flytes_own_file_on_a_new_cluster_is_checked_for_flyte_2(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    conf = {**NEW, "python_file": "/mine.py"}
    status = await ended(
        databricks, driver, Plan(), conf, prefix="nowhere://x/0", args=("a0", "--inputs", "x")
    )
    assert status.phase is Phase.FAILED


async def test_a_passing_failure_of_the_platform_is_retried_with_its_own_words(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    plan = Plan(
        end="INTERNAL_ERROR", code="CLOUD_FAILURE", type="CLOUD_FAILURE", message="spot was lost"
    )
    status = await ended(databricks, driver, plan)
    assert status.phase is Phase.RETRYABLE_FAILED
    assert status.code == "CLOUD_FAILURE"
    assert status.message == (f"spot was lost | run={HOST}/run/{FIRST}")


async def test_a_notebooks_exit_value_is_its_outputs(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    declared = {"n": Type(Kind.INTEGER), "name": Type(Kind.STRING)}
    plan = Plan(exit='{"n": 3, "name": "x"}')
    status = await ended(
        databricks, driver, plan, notebookPath="/n", declared=declared, prefix="nowhere://x"
    )
    assert (status.phase, status.outputs) == (Phase.SUCCEEDED, {"n": 3, "name": "x"})
    databricks.run.plan = Plan(exit='{"n": 3', truncated=True)
    job = DatabricksJob(databricks_instance=HOST, run_id=str(FIRST))
    status = await driver.get(job, declared=declared)
    assert status.phase is Phase.FAILED
    assert "cut it off" in (status.message or "")
    status = await driver.get(job)
    assert (status.phase, status.outputs) == (Phase.SUCCEEDED, {})


async def test_the_outputs_of_a_run_that_was_taken_over_come_with_the_answer(
    databricks: FakeDatabricks, driver: Driver, tmp_path: Path
) -> None:
    outputs_pb(tmp_path, {"n": 3})
    declared = {"n": Type(Kind.INTEGER)}
    databricks.will("tasks", Plan())
    job = await driver.create(driver.task(EXISTING))
    status = await driver.get(job, prefix=str(tmp_path), declared=declared, adopted=True)
    assert (status.phase, status.outputs) == (Phase.SUCCEEDED, {"n": 3})
    status = await driver.get(job, prefix=str(tmp_path), declared=declared)
    assert status.outputs is None  # Flyte reads them itself


async def test_a_run_that_is_gone_is_not_found(databricks: FakeDatabricks, driver: Driver) -> None:
    job = await driver.create(driver.task(EXISTING))
    databricks.delete(databricks.run)
    with pytest.raises(JobNotFound):
        await driver.get(job)
    with pytest.raises(JobNotFound):
        await driver.cancel(job)


async def test_an_answer_that_is_none_is_a_hiccup(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    job = await driver.create(driver.task(EXISTING))
    for reply in (
        Response(502, "<html>bad gateway</html>"),
        Response(404, "default backend - 404"),
        Response(404),
        Response(400, "bad request"),
        Response(451),
        Response(200, "<html>maintenance</html>"),
        Response(200, {"tasks": 5}),
    ):
        databricks.script("GET", "*/runs/get", reply)
        with pytest.raises(Unavailable):
            await driver.get(job)


async def test_a_cancel_is_asked_for_once_and_a_run_that_has_ended_is_fine(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    databricks.will("tasks", Plan(running=math.inf, dies=math.inf))
    job = await driver.create(driver.task(EXISTING))
    databricks.script("POST", "*/runs/cancel", Response(200, "<html>down for maintenance</html>"))
    with pytest.raises(Unavailable, match="is a page"):
        await driver.cancel(job)
    databricks.requests.clear()
    await driver.cancel(job)
    [cancel] = [one for one in databricks.requests if one.path.endswith("/runs/cancel")]
    assert cancel.json() == {"run_id": FIRST}
    status = await driver.get(job)
    assert (status.phase, status.cancelling) == (Phase.RUNNING, True)
    databricks.run.plan = Plan(running=math.inf)
    assert (await driver.get(job)).phase is Phase.ABORTED
    await driver.cancel(job)


async def test_numbers_are_told(databricks: FakeDatabricks, driver: Driver) -> None:
    status = await ended(databricks, driver, Plan())
    assert status.statistics["execution_ms"] == 1200
    assert status.statistics["termination_code"] == "SUCCESS"
    assert status.info["run_id"] == str(FIRST)
    assert status.info["cluster_id"] == f"0923-{FIRST}"
    assert status.started is not None
    assert status.ended is not None


async def test_the_log_is_what_the_tasks_wrote(databricks: FakeDatabricks, driver: Driver) -> None:
    plan = replace(FAILED, logs="one\ntwo", error="boom", truncated=True)
    databricks.will("tasks", plan)
    job = await driver.create(driver.task(EXISTING))
    found = await driver.agent.logs(job, driver.call("logs", job), "", 100)
    texts = [line.message for line in found.lines]
    assert texts[1:5] == ["earlier lines were cut off by Databricks", "one", "two", "boom"]
    assert "TERMINATED FAILED" in texts[-1]
    page = await driver.agent.logs(job, driver.call("logs", job), "2", 1)
    assert ([line.message for line in page.lines], page.next) == (["one"], "3")
