"""Runs that the SDKs' own connectors started, and what they wrote of them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import ValidationError
from tests.databricks.driving import FLYTEKIT, HOST, TOKEN, Driver
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.runs import Plan

from flyteagents import Phase
from flyteagents_databricks.job import DatabricksJob


@pytest.mark.parametrize(
    "meta",
    [
        FLYTEKIT,
        {"databricks_instance": HOST, "run_id": "77", "auth_token": TOKEN},
        {"databricks_instance": HOST, "run_id": "77", "auth_token": None},
        {"databricks_instance": HOST, "run_id": "77"},
        {**FLYTEKIT, "auth_token": None, "auth_type": "oauth_m2m", "client_id": "robot"},
        {
            **FLYTEKIT,
            "auth_token": None,
            "auth_type": "oidc_federation",
            "client_id": "robot",
            "oidc_token_file": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
            "oidc_service_account": "spark",
            "oidc_audience": "databricks",
        },
    ],
)
def test_every_form_of_their_metadata_is_read_and_no_secret_is_written(
    meta: dict[str, Any],
) -> None:
    job = DatabricksJob.model_validate(meta)
    assert (job.databricks_instance, job.run_id) == (HOST, "77")
    written = json.dumps(job.model_dump(mode="json"))
    for text in (written, repr(job), str(job), str(job.model_dump())):
        assert TOKEN not in text
        assert "auth_token" not in text
        assert "token_file" not in text
    assert DatabricksJob.model_validate_json(written).run_id == "77"


@pytest.mark.parametrize(
    "meta",
    [
        {"databricks_instance": "evil.com/x?", "run_id": "7"},
        {"databricks_instance": HOST, "run_id": "7; drop"},
        {"databricks_instance": HOST, "run_id": "0"},
        {"databricks_instance": HOST},
        {"databricks_instance": HOST, "run_id": "7", "auth_type": "other"},
        {"databricks_instance": HOST, "run_id": "7", "page": "javascript:alert(1)"},
        {"databricks_instance": HOST, "run_id": "7", "namespace": "../kube-system"},
        {"databricks_instance": HOST, "run_id": "7", "colour": "red"},
    ],
)
def test_what_is_no_run_is_refused(meta: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DatabricksJob.model_validate(meta)


async def test_a_run_whose_old_token_has_ended_is_polled_and_stopped_by_the_services_own(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    databricks.add(77, Plan(running=math.inf))
    databricks.bearers = {"dapi-of-the-service"}
    theirs = DatabricksJob.model_validate(FLYTEKIT)
    assert (await driver.get(theirs)).phase is Phase.RUNNING
    await driver.cancel(theirs)
    assert (await driver.get(theirs)).phase is Phase.ABORTED


async def test_an_old_token_serves_its_own_run_alone(
    databricks: FakeDatabricks, driver: Driver
) -> None:
    databricks.add(77, Plan(running=math.inf))
    databricks.add(78, Plan(running=math.inf))
    theirs = DatabricksJob.model_validate(FLYTEKIT)
    assert (await driver.get(theirs)).phase is Phase.RUNNING
    await driver.cancel(theirs)
    assert (await driver.get(theirs)).phase is Phase.ABORTED
    ours = DatabricksJob(databricks_instance=HOST, run_id="78")
    await driver.get(ours)
    tokens = [one.headers["authorization"].removeprefix("Bearer ") for one in databricks.requests]
    assert tokens == [TOKEN, TOKEN, TOKEN, "dapi-of-the-service"]
