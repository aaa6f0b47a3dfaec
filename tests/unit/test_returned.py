"""What agents return is checked, field by field."""

from __future__ import annotations

from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

import pytest
from tests.unit.kernel_setup import Numbered

from flyteagents import Job, Phase, Status
from flyteagents._kernel.returned import check_returned

NAIVE, AWARE = datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone.utc)  # noqa: DTZ001 # it is what is wrong


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("phase", "RUNNING"),
        ("message", b"text"),
        ("code", 404),
        ("outputs", [1]),
        ("info", None),
        ("statistics", [("rows", 1)]),
        ("started", 1700000000.0),
        ("ended", NAIVE),
        ("cancelling", 1),
    ],
)
def test_a_status_with_a_wrong_value_says_which(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"phase": Phase.RUNNING, field: value}
    with pytest.raises(TypeError, match=f"get returned a Status whose {field} "):
        check_returned("get", Status(**fields), Numbered)


def test_any_mapping_will_do() -> None:
    mapping = MappingProxyType({"rows": 1})
    status = Status(
        None, outputs=mapping, info=mapping, statistics=mapping, started=AWARE, ended=AWARE
    )
    check_returned("get", status, Numbered)


@pytest.mark.parametrize(
    ("operation", "value", "words"),
    [
        ("create", None, "create returned NoneType, not Numbered"),
        ("create", Job(), "create returned Job, not Numbered"),
        ("find", True, "find returned bool, not Numbered or None"),
        ("get", Phase.RUNNING, "get returned Phase, not Status"),
        ("run", [1], "run returned list, not Mapping or None"),
        ("logs", "line", "logs returned str, not LogPage"),
        ("adopts", None, "adopts returned NoneType, not bool"),
    ],
)
def test_a_value_of_another_kind_is_refused(operation: str, value: object, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        check_returned(operation, value, Numbered)
