"""What is shown of a task while it runs, and numbers of a job in words."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from flyteidl.admin import agent_pb2
from rich.console import Console

from flyteagents._cli.watching import LineWatch, LiveWatch, fact
from flyteagents._client.rpc import Rpc
from flyteagents._status import Phase
from flyteagents._wire.structs import to_struct


def answered(phase: Phase, **info: Any) -> Rpc:
    resource = agent_pb2.Resource(phase=phase.value, custom_info=to_struct(info))
    return Rpc("GetTask", "here:8000", 0, "OK", 0.01, 0.0, resource=resource)


def test_a_long_job_has_a_line_for_each_change_and_ever_fewer_in_between() -> None:
    out = StringIO()
    with LineWatch(Console(file=out)) as watch:
        watch.attempt(1, 1)
        watch.answer(answered(Phase.INITIALIZING), 0.5)
        for number in range(1, 7200):
            watch.answer(answered(Phase.RUNNING, rows=7), 0.5 + number / 2)
        watch.answer(answered(Phase.RUNNING, progress=0.5), 3600.5)
        watch.answer(answered(Phase.SUCCEEDED), 3601.0)
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["   0.5 s  INITIALIZING  1 poll", "   1.0 s  RUNNING  7 rows, 2 polls"]
    assert lines[-2:] == ["3600.5 s  RUNNING  50%  7201 polls", "3601.0 s  SUCCEEDED  7202 polls"]
    assert 5 < len(lines) < 25


def test_a_note_that_comes_again_and_again_is_counted() -> None:
    out = StringIO()
    with LineWatch(Console(file=out)) as watch:
        for text in ("away", "away", "away", "back", "away", "away"):
            watch.note(text)
    assert out.getvalue().splitlines() == [
        "away",
        "  (and 2 more like this)",
        "back",
        "away",
        "  (and 1 more like this)",
    ]


def test_a_server_that_is_away_is_told_once_whatever_address_was_tried() -> None:
    out = StringIO()
    with LineWatch(Console(file=out)) as watch:
        for address in ("ipv4:127.0.0.1:8000", "ipv6:%5B::1%5D:8000", "ipv4:127.0.0.1:8000"):
            watch.note(f"GetTask: UNAVAILABLE: {address}: Connection refused")
    assert out.getvalue().splitlines() == [
        "GetTask: UNAVAILABLE: ipv4:127.0.0.1:8000: Connection refused",
        "  (and 2 more like this)",
    ]


def test_on_a_terminal_a_note_is_shown_once_until_there_is_an_answer() -> None:
    out = StringIO()
    with LiveWatch(Console(file=out, force_terminal=True, width=80)) as watch:
        for _ in range(3):
            watch.note("away")
        assert out.getvalue().count("away") == 1
        watch.answer(answered(Phase.RUNNING), 1.0)
        assert "(and 2 more like this)" in out.getvalue()
        watch.note("away")
    assert out.getvalue().count("away") == 2


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("rows", 1, "1 row"),
        ("rows", 1200, "1,200 rows"),
        ("rows_inserted", 1, "1 row inserted"),
        ("cpu_seconds", 1.0, "1 cpu second"),
        ("slot_ms", 1, "1 slot ms"),
        ("bytes_read", 2048, "2.0 KiB read"),
        ("state", "running", "state: running"),
        ("queries", 1, "1 query"),
        ("status", 1, "1 status"),
        ("analysis_passes", 2, "2 analysis passes"),
    ],
)
def test_a_number_is_told_with_its_name(name: str, value: object, words: str) -> None:
    assert fact(name, value) == words
