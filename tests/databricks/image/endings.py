"""The ways in which a task's process ends without an exception that Flyte's runtimes see."""

from __future__ import annotations

import os
import signal
import sys

WAYS = ("exits with 0", "exits with 1", "exits with a text", "is interrupted", "is killed")


def end(way: int) -> None:
    """End in one of WAYS, by its number."""
    name = WAYS[way]
    if name == "exits with 0":
        sys.exit(0)
    if name == "exits with 1":
        sys.exit(1)
    if name == "exits with a text":
        sys.exit("no more rows")
    if name == "is interrupted":
        raise KeyboardInterrupt
    os.kill(os.getpid(), signal.SIGKILL)
