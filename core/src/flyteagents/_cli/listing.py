"""`flyteagents list`: what is installed, what it promises, and what is broken.

It also reads the kernel's settings for all commands, which end in the same way when they are bad.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from flyteagents._cli import screen
from flyteagents._cli.bad_settings import all_that_is_bad
from flyteagents._client.exit_codes import CONFIG_ERROR
from flyteagents._kernel.offered import Offered
from flyteagents._kernel.plugins import Found, Plugin, discover
from flyteagents._kernel.settings import BadSettings, KernelSettings, read_settings


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
def command(as_json: bool) -> None:
    """Show the installed plugins, their agents, and what is broken.

    An agent's idempotency says what happens when Flyte asks twice for one job:

    \b
      vendor   the vendor itself dedupes: never a second job
      lookup   we can look the job up: a small window of risk remains
      none     a second job is possible
      sync     the work ends within the call

    Where a second job is possible all the same, a sentence below says when.

    Exits with 78 when a plugin is broken.

    \b
    Examples:
      flyteagents list
      FLYTEAGENTS_PLUGINS=duckdb flyteagents list
      flyteagents list --json | jq -r '.plugins[].agents[].task_type'
    """
    settings = kernel_settings()
    found = discover(settings.plugins)
    if as_json:
        screen.print_json({**_document(found), "not_loaded": found.left_out})
    else:
        _print(found)
    if found.broken:
        sys.exit(CONFIG_ERROR)


def kernel_settings() -> KernelSettings:
    """The kernel's settings; ends the program when they are bad."""
    try:
        return read_settings()
    except BadSettings as error:
        screen.fail(CONFIG_ERROR, all_that_is_bad(error))


def agent_for(task_type: str, settings: KernelSettings) -> tuple[Plugin, Offered] | None:
    """The installed agent for a task type, and its plugin."""
    for plugin in discover(settings.plugins).plugins:
        for agent in plugin.agents:
            if task_type in agent.task_types:
                return plugin, agent
    return None


def idempotency(agent: Offered) -> str:
    """What an agent promises, in one word."""
    return "sync" if agent.is_sync else agent.idempotency


def _document(found: Found) -> dict[str, Any]:
    return {
        "plugins": [
            {
                "name": plugin.name,
                "package": plugin.package,
                "version": plugin.version,
                "module": plugin.module,
                "agents": [
                    {
                        "task_type": task_type,
                        "name": agent.name,
                        "idempotency": idempotency(agent),
                        "caveat": agent.caveat,
                        "class": f"{agent.cls.__module__}.{agent.cls.__qualname__}",
                    }
                    for agent in plugin.agents
                    for task_type in agent.task_types
                ],
            }
            for plugin in found.plugins
        ],
        "broken": [
            {"name": broken.name, "origin": broken.origin, "cause": broken.cause}
            for broken in found.broken
        ],
    }


def _print(found: Found) -> None:
    rows = [
        (task_type, idempotency(agent), plugin.name, plugin.origin, plugin.module)
        for plugin in found.plugins
        for agent in plugin.agents
        for task_type in agent.task_types
    ]
    if rows:
        screen.table(("TASK TYPE", "IDEMPOTENCY", "PLUGIN", "PACKAGE", "MODULE"), rows)
    elif not found.broken and found.left_out:
        click.echo("FLYTEAGENTS_PLUGINS is set, and names no plugin")
    elif not found.broken:
        click.echo(
            "no plugin is installed; try: pip install flyteagents-duckdb, or from a checkout: "
            "pip install ./plugins/duckdb"
        )
    for agent in (agent for plugin in found.plugins for agent in plugin.agents):
        if agent.caveat:
            screen.say(f"{', '.join(agent.task_types)}: {agent.caveat}")
    if found.left_out:
        screen.say(f"installed, and not in FLYTEAGENTS_PLUGINS: {', '.join(found.left_out)}")
    for broken in found.broken:
        click.echo(f"broken: {broken}", err=True)
