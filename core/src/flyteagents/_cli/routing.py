"""The text of Flyte's configuration for an agent service.

It is written by hand and not dumped, for the sake of its comments. Sources: the plugin's
config.go and client.go in flyteplugins/go/tasks/plugins/webapi/{agent,connector}, and the loader
in flytestdlib/config/viper.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """What is routed where. `sync`: those of the types that end within the call."""

    endpoint: str
    insecure: bool
    name: str | None
    task_types: Sequence[str]
    sync: Sequence[str] = ()


@dataclass(frozen=True)
class Dialect:
    """The names that one kind of Flyte uses."""

    title: str
    plugin: str
    default: str
    entries: str
    pins: str
    listing: str
    service: str
    flyte2: bool = False

    @staticmethod
    def of(name: str | None) -> Dialect:
        return _DIALECTS[name or "flyte1"]


_CONNECTORS = ("connector-service", "defaultConnector", "connectors", "connectorForTaskTypes")
_DIALECTS = {
    "flyte1": Dialect(
        "FlytePropeller (Flyte 1)", *_CONNECTORS, "ListConnectors",
        "flyteidl.service.AsyncAgentService",
    ),
    "agent-service": Dialect(
        "FlytePropeller (Flyte 1) with the older section agent-service", "agent-service",
        "defaultAgent", "agents", "agentForTaskTypes", "ListAgents",
        "flyteidl.service.AsyncAgentService",
    ),
    "flyte2": Dialect(
        "the Flyte 2 executor", *_CONNECTORS, "ListConnectors",
        "flyteidl2.connector.AsyncConnectorService", flyte2=True,
    ),
}  # fmt: skip


def write(route: Route, dialect: Dialect) -> str:
    """The configuration as YAML."""
    return "\n".join([*_head(route, dialect), *_tasks(route, dialect), *_plugin(route, dialect)])


def _head(route: Route, dialect: Dialect) -> Iterator[str]:
    yield f"# Routes task types to flyteagents at {route.endpoint}; for {dialect.title}."
    yield "# Keys of maps lose their capitals when Flyte loads them; keys in lists keep them."
    yield "# So timeouts and task types stand in lists: as a map, GetTask would be ignored."


def _tasks(route: Route, dialect: Dialect) -> Iterator[str]:
    yield "tasks:"
    yield "  task-plugins:"
    if dialect.flyte2:
        yield "    # The executor does not ask for task types: one that is not named runs as a pod."
        yield "    # The first three are what the chart has; keep any others that you have."
        yield "    default-for-task-types:"
        for task_type, plugin in _CHART.items():
            yield f"      - {task_type}: {plugin}"
        for task_type in route.task_types:
            yield f"      - {_quoted(task_type)}: {dialect.plugin}"
    else:
        yield "    # This list replaces yours: keep the plugins that you have."
        yield "    enabled-plugins:"
        for plugin in ("container", "sidecar", "k8s-array", dialect.plugin):
            yield f"      - {plugin}"


def _plugin(route: Route, dialect: Dialect) -> Iterator[str]:
    yield "plugins:"
    yield f"  {dialect.plugin}:"
    if route.name is None:
        yield f"    {dialect.default}:"
        yield from _deployment(route, dialect, "      ")
    else:
        yield f"    {dialect.entries}:"
        yield f"      {route.name}:"
        yield "        # An entry inherits nothing: without these, TLS, no deadlines, one replica."
        yield from _deployment(route, dialect, "        ")
        pinned = [t for t in route.task_types if t not in route.sync or dialect.flyte2]
        if pinned:
            yield f"    {dialect.pins}:"
            yield from (f"      - {_quoted(task_type)}: {route.name}" for task_type in pinned)
        if len(pinned) < len(route.task_types):
            yield "    # Not pinned: Flyte would take them for asynchronous ones. It finds them by"
            yield f"    # asking the service: {', '.join(route.sync)}"
    yield "    # Known before the service is asked; FlytePropeller does not start without any."
    yield "    supportedTaskTypes:"
    yield from (f"      - {_quoted(task_type)}" for task_type in route.task_types)
    yield "    webApi:"
    yield "      caching:"
    yield "        # Failed polls that a task survives, over its whole life. The default of 5 is"
    yield "        # used up by an outage of three minutes; the task then shows RUNNING for ever."
    yield "        maxSystemFailures: 100000"


def _deployment(route: Route, dialect: Dialect, indent: str) -> Iterator[str]:
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": [{"service": dialect.service}], "waitForReady": True}],
    }
    lines = [
        f"endpoint: {_quoted(route.endpoint)}",
        f"insecure: {str(route.insecure).lower()}",
        "defaultTimeout: 10s",
        "# 10 s is what the service needs to settle what an earlier attempt left behind.",
        "timeouts:",
        "  - CreateTask: 10s",
        "  - GetTask: 10s",
        "  - DeleteTask: 10s",
    ]
    if not dialect.flyte2:
        lines.append("  - ExecuteTaskSync: 30s")
    lines += [
        f"  - {dialect.listing}: 5s",
        "# round_robin: all replicas are used; it needs dns:/// and a headless service.",
        "# waitForReady: calls wait for a server, up to their deadline, instead of failing.",
        f"defaultServiceConfig: '{json.dumps(config)}'",
    ]
    return (indent + line for line in lines)


_CHART = {"container": "container", "sidecar": "sidecar", "container_array": "k8s-array"}


def _quoted(text: str) -> str:
    """YAML reads JSON strings, and plain words need no quotes."""
    return text if text.replace("_", "").replace("-", "").isalpha() else json.dumps(text)
