"""What is left of a task when it has ended: outputs, the result table, statistics, the trace."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from flyteidl.core import literals_pb2

from flyteagents._cli import screen
from flyteagents._cli.inspecting import explain
from flyteagents._cli.interrupts import INTERRUPTED
from flyteagents._cli.playing import Outcome
from flyteagents._cli.watching import facts, quantity
from flyteagents._errors import InvalidTask
from flyteagents._kernel.envelope import BrokenEnvelope, load
from flyteagents._status import Phase
from flyteagents._types import Type
from flyteagents._values import Blob, Schema, StructuredDataset
from flyteagents._wire.literals import decode_literal

FAILED, RETRYABLE, LOST = 1, 2, 69
_CODES = {
    Phase.SUCCEEDED: 0,
    Phase.FAILED: FAILED,
    Phase.ABORTED: FAILED,
    Phase.RETRYABLE_FAILED: RETRYABLE,
}


def exit_code(outcome: Outcome) -> int:
    """What `run` exits with."""
    if outcome.cancelled:
        return INTERRUPTED
    phase = outcome.attempts[-1].phase if outcome.attempts else None
    return LOST if phase is None else _CODES[phase]


def outputs_of(outcome: Outcome, declared: Mapping[str, Type]) -> dict[str, object]:
    """The outputs as Python values: out of the answer, or out of `outputs.pb` where the job wrote
    it to a folder of this machine."""
    last = outcome.attempts[-1]
    if last.phase is not Phase.SUCCEEDED or outcome.view is None:
        return {}
    raw = outcome.view.outputs
    if raw is None and (file := local_path(f"{last.output_prefix}/outputs.pb")) is not None:
        raw = file.read_bytes() if file.is_file() else None
    values: dict[str, object] = {}
    literals = literals_pb2.LiteralMap.FromString(raw or b"").literals
    for name, literal in sorted(literals.items()):
        try:
            values[name] = decode_literal(literal, declared.get(name))
        except InvalidTask as error:
            values[name] = f"(unreadable: {error})"
    return values


def document(
    outcome: Outcome, outputs: Mapping[str, object], statistics: Mapping[str, Any]
) -> dict[str, Any]:
    """The outcome for scripts."""
    last = outcome.attempts[-1]
    view = outcome.view
    return {
        "phase": last.phase.name if last.phase else None,
        "message": last.message,
        "cancelled": outcome.cancelled,
        "outputs": {name: plain(value) for name, value in outputs.items()},
        "links": [asdict(link) for link in view.links] if view else [],
        "info": dict(view.info) if view else {},
        "statistics": dict(statistics),
        "output_prefix": last.output_prefix,
        "seconds": round(last.seconds, 3),
        "attempts": [
            {
                "number": attempt.number,
                "phase": attempt.phase.name if attempt.phase else None,
                "message": attempt.message,
                "seconds": round(attempt.seconds, 3),
            }
            for attempt in outcome.attempts
        ],
        "resource_meta": base64.b64encode(last.meta).decode(),
        "job": _job(last.meta),
    }


def show(
    outcome: Outcome, outputs: Mapping[str, object], statistics: Mapping[str, Any], rows: int
) -> None:
    """The outcome for people."""
    last = outcome.attempts[-1]
    if last.phase is None:
        click.secho(f"no result: {last.message}", fg="red")
        return
    good = last.phase is Phase.SUCCEEDED
    text = f"{last.phase.name} in {last.seconds:.1f} s"
    click.secho(text + (f": {last.message}" if last.message else ""), fg="green" if good else "red")
    for name, value in outputs.items():
        click.echo(f"{click.style(name, bold=True)} = {_short(value)}")
        if rows and isinstance(value, StructuredDataset | Schema):
            _show_rows(value.uri, rows)
    if statistics:
        click.secho("statistics of the job", bold=True)
        screen.pairs((name.replace("_", " "), quantity(name, statistics[name]))
                     for name in sorted(statistics))  # fmt: skip
    elif outcome.view is not None and (told := ", ".join(facts(outcome.view.info))):
        click.echo(f"{click.style('the agent says', bold=True)}: {told}")


def plain(value: object) -> object:
    """A value for JSON. Tables and files become objects with their `uri`."""
    if isinstance(value, StructuredDataset | Schema):
        columns = {column.name: column.type.kind.value for column in value.columns}
        form = getattr(value, "format", "")
        return {"uri": value.uri, "columns": columns, "format": form}
    if isinstance(value, Blob):
        return asdict(value)
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    return value


def local_path(uri: str) -> Path | None:
    """The path on this machine, None for a URI of somewhere else."""
    if "://" not in uri:
        return Path(uri)
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _show_rows(uri: str, limit: int) -> None:
    path = local_path(uri)
    try:
        # Not a dependency of ours: where the DuckDB plugin is installed there is one who can read.
        duckdb: Any = importlib.import_module("duckdb")
    except ImportError:
        return
    if path is None or not path.exists():
        return
    files = str(path / "*.parquet") if path.is_dir() else str(path)
    try:
        with duckdb.connect() as connection:
            found = connection.execute("select * from read_parquet(?)", [files])
            columns = [column[0] for column in found.description]
            read = found.fetchmany(limit + 1)
    except duckdb.Error as error:
        click.echo(f"  (not shown: {str(error).splitlines()[0]})")
        return
    screen.table(columns, read[:limit])
    if len(read) > limit:
        click.echo(f"... the first {limit} rows; --show N shows more")


def _short(value: object) -> str:
    if isinstance(value, StructuredDataset | Schema | Blob):
        return value.uri
    return str(value)


def _job(meta: bytes) -> dict[str, Any] | None:
    try:
        envelope = load(meta)
    except BrokenEnvelope:
        return None
    return explain(envelope) if envelope is not None else None
