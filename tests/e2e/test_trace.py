"""One trace for one task: over calls, replicas, attempts and restarts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from flyteidl.admin import agent_pb2
from flyteidl.service import agent_pb2_grpc

from flyteagents.testing import JobService, RealServer
from flyteagents.testing.otlp import OtlpReceiver, ReceivedSpan

AGENTS = Path(__file__).parents[1] / "agents"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


def server(vendor: JobService, receiver: OtlpReceiver) -> RealServer:
    env = {
        "FLYTEAGENTS_JOBS_URL": vendor.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    return RealServer(["jobs"], env, [AGENTS])


def create(prefix: str, script: str, attempt: int = 0) -> agent_pb2.CreateTaskRequest:
    request = agent_pb2.CreateTaskRequest(output_prefix=f"{prefix}/{attempt}")
    request.template.type = "job_tagged"
    request.template.custom.update({"script": script})
    request.task_execution_metadata.task_execution_id.task_id.name = "jobs.nightly"
    request.template.sql.statement = "SELECT {{ .inputs.x }}"
    who = request.task_execution_metadata.task_execution_id
    who.retry_attempt = attempt
    who.node_execution_id.node_id = "n0"
    who.node_execution_id.execution_id.name = "f1234"
    return request


async def get(stub: agent_pb2_grpc.AsyncAgentServiceStub, meta: bytes) -> int:
    reply = await stub.GetTask(agent_pb2.GetTaskRequest(resource_meta=meta), timeout=30)
    return int(reply.resource.phase)


def created(receiver: OtlpReceiver) -> int:
    return sum("CreateTask" in span.name for span in receiver.spans)


async def test_all_calls_about_a_task_join_one_trace_on_every_replica_and_after_a_kill(
    receiver: OtlpReceiver,
) -> None:
    async with (
        JobService() as vendor,
        server(vendor, receiver) as first,
        server(vendor, receiver) as second,
    ):
        async with (
            grpc.aio.insecure_channel(first.endpoint) as one,
            grpc.aio.insecure_channel(second.endpoint) as two,
        ):
            a = agent_pb2_grpc.AsyncAgentServiceStub(one)
            b = agent_pb2_grpc.AsyncAgentServiceStub(two)
            prefix = "s3://bucket/trace/n0/data"
            metadata = (("traceparent", CALLER),)
            failing = create(prefix, "fail no such table")
            meta = (await a.CreateTask(failing, timeout=30, metadata=metadata)).resource_meta
            assert await get(a, meta) == 5
            await a.DeleteTask(agent_pb2.DeleteTaskRequest(resource_meta=meta), timeout=30)
            running = create(prefix, "sleep 3", attempt=1)
            meta = (await a.CreateTask(running, timeout=30)).resource_meta
            assert await get(a, meta) == 2
            assert receiver.wait(lambda: created(receiver) == 2, 30)  # then it may die
            first.kill()
            deadline = time.monotonic() + 30
            while await get(b, meta) != 3:
                assert time.monotonic() < deadline
        assert receiver.wait(lambda: len(roots(receiver.spans)) >= 2, 30), [
            s.name for s in receiver.spans
        ]
    spans = [s for s in receiver.spans if "flyte.task_type" in s.attributes]
    assert len({span.trace_id for span in spans}) == 1
    assert len({span.resource["service.instance.id"] for span in spans}) == 2
    failed, succeeded = sorted(roots(spans), key=lambda span: span.start)
    assert (failed.status, failed.attributes["flyte.phase"]) == ("ERROR", "FAILED")
    assert succeeded.attributes["flyte.phase"] == "SUCCEEDED"
    servers = [span for span in spans if span.kind == "SERVER"]
    assert {span.parent_id for span in servers} == {failed.span_id, succeeded.span_id}
    assert {s.attributes["flyte.execution"] for s in servers} == {"f1234"}
    creates = [span for span in servers if "CreateTask" in span.name]
    assert {s.attributes["flyte.task"] for s in creates} == {"jobs.nightly"}
    assert {s.attributes["flyte.statement"] for s in creates} == {"SELECT {{ .inputs.x }}"}
    named = {span.attributes["flyte.job"] for span in creates}
    assert named == {failed.attributes["flyte.job"], succeeded.attributes["flyte.job"]}
    assert {link for span in servers for link in span.links} == {tuple(CALLER.split("-")[1:3])}
    assert any(request.query for request in vendor.requests)
    clients = [span for span in receiver.spans if span.kind == "CLIENT"]
    assert clients
    assert {span.trace_id for span in clients} == {failed.trace_id}
    assert not any("?" in str(span.attributes.get("url.full")) for span in clients)


async def test_another_task_has_another_trace(receiver: OtlpReceiver) -> None:
    async with JobService() as vendor, server(vendor, receiver) as one:
        async with grpc.aio.insecure_channel(one.endpoint) as channel:
            stub = agent_pb2_grpc.AsyncAgentServiceStub(channel)
            for node in ("n0", "n1"):
                await stub.CreateTask(create(f"s3://bucket/two/{node}/data", "forever"), timeout=30)
        assert receiver.wait(lambda: sum("CreateTask" in s.name for s in receiver.spans) >= 2, 30)
    creates = [span for span in receiver.spans if "CreateTask" in span.name]
    assert len({span.trace_id for span in creates}) == 2


def roots(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    return [span for span in spans if span.name.startswith("job ")]
