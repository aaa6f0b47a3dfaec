"""A vendor that names its jobs itself, and whose every answer outlasts the caller's deadline."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyteagents import Phase
from flyteagents.testing import FakePropeller, JobService, RealServer, SlowReply, task_template

AGENTS = Path(__file__).parents[1] / "agents"


@pytest.mark.parametrize("generation", [1, 2])
async def test_an_attempt_takes_over_what_the_vendor_named_too_late_for_the_one_before(
    generation: int,
) -> None:
    async with JobService() as vendor:
        vendor.script("*", "*", SlowReply(1.5), repeat=True)
        with RealServer(
            ["jobs"], {"FLYTEAGENTS_JOBS_URL": vendor.url}, python_path=[AGENTS]
        ) as server:
            async with FakePropeller(
                server.endpoint, generation=2 if generation == 2 else 1, deadline=1.0
            ) as propeller:
                task = task_template("job_keyed", custom={"script": "sleep 4"})
                outcome = await propeller.run(task, attempts=6, within=60)
        assert outcome.phase is Phase.SUCCEEDED
        assert len(vendor.jobs) == 1
        assert not vendor.live()
        assert not any(job.cancels for job in vendor.jobs.values())
