"""What becomes of a key in a task's config that is not known, or has no effect in the task."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
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


@pytest.mark.parametrize(
    ("custom", "told_of"),
    [
        ({"batch": True}, "'batch' in the task's config"),
        ({"role": "A", "connection_kwargs": {"role": "B"}}, "'role' in connection_kwargs"),
        (
            {"connection_kwargs": {"timezone": "UTC", "session_parameters": {"TIMEZONE": "CET"}}},
            "'timezone' in connection_kwargs",
        ),
        (
            {"connection_kwargs": {"region": "eu-west-1", "host": "a.snowflakecomputing.com"}},
            "'region' in connection_kwargs",
        ),
        (
            {"connection_kwargs": {"session_parameters": {"multi_statement_count": 2}}},
            "'MULTI_STATEMENT_COUNT' in session_parameters",
        ),
    ],
)
def test_what_something_else_goes_before_is_told(
    custom: Mapping[str, object], told_of: str
) -> None:
    [sentence] = told(custom)
    assert sentence.startswith(f"{told_of} does nothing: ")


def test_a_batch_is_written_into_the_statement_and_says_so() -> None:
    driver = Driver("http://127.0.0.1:1")
    custom = {**CONFIG, "batch": True, "bindings": "server"}
    task = driver.task("INSERT INTO t VALUES (%(a)s)", {"a": [1, 2]}, custom=custom)
    [sentence] = driver.agent.warnings(task)
    assert sentence.startswith("'bindings' in the task's config does nothing: ")


def test_no_task_of_an_sdks_is_warned_of(tasks: dict[str, Authored]) -> None:
    driver = Driver("http://127.0.0.1:1")
    for name, task in tasks.items():
        if name.startswith("snowflake"):
            read = driver.read(task.task)
            assert driver.agent.warnings(read) == [], name
    assert told({"table": "T"}) == []
