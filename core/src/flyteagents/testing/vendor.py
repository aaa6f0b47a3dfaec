"""A vendor to test against: an HTTP server on a real socket that fails on request.

```python
async def serve(request: Request) -> Response:
    return Response(200, {"state": "RUNNING"})

async with FakeVendor(serve) as vendor:
    vendor.script("GET", "/jobs/*", Response(503), Cut())  # the next two polls
    ...                                                    # give vendor.url to the agent
    assert vendor.count("GET", "/jobs/*") == 3
```
"""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import h11

from flyteagents._client.process import free_port


@dataclass(frozen=True)
class Request:
    """What a client sent. `path` is without the query and still percent-encoded; header names
    are lower-case; `at` is `time.monotonic()`; `connection` counts connections from 1."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    at: float
    connection: int

    def json(self) -> Any:
        """The body as JSON, None when it is empty. Raises ValueError."""
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True)
class Response:
    """A reply: bytes and text go out as they are, anything else as JSON, None as nothing."""

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Delay:
    """Wait before the work begins, as a request that is slow to arrive does."""

    seconds: float


@dataclass(frozen=True)
class Held:
    """As Delay, until the event is set: for an order of events that no load may change."""

    until: asyncio.Event


@dataclass(frozen=True)
class SlowReply:
    """Do the work at once and wait before the reply."""

    seconds: float


@dataclass(frozen=True)
class DropReply:
    """Do the work, then cut the connection instead of replying."""


@dataclass(frozen=True)
class Cut:
    """Cut the connection before any work."""


@dataclass(frozen=True)
class Nonsense:
    """Send these bytes instead of a reply and hang up, without any work."""

    data: bytes = b"\x00\x01 this is not HTTP\r\n\r\n"


Fault = Cut | DropReply | Nonsense
Action = Response | Delay | Held | SlowReply | Fault
Step = Action | Sequence[Action] | None
Serve = Callable[[Request], Awaitable[Response | Fault]]
VendorT = TypeVar("VendorT", bound="FakeVendor")


@dataclass
class Script:
    """Steps for the requests that match; see `FakeVendor.script`."""

    method: str
    path: str
    _steps: Iterator[Step]
    done: bool = False

    def stop(self) -> None:
        """Let all further requests through."""
        self.done = True

    def take(self, request: Request) -> Sequence[Action] | None:
        if self.done or not _matches(request, self.method, self.path):
            return None
        try:
            step = next(self._steps)
        except StopIteration:
            self.done = True
            return None
        return () if step is None else step if isinstance(step, Sequence) else (step,)


class FakeVendor:
    """Serves `serve` on `url` while entered, and does what is scripted.

    requests: the last `keep` requests, oldest first. total: how many there were.
    connections, max_connections: opened so far; most open at once. open_connections: now.
    in_flight, max_in_flight: requests being worked on; the most at once.
    An exception of `serve`'s is answered with 500 and raised again when the vendor is left, so
    that a mistake in a test does not pass for a vendor's hiccup.
    """

    # Mangled, since vendors of tests derive from this class, with private names of their own.

    def __init__(
        self, serve: Serve, *, host: str = "127.0.0.1", port: int = 0, keep: int = 10_000
    ) -> None:
        self.host, self.port = host, port
        self.requests: deque[Request] = deque(maxlen=keep)
        self.total = 0
        self.connections = self.max_connections = 0
        self.in_flight = self.max_in_flight = 0
        self.errors: list[Exception] = []
        self.__serve = serve
        self.__scripts: list[Script] = []
        self.__news = asyncio.Event()
        self.__open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.__listener: asyncio.Server | None = None
        self.__up = False

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self.__open)

    def script(self, method: str, path: str, *steps: Step, repeat: bool = False) -> Script:
        """Do `steps` with the next requests that match, one step a request; then, or for a step
        None, serve as usual. A step of several actions takes them in turn:
        `[Delay(0.2), DropReply()]`. `method` and `path` are patterns ("*", "/jobs/*");
        the path is matched without the query. `repeat` goes round the steps until `stop`.

        ```python
        vendor.script("POST", "/jobs", DropReply())                         # once
        vendor.script("*", "*", Response(429, headers={"Retry-After": "1"}), repeat=True)
        ```
        Of several scripts that match, the one made first acts.
        """
        every = itertools.cycle(steps) if repeat else iter(steps)
        script = Script(method, path, every)
        self.__scripts.append(script)
        return script

    def clear(self) -> None:
        """Stop all scripts."""
        for script in self.__scripts:
            script.stop()

    def count(self, method: str = "*", path: str = "*") -> int:
        """How many of the kept requests match."""
        return sum(_matches(request, method, path) for request in self.requests)

    async def until(
        self, method: str = "*", path: str = "*", count: int = 1, timeout: float = 10.0
    ) -> None:
        """Wait for `count` matching requests to have arrived. Raises asyncio.TimeoutError."""

        async def arrived() -> None:
            while self.count(method, path) < count:
                self.__news.clear()
                await self.__news.wait()

        await asyncio.wait_for(arrived(), timeout)

    async def down(self) -> None:
        """Stop listening and cut all connections; what was not yet worked on is lost."""
        listener, self.__listener = self.__listener, None
        if listener is not None:
            self.__up = False
            listener.close()
            # `abort`, since `close` would still send what is buffered.
            for task, writer in self.__open.items():
                writer.transport.abort()
                task.cancel()
            if self.__open:
                await asyncio.wait(list(self.__open))
            # Last: from Python 3.12 on it waits until all connections have ended.
            await listener.wait_closed()

    async def up(self) -> None:
        """Listen, on the same port as before."""
        if self.__listener is None:
            # One that is still free when the vendor comes back after `down`.
            self.port = self.port or free_port()
            self.__up = True
            self.__listener = await asyncio.start_server(
                self.__connected, self.host, self.port, backlog=1024
            )

    async def restart(self) -> None:
        """`down` and `up` at once."""
        await self.down()
        await self.up()

    async def __aenter__(self: VendorT) -> VendorT:
        await self.up()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        await self.down()
        # An exception of the test's own must not be hidden by this one.
        if self.errors and kind is None:
            raise self.errors[0]

    def __connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.__up:
            writer.transport.abort()  # it was accepted just before `down`
            return
        self.connections += 1
        # A task of our own: asyncio logs an error for each of its own that `down` cancels.
        task = asyncio.get_running_loop().create_task(self.__talk(reader, writer, self.connections))
        self.__open[task] = writer
        task.add_done_callback(self.__hung_up)
        self.max_connections = max(self.max_connections, len(self.__open))

    def __hung_up(self, task: asyncio.Task[None]) -> None:
        writer = self.__open.pop(task)
        writer.transport.abort()

    async def __talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        try:
            if await self.__converse(_Wire(reader, writer), number):
                writer.close()
                await writer.wait_closed()
        except (OSError, h11.RemoteProtocolError):
            pass  # the client has gone, or does not speak HTTP
        except h11.LocalProtocolError as error:
            self.errors.append(error)  # the test's reply cannot be sent

    async def __converse(self, wire: _Wire, connection: int) -> bool:
        """Answer until the connection ends; False when it is to be cut."""
        while (request := await wire.request(connection)) is not None:
            self.requests.append(request)
            self.total += 1
            self.__news.set()
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            try:
                reply = await self.__answer(request)
            finally:
                self.in_flight -= 1
            if isinstance(reply, Nonsense):
                await wire.raw(reply.data)
                return True
            if not isinstance(reply, Response):
                return False
            if not await wire.reply(request, reply):
                return True
        return True

    async def __answer(self, request: Request) -> Response | Fault:
        actions = self.__scripted(request)
        for action in actions:
            if isinstance(action, Delay):
                await asyncio.sleep(action.seconds)
            elif isinstance(action, Held):
                await action.until.wait()
            elif isinstance(action, (Response, Cut, Nonsense)):
                return action
        reply: Response | Fault
        try:
            reply = await self.__serve(request)
        except Exception as error:  # noqa: BLE001 # the test's own code
            self.errors.append(error)
            reply = Response(500, {"message": f"the fake vendor failed: {error!r}"})
        for action in actions:
            if isinstance(action, SlowReply):
                await asyncio.sleep(action.seconds)
            elif isinstance(action, DropReply):
                return action
        return reply

    def __scripted(self, request: Request) -> Sequence[Action]:
        self.__scripts = [script for script in self.__scripts if not script.done]
        for script in self.__scripts:
            actions = script.take(request)
            if actions is not None:
                return actions
        return ()


class _Wire:
    """HTTP/1.1 on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER)

    async def request(self, connection: int) -> Request | None:
        """The next request; None when the client has hung up."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage):
            return None
        path, _, query = head.target.decode("ascii").partition("?")
        return Request(
            method=head.method.decode("ascii"),
            path=path,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers={name.decode(): value.decode("latin-1") for name, value in head.headers},
            body=bytes(body),
            at=time.monotonic(),
            connection=connection,
        )

    async def reply(self, request: Request, reply: Response) -> bool:
        """Send the reply; whether the connection can be used again."""
        body, kind = _encoded(reply.body)
        headers = {"content-type": kind, "content-length": str(len(body))}
        headers.update({name.lower(): value for name, value in reply.headers.items()})
        http = self._http
        data = http.send(h11.Response(status_code=reply.status, headers=list(headers.items())))
        assert data is not None  # only a closed connection has none
        if body and request.method != "HEAD":
            data += http.send(h11.Data(data=body)) or b""
        data += http.send(h11.EndOfMessage()) or b""
        await self.raw(data)
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return False
        http.start_next_cycle()
        return True

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            # No bytes are the client's end, and h11 learns of it only if it is given them.
            self._http.receive_data(await self._reader.read(65536))
        return event


def _encoded(body: object) -> tuple[bytes, str]:
    if body is None:
        return b"", "text/plain"
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    return json.dumps(body).encode(), "application/json"


def _matches(request: Request, method: str, path: str) -> bool:
    # Not `fnmatch`, which ignores case on Windows.
    return fnmatch.fnmatchcase(request.method, method) and fnmatch.fnmatchcase(request.path, path)
