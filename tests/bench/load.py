"""The client: a process of its own that calls a server as orders on its standard input say.

Bodies go out as bytes, made once: the client shares the cores with the servers it measures, and
should take little of them. An order and its answer are a JSON object on a line each.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
from flyteidl.admin import agent_pb2
from flyteidl.core.execution_pb2 import TaskExecution
from flyteidl.core.identifier_pb2 import NodeExecutionIdentifier, TaskExecutionIdentifier
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier as Execution

from flyteagents.testing import task_template

SERVICE = "/flyteidl.service.AsyncAgentService"
DEADLINE = 60.0
OUTPUT_PREFIX = b"\x1a"  # the tag of CreateTaskRequest.output_prefix
PLAIN: Mapping[str, Any] = {"custom": {"script": "sleep 1"}}
Call = Callable[[bytes], Awaitable[bytes]]


class Caller:
    """What one server is asked. `metas` are the jobs that it has started for us."""

    def __init__(self, target: str, task_type: str, task: Mapping[str, Any]) -> None:
        self._channel = grpc.aio.insecure_channel(target)
        self._create: Any = self._channel.unary_unary(f"{SERVICE}/CreateTask")
        self._get: Any = self._channel.unary_unary(f"{SERVICE}/GetTask")
        self._task_type = task_type
        self._body = _create_body(task_type, task)
        self._numbers = itertools.count()
        self.polls: list[bytes] = []
        self.polled = itertools.count()  # rounds go on where the one before ended

    async def create(self) -> None:
        prefix = b"s3://bucket/metadata/p-d-e%08d/n0/data/0" % next(self._numbers)
        # The last value of a field counts, so this is the request with another prefix.
        body = self._body + OUTPUT_PREFIX + bytes([len(prefix)]) + prefix
        raw = await self._create(body, timeout=DEADLINE)
        response = agent_pb2.CreateTaskResponse.FromString(raw)
        self.polls.append(
            agent_pb2.GetTaskRequest(
                task_type=self._task_type,
                resource_meta=response.resource_meta,
                task_category=agent_pb2.TaskCategory(name=self._task_type),
                output_prefix=prefix.decode(),
            ).SerializeToString()
        )

    async def poll(self, body: bytes) -> None:
        reply = agent_pb2.GetTaskResponse.FromString(await self._get(body, timeout=DEADLINE))
        if reply.resource.phase != TaskExecution.RUNNING:  # no job, and nothing measured
            raise RuntimeError(f"a job that does not run: {reply}")


def _create_body(task_type: str, says: Mapping[str, Any]) -> bytes:
    """says: arguments of `task_template`."""
    task = task_template(task_type, **says, inputs={}, outputs={"o0": int})
    execution = Execution(project="p", domain="d", name="e")
    node = NodeExecutionIdentifier(node_id="n0", execution_id=execution)
    request = agent_pb2.CreateTaskRequest(template=task.template)
    request.task_execution_metadata.task_execution_id.CopyFrom(
        TaskExecutionIdentifier(task_id=task.template.id, node_execution_id=node)
    )
    raw: bytes = request.SerializeToString()
    return raw


class Load:
    """Runs the orders."""

    def __init__(self) -> None:
        self._callers: dict[tuple[str, str], Caller] = {}

    async def run(
        self, do: str, target: str, task_type: str, task: Mapping[str, Any] = PLAIN, **how: Any
    ) -> dict[str, float]:
        name = (target, task_type)
        if name not in self._callers:
            self._callers[name] = Caller(target, task_type, task)
        caller = self._callers[name]
        if do == "fill":
            return await self._fill(caller, **how)
        if do == "sweep":
            return await self._sweep(caller, **how)
        if do == "steady":
            return await self._steady(caller, **how)
        return await self._full(caller, create=do == "create", **how)

    async def _fill(self, caller: Caller, jobs: int) -> dict[str, float]:
        """Start jobs until there are `jobs`."""

        async def work() -> None:
            while left:
                left.pop()
                await caller.create()

        left = [None] * (jobs - len(caller.polls))
        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(32)))
        return {"seconds": time.perf_counter() - started}

    async def _sweep(self, caller: Caller, in_flight: int, jobs: int) -> dict[str, float]:
        """Poll so many jobs once, to the end."""
        bodies = iter(caller.polls[:jobs])

        async def work() -> None:
            for body in bodies:
                await caller.poll(body)

        await asyncio.gather(*(work() for _ in range(in_flight)))
        return {}

    async def _full(
        self, caller: Caller, create: bool, in_flight: int, seconds: float
    ) -> dict[str, float]:
        """Keep `in_flight` calls under way; polls go round all jobs there are."""
        times: list[float] = []
        bodies = itertools.cycle(list(caller.polls))
        end = time.perf_counter() + seconds

        async def work() -> None:
            while (begun := time.perf_counter()) < end:
                await (caller.create() if create else caller.poll(next(bodies)))
                if (done := time.perf_counter()) <= end:
                    times.append(done - begun)

        workers = [asyncio.ensure_future(work()) for _ in range(in_flight)]
        await asyncio.wait(workers, timeout=seconds + 0.5, return_when=asyncio.FIRST_EXCEPTION)
        for worker in workers:
            worker.cancel()
        for result in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        return {"rate": len(times) / seconds, **_spread(times)}

    async def _steady(
        self, caller: Caller, jobs: int, rate: float, seconds: float
    ) -> dict[str, float]:
        """Begin `rate` polls a second, whatever becomes of those before."""
        times: list[float] = []

        async def one(body: bytes) -> None:
            begun = time.perf_counter()
            await caller.poll(body)
            times.append(time.perf_counter() - begun)

        polls = []
        begin = time.perf_counter()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            body = caller.polls[next(caller.polled) % jobs]
            polls.append(asyncio.ensure_future(one(body)))
        await asyncio.gather(*polls)
        return {"rate": len(times) / (time.perf_counter() - begin), **_spread(times)}


def _spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times) or [0.0]
    return {
        "calls": len(times),
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
    }


async def main() -> None:
    load = Load()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answer = await load.run(**json.loads(line))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
