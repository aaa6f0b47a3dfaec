"""What becomes of a key in a task's config that is not known, or has no effect in the task."""

from __future__ import annotations

import pytest
from tests.bigquery.driving import CUSTOM, Driver
from tests.sdk.templates import Authored

from flyteagents_bigquery.request import insert_body, named_job


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


@pytest.mark.parametrize("key", ["query", "jobType"])
def test_a_key_of_a_whole_configuration_is_told_and_not_sent(key: str) -> None:
    driver = Driver("http://127.0.0.1:1")
    task = driver.task(custom={**CUSTOM, key: "SELECT 2"})
    [sentence] = driver.agent.warnings(task)
    assert sentence.startswith(f"{key!r} in the task's config does nothing: ")
    body = insert_body(task, named_job(task, driver.agent.settings))
    assert "SELECT 2" not in str(body)


def test_a_label_that_the_agent_needs_or_has_no_room_for_is_told() -> None:
    driver = Driver("http://127.0.0.1:1")
    assert driver.agent.warnings(driver.task(custom={**CUSTOM, "labels": {"team": "me"}})) == []
    many = {f"l{number:02}": "x" for number in range(63)}
    task = driver.task(custom={**CUSTOM, "labels": {**many, "flyte-fp": "mine"}}, timeout=60.0)
    assert driver.agent.warnings(task) == [
        f"{name!r} in labels does nothing: the agent needs its name or its room"
        for name in ("flyte-fp", "l62")
    ]


def test_no_task_of_an_sdks_is_warned_of(tasks: dict[str, Authored]) -> None:
    driver = Driver("http://127.0.0.1:1")
    for name, task in tasks.items():
        if name.startswith("bigquery"):
            read = driver.read(task.task)
            assert driver.agent.warnings(read) == [], name
