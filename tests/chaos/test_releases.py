"""Two releases, or two sets of plugins, at once: what the other one wrote fails no task."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.chaos.attempts import GENERATIONS, attempt, ended
from tests.chaos.conftest import MakeServer

from flyteagents import Phase
from flyteagents._kernel import envelope
from flyteagents.testing import Attempt, Caller, JobService

POLLS = 12
"""More than the GetTask errors, and the failed DeleteTasks, that Flyte bears."""


async def test_an_envelope_of_a_newer_release_with_fields_we_do_not_know_is_polled_and_cancelled(
    make_server: MakeServer, vendor: JobService
) -> None:
    server = await make_server()
    for generation in GENERATIONS:
        async with server.caller(generation) as calls:
            done = attempt("job_keyed", "done", "sleep 0.1", generation)
            stopped = attempt("job_keyed", f"stopped-{generation}", "forever", generation)
            metas = [
                newer((await calls.create(work)).meta, zz={"new": 1}) for work in (done, stopped)
            ]
            for _ in range(POLLS):
                assert (await calls.get(stopped, metas[1])).phase is Phase.RUNNING
            assert (await calls.delete(stopped, metas[1])).ok
            assert (await ended(calls, done, metas[0])).phase is Phase.SUCCEEDED
    assert [job.state for job in vendor.jobs.values()] == ["DONE", "CANCELED"] * 2


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"j": {"id": "job-1", "region": "eu"}}, id="a job model with a new field"),
        pytest.param({"j": ["job-1"]}, id="another kind of job"),
        pytest.param({"c": "2031-01-01", "k": 7, "t": ["x"]}, id="other types everywhere"),
        pytest.param({"x": {"ph": 77}}, id="a phase we do not know"),
    ],
)
async def test_an_envelope_that_only_a_newer_release_can_read_keeps_its_task_alive(
    make_server: MakeServer, vendor: JobService, changed: dict[str, Any]
) -> None:
    server = await make_server()
    for generation in GENERATIONS:
        async with server.caller(generation) as calls:
            work = attempt("job_keyed", "newer", "forever", generation)
            meta = newer((await calls.create(work)).meta, **changed)
            await kept_alive(calls, work, meta)
    assert [job.state for job in vendor.jobs.values()] == ["RUNNING"] * 2


async def test_a_job_of_a_plugin_that_this_replica_does_not_have_keeps_its_task_alive(
    make_server: MakeServer, vendor: JobService
) -> None:
    having, lacking = await asyncio.gather(make_server(), make_server("blocking"))
    for generation in GENERATIONS:
        async with having.caller(generation) as one, lacking.caller(generation) as two:
            work = attempt("job_keyed", "elsewhere", "forever", generation)
            meta = (await one.create(work)).meta
            await kept_alive(two, work, meta)
            # The replica that has it is asked sooner or later.
            assert (await one.delete(work, meta)).ok
    assert [job.state for job in vendor.jobs.values()] == ["CANCELED"] * 2


async def kept_alive(calls: Caller, work: Attempt, meta: bytes) -> None:
    """No poll fails or ends the task, and a cancel is neither lost at once, nor refused so often
    that Flyte aborts the whole workflow."""
    for _ in range(POLLS):
        assert (await calls.get(work, meta)).phase in (Phase.INITIALIZING, Phase.RUNNING)
    codes = [(await calls.delete(work, meta)).code for _ in range(POLLS)]
    assert codes[0] == "UNAVAILABLE"
    assert codes[-1] == "OK"
    # The workflow has eleven for all of its nodes together.
    assert codes.count("UNAVAILABLE") <= 3


def newer(meta: bytes, **changed: object) -> bytes:
    """The envelope as version 2 of its format might be."""
    body = json.loads(b"{" + meta.partition(b",")[2])
    rest = json.dumps({**body, **changed}, separators=(",", ":")).encode()[1:]
    return b'{"flyteagents":"2:' + envelope._checksum(b"2", rest) + b'",' + rest
