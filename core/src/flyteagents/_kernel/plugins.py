"""Finding, checking and registering plugins. Every mistake is found here, at start, together."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, get_args, get_origin

import pluggy
from importlib_metadata import EntryPoint, entry_points
from pydantic import BaseModel

from flyteagents import _hooks
from flyteagents._agent import Agent, AgentBase, Idempotency, SyncAgent
from flyteagents._job import Job
from flyteagents._kernel.settings import BadSettings, KernelSettings, prefix_of, read
from flyteagents._settings import Settings


@dataclass(frozen=True)
class Models:
    """The type arguments of an agent class."""

    settings: type[Settings]
    config: type[BaseModel]
    job: type[Job] | None


@dataclass(frozen=True)
class Plugin:
    """A plugin that can be served."""

    name: str
    package: str
    version: str
    module: str
    agents: Sequence[type[AgentBase[Any, Any]]]
    models: Mapping[str, Models]
    settings: Mapping[type[Settings], Settings]

    @property
    def origin(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class Broken:
    """A plugin that cannot be served, and why."""

    name: str
    origin: str
    cause: str

    def __str__(self) -> str:
        return f"plugin {self.name} ({self.origin}): {self.cause}"


@dataclass
class Found:
    """What discovery found: what can be served, and what cannot."""

    plugins: list[Plugin] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)


def discover(
    chosen: Sequence[str] | None,
    offered: Callable[[], Iterable[EntryPoint]] = lambda: entry_points(group=_hooks.GROUP),
) -> Found:
    """Load the chosen plugins (None: all that are installed), and report every failure."""
    found = Found()
    by_name: dict[str, list[EntryPoint]] = {}
    for point in offered():
        by_name.setdefault(point.name, []).append(point)
    for name in sorted(by_name) if chosen is None else dict.fromkeys(chosen):
        points = {(_origin(point), point.value): point for point in by_name.get(name, [])}
        if not points:
            there = ", ".join(sorted(by_name)) or "none"
            cause = f"no installed package offers it; there are: {there}"
            found.broken.append(Broken(name, "FLYTEAGENTS_PLUGINS", cause))
        elif len(points) > 1:
            origins = " and ".join(sorted(origin for origin, _ in points))
            found.broken.append(Broken(name, origins, "two packages offer the same plugin name"))
        else:
            point = next(iter(points.values()))
            try:
                found.plugins.append(_load(point))
            except PluginProblem as problem:
                found.broken.append(Broken(name, _origin(point), str(problem)))
    _refuse_duplicates(found)
    return found


class PluginProblem(Exception):
    """What is wrong with one plugin."""


def _load(point: EntryPoint) -> Plugin:
    clash = [name for name in KernelSettings.names() if name.startswith(prefix_of(point.name))]
    if clash:
        raise PluginProblem(f"its settings' prefix collides with the kernel's {clash[0]}; rename")
    try:
        module = point.load()
    except BaseException as error:  # an import may raise anything, also SystemExit
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginProblem(f"import failed: {type(error).__name__}: {error}") from error
    if not isinstance(module, ModuleType):
        raise PluginProblem(f"its entry point {point.value!r} must name a module")
    version = getattr(module, "API", None)
    if version != _hooks.API:
        raise PluginProblem(
            f"it was written for API {version}, this kernel has API {_hooks.API}; "
            "install versions that fit each other"
        )
    classes = _hook_result(point.name, module)
    checked = [_checked(cls) for cls in classes]  # first: one may have no task type
    models = {cls.task_type: each for cls, each in zip(classes, checked, strict=True)}
    prefix = prefix_of(point.name)
    try:
        settings = {model: read(model, prefix) for model in {m.settings for m in models.values()}}
    except BadSettings as error:
        raise PluginProblem(str(error)) from None
    dist = point.dist
    name, version = (dist.name, dist.version) if dist else ("?", "?")
    return Plugin(point.name, name, version, module.__name__, classes, models, settings)


def _hook_result(name: str, module: ModuleType) -> Sequence[type[AgentBase[Any, Any]]]:
    manager = pluggy.PluginManager(_hooks.GROUP)
    manager.add_hookspecs(sys.modules[_hooks.__name__])
    try:
        manager.register(module, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginProblem(f"wrong hook: {str(error).strip().splitlines()[-1]}") from None
    if not manager.hook.register_agents.get_hookimpls():
        raise PluginProblem(f"{module.__name__} has no @hookimpl register_agents()")
    try:
        results = manager.hook.register_agents()
    except Exception as error:  # the plugin's own code
        raise PluginProblem(f"register_agents() raised {type(error).__name__}: {error}") from error
    classes = [cls for result in results for cls in result]
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Agent | SyncAgent)):
            raise PluginProblem(f"register_agents() returned {cls!r}, not an Agent or SyncAgent")
    if not classes:
        raise PluginProblem("register_agents() returned no agents")
    return classes


def _checked(cls: type[AgentBase[Any, Any]]) -> Models:
    """The agent's models, if the class can be served; all that is wrong with it, if not."""
    is_async = issubclass(cls, Agent)
    base, needed = (Agent, ("create", "get", "cancel")) if is_async else (SyncAgent, ("run",))
    task_type, idempotency = getattr(cls, "task_type", ""), getattr(cls, "idempotency", None)
    arguments = _type_arguments(cls)
    settings = next((a for a in arguments if issubclass(a, Settings)), Settings)
    job = next((a for a in arguments if issubclass(a, Job)), None)
    others = [a for a in arguments if issubclass(a, BaseModel) and a not in (settings, job)]
    methods = (*needed, "endpoint", "open", "close", "check", "find", "logs")
    rules = {
        "has no task_type": not isinstance(task_type, str) or not task_type,
        'must have idempotency "vendor", "lookup" or "none"': is_async
        and idempotency not in get_args(Idempotency),
        'has idempotency "lookup" and no find': idempotency == "lookup"
        and getattr(cls, "find", None) is Agent.find,
        "must name its models, as in Agent[MySettings, MyConfig, MyJob]": not others
        or (is_async and job is None),
        **{f"does not define {m}": getattr(cls, m) is getattr(base, m) for m in needed},
        **{
            f"{m} must be an async def": not inspect.iscoroutinefunction(getattr(cls, m))
            for m in methods
            if hasattr(cls, m)
        },
    }
    if wrong := [rule for rule, broken in rules.items() if broken]:
        raise PluginProblem(f"{cls.__module__}.{cls.__qualname__} {', '.join(wrong)}")
    return Models(settings, others[0], job)


def _type_arguments(cls: type) -> list[type]:
    """The models named by the class or by those it inherits from; they may be split over several,
    as in `class Base(Agent[S, C, JobT])` and `class One(Base[OneJob])`."""
    arguments: list[type] = []
    for klass in cls.__mro__:
        for base in getattr(klass, "__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, AgentBase):
                arguments += [a for a in get_args(base) if isinstance(a, type)]
    return arguments


def _refuse_duplicates(found: Found) -> None:
    """No task type and no name may be served twice: callers keep one, whichever comes last."""
    owners: dict[str, list[Plugin]] = {}
    for plugin in found.plugins:
        for cls in plugin.agents:
            for what in {f"task type {cls.task_type}", f"name {cls.name or cls.task_type}"}:
                owners.setdefault(what, []).append(plugin)
    for what, plugins in owners.items():
        if len(plugins) > 1:
            origins = " and ".join(sorted({p.origin for p in plugins}))
            cause = f"more than one agent for {what}; uninstall one of the packages"
            for plugin in plugins:
                if plugin in found.plugins:
                    found.plugins.remove(plugin)
                    found.broken.append(Broken(plugin.name, origins, cause))


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
