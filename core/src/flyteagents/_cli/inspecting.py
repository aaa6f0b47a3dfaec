"""`flyteagents inspect`: a `resource_meta` in words.

It meets one in whatever form logs, etcd and consoles show it, from this or another release, from
our own or another connector; nothing is asked of a vendor.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from flyteagents._cli import screen
from flyteagents._cli.listing import kernel_settings
from flyteagents._cli.type_words import in_words
from flyteagents._client.exit_codes import BAD_DATA
from flyteagents._kernel.envelope import UNKNOWN, BrokenEnvelope, Envelope, load
from flyteagents._kernel.plugins import discover
from flyteagents._wire.types import load_types


@dataclass(frozen=True)
class Reader:
    """An installed agent whose job model takes the job."""

    task_type: str
    package: str

    def __str__(self) -> str:
        return f"{self.task_type} of {self.package}"


@click.command("inspect")
@click.argument("meta")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
def command(meta: str, as_json: bool) -> None:
    """Say what a resource_meta says.

    META is what Flyte stores and logs for a task: base64, hex, the JSON itself, a file with any
    of them, or - for standard input. It holds no secrets and can be shown to others.

    Exits with 65 when the bytes are damaged, or nobody here can read them.

    \b
    Examples:
      flyteagents inspect eyJmbHl0ZWFnZW50cyI6...
      flyteagents inspect '{"flyteagents":"1:...'
      flyteagents inspect meta.bin --json
      flyteagents run task.yaml --json | jq -r .resource_meta | flyteagents inspect -
    """
    raw = meta_bytes(meta)
    if raw is None:
        screen.fail(
            BAD_DATA,
            "that is no resource_meta: not JSON, not base64 or hex of JSON, and no file",
        )
    try:
        envelope = load(raw)
    except BrokenEnvelope as error:
        screen.fail(BAD_DATA, f"{error}; copy all of it, the text is cut or was changed")
    job = envelope.job if envelope is not None else _object(raw)
    readers = list(_readers(job, envelope)) if job is not None else []
    if envelope is None and (job is None or not readers):
        screen.fail(BAD_DATA, _unreadable(job))
    said: dict[str, Any] = (
        explain(envelope) if envelope is not None else {"foreign": True, "job": job}
    )
    said["read_by"] = [vars(reader) for reader in readers]
    if as_json:
        screen.print_json(said)
    else:
        rows = _rows(envelope, said) if envelope is not None else _foreign_rows(said)
        screen.pairs([*rows, ("read by", _read_by(envelope, readers))])


def meta_bytes(meta: str) -> bytes | None:
    """The bytes, out of whatever form they came in."""
    data = sys.stdin.buffer.read() if meta == "-" else _file(meta) or meta.encode()
    text = data.strip()
    for read in (bytes, _from_string, _from_hex, _from_base64):
        found = read(text)
        if found.startswith(b"{"):
            return found
    return None


def _file(meta: str) -> bytes | None:
    try:
        return Path(meta).read_bytes()
    except (OSError, ValueError):  # no file of this name, and base64 is too long for one
        return None


def _from_string(text: bytes) -> bytes:
    # As logs show it: a JSON string with its quotes escaped.
    try:
        value = json.loads(text)
    except ValueError:
        return b""
    return value.encode() if isinstance(value, str) else b""


def _from_hex(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode("ascii", "replace"))
    except ValueError:
        return b""


def _from_base64(text: bytes) -> bytes:
    plain = re.sub(rb"\s+", b"", text).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return b""


def _object(raw: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _readers(job: Mapping[str, Any], envelope: Envelope | None) -> Iterator[Reader]:
    for plugin in discover(kernel_settings().plugins).plugins:
        for agent in plugin.agents:
            if agent.models.job is None:
                continue
            try:
                agent.models.job.model_validate(job)
            except ValidationError:
                continue
            for task_type in agent.task_types:
                if envelope is None or envelope.task_type == task_type:
                    yield Reader(task_type, plugin.origin)


def _unreadable(job: Mapping[str, Any] | None) -> str:
    if job is None:
        return "that is no resource_meta: neither an envelope of ours nor another connector's JSON"
    return (
        f"another connector wrote it (fields: {', '.join(sorted(job)) or 'none'}), and no "
        "installed agent can take such a job over; install the plugin for it"
    )


def explain(envelope: Envelope) -> dict[str, Any]:
    """What an envelope says, with its declared types in words."""
    said = {k: v for k, v in asdict(envelope).items() if v not in ("", None, ())}
    if envelope.parked is not None:
        parked = envelope.parked
        said["parked"] = {"phase": parked.phase.name, "message": parked.message}
    if envelope.declared == UNKNOWN:
        said["declared"] = {"": "not known: there was no room for it"}
    elif envelope.declared:
        try:
            declared = load_types(envelope.declared)
            said["declared"] = {name: in_words(each) for name, each in declared.items()}
        except ValueError as error:
            said["declared"] = {"": str(error)}
    return said


def _rows(envelope: Envelope, said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "task type", envelope.task_type or "(this release cannot tell)"
    yield "created", _moment(envelope.created)
    if envelope.project or envelope.execution:
        names = (envelope.project, envelope.domain, envelope.execution, envelope.node)
        yield "for", " / ".join(filter(None, names))
    yield "attempt", str(envelope.attempt)
    if envelope.job is not None:
        yield "job", json.dumps(envelope.job, ensure_ascii=False)
    if envelope.parked is not None:
        yield "ended", f"when it was created: {envelope.parked.phase.name}"
        yield "message", envelope.parked.message
    if envelope.adopted:
        yield "adopted", "yes: an earlier attempt started this job"
    if envelope.unconfirmed:
        yield "unconfirmed", "yes: the vendor's answer to the start had not come in time"
    if envelope.wrote >= 0:
        yield "writes to", f"the output prefix of attempt number {envelope.wrote}"
    for name, words in said.get("declared", {}).items() if envelope.declared else ():
        yield f"output {name}", words
    for text in envelope.warnings:
        yield "warning", text
    yield "key", envelope.key
    yield "fingerprint", envelope.fingerprint or "(none)"
    yield "trace id", envelope.trace or "(none)"
    if envelope.newer:
        yield "written by", "a newer release; what it says may be incomplete"


def _foreign_rows(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "written by", "another connector (flytekit's or flyte-sdk's)"
    yield "job", json.dumps(said["job"], ensure_ascii=False)


def _read_by(envelope: Envelope | None, readers: list[Reader]) -> str:
    if readers:
        return ", ".join(map(str, readers))
    if envelope is not None and envelope.job is None:
        return "every replica: there is no job to ask about"
    return "no agent that is installed here"


def _moment(created: float) -> str:
    if not created:
        return "(unknown)"
    return datetime.fromtimestamp(created, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
