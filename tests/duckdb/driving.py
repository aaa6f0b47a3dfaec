"""Drives the agent as the kernel does, with real directories and real processes.

`python -m tests.duckdb.driving DATA_DIR KEY STATEMENT` is a server that creates one job, says so,
and waits to be killed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from flyteagents import (
    Call,
    Fingerprint,
    Identity,
    Key,
    Kind,
    Phase,
    Status,
    Task,
    Type,
)
from flyteagents._kernel.keys import fingerprint_of
from flyteagents.testing import AgentEnvironment
from flyteagents_duckdb.agent import DuckDBAgent
from flyteagents_duckdb.config import DuckDBConfig
from flyteagents_duckdb.job import DuckDBJob
from flyteagents_duckdb.settings import DuckDBSettings
from flyteagents_duckdb_job.directory import JobDirectory

SALES = Identity(project="sales", domain="development", execution="e1", node="n0")
TABLE: Mapping[str, Type] = {"results": Type(Kind.STRUCTURED_DATASET)}
FOREVER = "SELECT sum(a.range * b.range) FROM range(9999999999) a, range(999) b"
ROOT = Path(__file__).parents[2]


class Driver:
    """One server's agent on a data directory."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        made = DuckDBSettings(
            _env_prefix="NOT_READ_",
            **{
                "data_dir": data_dir,
                "max_jobs": 2,
                "max_memory": "300MB",
                **settings,
            },
        )
        self.env = AgentEnvironment(DuckDBAgent, settings=made, seconds=8.0)
        self.agent = cast("DuckDBAgent", self.env.agent)

    async def __aenter__(self) -> Driver:
        await self.env.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.env.__aexit__(*exception)

    def task(
        self,
        statement: str,
        *,
        key: str = "",
        config: Mapping[str, object] | None = None,
        identity: Identity = SALES,
        **fields: Any,
    ) -> Task[DuckDBConfig]:
        """A task as the kernel would make it."""
        task = Task(
            type="duckdb_query",
            config=DuckDBConfig.model_validate(config or {}),
            key=Key(key or uuid.uuid4().hex + "00000000"),
            fingerprint=Fingerprint(""),
            identity=identity,
            statement=statement,
            **fields,
        )
        print_ = fingerprint_of(self.agent.fingerprint(task))
        return dataclasses.replace(task, fingerprint=print_)

    async def create(self, task: Task[DuckDBConfig]) -> DuckDBJob:
        return await self.agent.create(task, self.call("create", task.identity))

    async def get(
        self,
        job: DuckDBJob,
        declared: Mapping[str, Type] | None = None,
        identity: Identity = SALES,
    ) -> Status:
        return await self.agent.get(job, self.call("get", identity, declared or {}))

    async def cancel(self, job: DuckDBJob, identity: Identity = SALES) -> None:
        await self.agent.cancel(job, self.call("cancel", identity))

    async def log(self, job: DuckDBJob) -> list[str]:
        lines, token = [], ""
        while True:
            page = await self.agent.logs(job, self.call("logs"), token, 100)
            lines += [line.message for line in page.lines]
            if not page.next or not page.lines:
                return lines
            token = page.next

    async def until(
        self,
        job: DuckDBJob,
        reached: Callable[[Status], bool],
        declared: Mapping[str, Type] | None = None,
        identity: Identity = SALES,
        seconds: float = 30.0,
    ) -> Status:
        """Poll until a status is as wanted."""
        end = time.monotonic() + seconds
        while True:
            status = await self.get(job, declared, identity)
            if reached(status):
                return status
            assert time.monotonic() < end, f"after {seconds} s it is still {status}"
            await asyncio.sleep(0.02)

    async def run(self, statement: str, **fields: Any) -> Status:
        """Create a job and poll it to its end."""
        task = self.task(statement, **fields)
        job = await self.create(task)
        return await self.until(job, ended, task.declared, task.identity)

    def directory(self, job: DuckDBJob) -> JobDirectory:
        return self.agent.data.job(job.key)

    def call(
        self,
        operation: str,
        identity: Identity = SALES,
        declared: Mapping[str, Type] | None = None,
    ) -> Call:
        return self.env.call(operation, identity=identity, declared=declared or {})


def ended(status: Status) -> bool:
    return status.phase is not None and status.phase.terminal


def running(status: Status) -> bool:
    return status.phase is Phase.RUNNING


def processes_of(data_dir: Path) -> list[int]:
    """The ids of the running processes of jobs in a data directory."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"flyteagents_duckdb_job.runner" in words and str(data_dir).encode() in words:
                found.append(int(process.name))
    return found


async def only(data_dir: Path, count: int) -> bool:
    """Whether so many of them remain; one that finds nothing to do ends within a second, or as soon
    as a loaded machine lets it."""
    for _ in range(1500):
        if len(processes_of(data_dir)) == count:
            return True
        await asyncio.sleep(0.02)
    return False


def kill_jobs(data_dir: Path) -> int:
    """Kill what runs there, as the kernel of the machine does for want of memory. None of them
    holds a lock any more when this returns."""
    killed = processes_of(data_dir)
    for process in killed:
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(process, signal.SIGKILL)
    end = time.monotonic() + 30
    while not all(map(_over, killed)) and time.monotonic() < end:
        time.sleep(0.005)
    return len(killed)


def _over(process: int) -> bool:
    """Whether a process, all its threads, has ended. It loses its command line, by which it is
    found, a while before it lets go of its files."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return words[0] in "ZX" and int(words[17]) <= 1  # its state, and how many threads it has


@contextmanager
def server_process(data_dir: Path, key: str, statement: str) -> Iterator[subprocess.Popen[str]]:
    """A server that creates one job. Its first line is the job; it is killed at the end."""
    command = [sys.executable, "-m", "tests.duckdb.driving", str(data_dir), key, statement]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server
        finally:
            server.kill()


def named_by(server: subprocess.Popen[str]) -> DuckDBJob:
    assert server.stdout is not None
    return DuckDBJob.model_validate_json(server.stdout.readline())


async def _serve(data_dir: str, key: str, statement: str) -> None:
    async with Driver(Path(data_dir)) as driver:
        job = await driver.create(driver.task(statement, key=key))
        print(job.model_dump_json(), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
