"""Finding, checking and registering plugins. Every mistake is found here, at start, together."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType

import pluggy
from importlib_metadata import EntryPoint, entry_points

from flyteagents import _hooks
from flyteagents._agent import Agent, SyncAgent
from flyteagents._kernel.offered import AgentClass, BadAgent, Offered, models_of, offer, slips
from flyteagents._kernel.settings import BadSettings, KernelSettings, prefix_of, read
from flyteagents._settings import Settings


@dataclass(frozen=True)
class Plugin:
    """A plugin that can be served. slips: sentences about what its author may have meant."""

    name: str
    package: str
    version: str
    module: str
    agents: Sequence[Offered]
    slips: Sequence[str] = ()

    @property
    def origin(self) -> str:
        return f"{self.package} {self.version}"

    @property
    def settings(self) -> Mapping[type[Settings], Settings]:
        """Its settings, by their model; agents may share one."""
        return {agent.models.settings: agent.settings for agent in self.agents}


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
    """What discovery found: what can be served, what cannot, and what was not asked for."""

    plugins: list[Plugin] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def discover(
    chosen: Sequence[str] | None,
    offered: Callable[[], Iterable[EntryPoint]] = lambda: entry_points(group=_hooks.GROUP),
) -> Found:
    """Load the chosen plugins (None: all that are installed), and report every failure."""
    found = Found()
    by_name: dict[str, list[EntryPoint]] = {}
    for point in offered():
        by_name.setdefault(point.name, []).append(point)
    wanted = sorted(by_name) if chosen is None else dict.fromkeys(chosen)
    found.left_out = sorted(by_name.keys() - set(wanted))
    for name in wanted:
        # A package that is on sys.path twice is listed twice, and is no clash with itself.
        points = {(_origin(point), point.value): point for point in by_name.get(name, [])}
        if not points:
            there = ", ".join(sorted(by_name)) or "none"
            cause = f"no installed package offers it, so install one that does; there are: {there}"
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


def _place(error: BaseException) -> str:
    """The line of the plugin's, or of what it imports, that raised; "" where none did."""
    raised = traceback.extract_tb(error.__traceback__)[1:]  # the first is ours
    theirs = [frame for frame in raised if "importlib" not in frame.filename]
    return f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""


def _load(point: EntryPoint) -> Plugin:
    # A plugin named `tls` would take FLYTEAGENTS_TLS_CERT for a setting of its own.
    clash = [name for name in KernelSettings.names() if name.startswith(prefix_of(point.name))]
    if clash:
        raise PluginProblem(f"its settings' prefix collides with the kernel's {clash[0]}; rename")
    try:
        module = point.load()
    except BaseException as error:  # an import may raise anything, also SystemExit
        if isinstance(error, KeyboardInterrupt):
            raise
        where = _place(error)
        raise PluginProblem(f"import failed: {type(error).__name__}: {error}{where}") from error
    if not isinstance(module, ModuleType):
        raise PluginProblem(f"its entry point {point.value!r} must name a module")
    version = getattr(module, "API", None)
    if version is None:
        raise PluginProblem(
            f"{point.value} does not say which API it was written for: put `API = {_hooks.API}` "
            "into it"
        )
    if version != _hooks.API:
        raise PluginProblem(
            f"it was written for API {version}, this kernel has API {_hooks.API}; "
            "install versions that fit each other"
        )
    classes = _hook_result(point.name, module)
    prefix = prefix_of(point.name)
    try:
        checked = [models_of(cls) for cls in classes]
        settings = {model: read(model, prefix) for model in {each.settings for each in checked}}
        agents = [
            offer(cls, models, settings[models.settings])
            for cls, models in zip(classes, checked, strict=True)
        ]
    except (BadSettings, BadAgent) as error:
        raise PluginProblem(str(error)) from None
    dist = point.dist
    return Plugin(
        name=point.name,
        package=dist.name if dist else "?",
        version=dist.version if dist else "?",
        module=module.__name__,
        agents=agents,
        slips=[sentence for cls in classes for sentence in slips(cls)],
    )


def _hook_result(name: str, module: ModuleType) -> Sequence[AgentClass]:
    # A manager for each plugin: of one hook call for all, nobody could tell whose code raised.
    manager = pluggy.PluginManager(_hooks.GROUP)
    manager.add_hookspecs(sys.modules[_hooks.__name__])
    try:
        manager.register(module, name)
        # Without it pluggy lets a hook with a misspelt name pass, and never calls it.
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginProblem(f"wrong hook: {str(error).strip().splitlines()[-1]}") from None
    if not manager.hook.register_agents.get_hookimpls():
        raise PluginProblem(f"{module.__name__} has no @hookimpl register_agents()")
    try:
        results = manager.hook.register_agents()
    except Exception as error:  # the plugin's own code
        raise PluginProblem(f"register_agents() raised {type(error).__name__}: {error}") from error
    for result in results:
        if not isinstance(result, Sequence) or isinstance(result, str):
            raise PluginProblem(
                f"register_agents() returned {result!r}; return a list of agent classes"
            )
    classes = [cls for result in results for cls in result]
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Agent | SyncAgent)):
            raise PluginProblem(f"register_agents() returned {cls!r}, not an Agent or SyncAgent")
    if not classes:
        raise PluginProblem("register_agents() returned no agents")
    return classes


def _refuse_duplicates(found: Found) -> None:
    """No task type and no name may be served twice: callers keep one, whichever comes last."""
    owners: dict[str, list[Plugin]] = {}
    for plugin in found.plugins:
        for agent in plugin.agents:
            types = {f"task type {each}" for each in agent.task_types}
            for what in {*types, f"name {agent.name}"}:
                owners.setdefault(what, []).append(plugin)
    for what, plugins in owners.items():
        if len(plugins) > 1:
            origins = " and ".join(sorted({p.origin for p in plugins}))
            cause = f"more than one agent for {what}; uninstall one of the packages"
            # All of them: which one the operator meant is not known here, and the order of
            # installed packages must not decide it.
            for plugin in plugins:
                if plugin in found.plugins:
                    found.plugins.remove(plugin)
                    found.broken.append(Broken(plugin.name, origins, cause))


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
