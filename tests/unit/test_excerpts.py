"""Texts that are cut have their secrets masked first."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyteagents import _redact
from flyteagents.kit.texts import excerpt

SECRET = "c4nary" * 10


@pytest.fixture(autouse=True)
def remembered() -> None:
    _redact.remember(SECRET)


def test_a_text_that_is_short_enough_stays_as_it_is() -> None:
    assert excerpt("no table t", 10) == "no table t"
    assert excerpt("no table t", 10, ending=5) == "no table t"


def test_a_text_keeps_its_begin_and_as_much_of_its_end_as_is_asked_for() -> None:
    text = "the begin of it, and at last the end"
    assert excerpt(text, 12) == "the begin..."
    assert excerpt(text, 17, ending=7) == "the b\n...\nthe end"
    assert excerpt(text, 12, ending=12) == "\n...\nthe end"


@given(st.text(max_size=60), st.integers(8, 60), st.integers(0, 8))
def test_the_limit_holds_for_letters_of_any_length(text: str, limit: int, share: int) -> None:
    raw = excerpt(text, limit, ending=limit * share // 16).encode()
    assert len(raw) <= limit


@pytest.mark.parametrize("ending", [0, 40])
def test_no_part_of_a_secret_is_told_wherever_the_cut_is(ending: int) -> None:
    text = f"{'x' * 60} {SECRET} {'y' * 60}"
    told = [excerpt(text, limit, ending=ending) for limit in range(50, 200)]
    assert not [each for each in told if "c4n" in each or "ary" in each]


@pytest.mark.parametrize("ending", [0, 500])
@pytest.mark.parametrize("filler", ["x", "token "])
def test_megabytes_are_cut_at_once_and_tell_no_part_of_a_secret(ending: int, filler: str) -> None:
    """Also where masking has brought what lay at a border of what is looked at into view."""
    began = time.process_time()
    for shift in range(0, 60, 7):
        text = f"{SECRET * 20_000}{filler * shift}{SECRET * 20_000}"
        told = excerpt(text, 1000, ending=ending)
        assert "c4n" not in told
        assert "nary" not in told
    assert excerpt(filler * (5 << 20), 1000, ending=ending).count("...") == 1
    assert time.process_time() - began < 3
