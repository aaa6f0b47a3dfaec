"""What becomes of a key in a task's config that is not known."""

from __future__ import annotations

import pytest
from tests.bigquery.driving import CUSTOM, Driver
from tests.sdk.templates import Authored


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("useLegacySQL", "was passed on as it is; did you mean 'useLegacySql'?"),
        ("writeDispositon", "was passed on as it is; did you mean 'writeDisposition'?"),
        ("label", "was passed on as it is; did you mean 'labels'?"),
        ("Locaton", "does nothing; did you mean 'Location'?"),
    ],
)
def test_a_slip_is_told_with_what_becomes_of_it(key: str, told: str) -> None:
    driver = Driver("http://127.0.0.1:1")
    (warning,) = driver.agent.warnings(driver.task(custom={**CUSTOM, key: True}))
    assert warning.startswith(f"{key!r} in the task's config is not known")
    assert told in warning


@pytest.mark.parametrize("key", ["useLegacySql", "location", "projectid", "anInventionOfTomorrow"])
def test_what_bigquery_may_know_is_no_slip(key: str) -> None:
    driver = Driver("http://127.0.0.1:1")
    assert driver.agent.warnings(driver.task(custom={**CUSTOM, key: "x1"})) == []


def test_no_task_of_an_sdks_is_warned_of(tasks: dict[str, Authored]) -> None:
    driver = Driver("http://127.0.0.1:1")
    for name, task in tasks.items():
        if name.startswith("bigquery"):
            read = driver.read(task.task)
            assert driver.agent.warnings(read) == [], name
