"""`flyteagents propeller-config`."""

from __future__ import annotations

import json
import re

import click

from flyteagents._agent import Agent
from flyteagents._cli.listing import kernel_settings
from flyteagents._cli.routing import Dialect, Route, write
from flyteagents._cli.screen import fail
from flyteagents._cli.serve import CONFIG_ERROR
from flyteagents._kernel.plugins import discover

ENDPOINT = "dns:///flyteagents.flyte.svc.cluster.local:8000"


@click.command("propeller-config")
@click.option(
    "--endpoint", default=ENDPOINT, show_default=True, help="The service, as Flyte reaches it."
)
@click.option(
    "--name",
    help="Make an entry of its own under this id, beside other services, instead of the default.",
)
@click.option("--tls", is_flag=True, help="Flyte is to use TLS; the default is plain text.")
@click.option("--flyte2", "dialect", flag_value="flyte2", help="For the Flyte 2 executor.")
@click.option(
    "--agent-service",
    "dialect",
    flag_value="agent-service",
    help="For a FlytePropeller that has no section connector-service yet.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which Flyte reads too.")
def command(endpoint: str, name: str | None, tls: bool, dialect: str | None, as_json: bool) -> None:
    """Print the Flyte configuration that routes the loaded task types to this service.

    It holds what keeps tasks alive while the service is away, and is written in the form that
    Flyte really reads; the comments say why. Merge it into FlytePropeller's configuration
    (Flyte 1) or the executor's (Flyte 2).

    \b
    Examples:
      flyteagents propeller-config > agents.yaml
      flyteagents propeller-config --flyte2
      flyteagents propeller-config --name warehouse --endpoint dns:///warehouse.flyte:8000
    """
    if name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        # Flyte lower-cases keys when it loads them.
        raise click.BadParameter("small letters, digits, - and _ only", param_hint="--name")
    found = discover(kernel_settings().plugins)
    for broken in found.broken:
        click.echo(f"flyteagents: left out: {broken}", err=True)
    agents = {cls.task_type: cls for plugin in found.plugins for cls in plugin.agents}
    if not agents:
        fail(CONFIG_ERROR, "no agent is loaded, so there is nothing to route; install a plugin")
    route = Route(
        endpoint=endpoint,
        insecure=not tls,
        name=name,
        task_types=tuple(sorted(agents)),
        sync=tuple(sorted(t for t, cls in agents.items() if not issubclass(cls, Agent))),
    )
    text = write(route, Dialect.of(dialect))
    if as_json:
        import yaml

        text = json.dumps(yaml.safe_load(text), indent=2)
    click.echo(text.rstrip("\n"))
