"""What a caller makes up never becomes a label."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace

from tests.chaos.attempts import attempt
from tests.chaos.conftest import MakeServer

from flyteagents._kernel import envelope

TYPES = 200 * int(os.environ.get("CHAOS_ROUNDS", "50"))


async def test_made_up_task_types_add_no_series(make_server: MakeServer) -> None:
    server = await make_server()
    async with server.caller() as calls, server.caller(2) as calls_2:
        known = attempt("chaos_idle", "known")
        meta = (await calls.create(known)).meta
        there = envelope.load(meta)
        assert there is not None

        async def made_up(number: int) -> None:
            name = f"made_up_{number}"
            caller = (calls, calls_2)[number % 2]
            work = attempt(name, name, generation=caller.generation)
            envelopes = envelope.dump(
                replace(there, task_type=name, project=name, domain=name, key=f"{number:040x}")
            )
            foreign = json.dumps({"id": name}).encode()
            rpc = (
                await caller.create(work)
                if number % 3 == 0
                else await caller.get(work, envelopes if number % 3 == 1 else foreign)
            )
            assert rpc.code in ("OK", "NOT_FOUND"), rpc

        async def all_of(numbers: range) -> None:
            for number in numbers:
                await made_up(number)

        await all_of(range(50))
        await calls.get(known, meta)
        before = series(await server.metrics())
        memory = server.resident
        await asyncio.gather(*(all_of(range(50 + lane, TYPES, 16)) for lane in range(16)))
        after = series(await server.metrics())
    print(f"{TYPES} task types: {len(before)} series, then {len(after)}")
    assert len(before) > 20
    assert after == before
    assert not any("made_up" in line for line in after)
    assert server.resident - memory < 24 << 20


def series(page: str) -> set[str]:
    """Names and labels, but for the loop's, which come with time."""
    left_out = ("#", "flyteagents_loop_")
    lines = [line for line in page.splitlines() if line and not line.startswith(left_out)]
    return {line.rpartition(" ")[0] for line in lines}
