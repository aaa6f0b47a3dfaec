"""A vendor that takes its time for each poll, and counts requests and connections.

The test kit's vendor would be busier than the servers that are compared: this one reads no more
of HTTP than it needs, and has no scripts. It speaks two dialects: `GET /jobs/*`, and BigQuery's
jobs.insert and jobs.get, which is how both BigQuery agents see a job that runs, with the tokens
that they need for it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

BIGQUERY = b"/bigquery/v2/projects/"
TOKEN = b"/token"
JOBS: dict[str, dict[str, Any]] = {}


class Counts:
    requests = 0
    connections = 0


class Conversation(asyncio.Protocol):
    """One connection; requests come one after another."""

    def __init__(self, delay: float, token_delay: float) -> None:
        self._delay, self._token_delay = delay, token_delay
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
        method, path, _ = head.split(b" ", 2)
        if path == b"/counts":
            counts = {"requests": Counts.requests, "connections": Counts.connections}
            self._send(json.dumps(counts).encode())
            return
        Counts.requests += 1
        Counts.connections += not self._counted
        self._counted = True
        reply = _reply(method, path, body)
        # Creates are not what is measured: they are answered at once.
        delay = self._delay if method == b"GET" else self._token_delay if path == TOKEN else 0
        asyncio.get_running_loop().call_later(delay, self._send, reply)

    def _send(self, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )


def _reply(method: bytes, path: bytes, body: bytes) -> bytes:
    if path == TOKEN:
        return b'{"access_token": "t0ken", "expires_in": 3600, "token_type": "Bearer"}'
    if not path.startswith(BIGQUERY):
        return b'{"state": "RUNNING"}'
    name = path.partition(b"?")[0].rpartition(b"/")[2].decode()
    if method == b"POST":
        asked = json.loads(body)
        reference = {**asked["jobReference"], "location": "US"}
        name = reference["jobId"]
        JOBS[name] = {
            "kind": "bigquery#job",
            "id": f"{reference['projectId']}:US.{name}",
            "jobReference": reference,
            "configuration": {"jobType": "QUERY", **asked["configuration"]},
            "status": {"state": "RUNNING"},
            "statistics": {"creationTime": "1700000000000", "startTime": "1700000000100"},
        }
    return json.dumps(JOBS[name]).encode()


async def serve(port: int, delay: float, token_delay: float) -> None:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: Conversation(delay, token_delay), "127.0.0.1", port, backlog=2048
    )
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
