"""The whole error table, walked over the wire: what each error becomes in each kind of call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.service import agent_pb2_grpc

from flyteagents._kernel.envelope import dump, load
from flyteagents.testing import RealServer

AGENTS = Path(__file__).with_name("agents")
RETRYABLE, FAILED, RUNNING, INITIALIZING = 8, 5, 2, 6
FINAL = ("InvalidTask", "Unsupported", "JobConflict")
PASSING = ("Throttled", "Unavailable")
OTHER = "SomethingElse"  # the agent raises a KeyError for a name it does not know


@pytest.fixture(scope="module")
def stub() -> Iterator[agent_pb2_grpc.AsyncAgentServiceStub]:
    with (
        RealServer(plugins=["raising"], python_path=[AGENTS]) as server,
        grpc.insecure_channel(server.endpoint) as channel,
    ):
        yield agent_pb2_grpc.AsyncAgentServiceStub(channel)


def create(
    stub: agent_pb2_grpc.AsyncAgentServiceStub,
    operation: str,
    error: str,
    task_type: str = "raising",
) -> bytes:
    request = agent_pb2.CreateTaskRequest(output_prefix=f"s3://b/{operation}-{error}/data/0")
    request.template.type = task_type
    request.template.custom.update({"operation": operation, "error": error})
    meta: bytes = stub.CreateTask(request, timeout=10).resource_meta
    return meta


def get(stub: agent_pb2_grpc.AsyncAgentServiceStub, meta: bytes) -> agent_pb2.Resource:
    return stub.GetTask(agent_pb2.GetTaskRequest(resource_meta=meta), timeout=10).resource


def code_of(failed: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    code: grpc.StatusCode = failed.value.code()
    return code


@pytest.mark.parametrize("error", [*FINAL, "Forbidden"])
def test_a_create_that_can_never_work_is_parked_as_failed(
    stub: agent_pb2_grpc.AsyncAgentServiceStub, error: str
) -> None:
    resource = get(stub, create(stub, "create", error))
    assert resource.phase == FAILED
    assert "raised in create" in resource.message


@pytest.mark.parametrize("error", ["Unauthenticated", *PASSING])
def test_a_create_that_may_work_next_time_is_parked_as_retryable(
    stub: agent_pb2_grpc.AsyncAgentServiceStub, error: str
) -> None:
    resource = get(stub, create(stub, "create", error))
    assert resource.phase == RETRYABLE
    assert "raised in create" in resource.message


@pytest.mark.parametrize("error", ["JobNotFound", OTHER])
def test_a_bug_in_create_is_internal(
    stub: agent_pb2_grpc.AsyncAgentServiceStub, error: str
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        create(stub, "create", error)
    assert code_of(failed) is grpc.StatusCode.INTERNAL
    assert "error id" in str(failed.value.details())
    assert "Traceback" not in str(failed.value.details())


@pytest.mark.parametrize("error", FINAL)
def test_a_get_that_can_never_work_fails_the_task(
    stub: agent_pb2_grpc.AsyncAgentServiceStub, error: str
) -> None:
    assert get(stub, create(stub, "get", error)).phase == FAILED


@pytest.mark.parametrize("error", ["Forbidden", "Unauthenticated", *PASSING, OTHER])
def test_a_hiccup_in_get_keeps_the_phase(
    stub: agent_pb2_grpc.AsyncAgentServiceStub, error: str
) -> None:
    meta = create(stub, "get", error)
    assert [get(stub, meta).phase for _ in range(12)] == [INITIALIZING] * 12


def test_a_young_job_that_is_not_found_is_waited_for(
    stub: agent_pb2_grpc.AsyncAgentServiceStub,
) -> None:
    assert get(stub, create(stub, "get", "JobNotFound")).phase == INITIALIZING


@pytest.mark.parametrize(
    ("unconfirmed", "phase", "says"),
    [(False, FAILED, "repeat its work"), (True, RETRYABLE, "never arrived")],
)
def test_an_old_job_that_is_not_found_has_failed(
    stub: agent_pb2_grpc.AsyncAgentServiceStub, unconfirmed: bool, phase: int, says: str
) -> None:
    envelope = load(create(stub, "get", "JobNotFound"))
    assert envelope is not None
    old = dump(replace(envelope, created=time.time() - 200, unconfirmed=unconfirmed))
    resource = get(stub, old)
    assert resource.phase == phase
    assert says in resource.message


@pytest.mark.parametrize("error", [*FINAL, "Forbidden", "Unauthenticated", "JobNotFound"])
def test_a_cancel_that_cannot_help_is_ok(
    stub: agent_pb2_grpc.AsyncAgentServiceStub, error: str
) -> None:
    meta = create(stub, "cancel", error)
    stub.DeleteTask(agent_pb2.DeleteTaskRequest(resource_meta=meta), timeout=10)


def test_a_cancel_that_the_vendor_does_not_accept_is_unavailable(
    stub: agent_pb2_grpc.AsyncAgentServiceStub,
) -> None:
    requests = [
        agent_pb2.DeleteTaskRequest(resource_meta=create(stub, "cancel", error))
        for error in PASSING
    ]
    # Together: each takes the time that its caller gives, and a busy machine needs some of it.
    calls = [stub.DeleteTask.future(request, timeout=10) for request in requests]
    assert [call.code() for call in calls] == [grpc.StatusCode.UNAVAILABLE] * len(PASSING)


def test_a_bug_in_cancel_is_internal(stub: agent_pb2_grpc.AsyncAgentServiceStub) -> None:
    meta = create(stub, "cancel", OTHER)
    with pytest.raises(grpc.RpcError) as failed:
        stub.DeleteTask(agent_pb2.DeleteTaskRequest(resource_meta=meta), timeout=10)
    assert code_of(failed) is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("error", [*FINAL, "Forbidden", "Unauthenticated", "JobNotFound", OTHER])
def test_a_run_that_cannot_work_fails(
    stub: agent_pb2_grpc.AsyncAgentServiceStub, error: str
) -> None:
    assert get(stub, create(stub, "run", error, "raising_sync")).phase == FAILED


@pytest.mark.parametrize("error", PASSING)
def test_a_run_that_the_vendor_failed_is_retryable(
    stub: agent_pb2_grpc.AsyncAgentServiceStub, error: str
) -> None:
    assert get(stub, create(stub, "run", error, "raising_sync")).phase == RETRYABLE
