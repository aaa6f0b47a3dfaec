"""What is remembered of `resource_meta`, and who it is used for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import Field, SecretStr
from tests.unit.kernel_setup import WHO, Numbered, Setup

from flyteagents._kernel import opening
from flyteagents._kernel.answers import Refused
from flyteagents._kernel.envelope import Envelope, dump, new_envelope
from flyteagents._kernel.opening import know, open_job
from flyteagents._kernel.requests import Connection, JobRequest
from flyteagents._kernel.seen import Seen
from flyteagents._kernel.settings import KernelSettings
from flyteagents._kernel.soft_state import REQUESTS, SoftState

PREFIX = "s3://bucket/e/n/data/0"


def meta(**changes: object) -> bytes:
    envelope = new_envelope(WHO, "0" * 32, "scripted", trace="a" * 32, wrote=0)
    job = Numbered(id="job-1").model_dump(mode="json")
    return dump(replace(envelope, **{"job": job, **changes}))  # type: ignore[arg-type] # its fields


def ask(raw: bytes, **more: object) -> JobRequest:
    return JobRequest("scripted", raw, **{"output_prefix": PREFIX, **more})  # type: ignore[arg-type] # its fields


def test_a_job_is_read_and_checked_once(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ask(meta())
    first = know(setup.kernel, request)
    monkeypatch.setattr(opening, "load", None)
    assert know(setup.kernel, request) is first
    assert first.attempt.root is not None
    assert first.attempt.root.trace_id == int("a" * 32, 16)


def test_a_poll_that_comes_again_is_of_the_same_job_while_its_memory_is_there(
    setup: Setup,
) -> None:
    request = ask(meta())
    known = know(setup.kernel, request)
    seen, another = Seen(), Seen()
    opened = open_job(known, request, seen)
    assert opened is not None
    assert open_job(known, request, seen) is opened
    again = open_job(known, request, another)
    assert again is not None
    assert again.seen is another


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(ask(meta(job={"id": 3})), id="a job that is not valid"),
        pytest.param(ask(meta(task_type="")), id="a type that the request names"),
        pytest.param(ask(b'{"id": "flytekits"}'), id="another connector's, which may hold secrets"),
        pytest.param(ask(meta(), connection=Connection({"token": "of-tenant-a"})), id="secrets"),
    ],
)
def test_what_may_not_be_remembered_is_read_each_time(setup: Setup, request_: JobRequest) -> None:
    first = know(setup.kernel, request_)
    assert request_.known is None
    assert know(setup.kernel, request_) is not first


class WithToken(Numbered):
    token: SecretStr | None = Field(None, exclude=True)


def test_credentials_that_another_connector_wrote_are_in_the_job_and_not_in_the_envelope(
    setup: Setup,
) -> None:
    served = setup.kernel.agents["scripted"]
    models = replace(served.offered.models, job=WithToken)
    served.offered = replace(served.offered, models=models)

    known = know(setup.kernel, ask(b'{"id": "theirs", "token": "canary"}'))
    assert isinstance(known.job, WithToken)
    assert known.job.token == SecretStr("canary")
    assert known.envelope.job == {"id": "theirs"}


def test_the_end_of_another_connectors_job_joins_the_trace_of_its_task(setup: Setup) -> None:
    known = know(setup.kernel, ask(b'{"id": "theirs"}'))
    assert known.attempt.root is not None
    assert int(known.envelope.trace, 16) == known.attempt.root.trace_id > 1


async def test_a_tenant_that_is_not_served_stays_out_however_often_it_asks(setup: Setup) -> None:
    setup.kernel.settings = KernelSettings(allow=("other/*",))
    raw = meta()
    for _ in range(2):
        assert not know(setup.kernel, ask(raw)).admitted


def test_damaged_bytes_are_refused_each_time(setup: Setup) -> None:
    raw = meta()
    know(setup.kernel, ask(raw))
    for _ in range(2):
        with pytest.raises(Refused, match="damaged"):
            know(setup.kernel, ask(raw.replace(b"job-1", b"job-2")))


def test_no_more_jobs_are_remembered_than_there_is_room_for(setup: Setup) -> None:
    soft = SoftState()
    for number in range(REQUESTS + 10):
        soft.requests.put(b"%d" % number, ask(meta()))
    assert len(soft.requests.values()) == REQUESTS


def test_who_asked_is_made_once_of_an_envelope() -> None:
    envelope: Envelope = new_envelope(WHO, "0" * 32, "scripted")
    assert envelope.identity is envelope.identity
    assert replace(envelope, project="q").identity.project == "q"
