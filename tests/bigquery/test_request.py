"""What jobs.insert is told."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from tests.bigquery.driving import CUSTOM, Driver

from flyteagents import InvalidTask
from flyteagents_bigquery.labels import RULES
from flyteagents_bigquery.request import insert_body, named_job

TABLE = {"projectId": "p", "datasetId": "ds", "tableId": "t"}


@pytest.fixture
def driver() -> Driver:
    return Driver("http://127.0.0.1:1")


def body(driver: Driver, *args: Any, **options: Any) -> dict[str, Any]:
    task = driver.task(*args, **options)
    return insert_body(task, named_job(task, driver.agent.settings))


def test_the_configuration_arrives_with_whole_numbers_and_without_the_keys_of_the_sdks(
    driver: Driver,
) -> None:
    custom = {
        "Location": None,
        "ProjectID": "p",
        "Domain": "d",
        "maximumBytesBilled": "1000000000",
        "maximumBillingTier": 2.0,
        "destinationTable": TABLE,
        "useQueryCache": False,
        "timePartitioning": {"type": "DAY", "expirationMs": "86400000"},
        "tableDefinitions": {"sheet": {"csvOptions": {"skipLeadingRows": 1.0}}},
        "secrets": {"google_application_credentials": "key"},
    }
    made = body(driver, "SELECT 1", custom)
    assert made["configuration"]["query"] == {
        "query": "SELECT 1",
        "useLegacySql": False,
        "maximumBytesBilled": "1000000000",
        "maximumBillingTier": 2,
        "destinationTable": TABLE,
        "useQueryCache": False,
        "timePartitioning": {"type": "DAY", "expirationMs": "86400000"},
        "tableDefinitions": {"sheet": {"csvOptions": {"skipLeadingRows": 1}}},
    }
    assert type(made["configuration"]["query"]["maximumBillingTier"]) is int
    assert made["jobReference"].keys() == {"projectId", "jobId"}


def test_what_the_sdks_drop_is_honoured(driver: Driver) -> None:
    custom = {
        **CUSTOM,
        "labels": {"team": "data", "flyte-fp": "forged"},
        "jobTimeoutMs": "5000",
        "reservation": "projects/x/locations/EU/reservations/r",
        "maxSlots": 100.0,
        "dryRun": True,
    }
    made = body(driver, "SELECT 1", custom, timeout=60.0)["configuration"]
    assert made["labels"]["team"] == "data"
    assert made["labels"]["flyte-fp"] != "forged"
    assert "flyte-timeout" not in made["labels"]
    assert (made["jobTimeoutMs"], made["maxSlots"], made["dryRun"]) == ("5000", 100, True)
    assert made["reservation"] == custom["reservation"]
    assert not {"labels", "jobTimeoutMs", "reservation", "maxSlots", "dryRun"} & set(made["query"])


def test_a_key_that_is_new_at_bigquery_is_passed_on(driver: Driver) -> None:
    custom = {**CUSTOM, "writeIncrementalResults": True, "Unknown": "of another connector"}
    query = body(driver, "SELECT 1", custom)["configuration"]["query"]
    assert query["writeIncrementalResults"] is True
    assert "Unknown" not in query


@pytest.mark.parametrize(
    "custom", [{"projectId": "p", "location": "EU"}, {"ProjectID": "p", "Location": "EU"}]
)
def test_the_go_plugins_spelling_is_read_too(driver: Driver, custom: dict[str, object]) -> None:
    reference = body(driver, "SELECT 1", custom)["jobReference"]
    assert (reference["projectId"], reference["location"]) == ("p", "EU")


def test_legacy_sql_stays_legacy_where_asked_for(driver: Driver) -> None:
    query = body(driver, "SELECT 1", {**CUSTOM, "useLegacySql": True})["configuration"]["query"]
    assert query["useLegacySql"] is True
    assert "parameterMode" not in query


def test_the_jobs_limit_comes_two_minutes_after_the_tasks_timeout(driver: Driver) -> None:
    made = body(driver, timeout=timedelta(minutes=10))["configuration"]
    assert made["jobTimeoutMs"] == "720000"
    assert made["labels"]["flyte-timeout"] == "task"
    assert "jobTimeoutMs" not in body(driver)["configuration"]


def test_the_job_id_and_the_labels_say_whose_job_it_is(driver: Driver) -> None:
    task = driver.task(execution="Run_1", number=2)
    made = insert_body(task, named_job(task, driver.agent.settings))
    assert made["jobReference"]["jobId"] == f"flyte-{task.key.hex}"
    assert re.fullmatch(r"flyte-[0-9a-f]{40}", made["jobReference"]["jobId"])
    assert made["configuration"]["labels"] == {
        "flyte-project": "tests",
        "flyte-domain": "development",
        "flyte-exec": "run_1",
        "flyte-node": "n0",
        "flyte-task": "tests_task",
        "flyte-attempt": "2",
        "flyte-fp": str(task.fingerprint),
    }


def test_labels_fit_what_bigquery_allows() -> None:
    assert RULES.value("a.b/C d") == "a_b_c_d"
    long = RULES.value("x" * 80)
    assert len(long) == 63
    assert long != RULES.value("x" * 81)


def test_many_labels_of_the_users_leave_ours_out_but_the_fingerprint(driver: Driver) -> None:
    given = {f"l{number}": "v" for number in range(62)}
    labels = body(driver, "SELECT 1", {**CUSTOM, "labels": given})["configuration"]["labels"]
    assert len(labels) == 64
    assert given.items() <= labels.items()
    assert "flyte-fp" in labels


@pytest.mark.parametrize("count", [62, 63, 64])
def test_there_are_never_more_labels_than_bigquery_allows(driver: Driver, count: int) -> None:
    given = {f"l{number:02}": "v" for number in range(count)}
    made = body(driver, "SELECT 1", {**CUSTOM, "labels": given}, timeout=60.0)
    labels = made["configuration"]["labels"]
    assert len(labels) == 64
    assert {"flyte-fp", "flyte-timeout"} <= labels.keys()
    assert sum(name in given for name in labels) == 62


def test_more_labels_than_bigquery_allows_are_refused(driver: Driver) -> None:
    given = {f"l{number}": "v" for number in range(65)}
    with pytest.raises(InvalidTask, match="65 tags or labels; 64 are allowed"):
        body(driver, "SELECT 1", {**CUSTOM, "labels": given})


def test_a_task_without_a_project_takes_the_services_or_says_so(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidTask, match="GOOGLE_CLOUD_PROJECT"):
        body(driver, "SELECT 1", {"Location": "EU"})
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "theirs")
    assert body(Driver("http://x"), "SELECT 1", {"Domain": "d"})["jobReference"]["projectId"] == (
        "theirs"
    )


def test_a_task_without_a_statement_is_refused(driver: Driver) -> None:
    with pytest.raises(InvalidTask, match="no SQL statement"):
        body(driver, " ")


@pytest.mark.parametrize(
    ("custom", "named"),
    [
        ({"ProjectID": "../secret"}, "ProjectID"),
        ({**CUSTOM, "Location": "EU/../.."}, "Location"),
        ({**CUSTOM, "labels": {"a": ["b"]}}, "labels"),
        ({**CUSTOM, "maxSlots": "many"}, "maxSlots"),
        ({**CUSTOM, "parameterMode": "OTHER"}, "parameterMode"),
    ],
)
def test_a_configuration_that_cannot_be_is_named(
    driver: Driver, custom: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidTask, match=named):
        driver.task("SELECT 1", custom)


def test_the_fingerprint_is_of_the_work_and_nothing_else(driver: Driver) -> None:
    same = driver.task().fingerprint
    incidental = {
        **CUSTOM,
        "Location": "US",
        "labels": {"a": "b"},
        "priority": "BATCH",
        "maxSlots": 5,
        "jobTimeoutMs": "1",
        "Domain": "other",
    }
    assert driver.task("SELECT 1", incidental, number=1, timeout=9.0).fingerprint == same
    assert driver.task("SELECT 2").fingerprint != same
    assert driver.task("SELECT 1", {**CUSTOM, "useQueryCache": False}).fingerprint != same
    assert driver.task("SELECT 1", {**CUSTOM, "ProjectID": "q"}).fingerprint != same
    assert driver.task("SELECT 1", inputs={"n": 1}).fingerprint != same


def test_only_a_job_whose_location_is_known_has_a_handle(driver: Driver) -> None:
    handle = driver.agent.handle(driver.task())
    assert handle is not None
    assert handle.location == "EU"
    nowhere = {"ProjectID": "p", "Location": None}
    assert driver.agent.handle(driver.task("SELECT 1", nowhere)) is None
    assert driver.agent.handle(driver.task("SELECT 1", {**CUSTOM, "dryRun": True})) is None
    placed = Driver("http://x", location="asia-east1").agent
    found = placed.handle(driver.task("SELECT 1", nowhere))
    assert found is not None
    assert found.location == "asia-east1"
