"""A vendor's agent of ours beside flytekit's own, each with a stub vendor of its own.

What differs from vendor to vendor is a `Pair`: what a job is, and how an agent finds a stub.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import processes
from tests.bench.processes import FLYTEKIT, Client, Process, Vendor
from tests.bench.slow import DELAY, compare

IN_FLIGHT = (64, 512)
JOBS = max(IN_FLIGHT)  # polls of one job would share a request
# By default polls over 128 at once are answered from memory, without a request, which would flatter
# us; and a job's first poll may wait for its end, where the many after it are what is measured.
POLLS = {"FLYTEAGENTS_MAX_POLLS": "1024", "FLYTEAGENTS_FIRST_LOOK": "0"}
Find = Callable[[Vendor], Mapping[str, str]]


@dataclass(frozen=True)
class Pair:
    """The two agents of one vendor. Its stub is the module of `stubs` with the plugin's name.

    task: arguments of `task_template`. ours, theirs: the variables by which the agent finds a
    stub, and its credentials. python, modules: where flytekit's agent is installed, and what is
    loaded beside it. tls: flytekit's agent does not go without.
    """

    vendor: str
    plugin: str
    task_type: str
    task: Mapping[str, object]
    ours: Find
    theirs: Find
    python: Path = FLYTEKIT
    modules: str = "bench_connectors"
    tls: bool = False


def measure(pair: Pair, login_delay: float = DELAY, title: str = "") -> dict[str, Any]:
    """Polls with 64 and 512 in flight. login_delay: seconds that a login or a token takes."""
    if not pair.python.exists():
        sys.exit(f"flytekit's connector for {pair.vendor} is not installed; `make bench` does it")
    with ExitStack() as stack:
        collector = stack.enter_context(processes.collector())
        stubs = [stack.enter_context(Vendor(0.0, pair.plugin, pair.tls)) for _ in range(2)]
        environment = {**stubs[1].trust, **pair.theirs(stubs[1])}
        flytekit = processes.flytekit(environment, pair.modules, pair.python)
        servers = [ours(stack, collector, pair, stubs[0]), stack.enter_context(flytekit)]

        client = stack.enter_context(Client())
        for server in servers:
            client.order("fill", server, pair.task_type, jobs=JOBS, task=pair.task)
        for stub in stubs:
            stub.delays(DELAY, login_delay)

        by_server = dict(zip((server.name for server in servers), stubs, strict=True))
        title = pair.vendor + title
        return {
            str(count): compare(servers, by_server, client, pair.task_type, count, title=title)
            for count in IN_FLIGHT
        }


def ours(
    stack: ExitStack, collector: Process, pair: Pair, stub: Vendor, name: str = "flyteagents"
) -> Process:
    """Our server with the pair's plugin, led to the stub."""
    environment = {**POLLS, **stub.trust, **pair.ours(stub)}
    server = processes.ours(stack, collector, environment, plugin=pair.plugin, name=name)
    return stack.enter_context(server)
