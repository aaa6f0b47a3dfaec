"""Runs in the environment of Snowflake's own driver: reads a Python literal from each line, a pair
of a statement and its inputs, and prints as JSON what the driver would send."""

# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"
from __future__ import annotations

import datetime as dt
import json
import sys

from snowflake.connector import SnowflakeConnection
from snowflake.connector.converter import SnowflakeConverter


class Unconnected(SnowflakeConnection):  # type: ignore[misc] # it has no types here
    """The driver's own processing of parameters needs a converter, and nothing else."""

    def __init__(self) -> None:
        self.converter = SnowflakeConverter()
        self.messages: list[object] = []

    def __del__(self, *_: object) -> None:
        pass


for line in sys.stdin:
    names = {"datetime": dt, "nan": float("nan"), "inf": float("inf")}
    statement, inputs = eval(line, names)  # the test's own text
    sent = statement % Unconnected()._process_params_dict(inputs) if inputs else statement
    print(json.dumps({"sent": sent}))
