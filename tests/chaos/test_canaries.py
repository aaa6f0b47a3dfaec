"""Secrets with known values, and a search for them in all that leaves a server."""

from __future__ import annotations

import base64
import urllib.parse

import pytest
from tests.chaos.attempts import attempt
from tests.chaos.conftest import MakeServer

from flyteagents.testing import Caller, Cut, JobService, Nonsense, Response, ServerEnded
from flyteagents.testing.otlp import OtlpReceiver

SETTING = "cnry-setting-7f3a91d2"
ENVIRONMENT = "cnry-environment-55c0e8b1"
CONNECTION = "cnry-connection-0d4b7e66"
REPLY = "cnry-reply-91aa34fe"
URL = "cnry-url-c2d9f0a7"
CANARIES = [SETTING, ENVIRONMENT, CONNECTION, REPLY, URL]


async def test_no_secret_is_found_in_anything_that_leaves_the_server(
    make_server: MakeServer, vendor: JobService
) -> None:
    seen: list[str] = []
    with OtlpReceiver() as receiver:
        server = await make_server(
            FLYTEAGENTS_JOBS_OTHER_URL=vendor.url.replace("http://", f"http://user:{URL}@"),
            FLYTEAGENTS_JOBS_PASSWORD=SETTING,
            FLYTEAGENTS_SECRET_JOBS_TOKEN=ENVIRONMENT,
            FLYTEAGENTS_LOG_LEVEL="DEBUG",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            FLYTEAGENTS_DRAIN_LIMIT="2",
            OTEL_BSP_SCHEDULE_DELAY="100",
            OTEL_METRIC_EXPORT_INTERVAL="200",
        )
        async with server.caller(1, 0.7) as one, server.caller(2, 0.7) as two:
            for caller in (one, two):  # so that all of them have been sent before they are quoted
                good = attempt("job_keyed", "good", "sleep 0", caller.generation, secrets(caller))
                assert (await caller.create(good, deadline=5.0)).ok
            for caller in (one, two):
                for number, reply in enumerate(quoting()):
                    kind = "job_tagged" if number % 3 == 2 else "job_keyed"
                    seen += await one_task(caller, vendor, reply, kind, str(number))
        seen.append(await server.metrics())
        assert await server.stop() == 0
        sent = {request.headers.get("authorization") for request in vendor.requests}
        assert {f"Bearer {ENVIRONMENT}", f"Bearer {CONNECTION}"} <= sent, "no secret was used"
        assert any(request.headers.get("x-password") == SETTING for request in vendor.requests)
        assert receiver.wait(lambda: len(receiver.spans) > 50), len(receiver.spans)
        assert receiver.metrics
        seen += map(repr, (*receiver.spans, *receiver.metrics))
    seen.append(server.log)
    everything = "\n".join(seen)
    for canary in CANARIES:
        for spelled in (
            canary,
            base64.b64encode(canary.encode()).decode().rstrip("="),
            base64.b64encode(f"user:{canary}".encode()).decode().rstrip("="),
        ):
            at = everything.find(spelled)
            assert at < 0, f"{canary}: ...{everything[max(at - 300, 0) : at + 100]}"
    assert "[redacted]" in everything, "no reply's text came through at all"


def quoting() -> list[Response | Cut | Nonsense]:
    """Replies of a vendor that quotes what it was sent, and tells what it should not."""
    told = (
        f"token {ENVIRONMENT} or {CONNECTION} is not good for password {SETTING}; "
        f'try {{"api_key": "{REPLY}"}} or https://me:{REPLY}@vendor.example/?token={REPLY}'
    )
    body = {"error": {"code": "odd", "message": told}, "access_token": REPLY}
    return [
        Response(400, body),
        Response(401, body, {"WWW-Authenticate": f'Bearer token="{REPLY}"'}),
        Response(403, body),
        Response(404, body),
        Response(409, body),
        Response(429, body, {"Retry-After": "0"}),
        Response(500, told),
        Response(302, None, {"Location": f"http://vendor.example/?token={REPLY}"}),
        Response(200, {"id": 7, "state": told, "token": REPLY}),
        Response(200, {"id": "job-1", "state": "FAILED", "error": told, "token": REPLY}),
        Response(200, {"id": "job-1", "state": told, "secret": REPLY}),
        Response(200, f"<html>Bearer {REPLY}</html>", {"Set-Cookie": f"session={REPLY}"}),
        Nonsense(f"token={REPLY}\r\n\r\n".encode()),
        Cut(),
    ]


async def one_task(
    caller: Caller, vendor: JobService, reply: Response | Cut | Nonsense, kind: str, name: str
) -> list[str]:
    """All that a caller sees of a task whose vendor answers like this, at first in create, then
    in poll and cancel."""
    seen = []
    for where in ("create", "later"):
        execution = f"{where}-{caller.generation}-{name}"
        work = attempt(kind, execution, "forever", caller.generation, secrets(caller))
        script = vendor.script("*", "*", reply, repeat=True)
        if where == "later":
            script.stop()
        created = await caller.create(work)
        if where == "later":
            script = vendor.script("*", "*", reply, repeat=True)
        rpcs = [created]
        if created.ok:
            rpcs += [await caller.get(work, created.meta) for _ in range(2)]
            rpcs.append(await caller.delete(work, created.meta))
        script.stop()
        for rpc in rpcs:
            told = f"{rpc.code} {rpc.message} {rpc.meta.decode()} {rpc.resource}"
            seen += [told, urllib.parse.unquote(told)]
    return seen


def secrets(caller: Caller) -> dict[str, str]:
    """What Flyte 2 sends along."""
    return {"jobs_token": CONNECTION} if caller.generation == 2 else {}


VARIABLES = [
    "FLYTEAGENTS_MAX_POLLS",
    "FLYTEAGENTS_LOG_LEVEL",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
]


@pytest.mark.parametrize("name", VARIABLES)
async def test_a_secret_in_the_wrong_variable_is_not_shown_by_the_error(
    make_server: MakeServer, name: str
) -> None:
    with pytest.raises(ServerEnded) as failed:  # its text is the log
        await make_server(**{name: SETTING})
    assert name in str(failed.value)
    assert SETTING not in str(failed.value)
