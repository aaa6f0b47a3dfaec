"""Keys of a task's config that its agent does not know: told in sentences, in every answer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field
from tests.unit.kernel_setup import PREFIX, WHO, Numbered, Scripted

from flyteagents import (
    Agent,
    Call,
    Fingerprint,
    InvalidTask,
    Key,
    Phase,
    Settings,
    Status,
    SyncAgent,
    Task,
)
from flyteagents._config_keys import LONG, LOOKED_AT
from flyteagents._kernel.answers import Answer
from flyteagents._kernel.create import WARNING_LIMIT, WARNINGS
from flyteagents._kernel.deadline import Deadline
from flyteagents._kernel.envelope import load
from flyteagents._kernel.kernel import Kernel
from flyteagents._kernel.offered import models_of, offer
from flyteagents._kernel.plugins import Plugin
from flyteagents._kernel.requests import CreateRequest, JobRequest
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.service import Service
from flyteagents._kernel.settings import KernelSettings
from flyteagents._kernel.tasks import TOLD, build_task
from flyteagents._telemetry.providers import start_telemetry
from flyteagents._telemetry.tracing import Rpc
from flyteagents._wire.messages import codec
from flyteagents.kit.config_keys import do_nothing, key_names, passed_on
from flyteagents.testing import AgentEnvironment

THREAD = "'thread' in the task's config is not known and does nothing; did you mean 'threads'?"


class Threads(BaseModel):
    threads: int = 1
    script: str = ""


class Plain(Agent[Settings, Threads, Numbered]):
    """Says no word about warnings."""

    task_type = "plain"
    idempotency = "vendor"
    status = Status(Phase.RUNNING, info={"rows": 1})

    async def create(self, task: Task[Threads], call: Call) -> Numbered:
        if task.config.script == "refuse":
            raise InvalidTask("no such script")
        return Numbered(id="job-1")

    async def get(self, job: Numbered, call: Call) -> Status:
        return self.status

    async def cancel(self, job: Numbered, call: Call) -> None:
        return


class Adds(Plain):
    """Has warnings of its vendor's, too."""

    status = Status(Phase.SUCCEEDED, outputs={}, info={"warnings": ["of the vendor's"]})


class Breaks(Plain):
    def warnings(self, task: Task[Threads]) -> Sequence[str]:
        raise KeyError("a bug")


class Talks(Plain):
    def warnings(self, task: Task[Threads]) -> Sequence[str]:
        return [f"{number} {'é' * 200}" for number in range(5)]


class Sync(SyncAgent[Settings, Threads]):
    task_type = "plain"

    async def run(self, task: Task[Threads], call: Call) -> Mapping[str, object]:
        return {}


class Keeps(Threads):
    model_config = ConfigDict(extra="allow")


class Names(BaseModel):
    plain: int = 0
    one: int = Field(0, alias="One")
    two: int = Field(0, validation_alias=AliasChoices("Two", AliasPath("second", 1)))


class BothNames(Names):
    model_config = ConfigDict(populate_by_name=True)


async def answered(
    cls: type[Any], config: Mapping[str, object], *, polls: int = 1
) -> tuple[bytes, list[Answer]]:
    """The `resource_meta` of a task with this config, and the answers to polls."""
    telemetry = start_telemetry()
    offered = offer(cls, models_of(cls), Settings())
    plugin = Plugin("plain", "plain", "1", "tests", [offered])
    served = ServedAgent(plugin, offered, KernelSettings())
    service = Service(Kernel(KernelSettings(), {"plain": served}, codec(), telemetry))

    def rpc(method: str) -> Rpc:
        return Rpc(telemetry.tracing, f"service/{method}")

    task: Task[Any] = Task("plain", dict(config), Key(""), Fingerprint(""), WHO)
    request = CreateRequest("plain", 1, PREFIX, WHO, lambda: task)
    try:
        await served.open()
        if offered.is_sync:
            return b"", [await service.run(request, Deadline(None), rpc("ExecuteTaskSync"))]
        meta = await service.create(request, Deadline(None), rpc("CreateTask"))
        job = JobRequest("plain", meta, PREFIX)
        return meta, [await service.get(job, Deadline(None), rpc("GetTask")) for _ in range(polls)]
    finally:
        await served.close()
        telemetry.shutdown()


async def test_a_key_that_the_model_does_not_have_is_told_in_every_answer() -> None:
    _, answers = await answered(Plain, {"thread": 2}, polls=3)
    assert [answer.info for answer in answers] == [{"rows": 1, "warnings": [THREAD]}] * 3
    _, (none,) = await answered(Plain, {"threads": 2})
    assert none.info == {"rows": 1}


async def test_it_is_told_of_a_task_that_was_refused_at_its_create_too() -> None:
    _, (answer,) = await answered(Plain, {"thread": 2, "script": "refuse"})
    assert answer.phase is Phase.FAILED
    assert answer.info == {"warnings": [THREAD]}


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"threads": "many"}, "threads='many': Input should be a valid integer"),
        ({"threads": "dapi0123456789abcdef"}, "threads: Input should be a valid integer"),
        ({"script": ["hunter2"]}, "script: Input should be a valid string"),
        ({"threads": {"a": "hunter2"}}, "threads: Input should be a valid integer"),
    ],
)
async def test_a_wrong_value_is_told_unless_it_may_be_a_secret(
    config: Mapping[str, object], shown: str
) -> None:
    _, (answer,) = await answered(Plain, config)
    assert answer.phase is Phase.FAILED
    assert shown in answer.message
    assert "hunter2" not in answer.message
    assert "dapi" not in answer.message


async def test_what_the_vendor_warns_of_comes_after_it() -> None:
    _, (answer,) = await answered(Adds, {"thread": 2})
    assert answer.info["warnings"] == [THREAD, "of the vendor's"]


async def test_a_synchronous_task_is_told_of_it() -> None:
    _, (answer,) = await answered(Sync, {"thread": 2})
    assert answer.phase is Phase.SUCCEEDED
    assert answer.info == {"warnings": [THREAD]}


async def test_warnings_that_raise_cost_no_task() -> None:
    _, (answer,) = await answered(Breaks, {"thread": 2})
    assert answer.phase is Phase.RUNNING
    assert answer.info == {"rows": 1}


async def test_one_text_is_one_warning_and_not_its_letters() -> None:
    class Terse(Plain):
        def warnings(self, task: Task[Threads]) -> Sequence[str]:
            return "the warehouse is not set"

    _, (answer,) = await answered(Terse, {})
    assert answer.info["warnings"] == ["the warehouse is not set"]


async def test_an_envelope_has_room_for_a_few_and_says_how_many_there_were() -> None:
    meta, (answer,) = await answered(Talks, {})
    told = answer.info["warnings"]
    assert isinstance(told, list)
    assert [text[:1] for text in told] == ["0", "1", "2", "a"]
    assert told[WARNINGS] == "and 2 more"
    assert max(len(text.encode()) for text in told) <= WARNING_LIMIT
    envelope = load(meta)
    assert envelope is not None
    assert len(meta) <= 1024


def test_a_field_that_is_missing_is_told_with_the_key_that_may_be_meant() -> None:
    class Needs(BaseModel):
        script: str

    class NeedsScript(Scripted, Agent[Settings, Needs, Numbered]):
        pass

    env = AgentEnvironment(NeedsScript)
    with pytest.raises(InvalidTask, match=r"script: Field required; 'scrpt' .* mean 'script'"):
        env.task(custom={"scrpt": "sleep 1"})


def test_a_model_that_keeps_such_keys_says_itself_what_becomes_of_them() -> None:
    class KeepsThem(Plain, Agent[Settings, Keeps, Numbered]):
        pass

    env = AgentEnvironment(KeepsThem)
    task = env.task(custom={"thread": 2})
    assert task.unread == ["thread"]
    assert env.agent.warnings(task) == ()


def test_the_keys_of_a_model_are_all_their_spellings() -> None:
    assert key_names(Names) == {"plain", "One", "Two", "second"}
    assert key_names(BothNames) == {"plain", "one", "One", "two", "Two", "second"}


def test_nothing_near_is_nothing_to_propose() -> None:
    assert do_nothing(["zebra"], ["threads"], where="x") == [
        "'zebra' in x is not known and does nothing"
    ]


@pytest.mark.parametrize(
    "slip", ["label", "labells", "labals", "lables", "Labels", "la_bels", "xlabels", "LABEL"]
)
def test_a_key_that_is_passed_on_is_told_when_it_looks_like_a_slip(slip: str) -> None:
    assert passed_on([slip], ["labels", "timeout"]) == [
        f"{slip!r} in the task's config is not known to this agent and was passed on as it is; "
        "did you mean 'labels'?"
    ]


@pytest.mark.parametrize("key", ["labels", "labours", "newKeyOfTheVendor", "l", "bales"])
def test_a_key_that_may_be_the_vendors_own_is_no_slip(key: str) -> None:
    assert passed_on([key], ["labels", "timeout"]) == []


def test_a_task_with_thousands_of_keys_that_nobody_knows_does_not_hold_up_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_for: list[str] = []

    def near(key: str, known: object, n: int) -> list[str]:
        looked_for.append(key)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", near)
    keys = [*(f"key{number}" for number in range(5000)), "a" * 10_000_000]
    said = do_nothing(keys, ["threads"])
    assert len(said) == len(keys)
    assert max(map(len, said)) < 200
    assert len(looked_for) == LOOKED_AT == 5  # some milliseconds, with forty known keys
    assert max(map(len, looked_for)) == LONG


def test_a_config_that_is_not_valid_tells_five_of_its_unknown_keys() -> None:
    offered = offer(Plain, models_of(Plain), Settings())
    served = ServedAgent(
        Plugin("plain", "plain", "1", "tests", [offered]), offered, KernelSettings()
    )
    config: dict[str, object] = {f"key{number}": 1 for number in range(5000)}
    config["threads"] = "many"
    task: Task[Any] = Task("plain", config, Key(""), Fingerprint(""), WHO)
    request = CreateRequest("plain", 1, PREFIX, WHO, lambda: task)
    with pytest.raises(InvalidTask) as raised:
        build_task(served, request, Key(""))
    assert str(raised.value).count("does nothing") == TOLD
