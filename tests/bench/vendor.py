"""A vendor that takes its time for each request, and counts requests, logins and connections.

The test kit's vendor would be busier than the servers that are compared: this one reads no more
of HTTP than it needs, and has no scripts. What it answers is its dialect's, a module of `stubs`.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import ssl
from dataclasses import asdict, dataclass
from typing import Protocol


class Dialect(Protocol):
    """What a stub's module has. LOGINS: what the paths of its logins begin with."""

    LOGINS: tuple[str, ...]

    def reply(self, target: str, body: bytes) -> tuple[int, object]:
        """The status and the JSON for a request to this path and query."""


@dataclass
class Counts:
    requests: int = 0
    logins: int = 0
    connections: int = 0


@dataclass
class Stub:
    """Answers after `delay` seconds, and logins after `login_delay`."""

    dialect: Dialect
    delay: float
    login_delay: float
    counts: Counts

    def answer(self, target: str, body: bytes) -> tuple[float, int, object]:
        """Seconds that it takes, status and JSON."""
        path, _, told = target.partition("?")
        if path == "/counts":
            return 0.0, 200, asdict(self.counts)
        if path == "/delays":
            self.delay, self.login_delay = map(float, told.split(","))
            return 0.0, 200, {}
        login = path.startswith(self.dialect.LOGINS)
        self.counts.requests += 1
        self.counts.logins += login
        status, reply = self.dialect.reply(target, body)
        return self.login_delay if login else self.delay, status, reply


class Conversation(asyncio.Protocol):
    """One connection; requests come one after another."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._counted = False

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end:
            return
        _, found, length = head.lower().partition(b"content-length:")
        if found and len(body) < int(length.split(b"\r\n")[0]):
            return
        self._got = b""

        before = self._stub.counts.requests
        delay, status, reply = self._stub.answer(head.split(b" ", 2)[1].decode(), body)
        # One that only asks for the counts is none of the agent's.
        if self._stub.counts.requests > before and not self._counted:
            self._counted = True
            self._stub.counts.connections += 1
        asyncio.get_running_loop().call_later(delay, self._send, status, json.dumps(reply).encode())

    def _send(self, status: int, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (status, len(body), body)
            )


async def serve(port: int, stub: Stub, certificate: str | None) -> None:
    """certificate: a PEM file with the key in it; without one, no TLS."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    listener = await asyncio.get_running_loop().create_server(
        lambda: Conversation(stub), "127.0.0.1", port, backlog=2048, ssl=context
    )
    await listener.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("dialect")
    parser.add_argument("delay", type=float)
    parser.add_argument("--certificate")
    asked = parser.parse_args()
    dialect: Dialect = importlib.import_module(f"tests.bench.stubs.{asked.dialect}")
    stub = Stub(dialect, asked.delay, asked.delay, Counts())
    asyncio.run(serve(asked.port, stub, asked.certificate))
