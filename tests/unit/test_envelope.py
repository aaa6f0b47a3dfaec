"""What rides in `resource_meta`."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyteagents import Phase
from flyteagents._kernel.envelope import (
    CARRYING,
    LIMIT,
    UNKNOWN,
    BrokenEnvelope,
    Envelope,
    Parked,
    dump,
    load,
)

FULL = Envelope(
    key="0123456789abcdef0123456789abcdef01234567",
    task_type="acme_job",
    created=1_790_000_000.125,
    fingerprint="1-0123456789abcdef",
    trace="f" * 32,
    wrote=2,
    attempt=3,
    project="flytesnacks",
    domain="development",
    execution="f6b2c9d1e0a34b5c",
    node="n0-n1",
    adopted=True,
    unconfirmed=True,
    declared="c-oDN%1GDN",
    job={"id": "run-1", "region": "eu"},
)
GOLDEN = Path(__file__).parents[1] / "golden" / "envelopes"


def test_what_is_written_is_read_again() -> None:
    assert load(dump(FULL)) == FULL


def test_a_parked_failure_is_read_again_with_its_message_cut() -> None:
    parked = replace(FULL, job=None, parked=Parked(Phase.RETRYABLE_FAILED, "é" * 1000))
    read = load(dump(parked))
    assert read is not None
    assert read.parked is not None
    assert read.parked.phase is Phase.RETRYABLE_FAILED
    assert len(read.parked.message.encode()) <= 400
    assert read.parked.message.startswith("ééé")


def test_every_flipped_byte_is_noticed() -> None:
    raw = dump(FULL)
    for position in range(len(raw)):
        for bit in (1, 4, 0x20, 0x80):
            damaged = bytearray(raw)
            damaged[position] ^= bit
            with contextlib.suppress(BrokenEnvelope):
                assert load(bytes(damaged)) is None, f"byte {position} was not noticed"


def test_every_cut_is_noticed() -> None:
    raw = dump(FULL)
    for length in range(len(raw)):
        with contextlib.suppress(BrokenEnvelope):
            assert load(raw[:length]) is None


@given(st.binary(max_size=300))
def test_noise_is_never_taken_for_an_envelope(noise: bytes) -> None:
    assert load(noise) is None


def test_unknown_fields_of_a_later_release_are_ignored() -> None:
    raw = dump(FULL)
    body = json.loads(raw)
    del body["flyteagents"]
    assert load(_sign({**body, "zz": [1, 2]})) == FULL


def test_a_newer_version_is_known_for_one_even_when_its_fields_have_changed() -> None:
    read = load(_sign({"k": 7, "j": "changed"}, version=2))
    assert read is not None
    assert read.newer


def test_names_and_types_go_before_the_limit_is_passed() -> None:
    large = replace(FULL, execution="e" * 300, node="n" * 300, declared="d" * 900)
    raw = dump(large)
    assert len(raw) <= LIMIT
    read = load(raw)
    assert read is not None
    assert read.job == FULL.job
    assert read.key == FULL.key
    # None declared and none known are not the same: outputs would be lost.
    assert read.declared == UNKNOWN
    none = load(dump(replace(large, declared="")))
    assert none is not None
    assert none.declared == ""


def test_warnings_go_after_names_and_before_the_declared_types() -> None:
    warnings = ("w" * 160,) * 3
    named = load(dump(replace(FULL, execution="e" * 300, warnings=warnings)))
    assert named is not None
    assert (named.execution, named.warnings) == ("", warnings)
    for length, left in ((200, 3), (500, 1), (650, 0)):
        large = load(dump(replace(FULL, warnings=warnings, declared="d" * length)))
        assert large is not None
        assert (large.warnings, large.declared) == (warnings[:left], "d" * length)


def test_the_request_goes_first_and_has_a_limit_of_its_own() -> None:
    carrying = replace(FULL, unconfirmed=True, why="away", request="r" * 1200)
    raw = dump(carrying)
    assert LIMIT < len(raw) <= CARRYING
    assert load(raw) == carrying
    assert load(dump(replace(carrying, request="r" * 1800))) == replace(carrying, request="")


def test_a_job_that_is_too_large_is_kept_all_the_same() -> None:
    read = load(dump(replace(FULL, job={"id": "x" * 2000})))
    assert read is not None
    assert read.job == {"id": "x" * 2000}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_envelopes_of_every_release_are_read_for_ever(path: Path) -> None:
    golden = json.loads(path.read_text())
    read = load(golden["resource_meta"].encode())
    assert read is not None
    for name, value in golden["reads_as"].items():
        found = getattr(read, name)
        assert (found.phase.name if name == "parked" else found) == value


def test_there_is_a_golden_envelope_of_each_kind() -> None:
    kinds = {path.stem.split("-", 1)[1] for path in GOLDEN.glob("*.json")}
    assert {"job", "parked", "unconfirmed", "carrying", "sync"} <= kinds


def _sign(body: dict[str, object], version: int = 1) -> bytes:
    """An envelope as some other release would write it, by the frozen rules alone."""
    rest = json.dumps(body).encode()[1:]
    checksum = hashlib.sha256(str(version).encode() + rest).hexdigest()[:16]
    return f'{{"flyteagents":"{version}:{checksum}",'.encode() + rest
