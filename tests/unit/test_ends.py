"""Every attempt's end is recorded once: a log line, a count, and the root of its trace."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.kernel_setup import (
    PREFIX,
    RUNNING,
    SUCCEEDED,
    Hasty,
    Numbered,
    Setup,
    read_back,
    until,
    within,
)

from flyteagents import Forbidden, InvalidTask, Phase, Status
from flyteagents._kernel import cancel, poll
from flyteagents._kernel.answers import SMALL
from flyteagents._kernel.create import Creating
from flyteagents._kernel.keys import key_of
from flyteagents._kernel.poll import Polling
from flyteagents._kernel.requests import JobRequest
from flyteagents._kernel.service import Service
from flyteagents._kernel.settings import KernelSettings
from flyteagents._telemetry.tracing import Rpc

TRACE = "a" * 32


@pytest.fixture
def roots(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The root spans that were sent."""
    sent: list[dict[str, Any]] = []

    def job(trace: int, key: str, name: str, **of: Any) -> None:
        sent.append({"trace": f"{trace:032x}", **of["attributes"]})

    monkeypatch.setattr(setup.telemetry.tracing, "job", job)
    return sent


def rpc(setup: Setup) -> Rpc:
    return Rpc(setup.telemetry.tracing, "service/Method")


def counted(setup: Setup) -> dict[str, float]:
    # Not those of other tests' agents, which the process has counted too.
    jobs = setup.counted("jobs").items()
    return {phase: count for (agent, phase), count in jobs if count and agent == "scripted"}


async def test_a_job_is_recorded_once_however_often_it_is_asked_about(
    setup: Setup, roots: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = counted(setup)
    opened = setup.opened(trace=TRACE, job={"id": "job-1"})
    large = Status(Phase.SUCCEEDED, outputs={"o": "x" * SMALL})  # asked for again each time
    setup.agent.script["get"] = [large]
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    for _ in range(3):
        await polling.poll(opened, within(60))
    assert [root["flyte.phase"] for root in roots] == ["SUCCEEDED"]
    assert counted(setup)["SUCCEEDED"] - before.get("SUCCEEDED", 0) == 1
    (line,) = [each for each in caplog.records if "ended" in each.message]
    assert line.message == "scripted: job id=job-1 ended SUCCEEDED"
    assert vars(line)["execution"] == "p/d/e"
    assert vars(line)["task_trace"] == TRACE


async def test_a_vendors_code_is_in_the_line(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    setup.agent.script["get"] = [Status(Phase.FAILED, "no", code="accessDenied")]
    await Polling(setup.kernel, setup.cancelling, setup.flights.resume).poll(
        setup.opened(), within(60)
    )
    (line,) = [each for each in caplog.records if "ended FAILED" in each.message]
    assert vars(line)["error_code"] == "accessDenied"


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (Forbidden("no", code="accessDenied"), {"error_code": "accessDenied"}),
        (InvalidTask("no"), {}),
    ],
)
async def test_the_code_of_what_is_refused_at_create_is_in_the_line(
    setup: Setup,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    named: dict[str, str],
) -> None:
    caplog.set_level(logging.INFO)
    setup.agent.script["create"] = [error]
    creating = Creating(setup.kernel, setup.flights)
    await read_back(
        creating.create(setup.request(), key_of("", "scripted", PREFIX), TRACE, within(60))
    )
    (line,) = [each for each in caplog.records if "ended FAILED" in each.message]
    assert {name: value for name, value in vars(line).items() if name.startswith("error_")} == named


async def test_the_id_of_a_bug_is_in_the_line_of_the_job_that_it_ended(
    setup: Setup, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(poll, "SERIES", 1)
    setup.kernel.settings = KernelSettings(outage_patience=1e-9)
    setup.agent.script["get"] = [KeyError("state")]
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    answer = await polling.poll(setup.opened(), within(60))
    (line,) = [each for each in caplog.records if "ended RETRYABLE_FAILED" in each.message]
    (bug,) = [each for each in caplog.records if "raised KeyError" in each.message]
    assert vars(line)["error_id"] == vars(bug)["error_id"]
    assert vars(line)["error_id"] in answer.message


async def test_what_is_refused_at_create_is_recorded(
    setup: Setup, roots: list[dict[str, Any]]
) -> None:
    setup.agent.script["create"] = [InvalidTask("bad SQL")]
    creating = Creating(setup.kernel, setup.flights)
    await read_back(
        creating.create(setup.request(), key_of("", "scripted", PREFIX), TRACE, within(60))
    )
    (root,) = roots
    assert (root["trace"], root["flyte.phase"]) == (TRACE, "FAILED")


async def test_a_job_that_starts_has_a_line_without_its_statement(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    creating = Creating(setup.kernel, setup.flights)
    await read_back(
        creating.create(setup.request(), key_of("", "scripted", PREFIX), TRACE, within(60))
    )
    (line,) = [each for each in caplog.records if "started" in each.message]
    assert line.message == "scripted: started job id=job-1"
    assert "SELECT" not in str(vars(line))


async def test_a_cancelled_job_is_recorded(
    setup: Setup, roots: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel, "FIRST_PAUSE", 0.001)
    setup.agent.script["get"] = [RUNNING, Status(Phase.ABORTED)]
    await setup.cancelling.delete(setup.opened(trace=TRACE), within(60))
    (root,) = roots
    assert (root["trace"], root["flyte.phase"]) == (TRACE, "ABORTED")


async def test_a_job_that_ended_before_its_cancel_is_not_recorded_again(
    setup: Setup, roots: list[dict[str, Any]]
) -> None:
    opened = setup.opened(trace=TRACE)
    setup.agent.script["get"] = [SUCCEEDED]
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    await polling.poll(opened, within(60))
    await setup.cancelling.delete(replace(opened), within(60))
    assert [root["flyte.phase"] for root in roots] == ["SUCCEEDED"]


YEAR_1, YEAR_9999 = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (1, 9999))


@pytest.mark.parametrize(
    ("started", "ended"), [(YEAR_1, YEAR_1), (YEAR_1, None), (None, YEAR_9999)]
)
async def test_a_moment_that_stands_for_none_is_no_part_of_the_jobs_time(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, started: datetime | None, ended: datetime | None
) -> None:
    sent: list[tuple[float, float]] = []

    def job(trace: int, key: str, name: str, start: float, end: float, **of: Any) -> None:
        sent.append((start, end))

    monkeypatch.setattr(setup.telemetry.tracing, "job", job)
    setup.agent.script["get"] = [Status(Phase.SUCCEEDED, started=started, ended=ended)]
    opened = setup.opened(trace=TRACE, age=5.0)
    await Polling(setup.kernel, setup.cancelling, setup.flights.resume).poll(opened, within(1))
    ((start, end),) = sent
    assert opened.envelope.created <= start <= end <= time.time()


async def test_numbers_that_are_none_cost_a_job_neither_its_end_nor_its_other_numbers(
    setup: Setup, roots: list[dict[str, Any]]
) -> None:
    odd: dict[Any, Any] = {"rows": 3, "bytes": None, "stages": [1], 7: 1, "cost": Decimal(1)}
    setup.agent.script["get"] = [Status(Phase.SUCCEEDED, statistics=odd)]
    opened = setup.opened(trace=TRACE)
    polling = Polling(setup.kernel, setup.cancelling, setup.flights.resume)
    assert (await polling.poll(opened, within(1))).phase is Phase.SUCCEEDED
    (root,) = roots
    assert {name for name in root if name.startswith("flyte.job.")} == {"flyte.job.rows"}


async def test_the_vendors_no_after_an_early_answer_is_recorded_with_the_first_poll_that_tells_it(
    setup: Setup, roots: list[dict[str, Any]]
) -> None:
    said_no = asyncio.Event()
    setup.agent.named = Numbered(id="job-1")
    setup.agent.script["create"] = [said_no, Forbidden("no")]
    service = Service(setup.kernel)
    meta = await service.create(setup.request(), Hasty(), rpc(setup))
    said_no.set()
    await until(lambda: not setup.kernel.detached)
    before = counted(setup)
    for _ in range(2):
        poll = JobRequest("scripted", meta, PREFIX)
        assert (await service.get(poll, within(60), rpc(setup))).message == "no"
    assert [root["flyte.phase"] for root in roots] == ["FAILED"]
    assert counted(setup)["FAILED"] - before.get("FAILED", 0) == 1
