"""Parts of the author's API that are on their way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flyteagents import Call, Fingerprint, Task, Unsupported


def environment_of(task: Task[Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = getattr(task, "environment", {})
    return found


def fingerprint_of(call: Call) -> Fingerprint | None:
    return getattr(call, "fingerprint", None)


def adopted(call: Call) -> bool:
    return bool(getattr(call, "adopted", False))


async def read_error(call: Call) -> Any:
    if not hasattr(call, "read_error"):
        raise Unsupported("no filesystem")
    return await call.read_error()


async def read_outputs(call: Call) -> Mapping[str, object] | None:
    if not hasattr(call, "read_outputs"):
        raise Unsupported("no filesystem")
    found: Mapping[str, object] | None = await call.read_outputs()
    return found
