"""Task templates written with flyte-sdk, as the Flyte 2 executor would send them.

Runs in flyte-sdk's environment, as a script, and prints a JSON line for each task: name, and in
base64 its TaskTemplate (of flyteidl2) and its inputs, a flyteidl2.task.Inputs, which has the bytes
of a LiteralMap. The table that `duckdb table` reads is nowhere: set another URI in its inputs,
since the SDK would want to upload a local one.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, type-arg, unused-ignore"
# ruff: noqa: UP045  (unions as most tasks write them)
from __future__ import annotations

import asyncio
import base64
import collections
import enum
import json
import typing
from datetime import date, datetime, timedelta, timezone

import flyte
from bigquery_config import full_config
from flyte._internal.runtime.convert import convert_from_native_to_inputs
from flyte._internal.runtime.task_serde import translate_task_to_wire
from flyte.connectors import AsyncConnectorExecutorMixin
from flyte.extend import TaskTemplate
from flyte.io import DataFrame, File
from flyte.models import NativeInterface, SerializationContext
from flyteidl2.core import tasks_pb2
from flyteplugins.bigquery import BigQueryConfig, BigQueryTask
from flyteplugins.snowflake import Snowflake, SnowflakeConfig


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class DuckDbTask(AsyncConnectorExecutorMixin, TaskTemplate):
    """What a user writes: flyte-sdk has no class for SQL, so it is done as BigQueryTask does."""

    def __init__(
        self,
        name: str,
        statement: str,
        inputs: dict[str, typing.Any],
        outputs: dict[str, typing.Any],
        config: dict[str, object] | None = None,
        **others: typing.Any,
    ) -> None:
        interface = NativeInterface({key: (kind, None) for key, kind in inputs.items()}, outputs)
        super().__init__(
            name=name, interface=interface, task_type="duckdb_query", image=None, **others
        )
        self.statement = statement
        self.config = config or {}

    def custom_config(self, sctx: SerializationContext) -> dict[str, object]:
        return self.config

    def sql(self, sctx: SerializationContext) -> tasks_pb2.Sql:
        return tasks_pb2.Sql(statement=self.statement, dialect=tasks_pb2.Sql.Dialect.ANSI)


Columns = collections.OrderedDict(i=int, scaled=float, label=str)
Rows = typing.Annotated[DataFrame, Columns, "parquet"]
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
    "file": (File, File.from_existing_remote("s3://bucket/file")),
}
EVERY_TYPE = {name: kind for name, (kind, _) in EVERY.items()}
EVERY_VALUE = {name: value for name, (_, value) in EVERY.items()}
SNOWFLAKE_EVERY = "select " + ", ".join(f"%({name})s" for name in EVERY if name != "empty")


SNOWFLAKE = SnowflakeConfig(
    account="org-acct", database="db", schema="PUBLIC", warehouse="wh", user="ME"
)


def tasks() -> list[tuple[TaskTemplate, dict[str, object]]]:
    return [
        (
            DuckDbTask(
                "duckdb rows",
                "select i, i * $factor as scaled, $label as label from range($rows) t(i)",
                {"rows": int, "factor": float, "label": str},
                {"results": Rows},
                # An executor of Flyte 2 does not send a task whose custom is empty.
                {"threads": 1},
                retries=2,
                timeout=timedelta(minutes=10),
            ),
            {"rows": 10, "factor": 0.5, "label": "a"},
        ),
        (
            DuckDbTask(
                "duckdb scalars",
                "select count(*) as n, avg(i) as mean, 'x' as label from range($rows) t(i)",
                {"rows": int},
                {"n": int, "mean": float, "label": str},
                {"threads": 1, "memory_limit": "200MB"},
            ),
            {"rows": 10},
        ),
        (
            DuckDbTask(
                "duckdb table",
                "select count(*) as n from source",
                {"source": Rows},
                {"n": int},
                {"threads": 1},
            ),
            {"source": DataFrame.from_existing_remote(TABLE, format="parquet")},
        ),
        (
            DuckDbTask(
                "duckdb every input",
                "select $n as n, $x as x, $s as s, $b as b, $t as t",
                EVERY_TYPE,
                {"results": DataFrame},
                {"threads": 1},
            ),
            EVERY_VALUE,
        ),
        (DuckDbTask("duckdb no output", "select 1", {}, {}, {"threads": 1}), {}),
        (
            BigQueryTask(
                "bigquery full",
                "select @n as n, @s as s",
                BigQueryConfig("the-project", "EU", full_config()),
                inputs={"n": int, "s": str},
                output_dataframe_type=Rows,
                google_application_credentials="bigquery-key",
                retries=2,
                timeout=timedelta(minutes=10),
            ),
            {"n": 7, "s": "it's"},
        ),
        (
            BigQueryTask(
                "bigquery every input",
                "select @n",
                BigQueryConfig("the-project"),
                inputs=EVERY_TYPE,
                output_dataframe_type=DataFrame,
            ),
            EVERY_VALUE,
        ),
        (BigQueryTask("bigquery no output", "select 1", BigQueryConfig("the-project")), {}),
        (
            Snowflake(
                "snowflake full",
                "select %(n)s as i, %(x)s as scaled, %(s)s as label",
                SnowflakeConfig(
                    account="org-acct",
                    database="db",
                    schema="PUBLIC",
                    warehouse="wh",
                    user="ME",
                    connection_kwargs={
                        "role": "analyst",
                        "session_parameters": {"QUERY_TAG": "nightly", "WEEK_START": 1},
                        "login_timeout": 60,
                    },
                ),
                inputs={"n": int, "x": float, "s": str},
                output_dataframe_type=Rows,
                snowflake_private_key="snowflake-key",
                snowflake_private_key_passphrase="snowflake-passphrase",
                retries=2,
                timeout=timedelta(minutes=10),
            ),
            {"n": 7, "x": 0.5, "s": "it's"},
        ),
        (
            Snowflake(
                "snowflake every input",
                SNOWFLAKE_EVERY,
                SNOWFLAKE,
                inputs=EVERY_TYPE,
                output_dataframe_type=DataFrame,
            ),
            EVERY_VALUE,
        ),
        (
            Snowflake(
                "snowflake batch",
                "insert into t (n, s) values (%(n)s, upper(%(s)s))",
                SNOWFLAKE,
                inputs={"n": list[int], "s": list[str]},
                batch=True,
            ),
            {"n": [1, 2], "s": ["a", "b'"]},
        ),
        (Snowflake("snowflake no output", "select 'like 100%'", SNOWFLAKE), {}),
    ]


CONTEXT = SerializationContext("v1", project="project", domain="development", org="org")


async def serialised(task: TaskTemplate, values: dict[str, object]) -> dict[str, str]:
    inputs = await convert_from_native_to_inputs(task.native_interface, **values)
    spec = translate_task_to_wire(task, CONTEXT)
    return {
        "name": task.name,
        "template": encode(spec.task_template),
        "inputs": encode(inputs.proto_inputs),
    }


def encode(message: typing.Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


async def main() -> None:
    await flyte.init.aio()
    for task, values in tasks():
        print(json.dumps(await serialised(task, values)))


if __name__ == "__main__":
    asyncio.run(main())
