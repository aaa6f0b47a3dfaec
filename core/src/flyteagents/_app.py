"""Puts the server together, and lets it run until it is asked to stop."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from importlib_metadata import version

from flyteagents._errors import text_of
from flyteagents._kernel.codec import Codec
from flyteagents._kernel.kernel import Kernel
from flyteagents._kernel.lane import RAISED
from flyteagents._kernel.plugins import Broken, Found, discover
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.service import Service
from flyteagents._kernel.settings import (
    KernelSettings,
    doubts,
    prefix_of,
    unknown_variables,
    variables,
)
from flyteagents._redact import redact
from flyteagents._telemetry.loop_watch import LoopWatch
from flyteagents._telemetry.providers import Telemetry, start_telemetry

log = logging.getLogger("flyteagents")
INTOLERABLE = 0.5
"""Seconds of a blocked loop after which an agent gets a loop of its own."""


class BrokenPlugins(Exception):
    """Plugins that cannot be served."""

    def __init__(self, broken: Sequence[Broken]) -> None:
        lines = "\n".join(f"  {each}" for each in broken)
        super().__init__(
            f"there are plugins that cannot be served:\n{lines}\n"
            "Mend or uninstall them, choose others with FLYTEAGENTS_PLUGINS, or set "
            "FLYTEAGENTS_ON_BROKEN_PLUGIN=skip to start without them."
        )


def load_plugins(settings: KernelSettings) -> Found:
    """Find the plugins. Raises BrokenPlugins unless broken ones are to be skipped."""
    found = discover(settings.plugins)
    _skip(found.broken, settings)
    return found


def _skip(broken: Sequence[Broken], settings: KernelSettings) -> None:
    if broken and settings.on_broken_plugin == "stop":
        raise BrokenPlugins(broken)
    for each in broken:
        log.error("starting without %s", each)


GARBAGE = (50_000, 10, 10)
"""With Python's own 700, collections take an eighth of a poll's time: each leaves a few dozen
objects that refer to each other for a moment, and nothing that stays."""


def known_variables(found: Found) -> list[str]:
    """All variables that the kernel and the plugins read."""
    names = list(KernelSettings.names())
    for plugin in found.plugins:
        for model in plugin.settings:
            names += variables(model, prefix_of(plugin.name))
    return names


async def serve(
    settings: KernelSettings,
    ready: Callable[[int], None] | None = None,
    abandoned: Callable[[], bool] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is told the port once calls are taken; `abandoned`,
    for a server with one client alone, says then whether all of that client's jobs are to be
    cancelled.

    Raises BrokenPlugins, BadTelemetry, PortTaken, or OSError for the Prometheus page."""
    # Imported here: `list` and `check` have no use for gRPC, and it takes its time.
    from flyteagents._wire.messages import codec
    from flyteagents._wire.methods import Methods
    from flyteagents._wire.server import Server

    found = load_plugins(settings)
    slips = [sentence for plugin in found.plugins for sentence in plugin.slips]
    for sentence in [
        *unknown_variables(known_variables(found), found.left_out),
        *doubts(settings),
        *slips,
    ]:
        log.warning(sentence)
    # Before anything is opened: Python's default ends the process at SIGTERM, with nothing closed.
    stop = _stop_signals()
    async with AsyncExitStack() as ends:
        telemetry = start_telemetry(
            version=version("flyteagents"),
            metrics_host=settings.metrics_host,
            metrics_port=settings.metrics_port or None,
        )
        # First in, last out: what the others do while they close is recorded too.
        ends.callback(telemetry.shutdown)
        wire = codec()
        agents = await _opened(settings, found, telemetry, wire, ends)
        by_type = {each: served for served in agents for each in served.offered.task_types}
        # Sorted, so that every replica lists the same in the same order (rule 9).
        kernel = Kernel(
            settings, dict(sorted(by_type.items())), wire, telemetry, private=abandoned is not None
        )
        _watch_gauges(kernel, agents)
        service = Service(kernel)
        server = Server(settings, Methods(service))
        ends.push_async_callback(server.stop)
        watch = LoopWatch(
            telemetry.metrics,
            blame=functools.partial(_owner, agents),
            blocked=functools.partial(_isolate, agents),
        )
        ends.callback(watch.stop)
        plugins = {served.plugin.name for served in agents}
        await server.start(plugins, {broken.name for broken in found.broken})
        watch.start()
        gc.freeze()  # what start-up made stays; collecting it again and again takes time
        gc.set_threshold(*GARBAGE)
        types = ", ".join(kernel.agents) or "no task types: no plugin is loaded"
        log.info("flyteagents %s on port %d serves %s", version("flyteagents"), server.port, types)
        if ready is not None:
            ready(server.port)
        for served in agents:  # not before: a replica's start would take as much longer
            kernel.detached.start(served.warm())
        quick = await stop
        orphans = abandoned and abandoned()
        if orphans:
            service.abandon()
        log.info("stopping: calls are taken for %.1f s more", 0 if quick else settings.drain_delay)
        # Flyte does not repeat a call that met a closing server, so callers have to hear of it and
        # move away while calls are still taken (rule 14).
        await server.leave()
        await asyncio.sleep(0 if quick else settings.drain_delay)
        await server.stop(settings.drain_limit)
        if orphans:  # and what was answered meanwhile, to a caller that was not there any more
            service.abandon()
        # After the calls, since each may leave more detached work until it ends.
        dropped = await kernel.detached.drain(settings.drain_limit)
        log.info("stopped; cancels and submits that were cut off: %d", dropped)


async def _opened(
    settings: KernelSettings, found: Found, telemetry: Telemetry, codec: Codec, ends: AsyncExitStack
) -> Sequence[ServedAgent]:
    """The agents, opened. One that cannot be opened makes its whole plugin a broken one."""
    agents = []
    for plugin in found.plugins:
        for offered in plugin.agents:
            try:
                served = ServedAgent(plugin, offered, settings, telemetry, codec)
                # Before `open`: one that fails half-way has something to close as well.
                ends.push_async_callback(served.close)
                await served.open()
                agents.append(served)
            except RAISED as error:  # the agent's own code
                why = f"{type(error).__name__}: {text_of(error)}"
                cause = f"its agent for {offered.task_types[0]} cannot open: {why}"
                broken = Broken(plugin.name, plugin.origin, redact(cause))
                _skip([broken], settings)
                found.broken.append(broken)
    gone = {broken.name for broken in found.broken}
    return [served for served in agents if served.plugin.name not in gone]


def _watch_gauges(kernel: Kernel, agents: Sequence[ServedAgent]) -> None:
    metrics = kernel.telemetry.metrics
    metrics.watch(
        "flyteagents_oldest_hiccup_seconds",
        "s",
        "Age of the oldest unbroken series of hiccups",
        "agent",
        read=kernel.soft.oldest_failures,
    )
    metrics.watch(
        "flyteagents_in_flight",
        "",
        "Calls that agents work on",
        "agent",
        "operation",
        read=lambda: {
            (served.task_type, operation): limit.held
            for served in agents
            for operation, limit in (("create", served.creates), ("get", served.polls))
        },
    )


def _stop_signals() -> asyncio.Future[bool]:
    """Ends with the first signal; True for SIGINT, by which a person at a terminal stops it."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[bool] = loop.create_future()

    def stopped(quick: bool) -> None:
        if not stop.done():
            stop.set_result(quick)

    loop.add_signal_handler(signal.SIGTERM, stopped, False)
    loop.add_signal_handler(signal.SIGINT, stopped, True)
    return stop


def _owner(agents: Sequence[ServedAgent], module: str) -> str | None:
    return next((served.task_type for served in agents if served.owns(module)), None)


def _isolate(agents: Sequence[ServedAgent], task_type: str, seconds: float) -> None:
    # The watch knows the package; which of its agents it was is not to be seen from outside.
    plugin = next(served.plugin for served in agents if served.task_type == task_type)
    for served in agents:
        if seconds >= INTOLERABLE and served.plugin is plugin and not served.place.lane.isolated:
            log.error("%s blocks the server's loop; giving it one of its own", served.task_type)
            try:
                served.isolate()
            except Exception:  # the agent's own code, or a thread that cannot be had
                log.exception("%s stays where it is, and goes on blocking", served.task_type)
