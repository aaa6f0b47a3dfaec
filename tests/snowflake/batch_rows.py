"""Runs in flyte-sdk's environment: reads a Python literal from each line, a pair of a statement and
its lists, and prints as JSON the statement that flyte-sdk's connector makes of it, with its
placeholders filled in as the driver does."""

# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"
from __future__ import annotations

import json
import sys

from flyteplugins.snowflake.connector import _expand_batch_query
from snowflake.connector.converter import SnowflakeConverter

converter = SnowflakeConverter()


def quote(value: object) -> str:
    return str(converter.quote(converter.escape(converter.to_snowflake(value))))


for line in sys.stdin:
    statement, inputs = eval(line)  # the test's own text
    expanded, flat = _expand_batch_query(statement, inputs)
    sent = expanded % {name: quote(value) for name, value in flat.items()}
    print(json.dumps({"sent": sent}))
