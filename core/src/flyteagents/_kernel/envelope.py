"""What rides in `resource_meta`: the job model, and what the kernel needs to answer for it.

Wire form: `{"flyteagents":"1:<16 hex digits>",` and the rest of one JSON object. The digits are
the start of the SHA-256 of the version's digits and all bytes after that first member. This
head, the checksum and the meaning of the fields are frozen; a release may add fields, and readers
ignore those they do not know. Flyte logs these bytes and keeps them in etcd: no secrets, and
under 1 KiB.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from flyteagents._kernel.copies import copied
from flyteagents._redact import excerpt
from flyteagents._status import Phase
from flyteagents._task import Identity

VERSION = 1
LIMIT = 1024
"""Bytes. Flyte stores an envelope three times over, in base64, with the workflow, whose limit is
etcd's: about 1.5 MiB for all of its tasks (flytepropeller/pkg/controller/handler.go:379-411)."""
CARRYING = 2048
"""Bytes of the few that carry their request. Flyte 1 runs 25 nodes of a workflow at once by
default, so these take a tenth of etcd's limit."""
TEXT = 2048
"""Characters of a name that is read: anyone may have sent it, and it is kept in spans."""
MESSAGE_LIMIT = 400
UNKNOWN = "?"
"""As `declared`, where nobody knows any more which outputs the task declares."""
_HEAD = re.compile(rb'^\{"flyteagents":"(\d{1,4}):([0-9a-f]{16})",')
# A checksum is no proof of who wrote the rest: what comes back is checked field by field.
_Number = Annotated[int, Field(ge=-1, lt=2**40)]


def _decodes(text: str | None) -> str | None:
    # Without `validate` Python skips what is not base64, and makes other outputs of the rest.
    base64.b64decode(text or "", validate=True)
    return text


def _ends(phase: Phase) -> Phase:
    if phase not in (Phase.SUCCEEDED, Phase.FAILED, Phase.RETRYABLE_FAILED):
        raise ValueError("no end that Flyte knows")
    return phase


@dataclass(frozen=True)
class Parked:
    """The end of an attempt that was known when it was created. `outputs` is the base64 of a
    serialized LiteralMap: what a synchronous agent returned."""

    phase: Annotated[Phase, Field(alias="ph"), AfterValidator(_ends)]
    message: Annotated[str, Field(alias="m")] = ""
    outputs: Annotated[str | None, Field(alias="o"), AfterValidator(_decodes)] = None


@dataclass(frozen=True)
class Envelope:
    """One attempt. `wrote` is the number of the attempt whose prefix the job writes to; -1
    where prefixes have no number; `made_with` is that attempt's key, where the job was taken over.
    `settled` is the number of the first earlier attempt that a next one has to look for.
    `trace` is the trace id, in hex. Of an unconfirmed one, `why` is what its vendor said last, and
    `request` what was asked for (see `carried`). `foreign` and `newer` say
    who wrote it: another connector, a later release."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="ignore")

    # One or two letters each: names count against LIMIT too.
    key: Annotated[str, Field(alias="k", max_length=TEXT)]
    task_type: Annotated[str, Field(alias="t", max_length=TEXT)]
    created: Annotated[float, Field(alias="c", ge=0, lt=2**40)]
    fingerprint: Annotated[str, Field(alias="f", max_length=TEXT)] = ""
    trace: Annotated[str, Field(alias="tr", pattern="^[0-9a-f]{0,32}$")] = ""
    wrote: Annotated[_Number, Field(alias="w")] = -1
    attempt: Annotated[_Number, Field(alias="a")] = 0
    project: Annotated[str, Field(alias="p", max_length=TEXT)] = ""
    domain: Annotated[str, Field(alias="d", max_length=TEXT)] = ""
    execution: Annotated[str, Field(alias="e", max_length=TEXT)] = ""
    node: Annotated[str, Field(alias="n", max_length=TEXT)] = ""
    settled: Annotated[_Number, Field(alias="s")] = 0
    made_with: Annotated[str, Field(alias="mk", pattern="^[0-9a-f]{0,40}$")] = ""
    adopted: Annotated[bool, Field(alias="ad")] = False
    unconfirmed: Annotated[bool, Field(alias="u")] = False
    why: Annotated[str, Field(alias="y", max_length=TEXT)] = ""
    request: Annotated[str, Field(alias="r")] = ""
    declared: Annotated[str, Field(alias="o")] = ""
    warnings: Annotated[tuple[str, ...], Field(alias="ws")] = ()
    job: Annotated[Mapping[str, Any] | None, Field(alias="j")] = None
    parked: Annotated[Parked | None, Field(alias="x")] = None
    foreign: Annotated[bool, Field(exclude=True)] = False
    newer: Annotated[bool, Field(exclude=True)] = False

    @functools.cached_property
    def identity(self) -> Identity:
        """Who asked, as far as the envelope keeps it."""
        return Identity(
            project=self.project,
            domain=self.domain,
            execution=self.execution,
            node=self.node,
            attempt=self.attempt,
        )


def new_envelope(
    who: Identity, key: str, task_type: str, trace: str = "", wrote: int = -1
) -> Envelope:
    """The envelope of an attempt that is created now."""
    return copied(
        _NEW,
        key=key,
        task_type=task_type,
        created=round(time.time(), 3),
        trace=trace,
        wrote=wrote,
        attempt=who.attempt,
        project=who.project,
        domain=who.domain,
        execution=who.execution,
        node=who.node,
    )


_NEW = Envelope(key="", task_type="", created=0.0)
_FORM = TypeAdapter(Envelope)
_TO_JSON = _FORM.serializer.to_json  # as `dump_json`, in two thirds of the time


class BrokenEnvelope(Exception):
    """The bytes are not what any release of ours, or another connector, has written."""


def dump(envelope: Envelope) -> bytes:
    """The envelope's bytes. What is only good to have goes when the limit would be passed."""
    if envelope.parked:
        text = excerpt(envelope.parked.message, MESSAGE_LIMIT)
        envelope = replace(envelope, parked=replace(envelope.parked, message=text))
    raw = _dump(envelope)
    if len(raw) <= LIMIT:
        return raw
    # By what is lost: what another replica could submit on with, first words of log lines, then
    # warnings, then the check of the job's outputs. Parked outputs may pass LIMIT, and have a limit
    # of their own.
    for dropped in (
        {"request": ""},
        {"why": "", "execution": "", "node": ""},
        {"warnings": envelope.warnings[:1]},
        {"warnings": ()},
        {"declared": envelope.declared and UNKNOWN},
    ):
        limit = CARRYING if envelope.request else LIMIT
        if len(raw) <= limit or (envelope.parked and envelope.parked.outputs):
            break
        envelope = replace(envelope, **dropped)
        raw = _dump(envelope)
    return raw


def _dump(envelope: Envelope) -> bytes:
    rest = _TO_JSON(envelope, by_alias=True, exclude_defaults=True)[1:]
    return b'{"flyteagents":"%d:%s",' % (VERSION, _checksum(b"%d" % VERSION, rest)) + rest


def load(raw: bytes) -> Envelope | None:
    """Read `resource_meta`; None when it does not carry our marker. Raises BrokenEnvelope."""
    head = _HEAD.match(raw)
    if head is None:
        return None
    rest = raw[head.end() :]
    if _checksum(head[1], rest) != head[2]:
        raise BrokenEnvelope("resource_meta is damaged: its checksum does not fit")
    newer = int(head[1]) > VERSION
    try:
        envelope = _FORM.validate_json(b"{" + rest)
    except ValueError:
        # In a rollout, and after one is taken back, a replica meets what later releases wrote. The
        # checksum stands for the key, which cannot be read, and keeps such jobs apart.
        if newer:
            return Envelope(key=head[2].decode(), task_type="", created=0, newer=True)
        raise BrokenEnvelope("resource_meta is not an envelope of ours") from None
    if envelope.foreign or envelope.newer != newer:  # these are not for the wire to say
        envelope = replace(envelope, foreign=False, newer=newer)
    return envelope


def _checksum(version: bytes, rest: bytes) -> bytes:
    return hashlib.sha256(version + rest).hexdigest()[:16].encode()
