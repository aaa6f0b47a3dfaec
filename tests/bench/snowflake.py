"""Our Snowflake agent, which speaks the SQL API, beside flytekit's own, which uses the driver."""

from __future__ import annotations

from typing import Any

from tests.bench import beside
from tests.bench.beside import Pair
from tests.bench.processes import Vendor
from tests.bench.stub_keys import private_key


def measure() -> dict[str, Any]:
    """A login takes as long as a poll; Snowflake's take longer."""
    return beside.measure(PAIR)


def _ours(stub: Vendor) -> dict[str, str]:
    return {
        "FLYTEAGENTS_SNOWFLAKE_URL": stub.url,
        "FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY": private_key(),
    }


def _theirs(stub: Vendor) -> dict[str, str]:
    return {"BENCH_DRIVER_PORT": str(stub.port), "_FSEC_SNOWFLAKE_PRIVATE_KEY": private_key()}


PAIR = Pair(
    vendor="Snowflake",
    plugin="snowflake",
    task_type="snowflake",
    task={
        "config": {
            "user": "BENCH",
            "account": "myorg-bench",
            "database": "DB",
            "schema": "PUBLIC",
            "warehouse": "WH",
        },
        "sql": "SELECT 1",
    },
    ours=_ours,
    theirs=_theirs,
    modules="driver_to_stub",
)
