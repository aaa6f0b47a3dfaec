"""A poll is shared, answered in time, and patient."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from flyteidl.core import literals_pb2
from tests.unit.kernel_setup import RUNNING, SUCCEEDED, Hasty, Setup, within
from tests.vendors.refusing import NoCredentialsError, refusing_reads

from flyteagents import (
    Forbidden,
    InvalidTask,
    JobNotFound,
    Kind,
    Link,
    Phase,
    Status,
    Type,
    Unauthenticated,
    Unavailable,
)
from flyteagents._kernel import poll
from flyteagents._kernel.answers import SMALL
from flyteagents._kernel.kernel import Kernel
from flyteagents._kernel.open_job import YOUNG, OpenJob
from flyteagents._kernel.poll import SERIES, STARTING, Polling
from flyteagents._kernel.settings import KernelSettings

OLD = YOUNG + 1
LOST = Unavailable("not now")


@pytest.fixture
def polling(setup: Setup) -> Polling:
    return Polling(setup.kernel, setup.cancelling, setup.flights.resume)


async def until_it_ends(opened: OpenJob) -> None:
    if opened.seen.poll is not None:
        await asyncio.wait({opened.seen.poll})


def patient_for(seconds: float, kernel: Kernel) -> None:
    kernel.settings = KernelSettings(outage_patience=seconds, auth_patience=seconds)


async def test_polls_that_overlap_share_one_look(setup: Setup, polling: Polling) -> None:
    opened, hangs = setup.opened(), asyncio.Event()
    setup.agent.script["get"] = [hangs, RUNNING]
    polls = [asyncio.create_task(polling.poll(opened, within(60))) for _ in range(3)]
    await asyncio.sleep(0)
    hangs.set()
    assert {(await each).phase for each in polls} == {Phase.RUNNING}
    assert setup.agent.asked == ["get"]


async def test_a_known_phase_is_answered_while_the_vendor_hangs_and_the_look_feeds_the_next_answer(
    setup: Setup, polling: Polling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll, "QUICK", 0.01)
    opened, hangs = setup.opened(), asyncio.Event()
    assert (await polling.poll(opened, within(60))).phase is Phase.RUNNING
    setup.agent.script["get"] = [hangs, SUCCEEDED]
    assert (await polling.poll(opened, within(60))).phase is Phase.RUNNING
    hangs.set()
    await until_it_ends(opened)
    setup.agent.asked.clear()
    assert (await polling.poll(opened, within(60))).phase is Phase.SUCCEEDED
    assert setup.agent.asked == []


@pytest.mark.parametrize(
    ("age", "phase"), [(0.0, Phase.INITIALIZING), (STARTING + 1, Phase.RUNNING)]
)
async def test_where_nothing_is_known_the_jobs_age_answers(
    setup: Setup, polling: Polling, age: float, phase: Phase
) -> None:
    setup.agent.script["get"] = [LOST]
    assert (await polling.poll(setup.opened(age=age), within(60))).phase is phase


async def test_a_phase_is_never_taken_back(setup: Setup, polling: Polling) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [RUNNING, Status(Phase.INITIALIZING), LOST, Status(None)]
    phases = [(await polling.poll(opened, within(60))).phase for _ in range(4)]
    assert phases == [Phase.RUNNING] * 4


async def test_running_that_was_only_guessed_is_not_taken_back_either(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened(age=OLD)
    setup.agent.script["get"] = [LOST, Status(Phase.INITIALIZING)]
    phases = [(await polling.poll(opened, within(60))).phase for _ in range(2)]
    assert phases == [Phase.RUNNING] * 2


async def test_a_job_is_given_up_when_both_the_series_and_the_patience_are_over(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [LOST]
    patient_for(0.001, setup.kernel)
    for _ in range(SERIES - 1):
        assert not (await polling.poll(opened, within(60))).phase.terminal
    await asyncio.sleep(0.002)
    answer = await polling.poll(opened, within(60))
    assert answer.phase is Phase.RETRYABLE_FAILED
    assert "not now" in answer.message
    assert opened.seen.cancel is not None, "nobody else would stop the job"


async def test_patience_outlasts_any_number_of_failures(setup: Setup, polling: Polling) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [LOST]
    for _ in range(3 * SERIES):
        assert not (await polling.poll(opened, within(60))).phase.terminal


@pytest.mark.parametrize("answer", [RUNNING, Status(None)])
async def test_any_word_of_the_vendor_ends_a_series(
    setup: Setup, polling: Polling, answer: Status
) -> None:
    opened = setup.opened()
    patient_for(0.001, setup.kernel)
    setup.agent.script["get"] = [*[LOST] * (SERIES - 1), answer, LOST]
    for _ in range(SERIES):
        await polling.poll(opened, within(60))
    await asyncio.sleep(0.002)
    assert not (await polling.poll(opened, within(60))).phase.terminal
    assert opened.seen.failures.count == 1


@pytest.mark.parametrize("refusal", [Forbidden("no"), Unauthenticated("who?")])
async def test_refused_credentials_have_a_patience_of_their_own(
    setup: Setup, polling: Polling, refusal: Exception
) -> None:
    opened = setup.opened()
    setup.kernel.settings = KernelSettings(auth_patience=0.001)
    setup.agent.script["get"] = [refusal]
    for _ in range(SERIES - 1):
        assert not (await polling.poll(opened, within(60))).phase.terminal
    await asyncio.sleep(0.002)
    assert (await polling.poll(opened, within(60))).phase is Phase.RETRYABLE_FAILED


async def test_the_oldest_series_is_told_until_the_vendor_speaks(
    setup: Setup, polling: Polling
) -> None:
    opened, soft = setup.opened(), setup.kernel.soft
    setup.agent.script["get"] = [LOST, RUNNING]
    await polling.poll(opened, within(60))
    await asyncio.sleep(0.001)
    assert soft.oldest_failures()["scripted",] > 0
    await polling.poll(opened, within(60))
    assert soft.oldest_failures() == {}


@pytest.mark.parametrize(
    ("age", "unconfirmed", "phase"),
    [
        (0.0, False, Phase.INITIALIZING),
        (0.0, True, Phase.INITIALIZING),
        (OLD, True, Phase.RETRYABLE_FAILED),
        (OLD, False, Phase.FAILED),
    ],
)
async def test_a_job_that_its_vendor_does_not_know_is_judged_by_its_age(
    setup: Setup, polling: Polling, age: float, unconfirmed: bool, phase: Phase
) -> None:
    setup.agent.script["get"] = [JobNotFound("no such job")]
    opened = setup.opened(age=age, unconfirmed=unconfirmed)
    assert (await polling.poll(opened, within(60))).phase is phase


async def test_over_the_limit_memory_answers_and_the_vendor_is_not_asked(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    await polling.poll(opened, within(60))
    setup.served.polls.held = setup.served.polls.limit
    setup.agent.asked.clear()
    assert (await polling.poll(opened, within(60))).phase is Phase.RUNNING
    assert setup.agent.asked == []


async def test_an_error_that_is_final_fails_the_task_and_stops_the_job(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [InvalidTask("no table t")]
    answer = await polling.poll(opened, within(60))
    assert (answer.phase, answer.message) == (Phase.FAILED, "no table t")
    assert opened.seen.cancel is not None


@pytest.mark.parametrize(
    ("adopted", "phase"), [(False, Phase.FAILED), (True, Phase.RETRYABLE_FAILED)]
)
async def test_an_aborted_job_fails_and_says_so(
    setup: Setup, polling: Polling, adopted: bool, phase: Phase
) -> None:
    setup.agent.script["get"] = [Status(Phase.ABORTED)]
    answer = await polling.poll(setup.opened(adopted=adopted), within(60))
    assert answer.phase is phase
    assert answer.message


async def test_outputs_that_are_too_large_to_keep_are_asked_for_again(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [Status(Phase.SUCCEEDED, outputs={"o": "x" * SMALL})]
    for _ in range(2):
        answer = await polling.poll(opened, within(60))
        assert answer.outputs is not None
        assert len(answer.outputs) > SMALL
    assert setup.agent.asked == ["get", "get"]


async def test_links_are_in_the_first_answer_and_have_no_password(
    setup: Setup, polling: Polling, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Link("job", "https://me:pw@vendor.example/1")
    monkeypatch.setattr(setup.agent, "links", lambda job: [link], raising=False)
    setup.agent.script["get"] = [LOST]
    answer = await polling.poll(setup.opened(), within(60))
    assert answer.links == (Link("job", "https://vendor.example/1"),)


async def test_a_poll_that_is_not_answered_in_time_takes_no_longer_than_its_caller_has(
    setup: Setup, polling: Polling
) -> None:
    opened, never = setup.opened(), asyncio.Event()
    setup.agent.script["get"] = [never, RUNNING]
    assert (await polling.poll(opened, Hasty())).phase is Phase.INITIALIZING
    assert opened.seen.poll is not None, "its caller did not wait for its end"
    never.set()
    await until_it_ends(opened)


# What is wrong with an agent's answer.


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("RUNNING", "get returned str, not Status"),
        (None, "get returned NoneType, not Status"),
        (Status("RUNNING"), "phase is 'RUNNING', not Phase"),  # type: ignore[arg-type] # the mistake
        (Status(Phase.RUNNING, b"x"), "message is b'x', not str"),  # type: ignore[arg-type]
        (Status(Phase.RUNNING, started=3), "started is 3, not datetime"),  # type: ignore[arg-type]
        (Status(Phase.RUNNING, ended=datetime(2026, 1, 1)), "no time zone"),  # noqa: DTZ001
        (Status(Phase.RUNNING, outputs=[1]), "outputs is [1], not Mapping"),  # type: ignore[arg-type]
    ],
)
async def test_a_wrong_status_counts_as_a_failure_until_patience_ends(
    setup: Setup, polling: Polling, status: object, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [status]
    patient_for(0.001, setup.kernel)
    for number in range(1, SERIES):
        assert not (await polling.poll(opened, within(60))).phase.terminal
        assert opened.seen.failures.count == number
    await asyncio.sleep(0.002)
    assert (await polling.poll(opened, within(60))).phase is Phase.RETRYABLE_FAILED
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 1, "told once"
    assert says in str(tracebacks[0].exc_info)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ({"line": 150}, "declares outputs (lines), and the job gave (line): lines missing"),
        ({}, "gave (none)"),
    ],
)
async def test_outputs_that_are_declared_and_missing_fail_the_task(
    setup: Setup, polling: Polling, outputs: dict[str, object], says: str
) -> None:
    declared = setup.kernel.codec.declared_text({"lines": Type(Kind.INTEGER)})
    setup.agent.script["get"] = [Status(Phase.SUCCEEDED, outputs=outputs)]
    answer = await polling.poll(setup.opened(declared=declared), within(60))
    assert answer.phase is Phase.FAILED
    assert says in answer.message


@pytest.mark.parametrize(
    ("name", "phase"), [("lines", Phase.SUCCEEDED), ("line", Phase.FAILED), ("", Phase.FAILED)]
)
async def test_outputs_that_the_job_wrote_itself_are_looked_at(
    setup: Setup, polling: Polling, tmp_path: Path, name: str, phase: Phase
) -> None:
    if name:
        one = literals_pb2.Literal(scalar={"primitive": {"integer": 7}})
        written = literals_pb2.LiteralMap(literals={name: one}).SerializeToString()
        (tmp_path / "outputs.pb").write_bytes(written)
    declared = setup.kernel.codec.declared_text({"lines": Type(Kind.INTEGER)})
    setup.agent.script["get"] = [Status(Phase.SUCCEEDED)]
    opened = replace(setup.opened(declared=declared, wrote=-1), output_prefix=str(tmp_path))
    answer = await polling.poll(opened, within(60))
    assert answer.phase is phase
    assert phase is Phase.SUCCEEDED or "lines" in answer.message


@pytest.mark.parametrize("prefix", ["odd://b/data/0", "memory://b/data/0"])
async def test_outputs_that_cannot_be_looked_at_are_warned_of(
    setup: Setup, polling: Polling, caplog: pytest.LogCaptureFixture, prefix: str
) -> None:
    declared = setup.kernel.codec.declared_text({"lines": Type(Kind.INTEGER)})
    setup.agent.script["get"] = [Status(Phase.SUCCEEDED)]
    opened = replace(setup.opened(declared=declared), output_prefix=prefix)
    for error in (None, NoCredentialsError()):
        with refusing_reads(error):
            assert (await polling.poll(opened, within(60))).phase is Phase.SUCCEEDED
    assert "cannot see what the job wrote" in caplog.text


async def test_outputs_that_flyte_would_not_read_fail_the_task(
    setup: Setup, polling: Polling
) -> None:
    setup.agent.script["get"] = [Status(Phase.SUCCEEDED, outputs={"o": "x" * (3 << 20)})]
    answer = await polling.poll(setup.opened(), within(60))
    assert answer.phase is Phase.FAILED
    assert "FLYTEAGENTS_MAX_OUTPUT_MB" in answer.message


# Why a job waits.


async def test_while_a_vendor_is_away_the_answer_says_so_and_since_when(
    setup: Setup, polling: Polling
) -> None:
    opened = setup.opened()
    setup.agent.script["get"] = [LOST, RUNNING, LOST]
    first = await polling.poll(opened, within(60))
    assert first.phase is Phase.INITIALIZING
    assert re.fullmatch(r"no answer for \d+ s: not now", first.message)
    assert (await polling.poll(opened, within(60))).message == ""
    assert "not now" in (await polling.poll(opened, within(60))).message


async def test_a_job_that_its_vendor_did_not_take_on_says_why(
    setup: Setup, polling: Polling
) -> None:
    setup.kernel.soft.troubles.put("k" * 40, "503 from the vendor")
    setup.agent.script["get"] = [JobNotFound("no such job")]
    young = await polling.poll(setup.opened(unconfirmed=True), within(60))
    assert (young.phase, "503" in young.message) == (Phase.INITIALIZING, True)
    old = await polling.poll(setup.opened(unconfirmed=True, age=OLD), within(60))
    assert (old.phase, "503" in old.message) == (Phase.RETRYABLE_FAILED, True)
