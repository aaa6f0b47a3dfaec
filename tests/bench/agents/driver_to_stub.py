"""Leads Snowflake's driver to a stub: flytekit's connector has no setting for it, and gives the
driver an account only."""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

import os
from functools import partial

import snowflake.connector

snowflake.connector.connect = partial(
    snowflake.connector.connect,
    host="127.0.0.1",
    port=int(os.environ["BENCH_DRIVER_PORT"]),
    protocol="http",
)
