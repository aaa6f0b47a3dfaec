"""From the task that Flyte asks for to the description of a job, which its process reads.

The job's process knows neither Flyte nor the settings: what it needs of both is in the description,
as JSON. So a job does what was asked for when it was claimed, whichever server starts it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from flyteagents import Binary, Blob, InvalidTask, Kind, Schema, StructuredDataset, Task, Type
from flyteagents.kit.outputs import first_fitting
from flyteagents_duckdb.config import DuckDBConfig, csv_options
from flyteagents_duckdb.outputs import TABLES, result_table
from flyteagents_duckdb.settings import DuckDBSettings
from flyteagents_duckdb.types import column_types, pack_type, sql_type
from flyteagents_duckdb_job.access import expand
from flyteagents_duckdb_job.values import pack

_FORMATS = {
    "parquet": "parquet",
    "csv": "csv",
    "tsv": "csv",
    "json": "json",
    "jsonl": "json",
}


def describe(task: Task[DuckDBConfig], settings: DuckDBSettings) -> dict[str, Any]:
    """What the job's process needs to know. Raises InvalidTask."""
    if not task.statement.strip():
        raise InvalidTask("the task has no SQL statement")

    who = task.identity
    tables, parameters = _inputs(task)
    return {
        "version": 1,
        "created": time.time_ns(),
        "fingerprint": task.fingerprint.text,
        "project": who.project,
        "domain": who.domain,
        "execution": who.execution,
        "node": who.node,
        "statement": task.statement,
        "tables": tables,
        "parameters": parameters,
        "csv": csv_options(task.config),
        "partitioned": _partitioned(task.config, tables),
        "threads": _threads(task.config, settings),
        "memory": _memory(task.config, settings),
        "spill": settings.max_spill,
        "limits": _limits(task, settings),
        "open": expand(settings.open_prefixes, who.project, who.domain),
        "readable": expand(
            (*settings.open_prefixes, *settings.input_prefixes), who.project, who.domain
        ),
        "output_prefix": task.output_prefix,
        "output_prefixes": expand(settings.output_prefixes, who.project, who.domain),
        "outputs": _outputs(task.declared),
    }


def _threads(config: DuckDBConfig, settings: DuckDBSettings) -> int:
    most = settings.max_threads
    threads = config.threads or min(settings.threads, most)
    if threads > most:
        raise InvalidTask(
            f"the task asks for {threads} threads; the most here is {most} "
            "(FLYTEAGENTS_DUCKDB_MAX_THREADS)"
        )
    return threads


def _memory(config: DuckDBConfig, settings: DuckDBSettings) -> int:
    most = settings.max_memory
    memory = config.memory or min(settings.memory, most)
    if memory > most:
        raise InvalidTask(
            f"the task asks for {memory >> 20} MiB of memory; the most here is {most >> 20} MiB "
            "(FLYTEAGENTS_DUCKDB_MAX_MEMORY)"
        )
    return memory


def _limits(task: Task[DuckDBConfig], settings: DuckDBSettings) -> list[tuple[float, str, str]]:
    """Seconds that the job may take, how it ends then, and whose limit it is."""
    limits = [
        (settings.max_seconds, "FAILED", "the operator's limit (FLYTEAGENTS_DUCKDB_MAX_SECONDS)")
    ]
    # Flyte may try again after its own timeout, so a job that meets it first ends the same way.
    if task.timeout:
        limits.append((task.timeout.total_seconds(), "RETRYABLE_FAILED", "the task's timeout"))
    return limits


def _outputs(declared: Mapping[str, Type]) -> dict[str, Any]:
    table = result_table(declared)
    if table is None:
        described = None
    else:
        name, kind = table
        if kind.format.lower() not in ("", "parquet"):
            raise InvalidTask(f"output {name!r} is declared as {kind.format}; results are Parquet")
        described = {
            "name": name,
            "columns": [
                {"name": column.name, "type": pack_type(column.type)} for column in kind.columns
            ],
        }

    scalars = {
        name: pack_type(type_)
        for name, type_ in declared.items()
        if table is None or name != table[0]
    }
    return {"table": described, "scalars": scalars}


def _partitioned(config: DuckDBConfig, tables: Mapping[str, object]) -> list[str]:
    for name in config.partitioned:
        if name not in tables:
            there = ", ".join(tables) or "none"
            raise InvalidTask(
                f"`partitioned` in the task's config names {name!r}, which is no table among its "
                f"inputs; there are: {there}"
            )
    return list(config.partitioned)


def _inputs(task: Task[DuckDBConfig]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs that are tables, and those that are parameters."""
    tables: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for name, value in task.inputs.items():
        declared = task.interface.get(name)
        given = value if isinstance(value, list) and value else [value]
        files = [each for each in given if isinstance(each, Blob | Schema | StructuredDataset)]

        if files and len(files) == len(given):
            tables[name] = {
                "uris": [file.uri for file in files],
                "format": _format(files[0]),
                "columns": column_types(_table(declared)),
            }
            continue
        try:
            packed = pack(_parameter(value, declared))
        except TypeError as error:
            raise InvalidTask(f"input {name!r}: {error}") from None
        parameters[name] = {"value": packed, "type": _bound_type(value, declared)}
    return tables, parameters


def _bound_type(value: object, declared: Type | None) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and declared is None:
        declared = Type(Kind.INTEGER)
    return sql_type(declared)


def _parameter(value: object, declared: Type | None) -> object:
    """A value as DuckDB's client takes it. A dict is a MAP only in this form, and a STRUCT else;
    a struct of Flyte's, whose fields are not known, is JSON."""
    if isinstance(value, Binary):
        return value.value
    if isinstance(value, Mapping):
        if declared is not None and declared.kind is Kind.MAP:
            return {
                "key": list(value),
                "value": [_parameter(item, declared.element) for item in value.values()],
            }
        return json.dumps(value, default=str)
    if isinstance(value, list):
        element = declared.element if declared and declared.kind is Kind.COLLECTION else None
        return [_parameter(item, element) for item in value]
    return value


def _table(declared: Type | None) -> Type | None:
    """The type of a table, also where it is optional or one of a list."""
    if declared is None:
        return None
    inner = declared.element if declared.kind is Kind.COLLECTION else declared
    return first_fitting(inner, lambda variant: variant.kind in TABLES)


def _format(table: Blob | Schema | StructuredDataset) -> str:
    """The name of the reader, "" where the file's name must tell."""
    if isinstance(table, Schema):
        return "parquet"
    return _FORMATS.get(table.format.lower(), "")
