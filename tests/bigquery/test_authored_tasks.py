"""Tasks written with the real flytekit and flyte-sdk, run as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.bigquery.driving import TASK_TYPE, Driver
from tests.bigquery.fake_bigquery import FakeBigQuery
from tests.bigquery.google_tokens import EMAIL, GoogleTokens
from tests.sdk.environments import Sdk
from tests.sdk.fixtures import COLUMNS
from tests.sdk.templates import Authored

from flyteagents import Phase, StructuredDataset
from flyteagents.testing import FakePropeller, RealServer


async def inserted(bigquery: FakeBigQuery, driver: Driver, task: Authored) -> dict[str, Any]:
    """The configuration that BigQuery gets for a task."""
    await driver.create(driver.read(task.task))
    configuration: dict[str, Any] = bigquery.body["configuration"]
    return configuration


async def test_the_whole_query_config_is_honoured(
    bigquery: FakeBigQuery, driver: Driver, tasks: dict[str, Authored]
) -> None:
    configuration = await inserted(bigquery, driver, tasks["bigquery full"])
    table = {"projectId": "the-project", "datasetId": "the_dataset"}
    parameters = configuration["query"].pop("queryParameters")
    external = configuration["query"].pop("tableDefinitions")
    assert configuration["query"] == {
        "query": "select @n as n, @s as s",
        "useLegacySql": False,
        "allowLargeResults": True,
        "clustering": {"fields": ["country", "city"]},
        "connectionProperties": [{"key": "time_zone", "value": "Europe/Zurich"}],
        "createDisposition": "CREATE_IF_NEEDED",
        "createSession": False,
        "defaultDataset": table,
        "destinationTable": {**table, "tableId": "results"},
        "destinationEncryptionConfiguration": {"kmsKeyName": "kms/key"},
        "flattenResults": True,
        "maximumBillingTier": 2,
        "maximumBytesBilled": "1000000000",
        "parameterMode": "NAMED",
        "priority": "BATCH",
        "schemaUpdateOptions": ["ALLOW_FIELD_ADDITION"],
        "scriptOptions": {
            "statementTimeoutMs": "60000",
            "statementByteBudget": "1000000000",
            "keyResultStatement": "LAST",
        },
        "timePartitioning": {
            "type": "DAY",
            "field": "day",
            "expirationMs": "86400000",
            "requirePartitionFilter": True,
        },
        "userDefinedFunctionResources": [{"resourceUri": "gs://bucket/udf.js"}],
        "useQueryCache": False,
        "writeDisposition": "WRITE_TRUNCATE",
    }
    assert "1.0" not in json.dumps(configuration)  # whole numbers are whole again
    assert external["sheet"]["sourceUris"] == ["gs://bucket/file.csv"]
    assert {one["name"]: one["parameterValue"].get("value") for one in parameters} == {
        "fixed": "42",
        "several": None,
        "n": "7",
        "s": "it's",
    }
    assert configuration["jobTimeoutMs"] == "720000"
    reference = bigquery.body["jobReference"]
    assert (reference["projectId"], reference["location"]) == ("the-project", "EU")


async def test_every_type_of_input_is_a_parameter(
    bigquery: FakeBigQuery, driver: Driver, sdk: Sdk, tasks: dict[str, Authored]
) -> None:
    configuration = await inserted(bigquery, driver, tasks["bigquery every input"])
    found = {
        one["name"]: (one["parameterType"]["type"], one["parameterValue"])
        for one in configuration["query"]["queryParameters"]
    }
    assert found == {
        "n": ("INT64", {"value": "7"}),
        "x": ("FLOAT64", {"value": "0.5"}),
        "s": ("STRING", {"value": "it's"}),
        "b": ("BOOL", {"value": "true"}),
        "t": ("DATETIME", {"value": "2024-01-02T12:30:15.123456"}),
        "day": ("DATETIME", {"value": "2024-02-29T00:00:00.000000"}),
        "span": ("INTERVAL", {"value": "0-0 0 1:0:0.000005"}),
        "several": ("ARRAY", {"arrayValues": [{"value": "1"}, {"value": "2"}, {"value": "3"}]}),
        "empty": ("ARRAY", {"arrayValues": []}),
        "maybe": ("INT64", {"value": None}),
        "color": ("STRING", {"value": "GREEN" if sdk == "flyte-sdk" else "green"}),
        "by_name": ("JSON", {"value": '{"a":1}'}),
        "anything": ("JSON", {"value": '{"a":[1,2.5,null]}'}),
        "file": ("STRING", {"value": "s3://bucket/file"}),
    }


@pytest.mark.parametrize("name", ["bigquery full", "bigquery no output"])
async def test_a_task_runs_to_the_output_that_its_sdk_reads(
    bigquery: FakeBigQuery, sdk: Sdk, tasks: dict[str, Authored], name: str
) -> None:
    async with GoogleTokens() as google:
        env = {
            "FLYTEAGENTS_BIGQUERY_URL": bigquery.url,
            "FLYTEAGENTS_BIGQUERY_KEY_HOSTS": "127.0.0.1",
            # What flyte-sdk's tasks name; Flyte 1 has no secrets to send.
            "FLYTEAGENTS_SECRET_GOOGLE_APPLICATION_CREDENTIALS": google.service_account(),
        }
        sent = google.service_account(client_email="sent@p")
        async with (
            RealServer(["bigquery"], env) as server,
            FakePropeller(
                server.endpoint,
                generation=2 if sdk == "flyte-sdk" else 1,
                secrets={"bigquery-key": sent},
            ) as propeller,
        ):
            outcome = await propeller.run(tasks[name].task)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert outcome.failures == []
    assert bigquery.job.configuration["query"]["query"].startswith("select")
    sends = sdk == "flyte-sdk" and name == "bigquery full"
    assert set(google.who) == {"sent@p" if sends else EMAIL}
    if name == "bigquery full":
        assert outcome.outputs == {
            "results": StructuredDataset("bq://the-project:the_dataset.results", COLUMNS, "parquet")
        }
    assert tasks[name].task.type == TASK_TYPE
