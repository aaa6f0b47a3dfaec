"""What an agent class offers, and everything that is wrong with one.

An author's mistake is found here, at start, and named: the same mistake found by the first poll
would cost a task hours. It is apart from `plugins`, which knows packages and not classes.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel

from flyteagents._agent import Agent, AgentBase, Idempotency, SyncAgent
from flyteagents._job import Job, JobT
from flyteagents._settings import Settings, SettingsT
from flyteagents._task import ConfigT

AgentClass = type[AgentBase[Any, Any]]
_MODELS: Mapping[Any, tuple[str, type]] = {
    SettingsT: ("settings", Settings),
    ConfigT: ("task config", BaseModel),
    JobT: ("job", Job),
}
_PLAIN = ("explain", "handle", "fingerprint", "links", "warnings")
_AWAITED = ("endpoint", "open", "close", "check", "find", "adopts", "logs")
_ALMOST = 0.8
"""How alike two names are (`difflib`) for one to be a slip of the other: link and links are."""


class BadAgent(Exception):
    """What is wrong with an agent class."""


@dataclass(frozen=True)
class Models:
    """The type arguments of an agent class."""

    settings: type[Settings]
    config: type[BaseModel]
    job: type[Job] | None


@dataclass(frozen=True)
class Offered:
    """An agent class, with what follows from its plugin's settings."""

    cls: AgentClass
    models: Models
    settings: Settings
    task_types: Sequence[str]
    idempotency: Idempotency
    caveat: str = ""

    @property
    def name(self) -> str:
        return self.cls.name or self.cls.task_type

    @property
    def is_sync(self) -> bool:
        return not issubclass(self.cls, Agent)


def models_of(cls: AgentClass) -> Models:
    """The models of a class that can be served. Raises BadAgent with all that is wrong with it."""
    given = _type_arguments(cls)
    if wrong := [*_bad_names(cls), *_bad_models(cls, given), *_bad_methods(cls)]:
        raise BadAgent(f"{cls.__module__}.{cls.__qualname__} {', '.join(wrong)}")
    return Models(given[SettingsT], given[ConfigT], given.get(JobT))


def offer(cls: AgentClass, models: Models, settings: Settings) -> Offered:
    """What the class offers with these settings. Raises BadAgent."""
    where = f"{cls.__module__}.{cls.__qualname__}"
    try:
        said = cls.serves(settings)
        # One text would be taken for as many types as it has letters.
        task_types = (said,) if isinstance(said, str) else tuple(said)
        idempotency: Idempotency = "none"
        caveat = ""
        if issubclass(cls, Agent):
            idempotency, caveat = cls.promises(settings), cls.caveat(settings)
    except Exception as error:  # the author's own code
        raise BadAgent(f"{where} failed with {type(error).__name__}: {error}") from error
    if not task_types or not all(isinstance(each, str) and each for each in task_types):
        raise BadAgent(f"{where} serves {task_types!r}, which are no task types")
    # Looked at here as well, since `promises` may say another than the class does.
    if idempotency not in get_args(Idempotency):
        raise BadAgent(f'{where} must have idempotency "vendor", "lookup" or "none"')
    if idempotency == "lookup" and getattr(cls, "find", None) is Agent.find:
        raise BadAgent(f'{where} has idempotency "lookup" and no find')
    return Offered(cls, models, settings, task_types, idempotency, caveat)


def slips(cls: AgentClass) -> Iterator[str]:
    """A sentence for each method whose name is almost that of one which the class leaves out."""
    base = _base_of(cls)
    left_out = [
        name
        for name in (*_PLAIN, *_AWAITED)
        if getattr(cls, name, None) is getattr(base, name, None) is not None
    ]
    for name, value in vars(cls).items():
        if not callable(value) or hasattr(base, name) or name.startswith("_"):
            continue
        for near in difflib.get_close_matches(name, left_out, n=1, cutoff=_ALMOST):
            yield f"{cls.__module__}.{cls.__qualname__} defines {name}; is it meant to be {near}?"


def _base_of(cls: AgentClass) -> AgentClass:
    return Agent if issubclass(cls, Agent) else SyncAgent


def _needed(cls: AgentClass) -> Sequence[str]:
    return ("create", "get", "cancel") if issubclass(cls, Agent) else ("run",)


def _bad_names(cls: AgentClass) -> Iterator[str]:
    task_type = getattr(cls, "task_type", "")
    if not isinstance(task_type, str) or not task_type:
        yield "has no task_type"
    # A text is a sequence of texts too: ("*.acme.example") would allow "*", which is all hosts.
    if isinstance(cls.hosts, str):
        yield f"has {cls.hosts!r} as hosts, one text: put it into a list"
    if not issubclass(cls, Agent):
        return
    if not isinstance(cls.later_info, Mapping):
        yield f"has {cls.later_info!r} as later_info, which is no mapping"
    elif empty := [key for key, value in cls.later_info.items() if value is None]:
        yield f"has None as the later_info of {empty}, which Flyte may show: give an end value"
    if "promises" in _overridden(cls):
        return
    if getattr(cls, "idempotency", None) not in get_args(Idempotency):
        yield 'must have idempotency "vendor", "lookup" or "none"'


def _bad_models(cls: AgentClass, given: Mapping[Any, Any]) -> Iterator[str]:
    base = _base_of(cls)
    if not all(parameter in given for parameter in base.__parameters__):  # type: ignore[attr-defined] # of Generic
        yield "must name its models, as in Agent[MySettings, MyConfig, MyJob]"
        return
    for parameter, value in given.items():
        what, kind = _MODELS[parameter]
        if not isinstance(value, type) or not issubclass(value, kind):
            name = getattr(value, "__name__", value)
            yield f"names {name} as its {what}, which is no subclass of {kind.__name__}"


def _bad_methods(cls: AgentClass) -> Iterator[str]:
    base, needed, overridden = _base_of(cls), _needed(cls), _overridden(cls)
    try:
        # The kernel makes the object, and makes it anew when the agent moves to a loop of its own.
        inspect.signature(cls).bind()
    except TypeError:
        yield "has an __init__ with arguments; the kernel gives none, use self.settings and open()"
    for name in needed:
        if name not in overridden:
            yield f"does not define {name}"
    for name in (*needed, *_AWAITED, *_PLAIN):
        if name not in overridden:
            continue
        method = getattr(cls, name)
        awaited = inspect.iscoroutinefunction(method)
        if awaited and name in _PLAIN:
            yield f"{name} must be a plain def, not async"
        elif not awaited and name not in _PLAIN:
            yield f"{name} must be an async def"
        else:
            yield from _bad_parameters(name, method, getattr(base, name))


def _bad_parameters(name: str, method: Any, model: Any) -> Iterator[str]:
    """Whether the method can be called as the kernel calls it."""
    wanted = list(inspect.signature(model).parameters)
    signature = inspect.signature(method)
    has = list(signature.parameters)
    shown = f"{name}({', '.join(wanted)})"
    try:
        signature.bind(*wanted)
    except TypeError:
        yield f"must take what it is given: {shown}"
        return
    # The kernel gives them by place: two that are swapped would bind, and each get the other's.
    if any(each in has and has.index(each) != place for place, each in enumerate(wanted)):
        yield f"has its parameters in another order: {shown}"


def _overridden(cls: AgentClass) -> set[str]:
    """The names of the base's methods that the class has of its own."""
    base = _base_of(cls)

    # A classmethod is another bound object each time it is looked up; its function is the same.
    def plain(value: Any) -> Any:
        return getattr(value, "__func__", value)

    return {
        name
        for name in (*_needed(cls), *_PLAIN, *_AWAITED, "serves", "promises", "caveat")
        if plain(getattr(cls, name, None)) is not plain(getattr(base, name, None))
    }


def _type_arguments(cls: type, given: Mapping[Any, Any] | None = None) -> dict[Any, Any]:
    """The models by the type variables of `Agent` and `SyncAgent`. They may be split over several
    classes, as in `class Base(Agent[S, C, JobT])` and `class One(Base[OneJob])`."""
    known = given or {}
    # By `vars`: a class that has no generic base of its own would show its parent's.
    for base in vars(cls).get("__orig_bases__", ()):
        origin: Any = get_origin(base)
        if not isinstance(origin, type) or not issubclass(origin, AgentBase):
            continue
        values = [known.get(each, each) for each in get_args(base)]
        bound = dict(zip(origin.__parameters__, values, strict=True))  # type: ignore[attr-defined] # of Generic
        if origin in (Agent, SyncAgent):
            return {name: each for name, each in bound.items() if not isinstance(each, TypeVar)}
        return _type_arguments(origin, bound)
    for parent in cls.__bases__:
        if issubclass(parent, AgentBase) and parent not in (Agent, SyncAgent):
            return _type_arguments(parent)
    return {}
