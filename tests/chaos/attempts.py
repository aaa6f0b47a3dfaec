"""The tasks that the attacks send."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from flyteagents import Phase
from flyteagents.testing import Attempt, Caller, Generation, Rpc, task_template

GENERATIONS: tuple[Generation, ...] = (1, 2)
SCALE = 1 / 300
"""What Flyte's intervals are multiplied by: ten polls a second."""
ENDS = (Phase.SUCCEEDED, Phase.FAILED, Phase.RETRYABLE_FAILED)


def attempt(
    task_type: str,
    name: str,
    script: str = "sleep 0.3",
    generation: Generation = 1,
    secrets: Mapping[str, str] | None = None,
) -> Attempt:
    """The first attempt of a task. Its output prefixes follow from the execution's name."""
    task = task_template(task_type, custom={"script": script}, retries=3)
    return Attempt(task, execution=name, generation=generation, secrets=secrets or {})


async def ended(caller: Caller, there: Attempt, meta: bytes) -> Rpc:
    """The first answer that ends the attempt."""
    while True:
        answer = await caller.get(there, meta)
        assert answer.ok, answer
        if answer.phase in ENDS:
            return answer
        await asyncio.sleep(0.1)
