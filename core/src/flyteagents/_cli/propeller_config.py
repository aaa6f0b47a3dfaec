"""`flyteagents propeller-config`: which task types go to which service.

What is written for them, and why, is in `routing`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import click

from flyteagents._cli.endpoint import BadEndpoint, port_of
from flyteagents._cli.listing import kernel_settings
from flyteagents._cli.routing import Dialect, Service, write
from flyteagents._cli.screen import fail
from flyteagents._client.exit_codes import CONFIG_ERROR
from flyteagents._kernel.plugins import Found, discover

ENDPOINT = "dns:///flyteagents.flyte.svc.cluster.local:8000"


@click.command("propeller-config")
@click.option(
    "--endpoint", help=f"The default service, as Flyte reaches it.  [default: {ENDPOINT}]"
)
@click.option(
    "--service",
    "written",
    multiple=True,
    metavar="NAME=ENDPOINT[=TYPES]",
    help="A service with an entry of its own, beside others. TYPES: its task types, or plugins, "
    "with commas between them; without, what no other service is named for. Repeat for each.",
)
@click.option("--tls", is_flag=True, help="Flyte is to use TLS; the default is plain text.")
@click.option("--flyte2", is_flag=True, help="For the Flyte 2 executor.")
@click.option(
    "--agent-service",
    is_flag=True,
    help="For a FlytePropeller that has no section connector-service yet.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which Flyte reads too.")
def command(
    endpoint: str | None,
    written: tuple[str, ...],
    tls: bool,
    flyte2: bool,
    agent_service: bool,
    as_json: bool,
) -> None:
    """Print the Flyte configuration that routes task types to one or several services.

    It holds what keeps tasks alive while a service is away, and is written in the form that
    Flyte really reads; the comments say why, what it costs, and which lists of yours it
    replaces. Merge it into FlytePropeller's configuration (Flyte 1) or the executor's (Flyte 2).

    The task types are those of the plugins that are installed here. Types that are named for a
    service need no plugin here.

    \b
    Examples:
      flyteagents propeller-config > agents.yaml
      flyteagents propeller-config --flyte2
      flyteagents propeller-config --service warehouse=dns:///warehouse.flyte:8000=snowflake,bigquery
    """
    if flyte2 and agent_service:
        raise click.UsageError(
            "--flyte2 is for the Flyte 2 executor, and --agent-service for an older FlytePropeller "
            "(Flyte 1); give one of them"
        )
    dialect = "flyte2" if flyte2 else "agent-service" if agent_service else None
    found = discover(kernel_settings().plugins)
    for broken in found.broken:
        click.echo(f"flyteagents: left out: {broken}", err=True)
    services = _services(endpoint, written, found, insecure=not tls)
    if not any(service.task_types for service in services):
        fail(CONFIG_ERROR, "no agent is loaded, so there is nothing to route; install a plugin")
    text = write(services, Dialect.of(dialect))
    if as_json:
        import yaml

        text = json.dumps(yaml.safe_load(text), indent=2)
    click.echo(text.rstrip("\n"))


def _services(
    endpoint: str | None, written: Sequence[str], found: Found, insecure: bool
) -> list[Service]:
    named = [_read(text) for text in written]
    names = [name for name, _, _ in named]
    if twice := {name for name in names if names.count(name) > 1}:
        raise _bad(f"two services are named {min(twice)}")
    agents = {
        task_type: agent
        for plugin in found.plugins
        for agent in plugin.agents
        for task_type in agent.task_types
    }
    of_plugin = {
        plugin.name: [each for agent in plugin.agents for each in agent.task_types]
        for plugin in found.plugins
    }

    owners: dict[str, str] = {}
    for name, _, words in named:
        for task_type in _expanded(words, of_plugin):
            if owner := owners.get(task_type):
                raise _bad(f"{task_type} is named for {owner} and for {name}; it can go to one")
            owners[task_type] = name
    for task_type in sorted(owners.keys() - agents.keys()):
        click.echo(
            f"flyteagents: warning: {task_type} is no plugin that is installed here and no task "
            "type of one; it is routed as a task type of that very name, of an asynchronous agent",
            err=True,
        )

    rest = sorted(agents.keys() - owners.keys())
    takers = [name for name, _, words in named if not words]
    if len(takers) + (endpoint is not None) > 1:
        raise _bad(f"say which task types go to {', '.join(takers)}: NAME=ENDPOINT=TYPE,TYPE")
    entries: list[tuple[str | None, str, list[str]]] = [
        (name, at, _expanded(words, of_plugin) if words else rest) for name, at, words in named
    ]
    if endpoint is not None or not named:
        entries.insert(0, (None, endpoint or ENDPOINT, rest))
    elif rest and not takers:
        click.echo(f"flyteagents: routed nowhere: {', '.join(rest)}", err=True)

    for _, at, _ in entries:
        _doubt(at)
    return [
        Service(
            name=name,
            endpoint=at,
            insecure=insecure,
            task_types=types,
            sync=[t for t in types if t in agents and agents[t].is_sync],
        )
        for name, at, types in entries
    ]


def _doubt(endpoint: str) -> None:
    """Warn of an endpoint that Flyte's client would hardly reach us by."""
    try:
        why = "has no port, and Flyte's client takes 443" if port_of(endpoint) is None else ""
    except BadEndpoint as error:
        raise click.BadParameter(str(error), param_hint="--endpoint, --service") from None
    if not why and not endpoint.startswith("dns:///"):
        why = "does not begin with dns:///, so that all calls go to one replica"
    if why:
        click.echo(
            f"flyteagents: warning: {endpoint} {why}; write one such as {ENDPOINT}", err=True
        )


def _read(text: str) -> tuple[str, str, list[str]]:
    """Name, endpoint and the words for task types of one `--service`."""
    name, _, rest = text.partition("=")
    at, _, types = rest.partition("=")
    if not at:
        raise _bad(f"{text!r} is not of the form NAME=ENDPOINT or NAME=ENDPOINT=TYPE,TYPE")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        # Flyte lower-cases keys when it loads them.
        raise _bad(f"{name!r}: a name has small letters, digits, - and _ only")
    return name, at, [word.strip() for word in types.split(",") if word.strip()]


def _expanded(words: Sequence[str], of_plugin: Mapping[str, Sequence[str]]) -> list[str]:
    """Task types; the name of a plugin stands for all of its types."""
    return sorted({each for word in words for each in of_plugin.get(word, [word])})


def _bad(text: str) -> click.BadParameter:
    return click.BadParameter(text, param_hint="--service")
