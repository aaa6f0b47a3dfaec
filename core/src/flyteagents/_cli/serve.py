"""`flyteagents serve`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import click

from flyteagents._app import BrokenPlugins, serve
from flyteagents._cli.bad_settings import all_that_is_bad, settings_to_serve
from flyteagents._client.exit_codes import CONFIG_ERROR, UNAVAILABLE
from flyteagents._kernel.settings import BadSettings, KernelSettings
from flyteagents._telemetry.logs import start_logging
from flyteagents._telemetry.providers import BadTelemetry

_LAST_WORDS = 1.0
"""Seconds for tasks to end in that nobody waits for."""


@click.command("serve")
@click.option("--host", help="Address to listen on; wins over FLYTEAGENTS_HOST.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; wins over FLYTEAGENTS_PORT. 0 takes a free one.",
)
@click.option(
    "--until-stdin-ends",
    is_flag=True,
    help="Stop as for SIGTERM when standard input ends: for programs that start a server, and may "
    "themselves be killed.",
)
@click.option(
    "--cancel-jobs",
    is_flag=True,
    help="With --until-stdin-ends: cancel the jobs that were created or polled here, when "
    "standard input ends and nobody is left to ask about them.",
)
def command(host: str | None, port: int | None, until_stdin_ends: bool, cancel_jobs: bool) -> None:
    """Serve the agents of all installed plugins, until SIGTERM.

    \b
    Port 8000 takes gRPC from Flyte 1 and Flyte 2, with health and reflection.
    Port 9090 has the Prometheus page.

    Exits with 78 when a setting is bad or a plugin cannot be loaded, and with 69 when a port is
    taken.

    \b
    Try it:
      FLYTEAGENTS_PLUGINS=duckdb flyteagents serve
    """
    if cancel_jobs and not until_stdin_ends:
        # At SIGTERM jobs go on: another replica is asked about them.
        raise click.UsageError("--cancel-jobs goes with --until-stdin-ends")
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    try:
        settings = settings_to_serve(**given)
    except BadSettings as error:
        _stop(CONFIG_ERROR, BadSettings(all_that_is_bad(error)))
    orphaned = threading.Event()
    if until_stdin_ends:
        threading.Thread(target=_stop_with_stdin, args=(orphaned,), daemon=True).start()
    start_logging(settings.log_level, settings.log_format)
    # It imports gRPC, which reads only then how much its C core is to say.
    from flyteagents._wire.server import PortTaken

    try:
        _runner()(_served(settings, orphaned.is_set if cancel_jobs else None))
    except (BrokenPlugins, BadTelemetry) as error:
        _stop(CONFIG_ERROR, error)
    except (PortTaken, OSError) as error:
        _stop(UNAVAILABLE, error)
    _leave_threads()


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """The event loop to serve on: uvloop's where that is installed, which takes a tenth less."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def _stop(code: int, error: Exception) -> NoReturn:
    logging.getLogger("flyteagents").debug("not starting", exc_info=error)
    text = error.strerror if isinstance(error, OSError) else None
    click.echo(f"flyteagents: {text or error}", err=True)
    sys.exit(code)


def _stop_with_stdin(orphaned: threading.Event) -> None:
    # Not `sys.stdin`: Python aborts at its exit where a daemon thread holds that buffer's lock.
    while os.read(0, 4096):
        pass
    orphaned.set()
    os.kill(os.getpid(), signal.SIGTERM)


async def _served(settings: KernelSettings, abandoned: Callable[[], bool] | None) -> None:
    await serve(settings, abandoned=abandoned)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    held = left and (await asyncio.wait(left, timeout=_LAST_WORDS))[1]
    if held:  # asyncio would wait for ever for an agent that catches what ends it
        _leave(f"{len(held)} task(s) of agents")


def _leave_threads() -> None:
    """Exit now if a vendor's library holds a thread: Python would wait for it for ever."""
    for thread in [t for t in threading.enumerate() if t.name.startswith("flyteagents-")]:
        thread.join(0.2)
        if thread.is_alive():
            _leave(thread.name)


def _leave(what: str) -> NoReturn:
    logging.getLogger("flyteagents").warning("%s will not end; leaving", what)
    logging.shutdown()
    os._exit(0)
