"""The agent keeps the promises that every agent should keep."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from tests.bigquery.driving import CUSTOM, TASK_TYPE
from tests.bigquery.fake_bigquery import FakeBigQuery, FakeJob, Plan, error
from tests.bigquery.google_tokens import GoogleTokens, private_key
from tests.vendors.contract import StoppingLooksLikeRunning

from flyteagents import Idempotency, Key, Phase, StructuredDataset
from flyteagents.testing import FlyteTask, Response, task_template
from flyteagents.testing.contract import HttpControl, Rig, VendorControl


class BigQueryControl(HttpControl):
    """Controls the fake BigQuery, and knows where its tokens come from."""

    def __init__(self, bigquery: FakeBigQuery, google: GoogleTokens) -> None:
        def jobs(key: Key) -> Iterator[FakeJob]:
            return (job for job in bigquery.jobs.values() if key.hex in job.id)

        def slow_cancel(seconds: float) -> None:
            bigquery.will("forever", Plan(running=math.inf, dies=seconds))

        super().__init__(
            bigquery,
            submit=("POST", "*/jobs"),
            look=("GET", "*/jobs/*"),
            cancel=("POST", "*/jobs/*/cancel"),
            started=lambda key: len(list(jobs(key))),
            live=lambda key: sum(job.state != "DONE" for job in jobs(key)),
            missing=error(404, "notFound", "Not found: Job p:EU.x"),
            refused=error(403, "accessDenied", "you may not start jobs"),
            unknown_state=Response(200, {"jobReference": {}, "status": {"state": "HIBERNATING"}}),
            slow_cancel=slow_cancel,
        )
        self.google = google


class TestBigQuery(StoppingLooksLikeRunning):
    task_type = TASK_TYPE
    stopped = "User requested cancellation"
    idempotency: ClassVar[Idempotency] = "vendor"
    plugins = ("bigquery",)
    outputs: ClassVar[Mapping[str, object]] = {"results": StructuredDataset("bq://p:ds.t")}
    secret = "ya29.token-number-1"

    @asynccontextmanager
    async def vendor(self) -> AsyncIterator[VendorControl]:
        async with FakeBigQuery() as bigquery, GoogleTokens() as google:
            bigquery.will("slowly", Plan(pending=0.1, running=0.2))
            bigquery.will("nowhere", Plan(error=("notFound", "there is no table nowhere.t")))
            bigquery.will("forever", Plan(running=math.inf))
            yield BigQueryControl(bigquery, google)

    def environment(self, vendor: VendorControl) -> Mapping[str, str]:
        assert isinstance(vendor, BigQueryControl)
        return {
            "FLYTEAGENTS_BIGQUERY_URL": vendor.url,
            "FLYTEAGENTS_BIGQUERY_KEY_HOSTS": "127.0.0.1",
            "FLYTEAGENTS_SECRET_GOOGLE_APPLICATION_CREDENTIALS": vendor.google.service_account(),
        }

    def task(self, statement: str, **config: Any) -> FlyteTask:
        table = {"projectId": "p", "datasetId": "ds", "tableId": "t"}
        return task_template(
            TASK_TYPE,
            custom={**CUSTOM, "destinationTable": table, **config},
            sql=statement,
            inputs={"n": 1},
            outputs={"results": StructuredDataset},
        )

    def succeeds(self) -> FlyteTask:
        return self.task("SELECT 'slowly', @n")

    def fails(self) -> FlyteTask:
        return self.task("SELECT * FROM nowhere.t")

    def runs_long(self) -> FlyteTask:
        return self.task("SELECT 'forever'")

    async def test_no_part_of_the_key_is_seen_anywhere(self, rig: Rig) -> None:
        attempt = rig.attempt(self.fails())
        meta = await rig.create(attempt, rig.first)
        answer = await rig.reach(attempt, meta, rig.first, Phase.FAILED)
        for text in (meta.decode(), str(answer.resource), rig.first.log, rig.second.log):
            assert private_key().splitlines()[1] not in text


@pytest.mark.slow
class TestBigQueryThatPicksThePlace(TestBigQuery):
    """No location is known before BigQuery has said it, and an address without one is no good."""

    @asynccontextmanager
    async def vendor(self) -> AsyncIterator[VendorControl]:
        async with super().vendor() as control:
            assert isinstance(control, BigQueryControl)
            assert isinstance(control.vendor, FakeBigQuery)
            control.vendor.place = "asia-east1"
            yield control

    def task(self, statement: str, **config: Any) -> FlyteTask:
        return super().task(statement, Location=None, **config)
