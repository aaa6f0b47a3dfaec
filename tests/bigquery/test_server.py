"""The agent in a real server, called as Flyte calls it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.bigquery.driving import CUSTOM, TASK_TYPE
from tests.bigquery.fake_bigquery import FakeBigQuery, FakeJob, Plan, error
from tests.bigquery.google_tokens import MetadataServer
from tests.vendors import served
from tests.vendors.served import SHORT, Served, assert_refused

from flyteagents import Phase, StructuredDataset
from flyteagents.testing import (
    FakePropeller,
    FlyteTask,
    Generation,
    Held,
    Response,
    SlowReply,
    free_port,
    task_template,
)

NOWHERE: dict[str, object] = {"ProjectID": "p", "Location": None, "Domain": "d"}
RESULTS = {"results": StructuredDataset}
UNTYPED = [{"name": "n", "parameterType": {"type": "ARRAY"}}]
UNAVAILABLE = error(503, "backendError", "down")


def environment(bigquery: FakeBigQuery) -> Mapping[str, str]:
    return {
        "FLYTEAGENTS_BIGQUERY_URL": bigquery.url,
        "FLYTEAGENTS_BIGQUERY_ANONYMOUS": "true",
    }


def flyte(
    bigquery: FakeBigQuery, generation: Generation = 1, deadline: float = 10.0, **env: str
) -> contextlib.AbstractAsyncContextManager[FakePropeller]:
    settings = {**environment(bigquery), **env}
    return served.flyte("bigquery", settings, generation=generation, deadline=deadline)


def task(statement: str = "SELECT 1", custom: Any = CUSTOM, **options: Any) -> FlyteTask:
    return task_template(TASK_TYPE, custom=custom, sql=statement, **options)


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_task_runs_to_its_output(bigquery: FakeBigQuery, generation: Generation) -> None:
    bigquery.will("SELECT", Plan(pending=0.2, running=0.2, query={"totalBytesBilled": "7"}))
    async with flyte(bigquery, generation) as propeller:
        outcome = await propeller.run(task(inputs={"n": 1}, outputs=RESULTS), repeats=2)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert outcome.failures == []
    assert bigquery.inserted == 1
    table = bigquery.job.configuration["query"]["destinationTable"]
    results = outcome.outputs["results"]
    assert isinstance(results, StructuredDataset)
    assert results.uri == f"bq://p:{table['datasetId']}.{table['tableId']}"
    [link] = outcome.links
    assert f"j=bq:EU:{bigquery.job.id}" in link.uri


async def test_a_query_of_a_moment_has_ended_in_its_first_answer(bigquery: FakeBigQuery) -> None:
    bigquery.will("SELECT", Plan(running=0.4))
    phases = []
    async with flyte(bigquery) as propeller:
        for _ in range(3):  # a vendor that takes 0.2 s to answer is not waited for: a slow one here
            attempt = propeller.attempt(task())
            created = await propeller.create(attempt)
            phases.append((await propeller.get(attempt, created.meta)).phase)
    assert Phase.SUCCEEDED in phases


async def test_a_task_that_declares_nothing_gets_nothing(bigquery: FakeBigQuery) -> None:
    async with flyte(bigquery) as propeller:
        outcome = await propeller.run(task())
    assert (outcome.phase, outcome.outputs) == (Phase.SUCCEEDED, {})


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_job_of_another_connectors_ends_with_its_result(
    bigquery: FakeBigQuery, generation: Generation
) -> None:
    """What is declared stands in no request after CreateTask, and the others keep no note."""
    table = {"projectId": "p", "datasetId": "d", "tableId": "t"}
    theirs = {"query": {"query": "SELECT 1", "destinationTable": table}}
    bigquery.add(FakeJob("b1c2", "p", "EU", theirs, Plan()))
    meta = b'{"job_id": "b1c2", "project": "p", "location": "EU"}'
    async with flyte(bigquery, generation) as propeller:
        got = await propeller.get(propeller.attempt(task()), meta)
    assert got.phase is Phase.SUCCEEDED
    assert got.outputs == {"results": StructuredDataset("bq://p:d.t")}


async def test_a_finished_jobs_numbers_are_metrics(bigquery: FakeBigQuery) -> None:
    bigquery.will("SELECT", Plan(query={"totalBytesBilled": "10485760"}))
    port = free_port()
    async with flyte(
        bigquery, FLYTEAGENTS_METRICS_PORT=str(port), FLYTEAGENTS_METRICS_HOST="127.0.0.1"
    ) as propeller:
        await propeller.run(task())

        def page() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
                return str(reply.read().decode())

        lines = (await asyncio.to_thread(page)).splitlines()
    [billed] = [line for line in lines if 'statistic="bytes_billed"' in line]
    assert float(billed.rpartition(" ")[2]) == 10485760


async def test_a_slow_insert_with_a_known_location_is_answered_in_time(
    bigquery: FakeBigQuery,
) -> None:
    bigquery.script("POST", "*", SlowReply(12.0))
    async with flyte(bigquery) as propeller:
        outcome = await propeller.run(task(outputs=RESULTS))
    assert outcome.phase is Phase.SUCCEEDED
    assert (outcome.attempts, outcome.failures, bigquery.inserted) == (1, [], 1)


async def test_a_job_whose_reply_was_lost_is_the_next_attempts(bigquery: FakeBigQuery) -> None:
    # Its location is known to BigQuery alone, and is not where an address without one leads.
    bigquery.place = "asia-east1"
    bigquery.will("INSERT", Plan(statement_type="INSERT", running=0.5))
    bigquery.script("POST", "*", SlowReply(4.0))
    async with flyte(bigquery, deadline=2.0) as propeller:
        outcome = await propeller.run(task("INSERT INTO t VALUES (1)", NOWHERE), attempts=9)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert outcome.attempts > 1
    assert bigquery.inserted == 1


async def test_a_failed_job_is_not_taken_over(bigquery: FakeBigQuery) -> None:
    bigquery.will("SELECT", Plan(error=("backendError", "try again")))
    async with flyte(bigquery) as propeller:
        outcome = await propeller.run(task(), attempts=2)
    assert outcome.phase is Phase.FAILED
    assert "[BIGQUERY_backendError] try again | job=p:EU.flyte-" in outcome.message
    assert (outcome.attempts, bigquery.inserted) == (2, 2)


class TestServed(Served[FakeBigQuery]):
    plugin = "bigquery"
    away = UNAVAILABLE
    away_words = "[BIGQUERY_backendError] down"
    cancels = "*/cancel"
    unknown = b'{"job_id": "unknown", "project": "p", "location": "EU"}'

    @pytest.fixture
    def vendor(self, bigquery: FakeBigQuery) -> FakeBigQuery:
        return bigquery

    def environment(self, vendor: FakeBigQuery) -> Mapping[str, str]:
        return environment(vendor)

    def runs(self, vendor: FakeBigQuery, seconds: float) -> FlyteTask:
        vendor.will("SELECT", Plan(running=seconds))
        return task(outputs=RESULTS)

    def never_starts(self) -> FlyteTask:
        return task("SELECT @n", {**CUSTOM, "queryParameters": UNTYPED}, inputs={"n": 1})

    def started(self, vendor: FakeBigQuery) -> int:
        return vendor.inserted


@pytest.mark.parametrize(
    ("status", "reason", "phase"),
    [
        (400, "invalidQuery", Phase.FAILED),
        (403, "accessDenied", Phase.FAILED),
        (404, "notFound", Phase.FAILED),
        (401, "authError", Phase.RETRYABLE_FAILED),
        (403, "rateLimitExceeded", Phase.RETRYABLE_FAILED),
    ],
)
async def test_a_refused_insert_reaches_the_user_and_is_no_error_of_the_call(
    bigquery: FakeBigQuery, status: int, reason: str, phase: Phase
) -> None:
    bigquery.will("SELECT", Plan(rejected=(status, reason, "in BigQuery's words")))
    words = "401" if status == 401 else "in BigQuery's words"
    async with flyte(bigquery) as propeller:
        await assert_refused(propeller, task("SELECT 1", NOWHERE), phase, words)


async def test_an_insert_into_a_service_that_is_down_is_sorted_out_by_polls(
    bigquery: FakeBigQuery,
) -> None:
    down = bigquery.script("POST", "*", UNAVAILABLE, repeat=True)
    async with flyte(bigquery) as propeller:
        attempt = propeller.attempt(task())
        created = await propeller.create(attempt, deadline=SHORT)
        assert created.ok
        assert {one.json()["jobReference"]["jobId"] for one in bigquery.requests} == {
            json.loads(created.meta)["j"]["job_id"]
        }
        answer = await propeller.get(attempt, created.meta)
        assert (answer.code, answer.phase) == ("OK", Phase.INITIALIZING)
        down.stop()
        retried = propeller.attempt(task("SELECT 1", NOWHERE))
        assert (await propeller.create(retried)).ok


async def test_a_fresh_pod_whose_metadata_server_is_late_burns_no_attempt(
    bigquery: FakeBigQuery,
) -> None:
    port = free_port()
    host = f"127.0.0.1:{port}"
    async with (
        flyte(
            bigquery, FLYTEAGENTS_BIGQUERY_ANONYMOUS="false", GCE_METADATA_HOST=host
        ) as propeller,
        MetadataServer(port) as metadata,
    ):
        await metadata.down()
        metadata.script("*", "*", Response(404), Response(404))
        running = asyncio.ensure_future(propeller.run(task(outputs=RESULTS)))
        await asyncio.sleep(0.5)
        assert not running.done()
        await metadata.up()
        outcome = await running
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert (outcome.attempts, outcome.failures, bigquery.inserted) == (1, [], 1)


async def test_a_parameter_of_a_type_that_is_not_whole_fails_the_task_with_its_path(
    bigquery: FakeBigQuery,
) -> None:
    async with flyte(bigquery) as propeller:
        made = task("SELECT @n", {**CUSTOM, "queryParameters": UNTYPED}, inputs={"n": 1})
        outcome = await propeller.run(made, attempts=3)
    assert (outcome.phase, outcome.attempts, outcome.failures) == (Phase.FAILED, 1, [])
    assert "queryParameters[0].parameterType.arrayType" in outcome.message


async def test_an_insert_that_is_refused_until_after_the_answer_is_sent_on(
    bigquery: FakeBigQuery,
) -> None:
    async with flyte(bigquery) as propeller:
        down = bigquery.script("POST", "*/jobs", UNAVAILABLE, repeat=True)
        attempt = propeller.attempt(task())
        created = await propeller.create(attempt, deadline=SHORT)
        assert created.ok
        answer = await propeller.get(attempt, created.meta)
        assert (answer.code, answer.phase) == ("OK", Phase.INITIALIZING)
        assert "has not taken the job on yet" in answer.resource.message
        down.stop()
        await until(lambda: bool(bigquery.jobs))
        assert (await propeller.get(attempt, created.meta)).phase is Phase.SUCCEEDED


async def test_a_job_that_appears_after_its_cancel_is_cancelled(bigquery: FakeBigQuery) -> None:
    bigquery.will("SELECT", Plan(running=math.inf))
    arrives = asyncio.Event()
    async with flyte(bigquery) as propeller:
        bigquery.script("POST", "*/jobs", Held(arrives))
        attempt = propeller.attempt(task())
        created = await propeller.create(attempt)
        assert created.ok
        assert bigquery.jobs == {}
        await propeller.delete(attempt, created.meta, deadline=1.0)
        arrives.set()
        await until(lambda: bool(bigquery.jobs) and bigquery.job.cancels > 0)
    assert bigquery.job.state == "DONE"


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_an_aborted_query_has_stopped_when_the_abort_is_answered(
    bigquery: FakeBigQuery,
) -> None:
    bigquery.will("SELECT", Plan(running=math.inf, dies=0.4))
    async with flyte(bigquery) as propeller:
        execution = propeller.start(task())
        await execution.until(Phase.RUNNING)
        outcome = await execution.abort()
        assert bigquery.job.state == "DONE"
        assert execution.meta is not None
        again = await propeller.delete(execution.attempt, execution.meta)
    assert (outcome.phase, outcome.orphaned) == (Phase.ABORTED, False)
    assert outcome.failures == []
    assert again.ok
    assert bigquery.job.cancels == 1


async def test_a_job_of_flytekits_connector_is_carried_on(bigquery: FakeBigQuery) -> None:
    theirs = {"query": {"query": "SELECT 1"}}
    bigquery.add(FakeJob("b1c2", "p", "asia-east1", theirs, Plan(running=math.inf)))
    meta = b'{"job_id": "b1c2", "project": "p", "location": "asia-east1"}'
    async with flyte(bigquery) as propeller:
        attempt = propeller.attempt(task())
        answer = await propeller.get(attempt, meta)
        assert (answer.code, answer.phase) == ("OK", Phase.RUNNING)
        assert (await propeller.delete(attempt, meta)).ok
        assert bigquery.job.state == "DONE"
        odd = await propeller.get(attempt, b'{"job_id": "../x", "project": "p"}')
        assert odd.code == "INVALID_ARGUMENT"
