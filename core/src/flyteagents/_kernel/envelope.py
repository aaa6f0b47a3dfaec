"""What rides in `resource_meta`: the job model, and what the kernel needs to answer for it.

Wire form: `{"flyteagents":"1:<16 hex digits>",` and the rest of one JSON object. The digits are
the start of the SHA-256 of the version's digits and all bytes after that first member. This
head, the checksum and the meaning of the fields are frozen; a release may add fields, and readers
ignore those they do not know. Flyte logs these bytes and keeps them in etcd: no secrets, and
under 1 KiB.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from flyteagents._status import Phase

VERSION = 1
LIMIT = 1024
MESSAGE_LIMIT = 400
_HEAD = re.compile(rb'^\{"flyteagents":"(\d{1,4}):([0-9a-f]{16})",')


@dataclass(frozen=True)
class Parked:
    """The end of an attempt that was known when it was created. `outputs` is the base64 of a
    serialized LiteralMap: what a synchronous agent returned."""

    phase: Phase
    message: str = ""
    outputs: str | None = None


@dataclass(frozen=True)
class Envelope:
    """One attempt. `wrote` is the number of the attempt whose prefix the job writes to; -1
    where prefixes have no number. `trace` is the trace id, in hex."""

    key: str
    task_type: str
    created: float
    fingerprint: str = ""
    trace: str = ""
    wrote: int = -1
    attempt: int = 0
    project: str = ""
    domain: str = ""
    execution: str = ""
    node: str = ""
    adopted: bool = False
    unconfirmed: bool = False
    declared: str = ""
    job: Mapping[str, Any] | None = None
    parked: Parked | None = None
    foreign: bool = False
    newer: bool = False


class BrokenEnvelope(Exception):
    """The bytes are not what any release of ours, or another connector, has written."""


_SHORT = {
    "key": "k", "task_type": "t", "created": "c", "fingerprint": "f", "trace": "tr", "wrote": "w",
    "attempt": "a", "project": "p", "domain": "d", "execution": "e", "node": "n", "adopted": "ad",
    "unconfirmed": "u", "declared": "o", "job": "j",
}  # fmt: skip
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "created": (int, float), "wrote": int, "attempt": int, "adopted": bool, "unconfirmed": bool,
    "job": dict,
}  # fmt: skip


def dump(envelope: Envelope) -> bytes:
    """The envelope's bytes. What is only good to have goes when the limit would be passed."""
    raw = _dump(envelope)
    for dropped in ({"execution": "", "node": ""}, {"declared": ""}):
        if len(raw) <= LIMIT or (envelope.parked and envelope.parked.outputs):
            break
        envelope = replace(envelope, **dropped)  # type: ignore[arg-type] # names of fields
        raw = _dump(envelope)
    return raw


def _dump(envelope: Envelope) -> bytes:
    empty = Envelope(key="", task_type="", created=0)
    body: dict[str, Any] = {
        short: getattr(envelope, name)
        for name, short in _SHORT.items()
        if getattr(envelope, name) != getattr(empty, name)
    }
    body["k"] = envelope.key
    if envelope.parked:
        x = {"ph": envelope.parked.phase.value, "m": cut(envelope.parked.message)}
        body["x"] = x if envelope.parked.outputs is None else {**x, "o": envelope.parked.outputs}
    rest = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()[1:]
    return b'{"flyteagents":"%d:%s",' % (VERSION, _checksum(b"%d" % VERSION, rest)) + rest


def load(raw: bytes) -> Envelope | None:
    """Read `resource_meta`; None when it does not carry our marker. Raises BrokenEnvelope."""
    head = _HEAD.match(raw)
    if head is None:
        return None
    rest = raw[head.end() :]
    if _checksum(head[1], rest) != head[2]:
        raise BrokenEnvelope("resource_meta is damaged: its checksum does not fit")
    try:
        body = json.loads(b"{" + rest)
        values = {name: body[short] for name, short in _SHORT.items() if short in body}
        for name, value in values.items():
            _check(name, value)
        parked = body.get("x")
        if parked is not None:
            message, outputs = parked.get("m", ""), parked.get("o")
            _check("message", message)
            base64.b64decode(outputs or "", validate=True)
            values["parked"] = Parked(Phase(parked["ph"]), message, outputs)
        return Envelope(**values, newer=int(head[1]) > VERSION)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if int(head[1]) > VERSION:
            return Envelope(key=head[2].decode(), task_type="", created=0, newer=True)
        raise BrokenEnvelope(f"resource_meta is not an envelope of ours: {error}") from None


def _check(name: str, value: Any) -> None:
    """A checksum is no proof of who wrote the rest. Raises TypeError or ValueError."""
    if not isinstance(value, _TYPES.get(name, str)):
        raise TypeError(f"a {type(value).__name__} as {name}")
    if isinstance(value, str):
        value.encode()  # JSON can spell halves of characters, which go nowhere
    if isinstance(value, int | float) and not -1 <= value < 2**40:
        raise ValueError(f"{name} is out of range")
    if name == "trace" and not re.fullmatch("[0-9a-f]{0,32}", str(value)):
        raise ValueError("trace is not a trace id")


def cut(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """`text` in at most `limit` bytes of UTF-8."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "..."


def describe(envelope: Envelope) -> dict[str, Any]:
    """The envelope for people and scripts."""
    parked = envelope.parked
    return {
        **{k: v for k, v in asdict(envelope).items() if k != "parked" and v not in ("", None)},
        **({"parked": {"phase": parked.phase.name, "message": parked.message}} if parked else {}),
    }


def _checksum(version: bytes, rest: bytes) -> bytes:
    return hashlib.sha256(version + rest).hexdigest()[:16].encode()
