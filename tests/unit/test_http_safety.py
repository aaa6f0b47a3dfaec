from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import time
from collections.abc import AsyncIterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.unit.vendor_setup import SECRET, Setup

from flyteagents import (
    AgentError,
    Endpoint,
    Forbidden,
    Unauthenticated,
    Unavailable,
)
from flyteagents._redact import redact
from flyteagents._vendor.budget import Budget
from flyteagents._vendor.http import VendorClient
from flyteagents.testing import (
    Cut,
    Delay,
    Response,
)

MAPPED = str(ipaddress.ip_address("::ffff:127.0.0.1"))
"""Python 3.13 spells it otherwise than those before."""


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    async with Setup.made() as made:
        yield made


_exporter = InMemorySpanExporter()


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """Spans of the process's one tracer provider, which other tests may have set."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    if not getattr(_exporter, "added", False):
        provider.add_span_processor(SimpleSpanProcessor(_exporter))
        _exporter.added = True  # type: ignore[attr-defined] # a mark of this fixture's own
    _exporter.clear()
    return _exporter


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost",
        "127.0.0.2",
        "127.1",
        "2130706433",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "a.localhost",
        "api.vendor.example.evil.example",
    ],
)
async def test_credentials_go_to_allowed_hosts_only(host: str) -> None:
    client = VendorClient("acme", ["127.0.0.1:80", "*.vendor.example", "*1*", "*::*"])

    async def endpoint(_: bool) -> Endpoint:
        return Endpoint("http://127.0.0.1:9/", bearer=SECRET)

    async def task_named(_: bool) -> Endpoint:
        return Endpoint(f"http://{host}:9", bearer=SECRET)

    budget = Budget(time.monotonic() + 60, retries=False)
    for bound, path in ((endpoint, f"http://{host}:9/x"), (task_named, "/x")):
        with pytest.raises(Forbidden, match="FLYTEAGENTS_ALLOW_HOSTS") as raised:
            await client.bind(bound, budget).get(path)
        shown = MAPPED if "::ffff" in host else host.strip("[]")
        assert shown in str(raised.value)
    await client.aclose()


@pytest.mark.parametrize("pattern", ["127.0.0.1", "127.0.0.1:1", "*.VENDOR.example", "vendor.*"])
async def test_ports_and_case_do_not_matter_for_what_is_allowed(pattern: str) -> None:
    client = VendorClient("acme", [pattern])

    async def endpoint(_: bool) -> Endpoint:
        host = "127.0.0.1" if pattern[0] == "1" else "A.vendor.EXAMPLE" if pattern[0] == "*" else ""
        return Endpoint(f"http://{host or 'vendor.invalid'}:9")

    with pytest.raises(Unavailable, match="could not connect"):
        await client.bind(endpoint, Budget(time.monotonic() + 60, retries=False)).get("/")
    await client.aclose()


@pytest.mark.parametrize("pattern", ["::ffff:127.0.0.1", "[::FFFF:7f00:1]:9", "[0:0::ffff:7f00:1]"])
async def test_an_ipv6_address_is_the_same_in_each_of_its_spellings(pattern: str) -> None:
    client = VendorClient("acme", [pattern])

    async def endpoint(_: bool) -> Endpoint:
        return Endpoint("http://[::ffff:127.0.0.1]:9")

    with pytest.raises(Unavailable, match=re.escape(f"could not connect to [{MAPPED}]:9")):
        await client.bind(endpoint, Budget(time.monotonic() + 60, retries=False)).get("/")
    await client.aclose()


@pytest.mark.parametrize("path", ["/jobs/../users", "/jobs/%2e%2E/users", "..", "/a/./b?x"])
async def test_an_id_cannot_lead_to_another_path(setup: Setup, path: str) -> None:
    with pytest.raises(Forbidden):
        await setup.http().get(path)
    assert setup.vendor.total == 0


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1", "http://", "http://a:b/", ""])
async def test_an_address_that_is_none_is_refused(setup: Setup, url: str) -> None:
    async def endpoint(_: bool) -> Endpoint:
        return Endpoint(url)

    with pytest.raises(Forbidden):
        await setup.client.bind(endpoint, Budget(time.monotonic() + 60)).get("/x")


@pytest.mark.parametrize("token", [f"{SECRET}\r\nX-Evil: 1", f"{SECRET}\n", f"{SECRET}\u2026"])
async def test_a_broken_credential_is_told_and_not_shown(setup: Setup, token: str) -> None:
    setup.tokens = [token]
    with pytest.raises(Unauthenticated) as raised:
        await setup.http().get("/")
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert setup.vendor.total == 0


async def test_credentials_and_queries_show_up_nowhere(
    setup: Setup, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    setup.vendor.script("*", "*", Response(400, f"token {SECRET} is bad"), None, Cut(), Delay(60))
    failed = []
    for _ in range(4):
        http = setup.http(limit=0.3, retries=False)
        try:
            await http.post("/jobs", params={"sig": "c4nary-query"}, headers={"X": "c4nary-header"})
        except AgentError as error:
            failed.append(redact(str(error)))
    assert len(failed) == 3
    exported = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert exported.count("/api/jobs") == 4
    logged = " ".join(r.getMessage() for r in caplog.records if r.name != "flyteagents.testing")
    assert "c4nary" not in exported + logged + " ".join(failed)


async def test_each_attempt_is_a_client_span_that_the_vendor_can_join(
    setup: Setup, spans: InMemorySpanExporter
) -> None:
    setup.vendor.script("*", "*", Response(503))
    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span("outer") as outer:
        await setup.http().get("/jobs", params={"q": "1"})
    first, second, _ = spans.get_finished_spans()
    assert first.kind is trace.SpanKind.CLIENT
    assert _parent(first) == _parent(second) == outer.get_span_context().span_id
    assert first.name == "GET"
    url = f"{setup.vendor.url}/api/jobs"
    assert first.attributes == {
        "http.request.method": "GET",
        "url.full": url,
        "server.address": "127.0.0.1",
        "server.port": setup.vendor.port,
        "http.response.status_code": 503,
        "error.type": "503",
        "flyte.agent": "acme",
    }
    assert not first.status.is_ok
    assert second.attributes is not None
    assert second.attributes["http.request.resend_count"] == 1
    assert second.status.is_ok
    context = second.get_span_context()
    assert context is not None
    sent = setup.vendor.requests[1].headers["traceparent"]
    assert sent.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")


async def test_a_request_without_reply_is_a_failed_span(
    setup: Setup, spans: InMemorySpanExporter
) -> None:
    setup.vendor.script("*", "*", Cut())
    with pytest.raises(Unavailable):
        await setup.http(retries=False).get("/")
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "Unavailable"
    assert "http.response.status_code" not in span.attributes
    assert span.events == ()


async def test_no_connection_is_told_with_host_and_port(setup: Setup) -> None:
    await setup.vendor.down()
    with pytest.raises(Unavailable, match=rf"could not connect to 127.0.0.1:{setup.vendor.port}"):
        await setup.http(retries=False).get("/", params={"q": SECRET})


async def test_a_client_of_a_loop_that_has_ended_can_be_closed(setup: Setup) -> None:
    client = VendorClient("acme", ["127.0.0.1"])

    async def ask() -> None:
        budget = Budget(time.monotonic() + 60, retries=False)
        with contextlib.suppress(Unavailable):
            await client.bind(closed_port, budget).get("/")

    async def closed_port(_: bool) -> Endpoint:
        return Endpoint("http://127.0.0.1:9")

    await asyncio.to_thread(asyncio.run, ask())
    await client.aclose()


def _parent(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None
