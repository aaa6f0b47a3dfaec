"""Whatever an agent returns, the answer can be sent, and says what is so now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from flyteidl.admin import agent_pb2
from flyteidl.core import literals_pb2
from tests.unit.kernel_setup import PREFIX, RUNNING, SUCCEEDED, Config, Setup, within

from flyteagents import (
    Call,
    InvalidTask,
    Kind,
    Link,
    LogLine,
    Phase,
    Settings,
    Status,
    SyncAgent,
    Task,
    Type,
    Unavailable,
)
from flyteagents._kernel.answers import Answer
from flyteagents._kernel.cancel import Cancelling
from flyteagents._kernel.create import Creating
from flyteagents._kernel.flights import Flights
from flyteagents._kernel.kernel import Kernel
from flyteagents._kernel.offered import models_of, offer
from flyteagents._kernel.open_job import OpenJob
from flyteagents._kernel.plugins import Plugin
from flyteagents._kernel.poll import STARTING, Polling
from flyteagents._kernel.requests import CreateRequest
from flyteagents._kernel.served import ServedAgent
from flyteagents._redact import remember
from flyteagents._wire.messages import LINE_LIMIT, RESPONSE_LIMIT, codec, get_response, log_body
from flyteagents._wire.methods import LINES_AT_ONCE
from flyteagents._wire.structs import from_struct


@pytest.fixture
def polling(setup: Setup) -> Polling:
    return Polling(setup.kernel, setup.cancelling, setup.flights.resume)


def sent(answer: Answer) -> Any:
    return agent_pb2.GetTaskResponse.FromString(get_response(answer, 1)).resource


async def test_a_hiccup_is_told_after_a_good_poll_and_no_longer_than_it_lasts(
    setup: Setup, polling: Polling
) -> None:
    setup.agent.script["get"] = [RUNNING, Unavailable("vendor down"), RUNNING]
    opened = setup.opened()
    told = [sent(await polling.poll(opened, within(60))).message for _ in range(3)]
    assert [bool(text) for text in told] == [False, True, False]
    assert "vendor down" in told[1]


@pytest.mark.parametrize(
    ("status", "info"),
    [
        (Status(Phase.INITIALIZING, info={"ahead": 18}), {"ahead": 18}),
        (Status(Phase.INITIALIZING), {}),
        (RUNNING, {"ahead": 0, "state": "unknown"}),
        (replace(SUCCEEDED, outputs={}, info={"state": "done"}), {"ahead": 0, "state": "done"}),
        (InvalidTask("no"), {"ahead": 0, "state": "unknown"}),
    ],
)
async def test_what_was_said_while_a_job_waited_has_an_end_whoever_tells_the_end(
    setup: Setup,
    polling: Polling,
    monkeypatch: pytest.MonkeyPatch,
    status: Status | Exception,
    info: dict[str, object],
) -> None:
    monkeypatch.setattr(setup.agent, "later_info", {"ahead": 0, "state": "unknown"}, raising=False)
    setup.agent.script["get"] = [status]
    answer = await polling.poll(setup.opened(), within(60))
    assert answer.info == info


@pytest.mark.parametrize(("age", "info"), [(0, {}), (STARTING + 1, {"ahead": 0})])
async def test_a_guess_that_a_job_runs_does_not_leave_it_waiting(
    setup: Setup,
    polling: Polling,
    monkeypatch: pytest.MonkeyPatch,
    age: float,
    info: dict[str, object],
) -> None:
    monkeypatch.setattr(setup.agent, "later_info", {"ahead": 0}, raising=False)
    setup.agent.script["get"] = [Unavailable("vendor down")]
    answer = await polling.poll(setup.opened(age=age), within(60))
    assert answer.info == info


async def test_none_in_custom_info_counts_as_left_out(
    setup: Setup, polling: Polling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flyte shows a null of a task's first info, and takes a later one for the end of its key."""
    monkeypatch.setattr(setup.agent, "later_info", {"ahead": 0}, raising=False)
    told = {
        "ahead": None,
        "rows": 3,
        "why": None,
        "stage": {"done": None, "of": [{"x": None}, None]},
    }
    setup.agent.script["get"] = [replace(RUNNING, info=told)]
    custom = sent(await polling.poll(setup.opened(), within(60))).custom_info
    assert from_struct(custom) == {"ahead": 0, "rows": 3, "stage": {"of": [{}, None]}}


def deep(levels: int) -> dict[str, object]:
    return {"a": deep(levels - 1)} if levels else {}


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(replace(RUNNING, message="x" * (5 << 20)), id="a message of megabytes"),
        pytest.param(replace(RUNNING, info=deep(500)), id="info that is nested too deep"),
        pytest.param(replace(RUNNING, info={"x": "y" * (5 << 20)}), id="info of megabytes"),
    ],
)
async def test_what_cannot_be_sent_does_not_fail_a_poll(
    setup: Setup, polling: Polling, status: object
) -> None:
    setup.agent.script["get"] = [status]
    answer = await polling.poll(setup.opened(), within(60))
    assert len(get_response(answer, 1)) < 4 << 20
    assert sent(answer).phase == Phase.RUNNING.value


async def test_secrets_in_what_custom_info_quotes_of_the_vendor_are_masked(
    setup: Setup, polling: Polling
) -> None:
    remember("c4nary-c4nary")
    info = {
        "warnings": ["password=hunter22 is wrong"],
        "why": {"quoted": "c4nary-c4nary, half \ud800"},
    }
    setup.agent.script["get"] = [replace(RUNNING, info=info)]
    custom = from_struct(sent(await polling.poll(setup.opened(), within(60))).custom_info)
    assert custom == {
        "warnings": ["password=[redacted] is wrong"],
        "why": {"quoted": "[redacted], half ?"},
    }


@pytest.mark.parametrize("generation", [1, 2])
def test_secrets_in_a_line_of_a_log_are_masked(generation: int) -> None:
    remember("c4nary-c4nary")
    lines = [LogLine(f"{'x' * (LINE_LIMIT - 9)} c4nary-c4nary"), LogLine("half \ud800")]
    raw = log_body(lines, generation).SerializeToString()
    assert b"c4n" not in raw
    assert b"half ?" in raw


@pytest.mark.parametrize("generation", [1, 2])
def test_lines_of_a_log_fit_into_a_message_however_long_they_are(generation: int) -> None:
    line = LogLine("é" * (1 << 20), datetime.now(timezone.utc))
    message = log_body([line] * LINES_AT_ONCE, generation)
    assert message.ByteSize() < RESPONSE_LIMIT


async def test_a_link_whose_name_is_no_text_does_not_fail_a_poll(
    setup: Setup, polling: Polling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(setup.agent), "links", lambda _, job: [Link("half of one: \ud800", "http://x")]
    )
    [link] = sent(await polling.poll(setup.opened(), within(60))).log_links
    assert link.name.startswith("half of one")


def writes(setup: Setup, folder: Path, outputs: literals_pb2.LiteralMap) -> OpenJob:
    """A job that has written its outputs itself."""
    (folder / "outputs.pb").write_bytes(outputs.SerializeToString())
    setup.agent.script["get"] = [SUCCEEDED]
    declared = setup.kernel.codec.declared_text({"o": Type(Kind.STRING)})
    opened = setup.opened(declared=declared, wrote=-1)
    return replace(opened, output_prefix=str(folder))


async def test_outputs_that_only_flyte_can_read_are_no_failure(
    setup: Setup, polling: Polling, tmp_path: Path
) -> None:
    outputs = literals_pb2.LiteralMap()
    outputs.literals["o"].offloaded_metadata.uri = "s3://bucket/large"
    answer = await polling.poll(writes(setup, tmp_path, outputs), within(60))
    assert answer.phase is Phase.SUCCEEDED


async def test_an_output_that_the_job_has_not_written_is_a_failure(
    setup: Setup, polling: Polling, tmp_path: Path
) -> None:
    answer = await polling.poll(writes(setup, tmp_path, literals_pb2.LiteralMap()), within(60))
    assert answer.phase is Phase.FAILED
    assert "o" in answer.message


class Talkative(SyncAgent[Settings, Config]):
    task_type = "talkative"

    async def run(self, task: Task[Config], call: Call) -> dict[str, object]:
        return {"o": "x" * (5 << 20)}


async def test_a_synchronous_agent_whose_outputs_flyte_cannot_read_has_failed(
    setup: Setup,
) -> None:
    offered = offer(Talkative, models_of(Talkative), Settings())
    plugin = Plugin("p", "p", "1", __name__, [offered])
    served = ServedAgent(plugin, offered, setup.settings, setup.telemetry, codec())
    kernel = Kernel(setup.settings, {"talkative": served}, codec(), setup.telemetry)
    flights = Flights(kernel, Cancelling(kernel))

    task = replace(setup.task(declared={"o": Type(Kind.STRING)}), config={}, type="talkative")
    request = CreateRequest("talkative", 1, PREFIX, task.identity, lambda: task)
    answer = await Creating(kernel, flights).run(request, task.key, "", within(60))
    assert answer.phase is Phase.FAILED
    assert "bytes" in answer.message
