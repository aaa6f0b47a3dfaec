"""What becomes of a key in a task's config that is not known."""

from __future__ import annotations

from collections.abc import Mapping

from tests.sdk.templates import Authored
from tests.snowflake.driving import CONFIG, Driver


def told(custom: Mapping[str, object]) -> list[str]:
    driver = Driver("http://127.0.0.1:1")
    return list(driver.agent.warnings(driver.task("SELECT 1", custom={**CONFIG, **custom})))


def test_what_nobody_reads_does_nothing() -> None:
    assert told({"warehous": "WH"}) == [
        "'warehous' in the task's config is not known and does nothing; did you mean 'warehouse'?"
    ]
    assert told({"connection_kwargs": {"rol": "ANALYST", "login_timeout": 5, "zebra": 1}}) == [
        "'rol' in connection_kwargs is not known and does nothing; did you mean 'role'?",
        "'zebra' in connection_kwargs is not known and does nothing",
    ]


def test_a_session_parameter_is_passed_on_and_told_when_it_looks_like_a_slip() -> None:
    given = {"week_strat": 1, "TIMEZONE": "UTC", "SOMETHING_OF_TOMORROW": 1}
    assert told({"connection_kwargs": {"session_parameters": given}}) == [
        "'WEEK_STRAT' in session_parameters is not known to this agent and was passed on as it "
        "is; did you mean 'WEEK_START'?"
    ]


def test_no_task_of_an_sdks_is_warned_of(tasks: dict[str, Authored]) -> None:
    driver = Driver("http://127.0.0.1:1")
    for name, task in tasks.items():
        if name.startswith("snowflake"):
            read = driver.read(task.task)
            assert driver.agent.warnings(read) == [], name
    assert told({"table": "T"}) == []
