"""Bytes that no caller would send, and `resource_meta` that was damaged on its way."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
from flyteidl.admin import agent_pb2 as flyte1
from grpc_health.v1 import health_pb2
from tests.chaos.attempts import attempt
from tests.chaos.conftest import MakeServer

from flyteagents._kernel import envelope
from flyteagents.testing import JobService

BODIES = 200 * int(os.environ.get("CHAOS_ROUNDS", "50"))
MOST_GROWTH = 24 << 20
"""Bytes. What a replica remembers of 10,000 calls is less."""
ONE, TWO = "flyteidl.service", "flyteidl2.connector"
ASYNC = ("CreateTask", "GetTask", "DeleteTask", "GetTaskLogs")
METHODS = [
    *(f"/{ONE}.AsyncAgentService/{name}" for name in ASYNC),
    *(f"/{TWO}.AsyncConnectorService/{name}" for name in ASYNC),
    f"/{ONE}.SyncAgentService/ExecuteTaskSync",
    f"/{ONE}.AgentMetadataService/GetAgent",
    f"/{ONE}.AgentMetadataService/ListAgents",
    f"/{TWO}.ConnectorMetadataService/GetConnector",
    f"/{TWO}.ConnectorMetadataService/ListConnectors",
]
BLAMES_US = {"UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED", "CANCELLED", "DATA_LOSS"}
ODD: list[Any] = [
    *("", "x" * 5000, "\u0000", "../../x", "zz", "{}", "9" * 400, "\ud800"),
    *(-1, 0, 10**30, 1e308, -(2**63), True, None, 99),
    *([], {}, [[]], {"ph": 6}, {"ph": 3, "o": "not base64!"}, {"ph": 5, "m": 7}, {"id": ["x"]}),
]


async def test_ten_thousand_bad_bodies_are_never_our_fault_and_cost_no_memory(
    make_server: MakeServer,
) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(10**6)))
    print(f"CHAOS_SEED={seed}")
    bodies = Bodies(random.Random(seed))
    server = await make_server()
    codes: Counter[str] = Counter()
    sizes: list[int] = []
    faults: list[tuple[str, str, str, bytes]] = []
    async with server.channel() as channel, server.caller() as caller:
        for kind in ("chaos_idle", "chaos_sync"):
            bodies.metas.append((await caller.create(attempt(kind, "well-formed"))).meta)
        assert all(bodies.metas)
        queue = iter(range(BODIES))

        async def worker() -> None:
            for number in queue:
                method = METHODS[number % len(METHODS)]
                body = bodies.next(method)
                code, text = await called(channel, method, body)
                codes[code] += 1
                if code in BLAMES_US:
                    faults.append((method, code, text, body))
                if number % (BODIES // 10) == 0:
                    sizes.append(server.resident)

        await asyncio.gather(*(worker() for _ in range(16)))
        sizes.append(server.resident)
    assert await server.health() == health_pb2.HealthCheckResponse.SERVING
    grown = sizes[-1] - sizes[2]
    print(f"{BODIES} bodies: {dict(codes)}; memory grew by {grown >> 10} KiB")
    assert not faults, (len(faults), faults[0], server.log[-2000:])
    assert grown < MOST_GROWTH, [size >> 20 for size in sizes]
    assert min(codes["OK"], codes["INVALID_ARGUMENT"]) > BODIES / 20, "all bodies are of a kind"
    assert "Traceback" not in server.log


async def test_every_damaged_byte_of_resource_meta_is_found_before_the_vendor_is_asked(
    make_server: MakeServer, vendor: JobService
) -> None:
    server = await make_server()
    work = attempt("job_keyed", "damaged", "forever")
    async with server.caller() as one, server.caller(2) as two:
        meta = (await one.create(work)).meta
        asked = vendor.total
        damaged = list(damages(meta))

        async def sent(number: int, raw: bytes) -> None:
            caller = (one, two)[number % 2]
            for call in (caller.get, caller.delete):
                assert (await call(work, raw)).code == "INVALID_ARGUMENT", raw

        for start in range(0, len(damaged), 50):
            some = enumerate(damaged[start : start + 50])
            await asyncio.gather(*(sent(number, raw) for number, raw in some))
        assert vendor.total == asked
        await one.get(work, meta)  # the vendor is there, and is asked for what is whole
        assert vendor.total > asked


def damages(meta: bytes) -> Iterator[bytes]:
    for at in range(len(meta)):
        yield meta[:at]
        for bit in (1, 32, 128):
            yield meta[:at] + bytes([meta[at] ^ bit]) + meta[at + 1 :]
        yield meta[:at] + meta[at + 1 :]
    yield meta + b" "
    yield meta + meta


async def called(channel: grpc.aio.Channel, method: str, body: bytes) -> tuple[str, str]:
    """The status of a call with these bytes."""
    wire: Any = channel  # its types take messages of generated stubs only
    try:
        if method.endswith("ExecuteTaskSync"):
            async for _ in wire.stream_stream(method)(iter([body]), timeout=10):
                pass
        elif method.endswith("GetTaskLogs"):
            async for _ in wire.unary_stream(method)(body, timeout=10):
                pass
        else:
            await wire.unary_unary(method)(body, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code().name, str(error.details())
    return "OK", ""


class Bodies:
    """Bodies that are almost right."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.metas: list[bytes] = []
        self._number = 0

    def next(self, method: str) -> bytes:
        self._number += 1
        good = self._message(method).SerializeToString()
        return self._mutated(bytes(good))

    def _message(self, method: str) -> Any:
        """A good message, but for values that make no sense."""
        chance, name = self.chance, method.rpartition("/")[2]
        if name in ("CreateTask", "ExecuteTaskSync"):
            kind = "chaos_sync" if name != "CreateTask" else "chaos_idle"
            odd = replace(attempt(kind, f"odd-{self._number}"), number=chance.choice((0, 1, 2**31)))
            request = odd.create_request()
            request.template.metadata.timeout.seconds = chance.choice((0, 1, -1, 2**62))
            request.template.interface.inputs.variables["a"].type.simple = chance.randrange(12)
            moment = request.inputs.literals["a"].scalar.primitive.datetime
            moment.seconds = chance.choice((0, 2**62, -(2**62)))
            if chance.random() < 0.3:
                request.template.custom.update({"script": chance.choice((None, 1e308, [[]], {}))})
            if name == "CreateTask":
                return request
            header = flyte1.CreateRequestHeader(template=request.template)
            return flyte1.ExecuteTaskSyncRequest(header=header)
        if name in ("GetAgent", "GetConnector"):
            return flyte1.GetAgentRequest(name=chance.choice(("chaos_idle", "", "x" * 9999)))
        if name.startswith("List"):
            return flyte1.ListAgentsRequest()
        request = getattr(flyte1, f"{name}Request")(resource_meta=self._meta())
        request.task_category.name = chance.choice(("chaos_idle", "chaos_idle", "", "nobody"))
        return request

    def _meta(self) -> bytes:
        """`resource_meta` with a checksum that fits and a body that may not."""
        chance = self.chance
        meta = chance.choice(self.metas)
        if chance.random() < 0.2:
            return json.dumps({"id": chance.choice(ODD)}).encode(chance.choice(("utf8", "utf16")))
        if chance.random() < 0.2:
            return meta
        _, _, rest = meta.partition(b",")
        body = json.loads(b"{" + rest)
        for _ in range(chance.randrange(1, 3)):
            body[chance.choice([*body, "x", "zz"])] = chance.choice(ODD)
        rest = json.dumps(body).encode()[1:]
        version = chance.choice((b"1", b"1", b"1", b"2", b"9999"))
        digits = envelope._checksum(version, rest)
        return b'{"flyteagents":"' + version + b":" + digits + b'",' + rest

    def _mutated(self, body: bytes) -> bytes:
        chance, raw = self.chance, bytearray(body)
        kind = chance.randrange(6)
        if kind == 0 or not raw:
            return bytes(chance.randrange(256) for _ in range(chance.randrange(64)))
        at = chance.randrange(len(raw))
        if kind == 1:
            raw[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del raw[at:]
        elif kind == 3:
            raw[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(9)))
        return bytes(raw)  # else as it is: its values are bad enough
