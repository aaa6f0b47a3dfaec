"""Keys, attempts and fingerprints."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from flyteagents import Fingerprint
from flyteagents._kernel.keys import (
    earlier_attempts,
    fingerprint_of,
    key_of,
    prefix_of_attempt,
    prefix_of_task,
)


def test_a_key_is_derived_as_in_the_first_release() -> None:
    key = key_of("", "acme_job", "s3://b/x/data/0")
    assert key.hex == "aaef0278d7a7515329b6f934d2f3c58fc19a4843"


@pytest.mark.parametrize(
    ("cluster", "task_type", "prefix"),
    [("eu", "t", "p/0"), ("", "u", "p/0"), ("", "t", "p/1"), ("", "t", "q/0")],
)
def test_cluster_type_and_prefix_each_make_another_key(
    cluster: str, task_type: str, prefix: str
) -> None:
    assert key_of(cluster, task_type, prefix) != key_of("", "t", "p/0")


def test_an_empty_prefix_never_gives_the_same_key_twice() -> None:
    assert key_of("", "t", "") != key_of("", "t", "")


@pytest.mark.parametrize(
    ("prefix", "retry", "generation", "expected"),
    [
        ("s3://b/n0/data/0", 0, 1, []),
        ("s3://b/n0/data/2", 2, 1, [0, 1]),
        ("s3://b/n0/data/2/", 2, 1, [0, 1]),
        ("s3://b/a0/1", 0, 2, []),
        ("s3://b/a0/3", 2, 2, [1, 2]),
        ("s3://b/a0/3", 2, 1, []),  # starts at 1, which Flyte 1 never does
        ("s3://b/n0/data/7", 2, 1, []),
        ("s3://b/n0/data", 1, 1, []),
        ("", 1, 1, []),
    ],
)
def test_earlier_attempts_are_counted_only_where_the_numbers_make_sense(
    prefix: str, retry: int, generation: int, expected: list[int]
) -> None:
    assert list(earlier_attempts(prefix, retry, generation)) == expected


def test_prefixes_of_other_attempts_differ_in_their_number_alone() -> None:
    assert prefix_of_attempt("s3://b/n0/data/10/", 2) == "s3://b/n0/data/2/"
    assert prefix_of_task("s3://b/n0/data/10") == prefix_of_task("s3://b/n0/data/2")


def test_a_fingerprint_ignores_the_order_of_keys_and_the_time_zone() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    east = noon.astimezone(timezone(timedelta(hours=5)))
    assert fingerprint_of({"a": 1, "b": noon}) == fingerprint_of({"b": east, "a": 1})
    assert fingerprint_of({"a": 1}) != fingerprint_of({"a": "1"})
    assert fingerprint_of({"a": timedelta(1)}) != fingerprint_of({"a": timedelta(2)})


def test_a_fingerprint_of_other_rules_is_taken_for_a_match() -> None:
    assert Fingerprint("1-aa").matches("1-aa")
    assert not Fingerprint("1-aa").matches("1-bb")
    assert Fingerprint("1-aa").matches("2-bb")


def test_keys_of_several_types_make_no_difference_to_whether_there_is_a_fingerprint() -> None:
    assert fingerprint_of({"a": {1: "x", "b": 2}}) == fingerprint_of({"a": {"b": 2, 1: "x"}})
