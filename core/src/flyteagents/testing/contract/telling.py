"""A limit for each test of the contract, and beside each failure what the servers said.

What goes wrong in an agent goes wrong in another process: the test sees an answer that is wrong or
missing, and the reason, such as a TypeError in `get`, is in the server's log.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from flyteagents._client.process import ServerProcess

LIMIT = 60.0
"""Seconds for one test; the longest takes about ten."""
_BLOCKED = re.compile(r"blocked for (\d+\.\d+) s by agent ")
_TOO_LONG = 2.0
"""Seconds of a blocked loop that no busy machine explains."""
_TOLD = 5
_NUMBER = re.compile(r"\d+")


class Told:
    """Base of the contract's classes: each `test_...` of a subclass has the limit, and its failures
    end with warnings and errors that the servers wrote meanwhile."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                setattr(cls, name, _told(test))


def _told(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def limited(self: Told, *args: Any, **fixtures: Any) -> None:
        servers = _servers([*args, *fixtures.values()])
        marks = [len(server.log) for server in servers]
        try:
            await asyncio.wait_for(test(self, *args, **fixtures), LIMIT)
        except asyncio.TimeoutError:
            cause, text = None, f"not done after {LIMIT:g} s"
        except AssertionError as error:
            cause, text = error, str(error)
        else:
            return
        logs = [server.log[mark:] for server, mark in zip(servers, marks, strict=True)]
        said = complaints(logs)
        if cause is not None and not said:
            raise cause
        raise AssertionError("\n".join([text, *said])) from cause

    return limited


def _servers(among: Sequence[object]) -> list[ServerProcess]:
    found: list[ServerProcess] = []
    for each in among:
        if isinstance(each, ServerProcess):
            found.append(each)
        servers = getattr(each, "servers", ())
        if isinstance(
            servers, list | tuple
        ):  # a rig's; the test's own class has a fixture so named
            found += servers
    return found


def complaints(logs: Sequence[str]) -> list[str]:
    """The warnings and errors in these logs, each kind once, with tracebacks."""
    told: dict[str, str] = {}
    for record in _records(logs):
        if record.get("level") in ("WARNING", "ERROR", "CRITICAL"):
            text = f"{record['message']}\n{record.get('traceback', '')}".rstrip()
            told.setdefault(_NUMBER.sub("#", text), text)
    return [f"a server said: {text[-1500:]}" for text in list(told.values())[:_TOLD]]


def blocker(logs: Sequence[str]) -> str | None:
    """The line about an agent that has blocked its event loop for long, which fails all tests."""
    for record in _records(logs):
        found = _BLOCKED.search(str(record["message"]))
        if found and float(found[1]) > _TOO_LONG:
            return str(record["message"])
    return None


def _records(logs: Sequence[str]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for line in "\n".join(logs).splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "message" in record:
            found.append(record)
    return found
