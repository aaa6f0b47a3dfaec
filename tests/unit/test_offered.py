"""What is wrong with an agent class is said at start, and what it offers may follow from its
settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from flyteagents import (
    Agent,
    Call,
    Idempotency,
    Job,
    Link,
    Settings,
    Status,
    SyncAgent,
    Task,
)
from flyteagents._kernel.offered import BadAgent, models_of, offer, slips


class Config(BaseModel):
    pass


class ItsSettings(Settings):
    warehouse: bool = False


class Sound(Agent[ItsSettings, Config, Job]):
    task_type = "sound"
    idempotency: ClassVar[Idempotency] = "vendor"

    async def create(self, task: Task[Config], call: Call) -> Job:
        return Job()

    async def get(self, job: Job, call: Call) -> Status:
        return Status(None)

    async def cancel(self, job: Job, call: Call) -> None:
        return


def changed(**methods: Any) -> type[Sound]:
    return type("Changed", (Sound,), methods)


def wrong(cls: type[Any]) -> str:
    with pytest.raises(BadAgent) as caught:
        models_of(cls)
    return str(caught.value)


async def too_few(self: object, job: Job) -> Status:
    return Status(None)


async def swapped(self: object, call: Call, job: Job) -> Status:
    return Status(None)


async def other_names(self: object, handle: Job, request: Call) -> Status:
    return Status(None)


async def with_more(self: object, job: Job, call: Call, retries: int = 3) -> Status:
    return Status(None)


async def awaited(self: object, job: Job) -> Sequence[Link]:
    return ()


def plain(self: object, job: Job, call: Call) -> Status:
    return Status(None)


def test_a_sound_agent_passes() -> None:
    models = models_of(Sound)
    assert (models.settings, models.config, models.job) == (ItsSettings, Config, Job)


@pytest.mark.parametrize("method", [other_names, with_more])
def test_names_are_the_authors_own_and_defaults_do_not_matter(method: Any) -> None:
    models_of(changed(get=method))


@pytest.mark.parametrize(
    ("methods", "says"),
    [
        ({"get": too_few}, "must take what it is given: get(self, job, call)"),
        ({"get": swapped}, "parameters in another order: get(self, job, call)"),
        ({"get": plain}, "get must be an async def"),
        ({"links": awaited}, "links must be a plain def, not async"),
        ({"handle": awaited}, "handle must be a plain def, not async"),
        ({"fingerprint": awaited}, "fingerprint must be a plain def, not async"),
        ({"logs": other_names}, "logs(self, job, call, token, lines)"),
        ({"adopts": plain}, "adopts must be an async def"),
        ({"__init__": lambda self, url: None}, "an __init__ with arguments"),
        ({"hosts": "*.acme.example"}, "has '*.acme.example' as hosts, one text"),
        ({"later_info": ["ahead"]}, "has ['ahead'] as later_info, which is no mapping"),
        ({"later_info": {"ahead": 0, "state": None}}, "has None as the later_info of ['state']"),
    ],
)
def test_a_method_of_another_kind_is_refused(methods: Mapping[str, Any], says: str) -> None:
    assert says in wrong(changed(**methods))


def test_the_one_model_that_is_wrong_is_named() -> None:
    class NoModel:
        pass

    class Bad(Agent[ItsSettings, NoModel, Job]):  # type: ignore[type-var] # the mistake
        task_type = "bad"
        idempotency: ClassVar[Idempotency] = "none"

    text = wrong(Bad)
    assert "names NoModel as its task config, which is no subclass of BaseModel" in text
    assert "must name its models" not in text


def test_models_that_are_not_named_are_asked_for() -> None:
    class Bare(Agent):  # type: ignore[type-arg] # the mistake
        task_type = "bare"

    assert "must name its models" in wrong(Bare)


def test_all_that_is_wrong_is_told_together() -> None:
    text = wrong(changed(get=too_few, links=awaited))
    assert "get(self, job, call)" in text
    assert "links must be" in text


def test_a_sync_agent_has_its_own_method() -> None:
    class Works(SyncAgent[ItsSettings, Config]):
        task_type = "works"

        async def run(self, task: Task[Config], call: Call) -> Mapping[str, object]:
            return {}

    models = models_of(Works)
    offered = offer(Works, models, ItsSettings())
    assert (models.job, offered.is_sync, offered.idempotency) == (None, True, "none")


@pytest.mark.parametrize(("name", "meant"), [("link", "links"), ("log", "logs"), ("finds", "find")])
def test_a_name_that_is_almost_an_optional_one_is_told(name: str, meant: str) -> None:
    (sentence,) = slips(changed(**{name: plain}))
    assert f"defines {name}; is it meant to be {meant}?" in sentence


@pytest.mark.parametrize("name", ["links", "_link", "link_to_job", "close_all", "state"])
def test_what_an_author_names_freely_is_no_slip(name: str) -> None:
    assert list(slips(changed(**{name: plain}))) == []


class Follows(Sound):
    @classmethod
    def serves(cls, settings: ItsSettings) -> Sequence[str]:
        return ("sound", "sound_sql") if settings.warehouse else ("sound",)

    @classmethod
    def promises(cls, settings: ItsSettings) -> Idempotency:
        return "none" if settings.warehouse else "vendor"

    @classmethod
    def caveat(cls, settings: ItsSettings) -> str:
        return "a second one may run" if settings.warehouse else ""


@pytest.mark.parametrize(
    ("warehouse", "types", "idempotency"),
    [(False, ("sound",), "vendor"), (True, ("sound", "sound_sql"), "none")],
)
def test_task_types_and_idempotency_may_follow_from_the_settings(
    warehouse: bool, types: tuple[str, ...], idempotency: str
) -> None:
    offered = offer(Follows, models_of(Follows), ItsSettings(warehouse=warehouse))
    assert (offered.task_types, offered.idempotency) == (types, idempotency)
    assert bool(offered.caveat) is warehouse


def test_one_text_is_one_task_type_and_not_its_letters() -> None:
    cls = changed(serves=classmethod(lambda cls, settings: "sound_sql"))
    assert offer(cls, models_of(cls), ItsSettings()).task_types == ("sound_sql",)


@pytest.mark.parametrize(
    ("methods", "says"),
    [
        ({"serves": classmethod(lambda cls, settings: ())}, "no task types"),
        ({"serves": classmethod(lambda cls, settings: 1 / 0)}, "ZeroDivisionError"),
        ({"promises": classmethod(lambda cls, settings: "perhaps")}, "must have idempotency"),
        ({"promises": classmethod(lambda cls, settings: "lookup")}, "no find"),
    ],
)
def test_what_follows_from_the_settings_is_checked(methods: Mapping[str, Any], says: str) -> None:
    cls = changed(**methods)
    with pytest.raises(BadAgent, match=says):
        offer(cls, models_of(cls), ItsSettings())
