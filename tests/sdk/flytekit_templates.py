"""Task templates written with flytekit, as FlytePropeller would send them.

Runs in flytekit's environment, as a script, and prints a JSON line for each task: name, and in
base64 its TaskTemplate and its inputs, a LiteralMap. The table that `duckdb table` reads is
nowhere: set another URI in its inputs, since the SDK would want to upload a local one.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, type-arg, unused-ignore"
# ruff: noqa: UP045  (unions as most tasks write them)
from __future__ import annotations

import base64
import enum
import json
import typing
from collections import OrderedDict
from datetime import date, datetime, timedelta, timezone

from bigquery_config import full_config
from flytekit import FlyteContextManager, SQLTask, TaskMetadata, kwtypes
from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.base_task import PythonTask
from flytekit.core.type_engine import TypeEngine
from flytekit.models.task import Sql
from flytekit.tools.translator import get_serializable
from flytekit.types.file import FlyteFile
from flytekit.types.structured import StructuredDataset
from flytekitplugins.bigquery import BigQueryConfig, BigQueryTask
from flytekitplugins.snowflake import SnowflakeConfig, SnowflakeTask


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class DuckDbTask(SQLTask[dict]):
    """What a user writes: flytekit's SQLTask leaves the statement's place to its subclasses."""

    def __init__(self, name: str, query_template: str, **others: typing.Any) -> None:
        super().__init__(name, query_template, task_type="duckdb_query", **others)

    def get_sql(self, settings: SerializationSettings) -> Sql:
        return Sql(statement=self.query_template, dialect=Sql.Dialect.ANSI)

    def get_custom(self, settings: SerializationSettings) -> dict[str, object]:
        return self.task_config or {}


Rows = typing.Annotated[StructuredDataset, kwtypes(i=int, scaled=float, label=str), "parquet"]
TABLE = "s3://bucket/table.parquet"
NOON = datetime(2024, 1, 2, 12, 30, 15, 123456, tzinfo=timezone.utc)
EVERY: dict[str, tuple[typing.Any, typing.Any]] = {
    "n": (int, 7),
    "x": (float, 0.5),
    "s": (str, "it's"),
    "b": (bool, True),
    "t": (datetime, NOON),
    "day": (date, date(2024, 2, 29)),
    "span": (timedelta, timedelta(hours=1, microseconds=5)),
    "several": (list[int], [1, 2, 3]),
    "empty": (list[str], []),
    "maybe": (typing.Optional[int], None),
    "color": (Color, Color.GREEN),
    "by_name": (dict[str, int], {"a": 1}),
    "anything": (dict, {"a": [1, 2.5, None]}),
    "file": (FlyteFile, FlyteFile("s3://bucket/file")),
}
EVERY_TYPE = {name: kind for name, (kind, _) in EVERY.items()}
EVERY_VALUE = {name: value for name, (_, value) in EVERY.items()}
SNOWFLAKE_EVERY = "select " + ", ".join(f"%({name})s" for name in EVERY if name != "empty")


def tasks() -> list[tuple[PythonTask, dict[str, object]]]:
    return [
        (
            DuckDbTask(
                "duckdb rows",
                "select i, i * $factor as scaled, $label as label from range($rows) t(i)",
                inputs=kwtypes(rows=int, factor=float, label=str),
                outputs=kwtypes(results=Rows),
                metadata=TaskMetadata(retries=2, timeout=timedelta(minutes=10)),
            ),
            {"rows": 10, "factor": 0.5, "label": "a"},
        ),
        (
            DuckDbTask(
                "duckdb scalars",
                "select count(*) as n, avg(i) as mean, 'x' as label from range($rows) t(i)",
                inputs=kwtypes(rows=int),
                outputs=kwtypes(n=int, mean=float, label=str),
                task_config={"threads": 1, "memory_limit": "200MB"},
            ),
            {"rows": 10},
        ),
        (
            DuckDbTask(
                "duckdb table",
                "select count(*) as n from source",
                inputs=kwtypes(source=Rows),
                outputs=kwtypes(n=int),
            ),
            {"source": StructuredDataset(uri=TABLE, file_format="parquet")},
        ),
        (
            DuckDbTask(
                "duckdb every input",
                "select $n as n, $x as x, $s as s, $b as b, $t as t",
                inputs=EVERY_TYPE,
                outputs=kwtypes(results=StructuredDataset),
            ),
            EVERY_VALUE,
        ),
        (DuckDbTask("duckdb no output", "select 1"), {}),
        (
            BigQueryTask(
                "bigquery full",
                "select @n as n, @s as s",
                BigQueryConfig("the-project", "EU", full_config()),
                inputs=kwtypes(n=int, s=str),
                output_structured_dataset_type=Rows,
                metadata=TaskMetadata(retries=2, timeout=timedelta(minutes=10)),
            ),
            {"n": 7, "s": "it's"},
        ),
        (
            BigQueryTask(
                "bigquery every input",
                "select @n",
                BigQueryConfig("the-project"),
                inputs=EVERY_TYPE,
                output_structured_dataset_type=StructuredDataset,
            ),
            EVERY_VALUE,
        ),
        (BigQueryTask("bigquery no output", "select 1", BigQueryConfig("the-project")), {}),
        (
            SnowflakeTask(
                "snowflake full",
                "select %(n)s as i, %(x)s as scaled, %(s)s as label",
                SnowflakeConfig("ME", "org-acct", "db", "PUBLIC", "wh"),
                inputs=kwtypes(n=int, x=float, s=str),
                output_schema_type=Rows,
                metadata=TaskMetadata(retries=2, timeout=timedelta(minutes=10)),
            ),
            {"n": 7, "x": 0.5, "s": "it's"},
        ),
        (
            SnowflakeTask(
                "snowflake every input",
                SNOWFLAKE_EVERY,
                SnowflakeConfig("ME", "org-acct", "db", "PUBLIC", "wh"),
                inputs=EVERY_TYPE,
                output_schema_type=StructuredDataset,
            ),
            EVERY_VALUE,
        ),
        (
            SnowflakeTask(
                "snowflake no output",
                "select 'like 100%'",
                SnowflakeConfig("ME", "org-acct", "db", "PUBLIC", "wh"),
            ),
            {},
        ),
    ]


SETTINGS = SerializationSettings(
    ImageConfig.auto("image:v1"), project="project", domain="development", version="v1"
)


def serialised(task: PythonTask, values: dict[str, object]) -> dict[str, str]:
    context = FlyteContextManager.current_context()
    inputs = TypeEngine.dict_to_literal_map(context, values, task.python_interface.inputs)
    spec = get_serializable(OrderedDict(), SETTINGS, task)
    return {
        "name": task.name,
        "template": encode(spec.template.to_flyte_idl()),
        "inputs": encode(inputs.to_flyte_idl()),
    }


def encode(message: typing.Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


if __name__ == "__main__":
    for task, values in tasks():
        print(json.dumps(serialised(task, values)))
