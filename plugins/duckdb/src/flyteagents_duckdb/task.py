"""From the task that Flyte asks for to the description of a job."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from flyteagents import (
    Binary,
    Blob,
    InvalidTask,
    Job,
    Kind,
    Schema,
    StructuredDataset,
    Task,
    Type,
)
from flyteagents_duckdb.settings import DuckDBSettings, Size
from flyteagents_duckdb_job.access import expand
from flyteagents_duckdb_job.values import pack

TABLES = (Kind.STRUCTURED_DATASET, Kind.SCHEMA, Kind.BLOB)


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


class DuckDBConfig(BaseModel):
    """The task's `custom`, or its `config`, in which all values are texts."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    threads: Annotated[int, BeforeValidator(_number), Field(gt=0)] | None = None
    memory: Size | None = Field(None, validation_alias=AliasChoices("memory", "memory_limit"))
    csv_null: str | None = None


class DuckDBJob(Job):
    """A job: its key, and the data directory that it is in."""

    key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16,64}$")]
    data: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


def describe(task: Task[DuckDBConfig], settings: DuckDBSettings) -> dict[str, Any]:
    """What the job's process needs to know. Raises InvalidTask."""
    if not task.statement.strip():
        raise InvalidTask("the task has no SQL statement")
    who, config = task.identity, task.config
    threads = config.threads or min(settings.threads, settings.max_threads)
    bound = settings.max_memory
    memory = config.memory or min(settings.memory, bound)
    if threads > settings.max_threads:
        raise InvalidTask(
            f"the task asks for {threads} threads; the most here is {settings.max_threads} "
            "(FLYTEAGENTS_DUCKDB_MAX_THREADS)"
        )
    if memory > bound:
        raise InvalidTask(
            f"the task asks for {memory >> 20} MiB of memory; the most here is {bound >> 20} MiB "
            "(FLYTEAGENTS_DUCKDB_MAX_MEMORY)"
        )
    limits: list[tuple[float, str, str]] = [
        (settings.max_seconds, "FAILED", "the operator's limit (FLYTEAGENTS_DUCKDB_MAX_SECONDS)")
    ]
    if task.timeout:
        limits.append((task.timeout.total_seconds(), "RETRYABLE_FAILED", "the task's timeout"))
    return {
        "version": 1,
        "created": time.time_ns(),
        "fingerprint": task.fingerprint.text,
        "project": who.project,
        "domain": who.domain,
        "execution": who.execution,
        "node": who.node,
        "statement": task.statement,
        **_inputs(task),
        "csv_null": config.csv_null,
        "threads": threads,
        "memory": memory,
        "spill": settings.max_spill,
        "limits": limits,
        "open": expand(settings.open_prefixes, who.project, who.domain),
        "readable": expand(
            (*settings.open_prefixes, *settings.input_prefixes), who.project, who.domain
        ),
        "output_prefix": task.output_prefix,
        "output_prefixes": expand(settings.output_prefixes, who.project, who.domain),
        "outputs": _outputs(task.declared),
        "unknown_config": sorted(config.model_extra or {}),
    }


def table_output(declared: Mapping[str, Type]) -> tuple[str, Type] | None:
    """The declared output that the result as a table becomes. Raises InvalidTask for two."""
    tables = [(name, kind) for name, type_ in declared.items() if (kind := _table(type_))]
    if len(tables) > 1:
        names = ", ".join(name for name, _ in tables)
        raise InvalidTask(f"a query has one table for a result, and the task declares {names}")
    return tables[0] if tables else None


def _outputs(declared: Mapping[str, Type]) -> dict[str, Any]:
    table = table_output(declared)
    if table is not None and table[1].format.lower() not in ("", "parquet"):
        raise InvalidTask(
            f"output {table[0]!r} is declared as {table[1].format}; results are Parquet"
        )
    return {
        "table": None if table is None else {
            "name": table[0], "columns": [column.name for column in table[1].columns]
        },
        "scalars": {
            name: _scalar_kind(type_)
            for name, type_ in declared.items()
            if table is None or name != table[0]
        },
    }  # fmt: skip


def _inputs(task: Task[DuckDBConfig]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for name, value in task.inputs.items():
        given = value if isinstance(value, list) and value else [value]
        files = [each for each in given if isinstance(each, Blob | Schema | StructuredDataset)]
        if files and len(files) == len(given):
            tables[name] = {"uris": [file.uri for file in files], "format": _format(files[0])}
            continue
        try:
            parameters[name] = pack(_parameter(value, task.interface.get(name)))
        except TypeError as error:
            raise InvalidTask(f"input {name!r}: {error}") from None
    return {"tables": tables, "parameters": parameters}


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


def _format(table: Blob | Schema | StructuredDataset) -> str:
    """The name of the reader, "" where the file's name must tell."""
    if isinstance(table, Schema):
        return "parquet"
    known = {"parquet": "parquet", "csv": "csv", "tsv": "csv", "json": "json", "jsonl": "json"}
    return known.get(table.format.lower(), "")


def _table(declared: Type) -> Type | None:
    if declared.kind in TABLES:
        return declared
    variants = declared.of if declared.kind is Kind.UNION else ()
    return next((variant for variant in variants if variant.kind in TABLES), None)


def _scalar_kind(declared: Type) -> str:
    if declared.kind is Kind.UNION:
        kinds = [variant.kind for variant in declared.of if variant.kind is not Kind.NONE]
        return str(kinds[0].value) if len(kinds) == 1 else ""
    return str(declared.kind.value)
