"""Tests that run side by side are told apart by their names: each process must find the same."""

import asyncio
import os
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


async def _names(seed: str, delay: float) -> list[str]:
    """The names of all tests, found in `delay` seconds by a Python that hashes with `seed`."""
    await asyncio.sleep(delay)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider"),
        *("-q", "-o", "addopts=--import-mode=importlib --hypothesis-profile=ci", str(TESTS)),
        env=os.environ | {"PYTHONHASHSEED": seed},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    text, _ = await process.communicate()
    assert process.returncode == 0, text.decode()[-2000:]
    return [line for line in text.decode().splitlines() if "::" in line]


async def test_the_tests_have_the_same_names_in_each_process() -> None:
    # Another second and another order of sets: what a name is made of must not change with them.
    one, other = await asyncio.gather(_names("1", 0), _names("2", 1.5))
    assert len(one) > 1000
    assert one == other
