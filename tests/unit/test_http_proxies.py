"""Requests through a proxy: which hosts go through it, and what its refusal means."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.unit.vendor_setup import Setup
from tests.vendors.certificates import self_signed

from flyteagents import Endpoint, Http, Unavailable
from flyteagents._redact import redact
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.http import VendorClient
from flyteagents._vendor.proxies import proxy_for
from flyteagents.testing import Response


class Proxy:
    """Answers CONNECT with these statuses, one a connection, and hangs up."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.asked: list[str] = []

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1")
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        status = self.statuses.pop(0)
        writer.write(f"HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


class Tunnel(Proxy):
    """A proxy that connects to one TLS server, whatever host it is asked for."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._to = port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._to)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))


async def test_tls_goes_through_the_tunnel_of_a_proxy_and_is_checked(
    client: VendorClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        writer.close()

    pem = tmp_path / "pem"
    pem.write_text("".join(self_signed(x509.DNSName("vendor.example"))))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    vendor = await asyncio.start_server(reply, "127.0.0.1", ssl=tls)
    async with vendor, Tunnel(vendor.sockets[0].getsockname()[1]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Unavailable, match=r"could not connect.*certificate verify failed"):
            await _http(client, retries=False).get("/")
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        trusting = VendorClient("acme", ["vendor.example"])
        for _ in range(2):
            assert (await _http(trusting, retries=False).get("/")).text == "hi"
        assert len(proxy.asked) == 2
        await trusting.aclose()


@pytest.fixture
async def client() -> AsyncIterator[VendorClient]:
    client = VendorClient("acme", ["vendor.example"])
    yield client
    await client.aclose()


def _http(client: VendorClient, **budget: object) -> Http:
    async def endpoint(_: bool) -> Endpoint:
        return Endpoint("https://vendor.example", bearer="c4nary-credential")

    return client.bind(endpoint, Budget(time.monotonic() + 60, **budget))  # type: ignore[arg-type] # any of its fields


@pytest.mark.parametrize("status", [403, 407, 502])
async def test_a_proxy_that_refuses_is_named_with_its_status(
    client: VendorClient, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy(status) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pa55word@127.0.0.1:{proxy.port}")
        with pytest.raises(Unavailable) as raised:
            await _http(client, retries=False).post("/jobs")
        assert str(raised.value) == (
            f"could not connect to vendor.example: the proxy 127.0.0.1:{proxy.port} "
            f"answered {status}"
        )
        (asked,) = proxy.asked
    assert asked.startswith("CONNECT vendor.example:443 ")
    assert "c4nary" not in asked
    assert "pa55word" not in redact("pa55word")


async def test_a_post_that_the_proxy_refused_never_left_and_is_repeated(
    client: VendorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy(502, 407, 403, 502, 502, 502, 502, 502) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")
        pending = asyncio.ensure_future(_http(client, repeat="unsent").post("/jobs"))
        while len(proxy.asked) < 3:  # noqa: ASYNC110 # no event tells of it
            await asyncio.sleep(0.005)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending


async def test_a_proxy_that_is_away_is_named(
    client: VendorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy() as proxy:
        pass
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    with pytest.raises(
        Unavailable,
        match=rf"could not connect to vendor.example through the proxy 127.0.0.1:{proxy.port}: ",
    ):
        await _http(client, retries=False).get("/jobs")


async def test_the_407_of_a_plain_proxy_is_not_the_vendors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Setup.made() as setup:
        monkeypatch.setenv("HTTP_PROXY", setup.vendor.url)
        monkeypatch.setenv("NO_PROXY", "")
        setup.vendor.script("*", "*", Response(407))
        assert (await setup.http(repeat="unsent").post("/jobs")).status == 200
        setup.vendor.script("*", "*", Response(407))
        with pytest.raises(Unavailable, match=r"the proxy before 127.0.0.1.* answered 407"):
            await setup.http(retries=False).get("/jobs")


@pytest.mark.parametrize(
    "entries",
    [
        "*",
        "vendor.example",
        ".vendor.example",
        "*.vendor.example",
        "a.vendor.example:443",
        " other.example , Vendor.Example",
        "example",
    ],
)
def test_no_proxy_names_hosts_and_domains(entries: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", entries)
    assert proxy_for("https", "a.vendor.example", 443) is None


@pytest.mark.parametrize(
    "entries", ["", "or.example", "a.vendor.example:8443", "10.0.0.0/8", "vendor.example.org", ",,"]
)
def test_what_no_proxy_does_not_name_goes_through_the_proxy(
    entries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", entries)
    assert str(proxy_for("https", "a.vendor.example", 443)) == "proxy:3128"
    assert proxy_for("http", "a.vendor.example", 80) is None


@pytest.mark.parametrize(
    ("host", "entries"),
    [
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3:443"),
        ("fd00::1", "fd00::/8"),
        ("fd00::1", "[fd00::1]"),
    ],
)
def test_no_proxy_names_addresses_and_networks(
    host: str, entries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", entries)
    assert proxy_for("https", host, 443) is None
    assert proxy_for("https", "11.1.2.3", 443) is not None


@pytest.mark.parametrize("proxy", ["socks5://user:pa55word@proxy:1080", "http://", "http://a:b"])
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(Unavailable, match="HTTPS_PROXY") as raised:
        proxy_for("https", "vendor.example", 443)
    assert "pa55word" not in str(raised.value)


async def test_the_proxy_of_a_host_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    getproxies = urllib.request.getproxies

    def count() -> dict[str, str]:
        nonlocal looks
        looks += 1
        return getproxies()

    monkeypatch.setattr(urllib.request, "getproxies", count)
    async with Setup.made() as setup:
        for number in range(3):
            await setup.http().get(f"/jobs/{number}")
    assert looks == 1
