"""The `flyteagents` command and its subcommands; each is loaded when it is asked for."""

from __future__ import annotations

import importlib
from typing import Any

import click

_COMMANDS = {
    "serve": "Serve agents to FlytePropeller or the Flyte 2 executor.",
}


class Lazy(click.Group):
    """Imports a subcommand only to run it: `serve` must start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module: Any = importlib.import_module(f"flyteagents._cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flyteagents")
def main() -> None:
    """A Flyte agent service that finds its agents in the plugins you install.

    Everything is configured by environment variables FLYTEAGENTS_*; `flyteagents check` shows
    them and tries them.
    """
