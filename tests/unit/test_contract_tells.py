"""What a failing test of the contract says, and what it says where pytest is missing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

from flyteagents._client.process import ServerProcess
from flyteagents.testing.contract import telling


class Written(ServerProcess):
    """A server that has only a log."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, level: str, message: str, traceback: str = "") -> None:
        self.lines.append(json.dumps({"level": level, "message": message, "traceback": traceback}))

    @property
    def log(self) -> str:
        return "".join(f"{line}\n" for line in ("not JSON", *self.lines))


@dataclass
class Pair:
    servers: tuple[Written, Written]


class Promises(telling.Told):
    async def test_a_job_runs(self, rig: Pair) -> None:
        first, second = rig.servers
        for number in range(3):
            first.write("ERROR", f"poll {number} failed", "TypeError: get() takes 2 arguments")
        second.write("INFO", "all is well")
        raise AssertionError("INITIALIZING instead of RUNNING")

    async def test_nothing_is_said(self, rig: Pair) -> None:
        raise AssertionError("and that is all")

    async def test_it_hangs(self, rig: Pair) -> None:
        rig.servers[1].write("WARNING", "the vendor does not answer")
        await asyncio.Event().wait()


@pytest.fixture
def rig() -> Pair:
    pair = Pair((Written(), Written()))
    pair.servers[0].write("ERROR", "an earlier test's")
    return pair


async def test_a_failure_ends_with_what_the_servers_wrote_meanwhile_each_kind_once(
    rig: Pair,
) -> None:
    with pytest.raises(AssertionError) as failed:
        await Promises().test_a_job_runs(rig)
    said = str(failed.value)
    assert said.startswith("INITIALIZING instead of RUNNING\n")
    assert said.count("TypeError: get() takes 2 arguments") == 1
    assert "all is well" not in said
    assert "earlier" not in said


async def test_a_failure_stays_as_it_is_where_the_servers_are_silent(rig: Pair) -> None:
    with pytest.raises(AssertionError, match=r"^and that is all$"):
        await Promises().test_nothing_is_said(rig)


async def test_a_test_has_a_limit(rig: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "LIMIT", 0.02)
    with pytest.raises(AssertionError) as failed:
        await Promises().test_it_hangs(rig)
    assert str(failed.value).startswith("not done after 0.02 s\n")
    assert "the vendor does not answer" in str(failed.value)


def test_an_agent_that_blocks_for_long_is_told_apart_from_a_busy_machine() -> None:
    busy, blocked = Written(), Written()
    busy.write("WARNING", "the event loop was blocked for 0.40 s by agent acme_job, at acme:1 get")
    blocked.write(
        "WARNING", "the event loop was blocked for 9.8 s by agent acme_job, at acme:7 get"
    )
    assert telling.blocker([busy.log]) is None
    assert "at acme:7 get" in str(telling.blocker([busy.log, blocked.log]))


@pytest.mark.parametrize("module", ["contract", "fixtures"])
def test_without_pytest_the_extra_is_named(module: str) -> None:
    program = f"""
import sys
sys.modules["pytest"] = sys.modules["pytest_asyncio"] = None
import flyteagents.testing.{module}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert f"flyteagents.testing.{module} needs pytest" in last
    assert "pip install 'flyteagents[testing]'" in last
