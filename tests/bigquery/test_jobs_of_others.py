"""What rides in `resource_meta`, also that of flytekit's and flyte-sdk's connectors."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError
from tests.bigquery.driving import Driver
from tests.bigquery.fake_bigquery import FakeBigQuery, FakeJob, Plan

from flyteagents import JobNotFound, Phase
from flyteagents_bigquery.job import BigQueryJob

FLYTEKIT = '{"job_id": "b1c2", "project": "p", "location": "asia-east1"}'
FLYTEKIT_NOWHERE = '{"job_id": "b1c2", "project": "p", "location": null}'
FLYTE_SDK = (
    '{"job_id": "b1c2", "project": "p", "location": "asia-east1", '
    '"user_agent": "Flyte/2.0 (GPN:Union;d)"}'
)


@pytest.mark.parametrize("meta", [FLYTEKIT, FLYTE_SDK])
async def test_a_job_that_another_connector_started_is_polled_and_cancelled(
    bigquery: FakeBigQuery, driver: Driver, meta: str
) -> None:
    theirs = {"query": {"query": "SELECT 1"}}
    bigquery.add(FakeJob("b1c2", "p", "asia-east1", theirs, Plan(running=math.inf)))
    job = BigQueryJob.model_validate_json(meta)
    assert (await driver.get(job)).phase is Phase.RUNNING
    await driver.cancel(job)
    assert (await driver.get(job)).phase is Phase.ABORTED


async def test_a_job_without_a_location_is_looked_for_in_the_services_too(
    bigquery: FakeBigQuery,
) -> None:
    bigquery.add(FakeJob("b1c2", "p", "asia-east1", {"query": {}}, Plan(running=math.inf)))
    job = BigQueryJob.model_validate_json(FLYTEKIT_NOWHERE)
    async with Driver(bigquery.url).opened() as lost:
        with pytest.raises(JobNotFound):
            await lost.get(job)
    async with Driver(bigquery.url, location="asia-east1").opened() as driver:
        assert (await driver.get(job)).phase is Phase.RUNNING
        await driver.cancel(job)
    assert bigquery.job.cancelled


def test_what_is_kept_of_a_job_is_small_and_no_secret() -> None:
    job = BigQueryJob.model_validate_json(FLYTE_SDK)
    assert job.model_dump(mode="json", exclude_none=True) == {
        "job_id": "b1c2",
        "project": "p",
        "location": "asia-east1",
    }


@pytest.mark.parametrize(
    "meta",
    [
        '{"project": "p", "location": "EU"}',
        '{"job_id": "../../x", "project": "p", "location": "EU"}',
        '{"job_id": "x", "project": "p/datasets/d", "location": "EU"}',
        '{"job_id": "x", "project": "p", "location": "EU?a=b"}',
        '{"job_id": "x", "project": "p", "location": "EU", "host": "evil.example"}',
        '{"databricks_instance": "i", "run_id": "1", "auth_token": "t"}',
    ],
)
def test_what_is_no_job_of_bigquerys_is_refused(meta: str) -> None:
    with pytest.raises(ValidationError):
        BigQueryJob.model_validate_json(meta)


def test_the_link_is_flytekits_with_the_jobs_own_location() -> None:
    agent = Driver("http://127.0.0.1:1").agent
    job = BigQueryJob(job_id="dummy_id", project="dummy_project", location="us-central1")
    [link] = agent.links(job)
    assert link.name == "BigQuery Console"
    assert link.uri == (
        "https://console.cloud.google.com/bigquery?project=dummy_project"
        "&j=bq:us-central1:dummy_id&page=queryresults"
    )
