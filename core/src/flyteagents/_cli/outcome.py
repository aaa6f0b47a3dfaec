"""What is left of a task when it has ended: for people, for scripts, and as an exit code.

Flyte shows one message and one phase; here an attempt's own answer is told, since whoever tries a
task wants to see what the service said.
"""

from __future__ import annotations

import base64
import glob
import importlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
from flyteidl.core import literals_pb2

from flyteagents._cli import screen
from flyteagents._cli.inspecting import explain
from flyteagents._cli.watching import facts, quantity
from flyteagents._client.exit_codes import FAILED, INTERRUPTED, RETRYABLE, UNAVAILABLE
from flyteagents._client.outcome import Outcome, Try, local_path
from flyteagents._errors import InvalidTask
from flyteagents._kernel.envelope import BrokenEnvelope, load
from flyteagents._status import Phase
from flyteagents._types import Type
from flyteagents._values import Blob, Schema, StructuredDataset
from flyteagents._wire.literals import decode_literal

_CODES = {
    Phase.SUCCEEDED: 0,
    Phase.FAILED: FAILED,
    Phase.ABORTED: FAILED,
    Phase.RETRYABLE_FAILED: RETRYABLE,
}


def cancelled(outcome: Outcome) -> bool:
    """Whether the user stopped it."""
    return outcome.phase is Phase.ABORTED


def ended_as(attempt: Try) -> Phase | None:
    """How an attempt ended; None for one that was cancelled, or that nobody answers about."""
    return attempt.phase if attempt.phase is not None and attempt.phase.terminal else None


def lost(outcome: Outcome) -> bool:
    """Whether nobody answers about the task any more."""
    return not cancelled(outcome) and ended_as(outcome.tries[-1]) is None


def may_run(outcome: Outcome) -> bool:
    """Whether the last attempt has a job that nobody has seen to end."""
    return outcome.orphaned or (bool(outcome.tries[-1].meta) and lost(outcome))


def exit_code(outcome: Outcome) -> int:
    """What `run` exits with."""
    if cancelled(outcome):
        return INTERRUPTED
    phase = ended_as(outcome.tries[-1])
    return UNAVAILABLE if phase is None else _CODES[phase]


def outputs_of(outcome: Outcome, declared: Mapping[str, Type]) -> dict[str, object]:
    """The outputs as Python values: out of the answer, or out of `outputs.pb` where the job wrote
    it to a folder of this machine."""
    last = outcome.tries[-1]
    # One that was interrupted may have succeeded all the same, and nobody has its answer.
    if last.phase is not Phase.SUCCEEDED or last.last is None or last.last.phase is not last.phase:
        return {}
    resource = last.last.resource
    found = resource.outputs if resource.HasField("outputs") else _stored(outcome.prefix)
    values: dict[str, object] = {}
    for name, literal in sorted(found.literals.items()):
        try:
            values[name] = decode_literal(literal, declared.get(name))
        except InvalidTask as error:
            values[name] = f"(unreadable: {error})"
    return values


def _stored(prefix: str) -> literals_pb2.LiteralMap:
    file = local_path(f"{prefix}/outputs.pb")
    raw = file.read_bytes() if file is not None and file.is_file() else b""
    return literals_pb2.LiteralMap.FromString(raw)


def document(
    outcome: Outcome, outputs: Mapping[str, object], statistics: Mapping[str, Any]
) -> dict[str, Any]:
    """The outcome for scripts."""
    last = outcome.tries[-1]
    answer = last.last
    return {
        "phase": _name(last),
        "message": last.message,
        "cancelled": _stopped(last)
        or (cancelled(outcome) and not outcome.orphaned and ended_as(last) is not Phase.SUCCEEDED),
        "may_run": may_run(outcome),
        "outputs": {name: plain(value) for name, value in outputs.items()},
        "links": [asdict(link) for link in answer.links] if answer else [],
        "info": dict(answer.info) if answer else {},
        "statistics": dict(statistics),
        "output_prefix": outcome.prefix,
        "seconds": round(last.seconds, 3),
        "attempts": [
            {
                "number": each.attempt.number,
                "phase": _name(each),
                "message": each.message,
                "seconds": round(each.seconds, 3),
            }
            for each in outcome.tries
        ],
        "resource_meta": base64.b64encode(last.meta).decode(),
        "job": _job(last.meta),
    }


def _stopped(attempt: Try) -> bool:
    """Whether its job ended because somebody else cancelled it."""
    return attempt.last is not None and attempt.last.cancelled


def _name(attempt: Try) -> str | None:
    phase = ended_as(attempt)
    return phase.name if phase is not None else None


def show(
    outcome: Outcome, outputs: Mapping[str, object], statistics: Mapping[str, Any], rows: int
) -> None:
    """The outcome for people."""
    last = outcome.tries[-1]
    phase = ended_as(last)
    if phase is None:
        click.secho(f"no result: {last.message}", fg="red")
        return
    text = f"{phase.name}{' (cancelled)' if _stopped(last) else ''} in {last.seconds:.1f} s"
    colour = "green" if phase is Phase.SUCCEEDED else "red"
    click.secho(text + (f": {last.message}" if last.message else ""), fg=colour)
    for name, value in outputs.items():
        click.echo(f"{click.style(name, bold=True)} = {_short(value)}")
        if isinstance(value, StructuredDataset | Schema):
            _show_where(value.uri, last.attempt.output_prefix)
            if rows:
                _show_rows(value.uri, rows)
    if statistics:
        click.secho("statistics of the job", bold=True)
        screen.pairs(
            (name.replace("_", " "), quantity(name, statistics[name]))
            for name in sorted(statistics)
        )
    elif last.last is not None and (told := ", ".join(facts(last.last.info))):
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


def _show_where(uri: str, prefix: str) -> None:
    """Say so where a table is a file of this machine's and not below the prefix, as somebody may
    have wanted it."""
    path, wanted = local_path(uri), local_path(prefix)
    if path and not (wanted and path.resolve().is_relative_to(wanted.resolve())):
        click.secho("  not below the output prefix; `flyteagents logs` says why", fg="yellow")


def _show_rows(uri: str, limit: int) -> None:
    path = local_path(uri)
    try:
        # Not a dependency of ours: where the DuckDB plugin is installed there is one who can read.
        duckdb: Any = importlib.import_module("duckdb")
    except ImportError:
        return
    if path is None or not path.exists():
        return
    # A name is a name, also with [1] or * in it, and a folder env=prod is no column.
    files = glob.escape(str(path)) + ("/*.parquet" if path.is_dir() else "")
    try:
        with duckdb.connect() as connection:
            found = connection.execute(
                "select * from read_parquet(?, hive_partitioning = false)", [files]
            )
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
