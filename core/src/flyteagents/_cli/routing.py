"""The text of Flyte's configuration for one or several agent services.

It is written line by line and not dumped, for the sake of its comments: each setting stands
beside the reason for it, where an operator merges it. Sources: config.go and client.go in
flyteplugins/go/tasks/plugins/webapi/{agent,connector}, the cache in
flytestdlib/cache/in_memory_auto_refresh.go, and the loader in flytestdlib/config/viper.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """One agent service and what it serves.

    name: None for the default, which takes what no other service is named for.
    sync: those of the task types that end within the call.
    """

    name: str | None
    endpoint: str
    insecure: bool
    task_types: Sequence[str]
    sync: Sequence[str] = ()


@dataclass(frozen=True)
class Dialect:
    """The names that one kind of Flyte uses."""

    title: str
    plugin: str = "connector-service"
    default: str = "defaultConnector"
    entries: str = "connectors"
    pins: str = "connectorForTaskTypes"
    listing: str = "ListConnectors"
    service: str = "flyteidl.service.AsyncAgentService"
    sync_service: str = "flyteidl.service.SyncAgentService"
    workers: str = "FlytePropeller's `propeller.workers`, 20 by default"
    flyte2: bool = False

    @staticmethod
    def of(name: str | None) -> Dialect:
        return _DIALECTS[name or "flyte1"]


_DIALECTS = {
    "flyte1": Dialect("FlytePropeller (Flyte 1)"),
    "agent-service": Dialect(
        "FlytePropeller (Flyte 1) with the older section agent-service",
        plugin="agent-service",
        default="defaultAgent",
        entries="agents",
        pins="agentForTaskTypes",
        listing="ListAgents",
    ),
    "flyte2": Dialect(
        "the Flyte 2 executor",
        service="flyteidl2.connector.AsyncConnectorService",
        sync_service="",
        workers="the executor's workers",
        flyte2=True,
    ),
}


def write(services: Sequence[Service], dialect: Dialect) -> str:
    """The configuration as YAML."""
    return "\n".join(
        [
            *_head(services, dialect),
            *_task_plugins(services, dialect),
            *_section(services, dialect),
        ]
    )


def _head(services: Sequence[Service], dialect: Dialect) -> Iterator[str]:
    where = ", ".join(service.endpoint for service in services)
    yield f"# Routes task types to flyteagents at {where}; for {dialect.title}."
    yield "# Keys of maps lose their capitals when Flyte loads them; keys in lists keep them."
    yield "# So timeouts and pinned task types stand in lists: as a map, GetTask would be ignored."


def _task_plugins(services: Sequence[Service], dialect: Dialect) -> Iterator[str]:
    yield "tasks:"
    yield "  task-plugins:"
    if dialect.flyte2:
        yield "    # The executor does not ask for task types: one that is not named runs as a pod."
        yield "    # A map is added to the chart's own; Flyte drops a list where another file has"
        yield "    # a map. Task types are compared in small letters here."
        yield "    default-for-task-types:"
        for task_type in _all_types(services):
            yield f"      {_quoted(task_type)}: {dialect.plugin}"
    else:
        yield "    # This list replaces yours: keep the plugins that you have."
        yield "    enabled-plugins:"
        for plugin in ("container", "sidecar", "k8s-array", dialect.plugin):
            yield f"      - {plugin}"


def _section(services: Sequence[Service], dialect: Dialect) -> Iterator[str]:
    yield "plugins:"
    yield f"  {dialect.plugin}:"
    yield from _deployments(services, dialect)
    yield from _pins([service for service in services if service.name is not None], dialect)
    yield from _supported(services, dialect)
    yield from _polling()


def _deployments(services: Sequence[Service], dialect: Dialect) -> Iterator[str]:
    named = [service for service in services if service.name is not None]
    for service in services:
        if service.name is None:
            yield f"    {dialect.default}:"
            yield from _deployment(service, dialect, indent="      ")
    if named:
        yield f"    {dialect.entries}:"
    for service in named:
        yield f"      {service.name}:"
        yield "        # An entry inherits nothing: without these, TLS, no deadlines, one replica."
        yield from _deployment(service, dialect, indent="        ")


def _deployment(service: Service, dialect: Dialect, indent: str) -> Iterator[str]:
    lines = [
        f"endpoint: {_quoted(service.endpoint)}",
        f"insecure: {str(service.insecure).lower()}",
        "defaultTimeout: 10s",
        "# Starting and cancelling outlive a minute without a server: a failed CreateTask burns an",
        "# attempt, and failed DeleteTasks end the workflow while the job runs on. The price: a",
        f"# call that waits holds one worker ({dialect.workers}).",
        "# While a server is there, it answers both within its own budget of 8 s.",
        "# This list replaces yours.",
        "timeouts:",
        "  - CreateTask: 60s",
        "  - DeleteTask: 60s",
        "  - GetTask: 10s",
    ]
    if dialect.sync_service:
        lines.append("  - ExecuteTaskSync: 60s  # the wait for a server and the work itself")
    lines += [
        f"  - {dialect.listing}: 5s",
        "# round_robin: all replicas are used; it needs dns:/// and a headless service.",
        "# waitForReady: calls wait for a server, up to their deadline, instead of failing. Not",
        "# GetTask: all services share its ten workers, and one that is away would hold them all.",
        "# What it does not wait for, maxSystemFailures below forgives.",
        "# retryPolicy: a server that stops cancels what it has not looked at; another is asked.",
        f"defaultServiceConfig: '{json.dumps(service_config(dialect))}'",
    ]
    return (indent + line for line in lines)


def service_config(dialect: Dialect) -> dict[str, object]:
    """gRPC's settings for Flyte's client."""
    # A server that stops cancels the calls that it has not looked at yet, and one that is killed
    # answers nothing. Both may be asked again: the three calls are idempotent.
    methods = [
        _method(dialect.service, "CreateTask", waits=True, again=("UNAVAILABLE", "CANCELLED")),
        # Its UNAVAILABLE says that the job has not stopped yet, and Flyte is to come back later.
        _method(dialect.service, "DeleteTask", waits=True, again=("CANCELLED",)),
        _method(dialect.service, "GetTask", waits=False, again=("UNAVAILABLE", "CANCELLED")),
    ]
    if dialect.sync_service:
        methods.append({"name": [{"service": dialect.sync_service}], "waitForReady": True})
    return {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": methods}


def _method(service: str, method: str, *, waits: bool, again: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = {"name": [{"service": service, "method": method}]}
    if waits:
        found["waitForReady"] = True
    found["retryPolicy"] = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": list(again),
    }
    return found


def _pins(named: Sequence[Service], dialect: Dialect) -> Iterator[str]:
    """Which entry has which task type, said before any service has been asked."""
    # Flyte 1 takes a pinned type for an asynchronous one: client.go sets IsSync to false.
    pinned = [
        f"      - {_quoted(task_type)}: {service.name}"
        for service in named
        for task_type in service.task_types
        if task_type not in service.sync or dialect.flyte2
    ]
    asked = [task_type for service in named for task_type in service.sync]
    if pinned:
        yield "    # This list replaces yours: keep what you have for other services."
        yield f"    {dialect.pins}:"
        yield from pinned
    if asked and not dialect.flyte2:
        yield "    # Not pinned: Flyte would take them for asynchronous ones. It finds them by"
        yield f"    # asking the service: {', '.join(asked)}"


def _supported(services: Sequence[Service], dialect: Dialect) -> Iterator[str]:
    if dialect.flyte2:
        yield "    # The executor reads the types from here and never asks a service for them."
    else:
        yield "    # Known before a service is asked: a service that is away while FlytePropeller"
        yield "    # starts would lose its types, and with no type at all it does not start."
    yield "    # This list replaces yours: keep the types of other services."
    yield "    supportedTaskTypes:"
    yield from (f"      - {_quoted(task_type)}" for task_type in _all_types(services))


def _polling() -> Iterator[str]:
    yield "    webApi:"
    yield "      caching:"
    yield "        # Failed polls that a task survives, over its whole life. The default of 5 is"
    yield "        # used up by an outage of three minutes; the task then shows RUNNING for ever."
    yield "        maxSystemFailures: 100000"
    yield "        # The pause between two looks at a job. The second look comes up to this long"
    yield "        # after the first, so a task of a second may take half a minute. 30s is Flyte's"
    yield "        # default and 5s the least that it takes. All polls share `workers` (10) and the"
    yield "        # 10 a second of `readRateLimiter`."
    yield "        resyncInterval: 30s"


def _all_types(services: Sequence[Service]) -> list[str]:
    return sorted(task_type for service in services for task_type in service.task_types)


def _quoted(text: str) -> str:
    """YAML reads JSON strings, and plain words need no quotes."""
    return text if text.replace("_", "").replace("-", "").isalpha() else json.dumps(text)
