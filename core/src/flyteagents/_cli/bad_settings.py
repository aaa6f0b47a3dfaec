"""All that is wrong with the settings at once: the kernel's and those of the plugins."""

from __future__ import annotations

import os

from flyteagents._environment import PREFIX
from flyteagents._kernel.plugins import discover
from flyteagents._kernel.settings import BadSettings


def all_that_is_bad(error: BadSettings) -> str:
    """What is wrong with the kernel's settings, and with each plugin. An operator who mends one
    must not be told of the next by another start that fails."""
    chosen = os.environ.get(f"{PREFIX}PLUGINS")
    names = None if chosen is None else [each.strip() for each in chosen.split(",") if each.strip()]
    return "\n".join([str(error), *map(str, discover(names).broken)])
