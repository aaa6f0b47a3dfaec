"""How much of a caller's time is used."""

from __future__ import annotations

import pytest

from flyteagents._kernel.deadline import AT_WORK, MOST, Deadline


@pytest.mark.parametrize(
    ("remaining", "used"), [(3.0, 2.7), (1.0, 0.7), (10.0, MOST), (None, MOST), (0.1, 0.0)]
)
def test_a_tenth_is_left_for_the_way_back_and_eight_seconds_are_the_most(
    remaining: float | None, used: float
) -> None:
    deadline = Deadline(remaining)
    assert deadline.seconds == pytest.approx(used)
    assert deadline.left <= used


@pytest.mark.parametrize(("remaining", "used"), [(30.0, 27.0), (600.0, 540.0), (None, AT_WORK)])
def test_the_callers_whole_deadline_counts_for_a_call_that_is_the_work(
    remaining: float | None, used: float
) -> None:
    seconds = Deadline.at_work(remaining).seconds
    assert seconds == pytest.approx(used, rel=0.11)
