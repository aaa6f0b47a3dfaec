"""What agents return is checked, field by field."""

from __future__ import annotations

from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import Field, SecretStr, computed_field
from tests.unit.kernel_setup import Numbered

from flyteagents import Job, Name, Phase, Status
from flyteagents._kernel.returned import check_returned, job_values

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


class Renamed(Job):
    id: Name = Field(alias="jobId")


class Computing(Job):
    id: Name

    @computed_field  # type: ignore[prop-decorator] # as pydantic's pages write it
    @property
    def page(self) -> str:
        return f"https://acme.example/{self.id}"


class Narrower(Numbered):
    region: str


class Lossy(Job):
    id: Name
    region: str = Field("", exclude=True)


class Secretive(Job):
    id: Name
    token: SecretStr


class Raw(Job):
    id: bytes


@pytest.mark.parametrize("job", [Renamed.model_validate({"jobId": "j-1"}), Computing(id="j-1")])
def test_a_job_rides_under_the_names_of_its_fields_without_what_is_computed(job: Job) -> None:
    check_returned("create", job, type(job))
    assert job_values(job) == {"id": "j-1"}


@pytest.mark.parametrize("operation", ["create", "find", "handle"])
@pytest.mark.parametrize(
    ("job", "model", "words"),
    [
        (Narrower(id="j-1", region="eu-1"), Numbered, "region: Extra inputs are not permitted"),
        (Lossy(id="j-1", region="eu-1"), Lossy, "it is another one"),
        (Secretive(id="j-1", token=SecretStr("s3cret-t0ken")), Secretive, "it is another one"),
        (Raw(id=b"\xff\x00"), Raw, "invalid"),
    ],
)
def test_a_job_that_could_not_be_read_back_is_refused(
    operation: str, job: Job, model: type[Job], words: str
) -> None:
    with pytest.raises(TypeError, match=f"{operation} returned a .* cannot be read back") as told:
        check_returned(operation, job, model)
    assert words in str(told.value)
    assert "eu-1" not in str(told.value)
