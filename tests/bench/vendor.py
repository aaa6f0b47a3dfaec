"""A vendor that takes its time for each poll, and counts requests and connections.

The test kit's vendor would be busier than the servers that are compared: this one reads no more
of HTTP than it needs, and has no scripts. It speaks two dialects: `GET /jobs/*`, and BigQuery's
jobs.insert and jobs.get, which is how both BigQuery agents see a job that runs.
"""

from __future__ import annotations

import asyncio
import json
import sys

BIGQUERY = b"/bigquery/v2/projects/"


class Counts:
    requests = 0
    connections = 0


class Conversation(asyncio.Protocol):
    """One connection; requests come one after another."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
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
        if method == b"GET":
            asyncio.get_running_loop().call_later(self._delay, self._send, reply)
        else:
            self._send(reply)  # creates are not what is measured

    def _send(self, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )


def _reply(method: bytes, path: bytes, body: bytes) -> bytes:
    if not path.startswith(BIGQUERY):
        return b'{"state": "RUNNING"}'
    project, _, rest = path[len(BIGQUERY) :].partition(b"/")
    if method == b"POST":
        reference = json.loads(body)["jobReference"]
    else:
        name = rest.partition(b"?")[0].rpartition(b"/")[2]
        reference = {"projectId": project.decode(), "jobId": name.decode()}
    job = {
        "kind": "bigquery#job",
        "id": f"{project.decode()}:US.{reference['jobId']}",
        "jobReference": {**reference, "location": "US"},
        "configuration": {"jobType": "QUERY", "query": {"query": "SELECT 1"}},
        "status": {"state": "RUNNING"},
        "statistics": {"creationTime": "1700000000000", "startTime": "1700000000100"},
    }
    return json.dumps(job).encode()


async def serve(port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: Conversation(delay), "127.0.0.1", port, backlog=2048
    )
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
