"""What is meant for a real account works against the test server: no account could be had."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from tests.snowflake.fake_snowflake import FakeSnowflake, Repeat
from tests.snowflake.logins import Logins, private_key
from tests.snowflake.statements import FOREVER

ROOT = Path(__file__).parents[2]


async def run(snowflake: FakeSnowflake, *module: str) -> tuple[int | None, str]:
    """The exit code and what is printed by a module that takes the server for a real account."""
    snowflake.logins = Logins({"ACCT.ME": [0]})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *module,
        cwd=ROOT,
        env={
            **os.environ,
            "FLYTEAGENTS_LIVE": "1",
            "FLYTEAGENTS_SNOWFLAKE_URL": snowflake.url,
            "FLYTEAGENTS_SNOWFLAKE_ACCOUNT": "ACCT",
            "FLYTEAGENTS_SNOWFLAKE_USER": "ME",
            "FLYTEAGENTS_SNOWFLAKE_WAREHOUSE": "WH",
            "FLYTEAGENTS_SNOWFLAKE_DATABASE": "DB",
            "FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY": private_key(),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


@pytest.mark.parametrize(
    ("repeats", "running", "succeeded", "failed"),
    [
        (Repeat.SAME, "the same", "the same", "the same"),
        (Repeat.DONE, "ANOTHER", "the same", "ANOTHER"),
        (Repeat.ANEW, "ANOTHER", "ANOTHER", "ANOTHER"),
    ],
    ids=[one.value for one in Repeat],
)
async def test_the_trial_tells_what_a_repeated_request_id_does(
    snowflake: FakeSnowflake, repeats: Repeat, running: str, succeeded: str, failed: str
) -> None:
    snowflake.repeats = repeats
    snowflake.will("TIMELIMIT", FOREVER)  # DuckDB has no such generator
    code, printed = await run(snowflake, "tests.snowflake.try_account")
    assert code == 0, printed
    told = dict(line.split(": ", 1) for line in printed.splitlines() if ": " in line)
    for kind in ("SELECT", "INSERT", "CREATE"):
        for case, expected in (("runs", running), ("succeeds", succeeded), ("fails", failed)):
            [found] = [told[name] for name in told if name.startswith(f"{kind} that {case}")]
            assert found.lower().startswith(f"{expected.lower()} statement"), printed
    for line in (r"that is running after \d", r"that is ended after \d", "an unknown handle: 404"):
        assert re.search(line, printed), printed
    assert snowflake.rows("SHOW TABLES") == []


async def test_the_live_tests_pass(snowflake: FakeSnowflake) -> None:
    code, printed = await run(snowflake, "pytest", "-q", "tests/snowflake/test_live.py")
    assert code == 0, printed
    assert printed.startswith("......."), printed  # and none is skipped


@pytest.mark.parametrize("live", ["", "1"])
async def test_the_trial_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, live: str) -> None:
    monkeypatch.setenv("FLYTEAGENTS_LIVE", live)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.snowflake.try_account"),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    _, printed = await process.communicate()
    assert process.returncode == 1
    wanted = "FLYTEAGENTS_SNOWFLAKE_ACCOUNT" if live else "set FLYTEAGENTS_LIVE=1"
    assert wanted in printed.decode()
