"""The command line: `flyteagents` and `python -m flyteagents`."""

from flyteagents._cli.commands import main

__all__ = ["main"]
