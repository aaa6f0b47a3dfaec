"""Tasks written with the real flytekit and flyte-sdk, run as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.sdk.environments import Sdk
from tests.sdk.fixtures import COLUMNS
from tests.sdk.templates import Authored
from tests.snowflake.driving import Driver
from tests.snowflake.fake_snowflake import FakeSnowflake
from tests.snowflake.logins import Logins, private_key

from flyteagents import Phase, StructuredDataset
from flyteagents.testing import FakePropeller, RealServer


async def submitted(snowflake: FakeSnowflake, task: Authored) -> dict[str, Any]:
    """What Snowflake gets for a task."""
    async with Driver(snowflake.url).opened() as driver:
        await driver.create(driver.read(task.task))
    body: dict[str, Any] = json.loads(snowflake.requests[-1].body)
    return body


async def test_both_sdks_ask_for_the_same(
    snowflake: FakeSnowflake, sdk: Sdk, tasks: dict[str, Authored]
) -> None:
    body = await submitted(snowflake, tasks["snowflake full"])
    tag = json.loads(body["parameters"].pop("query_tag"))
    statement = r"select 7 as i, 0.5 as scaled, 'it\'s' as label"
    expected: dict[str, Any] = {
        "statement": statement,
        "database": "DB",
        "schema": "PUBLIC",
        "warehouse": "WH",
        "timeout": 720,
        "parameters": {},
    }
    if sdk == "flyte-sdk":
        expected |= {
            "statement": f"ALTER SESSION SET WEEK_START = 1;\n{statement}",
            "role": "ANALYST",
            "parameters": {"MULTI_STATEMENT_COUNT": "0"},
        }
    assert body == expected
    assert tag.get("user") == ("nightly" if sdk == "flyte-sdk" else None)


async def test_every_type_of_input_is_quoted_as_the_driver_does(
    snowflake: FakeSnowflake, sdk: Sdk, tasks: dict[str, Authored]
) -> None:
    body = await submitted(snowflake, tasks["snowflake every input"])
    color = "GREEN" if sdk == "flyte-sdk" else "green"
    assert body["statement"] == (
        r"select 7, 0.5, 'it\'s', TRUE, '2024-01-02 12:30:15.123456+00:00', "
        "'2024-02-29 00:00:00+00:00', '01:00:00.000005', 1,2,3, NULL, "
        f"'{color}', "
        """'{"a":1}', '{"a":[1,2.5,null]}', 's3://bucket/file'"""
    )


async def test_a_percent_sign_needs_no_care_without_inputs(
    snowflake: FakeSnowflake, tasks: dict[str, Authored]
) -> None:
    body = await submitted(snowflake, tasks["snowflake no output"])
    assert body["statement"] == "select 'like 100%'"


async def test_a_batch_of_flyte_sdks_is_inserted(
    snowflake: FakeSnowflake, sdk: Sdk, tasks: dict[str, Authored]
) -> None:
    if sdk == "flytekit":
        pytest.skip("flytekit has no batches")
    snowflake.rows("CREATE TABLE public.t (n INT, s VARCHAR)")
    async with Driver(snowflake.url).opened() as driver:
        status = await driver.run(driver.read(tasks["snowflake batch"].task))
    assert status.phase is Phase.SUCCEEDED, status
    assert snowflake.rows("SELECT * FROM public.t ORDER BY n") == [["1", "A"], ["2", "B'"]]


@pytest.mark.parametrize("name", ["snowflake full", "snowflake no output"])
async def test_a_task_runs_to_the_output_that_its_sdk_reads(
    snowflake: FakeSnowflake, sdk: Sdk, tasks: dict[str, Authored], name: str
) -> None:
    sends = sdk == "flyte-sdk" and name == "snowflake full"
    snowflake.logins = Logins({"ORG-ACCT.ME": [1 if sends else 0]})
    env = {
        "FLYTEAGENTS_SNOWFLAKE_URL": snowflake.url,
        "_FSEC_SNOWFLAKE_PRIVATE_KEY": private_key(0),
    }
    # What flyte-sdk's tasks name; Flyte 1 has no secrets to send.
    secrets = {"SNOWFLAKE_KEY": private_key(1, "word"), "SNOWFLAKE_PASSPHRASE": "word"}
    async with (
        RealServer(["snowflake"], env) as server,
        FakePropeller(
            server.endpoint, generation=2 if sdk == "flyte-sdk" else 1, secrets=secrets
        ) as propeller,
    ):
        outcome = await propeller.run(tasks[name].task)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert outcome.failures == []
    if name == "snowflake full":
        [statement] = snowflake.submitted
        children = [child.handle for child in statement.children]
        handle = children[1] if sdk == "flyte-sdk" else statement.handle
        user = "ME:org-acct" if sdk == "flytekit" else "ME/org-acct"
        uri = f"snowflake://{user}/wh/db/PUBLIC/{handle}"
        assert outcome.outputs == {"results": StructuredDataset(uri, COLUMNS, "parquet")}
        names = {"flytekit": "Snowflake Query Details", "flyte-sdk": "Snowflake Dashboard"}
        assert [link.name for link in outcome.links] == [names[sdk]]
