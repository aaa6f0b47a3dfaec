"""Templates and inputs that the real SDKs wrote, read by our types and literals."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from tests.sdk.environments import Sdk
from tests.sdk.fixtures import COLUMNS
from tests.sdk.templates import Authored

from flyteagents import Blob, Kind, StructuredDataset, Type
from flyteagents._wire.literals import decode_literals
from flyteagents._wire.types import decode_variables, dump_types, load_types

EVERY_INPUT = {
    "n": 7,
    "x": 0.5,
    "s": "it's",
    "b": True,
    "t": datetime(2024, 1, 2, 12, 30, 15, 123456, tzinfo=timezone.utc),
    "day": datetime(2024, 2, 29, tzinfo=timezone.utc),
    "span": timedelta(hours=1, microseconds=5),
    "several": [1, 2, 3],
    "empty": [],
    "maybe": None,
    "color": "green",
    "by_name": {"a": 1},
    "anything": {"a": [1, 2.5, None]},
    "file": Blob("s3://bucket/file"),
}
# Of the config's keys, `dryRun`, `jobTimeoutMs` and `labels` are dropped by both SDKs.
BIGQUERY_KEYS = set(
    re.findall(
        r"\w+",
        """ProjectID Location Domain allowLargeResults clustering connectionProperties
        createDisposition createSession defaultDataset destinationTable
        destinationEncryptionConfiguration flattenResults maximumBillingTier maximumBytesBilled
        parameterMode priority queryParameters schemaUpdateOptions scriptOptions tableDefinitions
        timePartitioning useLegacySql useQueryCache userDefinedFunctionResources
        writeDisposition""",
    )
)


@pytest.mark.parametrize(
    "name", ["duckdb every input", "bigquery every input", "snowflake every input"]
)
def test_inputs_of_every_type_are_read(sdk: Sdk, tasks: dict[str, Authored], name: str) -> None:
    task = tasks[name]
    interface = decode_variables(task.template.interface.inputs)
    values = decode_literals(task.inputs, interface)
    # flyte-sdk writes the name of an enum's member, flytekit its value.
    assert values == EVERY_INPUT | ({"color": "GREEN"} if sdk == "flyte-sdk" else {})
    assert interface.keys() == values.keys()
    assert interface["several"] == Type(Kind.COLLECTION, (Type(Kind.INTEGER),))
    assert [variant.kind for variant in interface["maybe"].of] == [Kind.INTEGER, Kind.NONE]


@pytest.mark.parametrize("name", ["duckdb rows", "bigquery full", "snowflake full"])
def test_the_declared_dataset_has_its_columns_and_format(
    tasks: dict[str, Authored], name: str
) -> None:
    declared = decode_variables(tasks[name].template.interface.outputs)
    table = Type(Kind.STRUCTURED_DATASET, columns=COLUMNS, format="parquet")
    assert declared == {"results": table}
    assert load_types(dump_types(declared)) == declared


def test_a_dataset_is_read_as_an_input(tasks: dict[str, Authored]) -> None:
    values = decode_literals(tasks["duckdb table"].inputs, {})
    source = values["source"]
    assert isinstance(source, StructuredDataset)
    assert (source.uri, source.format) == ("s3://bucket/table.parquet", "parquet")


def test_the_statement_is_where_agents_look_for_it(tasks: dict[str, Authored]) -> None:
    assert all(
        task.template.sql.statement.startswith(("select", "insert")) for task in tasks.values()
    )
    types = {name.split()[0]: task.template.type for name, task in tasks.items()}
    assert types == {
        "duckdb": "duckdb_query",
        "bigquery": "bigquery_query_job_task",
        "snowflake": "snowflake",
    }


def test_a_snowflake_tasks_config_is_where_its_sdk_puts_it(
    sdk: Sdk, tasks: dict[str, Authored]
) -> None:
    template = tasks["snowflake full"].template
    keys = {"account", "user", "database", "schema", "warehouse"}
    if sdk == "flytekit":
        assert set(template.config) == keys
        assert not template.custom.fields
    else:
        assert set(template.custom.fields) == keys | {"connection_kwargs", "secrets"}
        assert not template.config
    assert template.metadata.runtime.version.startswith("1." if sdk == "flytekit" else "2.")


def test_the_whole_config_of_a_bigquery_task_is_in_custom(
    sdk: Sdk, tasks: dict[str, Authored]
) -> None:
    custom = set(tasks["bigquery full"].template.custom.fields)
    assert custom - {"secrets"} == BIGQUERY_KEYS
    assert ("secrets" in custom) is (sdk == "flyte-sdk")
