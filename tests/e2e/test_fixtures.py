"""The test kit's fixtures, as an author of an agent uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.contract.job_service import AGENTS, TOKEN

from flyteagents import Phase
from flyteagents.testing import JobService, Request, Response, task_template

if TYPE_CHECKING:  # pytest wants to import the plugin itself
    from flyteagents.testing.fixtures import StartPropeller, StartServer, StartVendor

pytest_plugins = ["flyteagents.testing.fixtures"]


async def test_a_vendor_a_server_and_a_caller_are_there_for_a_test(
    job_service: JobService, real_server: StartServer, fake_propeller: StartPropeller
) -> None:
    job_service.token = TOKEN
    env = {"FLYTEAGENTS_JOBS_URL": job_service.url, "FLYTEAGENTS_SECRET_JOBS_TOKEN": TOKEN}
    server = await real_server(plugins=["jobs"], env=env, python_path=[AGENTS])
    propeller = await fake_propeller(server.endpoint, generation=2)
    outcome = await propeller.run(task_template("job_keyed", custom={"script": "sleep 0.1"}))
    assert outcome.phase is Phase.SUCCEEDED
    assert len(job_service.jobs) == 1


async def test_a_vendor_of_ones_own_can_be_started(
    fake_vendor: StartVendor, real_server: StartServer, fake_propeller: StartPropeller
) -> None:
    async def closed(request: Request) -> Response:
        return Response(403, {"message": "we have moved"})

    vendor = await fake_vendor(closed)
    env = {"FLYTEAGENTS_JOBS_URL": vendor.url}
    server = await real_server(plugins=["jobs"], env=env, python_path=[AGENTS])
    propeller = await fake_propeller(server.endpoint)
    outcome = await propeller.run(task_template("job_keyed", custom={"script": "x"}), attempts=2)
    assert outcome.phase is Phase.FAILED
    assert "we have moved" in outcome.message
    assert vendor.count("POST", "/jobs") == 1
