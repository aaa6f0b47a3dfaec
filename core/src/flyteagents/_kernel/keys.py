"""Idempotency keys, fingerprints, and the numbers that end output prefixes.

The derivation of keys is frozen: jobs of earlier releases are found by it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from enum import Enum

from flyteagents._task import Fingerprint, Key

FINGERPRINT_RULES = 1
PREFIX_LIMIT = 2048
"""Characters of an output prefix that is remembered: it comes over the wire."""
_NUMBERED = re.compile(r"^(?P<base>.*/)(?P<number>\d{1,9})(?P<slash>/?)$", re.DOTALL)


def key_of(cluster: str, task_type: str, output_prefix: str) -> Key:
    """The key of the attempt that writes to `output_prefix`; a random one where it is empty."""
    # All tasks of the type without a prefix would have one key, and so share one job.
    if not output_prefix:
        return Key(secrets.token_hex(20))
    # NUL keeps the parts apart: else two sets of parts could make the same text.
    text = f"flyteagents/1\0{cluster}\0{task_type}\0{output_prefix}"
    return Key(hashlib.sha256(text.encode()).hexdigest()[:40])


def attempt_number(output_prefix: str) -> int:
    """The number that ends an output prefix, -1 when there is none."""
    number = _number if len(output_prefix) <= PREFIX_LIMIT else _number.__wrapped__
    return number(output_prefix)


@functools.lru_cache(64)  # asked for three times in each create
def _number(output_prefix: str) -> int:
    match = _NUMBERED.match(output_prefix)
    return int(match["number"]) if match else -1


def prefix_of_attempt(output_prefix: str, number: int) -> str:
    """The output prefix of another attempt of the same task."""
    match = _NUMBERED.match(output_prefix)
    return f"{match['base']}{number}{match['slash']}" if match else output_prefix


def prefix_of_task(output_prefix: str) -> str:
    """What all attempts' output prefixes have in common: names the task."""
    match = _NUMBERED.match(output_prefix)
    return match["base"] if match else output_prefix


def earlier_attempts(output_prefix: str, retry_attempt: int, generation: int) -> range:
    """The numbers of the earlier attempts. Flyte 1 counts from 0 and Flyte 2 from 1; with any
    other start the prefix means something else, and no job is taken over."""
    number = attempt_number(output_prefix)
    start = {1: 0, 2: 1}[generation]
    return range(start, number if number - retry_attempt == start else start)


def fingerprint_of(work: Mapping[str, object]) -> Fingerprint:
    """A hash over what an agent says the work is, whatever the order of its keys."""
    try:
        text = _ENCODER.encode(work)
    except TypeError:  # keys of several types have no order
        text = _ENCODER.encode(_text_keys(work))
    return Fingerprint(f"{FINGERPRINT_RULES}-{hashlib.sha256(text.encode()).hexdigest()[:16]}")


def _text_keys(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _text_keys(part) for name, part in value.items()}
    return [_text_keys(part) for part in value] if isinstance(value, list | tuple) else value


def _canonical(value: object) -> object:
    # Before `date`, of which it is a subclass. The kind is named with the value: a text that
    # reads the same is other work.
    if isinstance(value, datetime):
        moment = value if value.tzinfo is None else value.astimezone(timezone.utc)
        return {"datetime": moment.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, timedelta):
        return {"duration": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Enum):
        return _canonical(value.value) if not isinstance(value.value, str | int) else value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        # A set's order differs between processes, since Python salts the hashes of texts.
        return sorted(map(str, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return str(value)


# Made once: `json.dumps` makes one for each call with options.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_canonical)
