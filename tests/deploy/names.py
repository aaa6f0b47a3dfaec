"""A name server with one name, whose addresses change as those of a headless Service do."""

from __future__ import annotations

import asyncio
import socket
import struct

_HEADER = struct.Struct("!6H")
_A, _IN = 1, 1
_ANSWER = 0x8580
"""Flags: an answer, authoritative."""


class NameServer(asyncio.DatagramProtocol):
    """Answers every question for an A record with `addresses`, in their order. A context manager.

    `target(port)` is what a gRPC client is told.
    """

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.asked = 0
        self._transport: asyncio.DatagramTransport | None = None

    def target(self, port: int) -> str:
        assert self._transport is not None
        own = self._transport.get_extra_info("sockname")[1]
        return f"dns://127.0.0.1:{own}/agents.test:{port}"

    async def __aenter__(self) -> NameServer:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        number = _HEADER.unpack_from(data)[0]
        end = data.index(b"\0", _HEADER.size) + 5
        question = data[_HEADER.size : end]
        kind = struct.unpack_from("!H", question, len(question) - 4)[0]
        records = []
        if kind == _A:
            self.asked += 1
            # A pointer to the question's name, a time to live of a second.
            fixed = struct.pack("!HHHIH", 0xC00C, _A, _IN, 1, 4)
            records = [fixed + socket.inet_aton(address) for address in self.addresses]
        head = _HEADER.pack(number, _ANSWER, 1, len(records), 0, 0)
        assert self._transport is not None
        self._transport.sendto(head + question + b"".join(records), addr)
