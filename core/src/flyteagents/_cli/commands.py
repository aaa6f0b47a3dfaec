"""The `flyteagents` command and its subcommands; each is loaded when it is asked for."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from flyteagents._cli import screen
from flyteagents._client.exit_codes import UNWRITTEN, USAGE

# gRPC's C core writes lines of its own, also when nothing is wrong with what we do. It reads this
# when it is imported, which happens in the subcommands.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Name to module, what it is called there, and what the overview says.
_COMMANDS = {
    "serve": ("serve", "command", "Serve agents to FlytePropeller or the Flyte 2 executor."),
    "list": ("listing", "command", "Show the installed plugins, their agents, and what is broken."),
    "check": ("check", "command", "Show all settings and try the credentials; starts no job."),
    "run": ("run", "command", "Run one task the way FlytePropeller would, and watch it."),
    "jobs": ("jobs", "jobs", "Show the newest jobs of agents that keep their own."),
    "logs": ("jobs", "logs", "Print the log of a job, or of the last run's."),
    "cancel": ("jobs", "cancel", "Cancel a job, or the last run's."),
    "inspect": ("inspecting", "command", "Say what a resource_meta says."),
    "probe": ("probe", "command", "Ask the server on this machine for its health."),
    "propeller-config": (
        "propeller_config",
        "command",
        "Print the Flyte configuration that routes tasks here.",
    ),
}


class Lazy(click.Group):
    """Imports a subcommand only to run it: `serve` must start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(
            importlib.import_module(f"flyteagents._cli.{module}"), name
        )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = screen.did_you_mean(args[0], _COMMANDS)
            raise click.UsageError(f"{error.message.rstrip('.')}{near}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (*_, text) in _COMMANDS.items()])

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _misused(), _written():
            return super().make_context(*args, **{"color": screen.colour(), **extra})

    def invoke(self, ctx: click.Context) -> Any:
        with _misused(), _written():
            return super().invoke(ctx)


@contextlib.contextmanager
def _misused() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        error.exit_code = USAGE  # type: ignore[misc] # click reads it off the instance
        raise


@contextlib.contextmanager
def _written() -> Iterator[None]:
    """A full disk is told in a line. What is still in a buffer counts too."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        # Python writes the rest at its end, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        screen.fail(UNWRITTEN, f"cannot write: {error.strerror}")


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flyteagents")
def main() -> None:
    """A Flyte agent service that finds its agents in the plugins you install.

    Everything is configured by environment variables FLYTEAGENTS_*; `flyteagents check` shows
    them and tries them.

    \b
    To begin with:
      flyteagents list
      flyteagents run examples/hello.yaml
      flyteagents serve
    """
