"""Numbers of a job in words."""

from __future__ import annotations

import pytest

from flyteagents._cli.watching import fact


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
    ],
)
def test_a_number_is_told_with_its_name(name: str, value: object, words: str) -> None:
    assert fact(name, value) == words
