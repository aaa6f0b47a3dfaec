"""The call that an agent gets, and the door that it comes through."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from flyteidl.core import errors_pb2, literals_pb2
from tests.unit.kernel_setup import RUNNING, Numbered, Scripted, Setup, within

from flyteagents import (
    Call,
    Endpoint,
    ErrorDocument,
    InvalidTask,
    Kind,
    Status,
    Type,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from flyteagents._kernel import stores
from flyteagents._kernel.call import KernelCall, ask
from flyteagents._kernel.flight import Flight
from flyteagents._kernel.settings import KernelSettings
from flyteagents._vendor.budget import Budget
from flyteagents.testing import FakeVendor, Request, Response

KEY, EARLIER = "a" * 40, "b" * 40


def call_of(setup: Setup, prefix: str = "", **of: Any) -> KernelCall:
    budget = Budget(time.monotonic() + 60)
    who = setup.task().identity
    return KernelCall(setup.served, "create", who, budget, output_prefix=prefix, **of)


async def test_what_takes_too_long_is_unavailable_and_the_limit_is_named(setup: Setup) -> None:
    setup.agent.script["get"] = [asyncio.Event()]
    call = setup.opened().call("get", Budget(time.monotonic() + 60))
    with pytest.raises(Unavailable, match="get took over 0 s"):
        await ask(call, limit=0.01)


async def test_a_job_says_which_key_and_which_work_it_was_made_for(setup: Setup) -> None:
    budget = Budget(time.monotonic() + 60)
    call = setup.opened(key=KEY, fingerprint="1-ab").call("get", budget)
    assert (call.key.hex, str(call.fingerprint), call.task_type) == (KEY, "1-ab", "scripted")
    adopted = setup.opened(key=KEY, made_with=EARLIER, adopted=True).call("get", budget)
    assert adopted.key.hex == EARLIER
    assert setup.opened(foreign=True).call("get", budget).fingerprint is None


async def test_an_attempt_is_told_when_an_earlier_one_is_settled(setup: Setup) -> None:
    request = setup.request()
    task, earlier = request.read(), setup.task()
    flight = Flight(setup.served, task, request, within(60))
    assert not flight.call("create", task).settling
    call = flight.call("create", earlier)
    assert call.settling
    assert (call.key, call.fingerprint) == (earlier.key, earlier.fingerprint)


async def test_a_call_runs_where_it_was_made_though_its_agent_is_moved_meanwhile(
    setup: Setup,
) -> None:
    ran: list[tuple[object, str]] = []

    class Watched(Scripted):
        async def get(self, job: Numbered, call: Call) -> Status:
            ran.append((self, threading.current_thread().name))
            return RUNNING

    setup = Setup(cls=Watched)
    budget = Budget(time.monotonic() + 60)
    early = setup.opened().call("get", budget)
    first = setup.served.agent
    await asyncio.to_thread(setup.served.isolate)  # as the watch's thread does
    late = setup.opened().call("get", budget)
    await ask(early)
    await ask(late)
    assert ran == [
        (first, threading.current_thread().name),
        (setup.served.agent, "flyteagents-lane-scripted"),
    ]
    await setup.served.close()


async def test_a_store_that_hangs_holds_up_no_other_and_none_of_the_agents_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_place_of", str)  # all of these are below one place
    setup = Setup(settings=KernelSettings(max_threads=2))
    hung, sound = tmp_path / "hung", tmp_path / "sound"
    for place in (hung, sound):
        place.mkdir()
    # A pipe that nobody writes to: who opens it waits for ever.
    os.mkfifo(hung / "error.pb")
    stuck = [asyncio.ensure_future(call_of(setup, str(hung)).read_error()) for _ in range(9)]
    await asyncio.sleep(0.05)
    other = call_of(setup, str(sound))
    try:
        assert await asyncio.wait_for(other.read_error(), 5) is None
        assert await asyncio.wait_for(other.blocking(lambda: 7), 5) == 7
    finally:
        for each in stuck:
            each.cancel()
        for _ in range(10):  # let the threads go, or this process would not end
            with contextlib.suppress(OSError):
                os.close(os.open(hung / "error.pb", os.O_WRONLY | os.O_NONBLOCK))
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("prefix", "place"),
    [
        ("s3://bucket/a/b/0", "s3://bucket"),
        ("/mnt/sales/a/0", "/mnt/sales"),
        ("file:///mnt/sales/a/0", "/mnt/sales"),
    ],
)
def test_what_hangs_as_one_is_one_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str, place: str
) -> None:
    """Where nobody says what the mounts are, as on macOS, they are guessed."""
    monkeypatch.setattr(stores, "MOUNTS", tmp_path / "none")
    assert stores._place_of(prefix) == place


@pytest.mark.parametrize(
    ("prefix", "place"),
    [
        ("/mnt/team/sales/eu/a/0", "/mnt/team/sales"),
        ("/mnt/team/sales/../shop/a/0", "/mnt/team/shop"),
        ("file:///mnt/with%20space/a/b/0", "/mnt/with space"),
        ("/home/me/out/0", "/home/me"),  # on the root's own disk
    ],
)
def test_where_the_machine_says_what_is_mounted_it_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str, place: str
) -> None:
    table = tmp_path / "mounts"
    points = ("/", "/mnt/team/sales", "/mnt/team/shop", "/mnt/with\\040space", "/home/you")
    table.write_text("".join(f"server:/x {point} nfs4 rw 0 0\n" for point in points))
    monkeypatch.setattr(stores, "MOUNTS", table)
    assert stores._place_of(prefix) == place


@pytest.mark.skipif(not stores.MOUNTS.exists(), reason="this system has no table of its mounts")
def test_this_machine_says_what_is_mounted() -> None:
    assert stores._place_of("/proc/self/fd/x/y") == "/proc"


def test_there_are_threads_for_so_many_places_and_no_more() -> None:
    of = stores.Stores("scripted")
    made = {id(of.threads(f"s3://bucket-{number}/0")) for number in range(stores.PLACES * 2)}
    assert len(made) == stores.PLACES + 1
    of.close()


# Endpoints and credentials.


def vendor_at(vendor: FakeVendor) -> Endpoint:
    return Endpoint(vendor.url, bearer="token-0123456789")


async def test_an_endpoint_may_ask_another_service_first(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.served._vendor_hosts.append("127.0.0.1")

    async def endpoint(of: object, call: Call) -> Endpoint:
        service = Endpoint(vendor.url)
        reply = await call.http.post("/token", endpoint=service, form={"grant_type": "x"})
        return Endpoint(vendor.url, bearer=reply.json()["access_token"])

    async def answer(request: Request) -> Response:
        if request.path == "/token":
            return Response(200, {"access_token": "from-the-token-service"})
        return Response(200, {"id": request.headers["authorization"]})

    monkeypatch.setattr(setup.agent, "endpoint", endpoint)
    async with FakeVendor(answer) as vendor:
        reply = await call_of(setup).http.get("/jobs/1")
        await setup.served.close()
    assert reply.json() == {"id": "Bearer from-the-token-service"}


async def test_an_endpoint_that_would_ask_itself_for_ever_is_a_bug_in_words(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endpoint(of: object, call: Call) -> Endpoint:
        await call.http.post("https://vendor.example/token")
        raise AssertionError

    monkeypatch.setattr(setup.agent, "endpoint", endpoint)
    with pytest.raises(RuntimeError, match=r"Scripted.endpoint .* pass endpoint=Endpoint"):
        await call_of(setup).http.get("/jobs/1")
    await setup.served.close()


@pytest.mark.parametrize(
    ("error", "asked"), [(Unauthenticated("there is no key"), 1), (Unavailable("not yet"), 3)]
)
async def test_a_credential_that_cannot_be_had_yet_is_asked_for_again_and_an_absent_one_is_not(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, error: Exception, asked: int
) -> None:
    setup.served._vendor_hosts.append("127.0.0.1")
    tries = 0

    async def endpoint(of: object, call: Call) -> Endpoint:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise error
        return vendor_at(vendor)

    async def answer(request: Request) -> Response:
        return Response(200, {})

    monkeypatch.setattr(setup.agent, "endpoint", endpoint)
    async with FakeVendor(answer) as vendor:
        # Also a POST, and one that must not be repeated: nothing has reached the vendor.
        call = call_of(setup)
        call.budget.repeat = "unsent"
        if asked == 1:
            with pytest.raises(type(error)):
                await call.http.post("/jobs")
        else:
            await call.http.post("/jobs")
        await setup.served.close()
    assert tries == asked


async def test_a_refused_credential_is_tried_once_afresh(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.served._vendor_hosts.append("127.0.0.1")
    fresh: list[bool] = []

    async def endpoint(of: object, call: Call) -> Endpoint:
        fresh.append(call.fresh)
        return vendor_at(vendor)

    async def answer(request: Request) -> Response:
        return Response(401, {"error": {"message": "who are you?"}})

    monkeypatch.setattr(setup.agent, "endpoint", endpoint)
    async with FakeVendor(answer) as vendor:
        with pytest.raises(Unauthenticated):
            await call_of(setup).http.get("/jobs/1")
        await setup.served.close()
    assert fresh == [False, True]


# What a job left below its prefix.


def error_file(folder: Path, **fields: Any) -> None:
    document = errors_pb2.ErrorDocument(error=errors_pb2.ContainerError(**fields))
    (folder / "error.pb").write_bytes(document.SerializeToString())


@pytest.mark.parametrize("form", ["{}", "file://{}", "{}/"])
async def test_an_error_that_the_jobs_own_code_wrote_is_read(
    setup: Setup, tmp_path: Path, form: str
) -> None:
    error_file(
        tmp_path,
        code="USER:ValueError",
        message="no column x",
        kind=errors_pb2.ContainerError.RECOVERABLE,
        origin=1,
    )
    found = await call_of(setup, form.format(tmp_path)).read_error()
    assert found == ErrorDocument("USER:ValueError", "no column x", True, "user")


async def test_a_job_that_left_nothing_has_neither_an_error_nor_outputs(
    setup: Setup, tmp_path: Path
) -> None:
    call = call_of(setup, str(tmp_path / "not-there"))
    assert await call.read_error() is None
    assert await call.read_outputs() is None


async def test_a_document_that_says_nothing_does_not_say_whether_to_try_again(
    setup: Setup, tmp_path: Path
) -> None:
    (tmp_path / "error.pb").write_bytes(b"")
    assert await call_of(setup).read_error(str(tmp_path)) == ErrorDocument("", "")
    (tmp_path / "error.pb").write_bytes(b"\xff\xff")
    damaged = await call_of(setup).read_error(str(tmp_path))
    assert damaged is not None
    assert "damaged" in damaged.message


def outputs_file(folder: Path) -> None:
    one = literals_pb2.Literal(scalar={"primitive": {"integer": 7}})
    written = literals_pb2.LiteralMap(literals={"lines": one})
    (folder / "outputs.pb").write_bytes(written.SerializeToString())


async def test_outputs_that_the_job_wrote_are_read_as_they_are_declared(
    setup: Setup, tmp_path: Path
) -> None:
    outputs_file(tmp_path)
    prefix = str(tmp_path)
    assert await call_of(setup, prefix).read_outputs() == {"lines": 7}
    declared = {"lines": Type(Kind.FLOAT)}
    assert await call_of(setup, prefix, declared=declared).read_outputs() == {"lines": 7.0}
    with pytest.raises(InvalidTask, match="output 'lines'"):
        await call_of(setup, prefix, declared={"lines": Type(Kind.STRING)}).read_outputs()


async def test_a_damaged_file_of_outputs_is_told(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "outputs.pb").write_bytes(b"\xff\xff")
    with pytest.raises(InvalidTask, match="damaged"):
        await call_of(setup, str(tmp_path)).read_outputs()


async def test_other_stores_are_read_by_fsspec(setup: Setup) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/run/0/error.pb", errors_pb2.ErrorDocument().SerializeToString())
    assert await call_of(setup, "memory://run/0").read_error() == ErrorDocument("", "")
    assert await call_of(setup, "memory://run/1").read_error() is None


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        ("s3://b/run/0", "s3fs"),
        ("abfss://b@a.dfs.core.windows.net/run/0", "adlfs"),
        ("az://b/run/0", "adlfs"),
        ("odd://b/run/0", "none of the stores that Flyte writes to (s3,"),
        ("", "no output"),
    ],
)
async def test_a_store_that_cannot_be_read_here_is_told_with_what_is_missing(
    setup: Setup, prefix: str, says: str
) -> None:
    with pytest.raises(Unsupported) as caught:
        await call_of(setup, prefix).read_error()
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "prefix",
    [
        "simplecache::file://{}",
        "memory://x::file://{}",
        "s3://b/run/0::memory://x",
        "local://{}",
        "http://127.0.0.1:1/latest?of={}",
        "github://owner:repo@main/{}",
    ],
)
async def test_a_prefix_leads_to_no_host_and_no_file_that_fsspec_knows_besides(
    setup: Setup, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "error.pb").write_bytes(errors_pb2.ErrorDocument().SerializeToString())
    with pytest.raises(Unsupported, match="none of the stores"):
        await call_of(setup, prefix.format(tmp_path)).read_error()


# A vendor's error codes.


@pytest.mark.parametrize(
    ("code", "message", "shown"),
    [
        (None, "no", "no"),
        ("accessDenied", "no", "[P_accessDenied] no"),
        ("P_accessDenied", "no", "[P_accessDenied] no"),
        ("accessDenied", "[P_accessDenied] no", "[P_accessDenied] no"),
    ],
)
def test_a_vendors_code_has_the_plugins_name_once(
    setup: Setup, code: str | None, message: str, shown: str
) -> None:
    assert setup.served.words(message, code) == shown
    assert setup.kernel.tell(setup.served, "create", InvalidTask(message, code=code)) == shown
