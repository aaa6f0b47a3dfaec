from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from flyteagents.testing import (
    Cut,
    Delay,
    DropReply,
    FakeVendor,
    Held,
    JobService,
    Nonsense,
    Request,
    Response,
    SlowReply,
    free_port,
)


async def echo(request: Request) -> Response:
    return Response(200, {"path": request.path, "query": dict(request.query)})


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio logs what a connection's task did not deal with."""
    yield
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def test_requests_share_a_connection_and_are_recorded(client: httpx2.AsyncClient) -> None:
    async with FakeVendor(echo) as vendor:
        for number in range(3):
            reply = await client.post(f"{vendor.url}/a%20b?n={number}", json={"n": number})
            assert reply.json() == {"path": "/a%20b", "query": {"n": str(number)}}
    assert vendor.connections == 1
    assert vendor.total == vendor.count("POST", "/a*") == 3
    assert [request.json() for request in vendor.requests] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert vendor.requests[0].headers["content-type"] == "application/json"


class Shop(FakeVendor):
    """With private names that the base has too."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self._open = self._up = self._news = True
        self._scripts = {"shop": 1}

    async def _answer(self, request: Request) -> Response:
        return Response(200, self._scripts)

    def _talk(self) -> str:
        return "about the weather"


async def test_a_vendor_of_a_tests_own_may_have_any_private_names(
    client: httpx2.AsyncClient,
) -> None:
    async with Shop() as vendor:
        vendor.script("GET", "/shop", Response(503))
        assert [(await client.get(f"{vendor.url}/shop")).status_code for _ in "12"] == [503, 200]


async def test_concurrent_requests_and_connections_are_counted(client: httpx2.AsyncClient) -> None:
    async with FakeVendor(echo) as vendor:
        vendor.script("*", "*", Delay(0.03), repeat=True)
        await asyncio.gather(*(client.get(vendor.url) for _ in range(5)))
        assert (vendor.max_in_flight, vendor.in_flight) == (5, 0)
        assert (vendor.max_connections, vendor.connections) == (5, 5)


async def test_a_script_takes_one_step_for_each_matching_request(
    client: httpx2.AsyncClient,
) -> None:
    async with FakeVendor(echo) as vendor:
        vendor.script("GET", "/jobs/*", Response(429, headers={"Retry-After": "7"}), None, Cut())
        throttled = await client.get(f"{vendor.url}/jobs/1?x=1")
        assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "7")
        assert (await client.get(f"{vendor.url}/other")).status_code == 200
        assert (await client.get(f"{vendor.url}/jobs/1")).status_code == 200
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.get(f"{vendor.url}/jobs/1")
        assert (await client.get(f"{vendor.url}/jobs/1")).status_code == 200


async def test_a_repeated_script_goes_on_until_it_is_stopped(client: httpx2.AsyncClient) -> None:
    async with FakeVendor(echo) as vendor:
        script = vendor.script("*", "*", Response(503), Response(500), repeat=True)
        statuses = [(await client.get(vendor.url)).status_code for _ in range(3)]
        script.stop()
        statuses.append((await client.get(vendor.url)).status_code)
    assert statuses == [503, 500, 503, 200]


async def test_a_dropped_reply_is_cut_after_the_work_and_a_cut_before_it(
    client: httpx2.AsyncClient,
) -> None:
    worked: list[str] = []

    async def work(request: Request) -> Response:
        worked.append(request.path)
        return Response(204)

    async with FakeVendor(work) as vendor:
        vendor.script("POST", "*", DropReply(), Cut())
        for path in ("/dropped", "/cut"):
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.post(vendor.url + path)
    assert worked == ["/dropped"]


async def test_a_delay_comes_before_the_work_and_a_slow_reply_after_it(
    client: httpx2.AsyncClient,
) -> None:
    worked: list[float] = []

    async def work(request: Request) -> Response:
        worked.append(time.monotonic())
        return Response()

    async with FakeVendor(work) as vendor:
        vendor.script("*", "*", Delay(0.04), SlowReply(0.04))
        await client.get(vendor.url)
        assert worked[0] - vendor.requests[0].at >= 0.04
        await client.get(vendor.url)
        assert time.monotonic() - worked[1] >= 0.04


async def test_the_work_is_done_although_the_client_has_gone(client: httpx2.AsyncClient) -> None:
    worked = asyncio.Event()

    async def work(_: Request) -> Response:
        worked.set()
        return Response()

    async with FakeVendor(work) as vendor:
        arrives = asyncio.Event()
        vendor.script("*", "*", Held(arrives))
        with pytest.raises(httpx2.ReadTimeout):
            await client.get(vendor.url, timeout=httpx2.Timeout(60, read=0.01))
        assert not worked.is_set()
        arrives.set()
        await asyncio.wait_for(worked.wait(), 60)


async def test_nonsense_is_no_http(client: httpx2.AsyncClient) -> None:
    async with FakeVendor(echo) as vendor:
        vendor.script(
            "*", "*", Nonsense(), Nonsense(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{")
        )
        for _ in range(2):
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(vendor.url)


async def test_large_replies_arrive_whole_when_the_client_closes_the_connection(
    client: httpx2.AsyncClient,
) -> None:
    async def large(_: Request) -> Response:
        return Response(200, b"x" * 5_000_000)

    async with FakeVendor(large) as vendor:
        reply = await client.get(vendor.url, headers={"Connection": "close"})
        assert len(reply.content) == 5_000_000


async def test_a_vendor_that_is_down_refuses_and_comes_back_on_the_same_port(
    client: httpx2.AsyncClient,
) -> None:
    async with FakeVendor(echo) as vendor:
        url = vendor.url
        await vendor.down()
        with pytest.raises(httpx2.ConnectError):
            await client.get(url)
        await vendor.up()
        assert (await client.get(url)).status_code == 200
        vendor.script("*", "*", Delay(60))
        pending = asyncio.ensure_future(client.get(url))
        await vendor.until(count=2)
        await vendor.restart()
        with pytest.raises(httpx2.RemoteProtocolError):
            await pending
        assert (await client.get(url)).status_code == 200


async def test_a_mistake_in_the_tests_own_code_is_raised_at_the_end(
    client: httpx2.AsyncClient,
) -> None:
    async def broken(_: Request) -> Response:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with FakeVendor(broken) as vendor:
            assert (await client.get(vendor.url)).status_code == 500


async def test_the_job_service_starts_one_job_for_a_key(client: httpx2.AsyncClient) -> None:
    async with JobService() as service:
        jobs = f"{service.url}/jobs"
        key = {"Idempotency-Key": "k1"}
        body = {"script": "sleep 60", "tag": "t1", "fingerprint": "f1"}
        service.script("POST", "/jobs", DropReply())
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.post(jobs, json=body, headers=key)
        again = await client.post(jobs, json=body, headers=key)
        assert (again.status_code, again.json()["state"]) == (200, "RUNNING")
        other = await client.post(jobs, json={**body, "fingerprint": "f2"}, headers=key)
        assert (other.status_code, other.json()["job"]["fingerprint"]) == (409, "f1")
        assert (await client.post(jobs, json={"script": ""})).status_code == 201
        assert service.started["k1"] == service.started["t1"] == 1
        found = (await client.get(jobs, params={"tag": "t1"})).json()["jobs"]
        assert [job["id"] for job in found] == [again.json()["id"]] == [service.job("k1").id]


async def test_the_job_service_refuses_a_second_job_under_a_clients_name(
    client: httpx2.AsyncClient,
) -> None:
    async with JobService() as service:
        url = f"{service.url}/jobs/mine"
        assert (await client.get(url)).status_code == 404
        body = {"script": "sleep 60", "fingerprint": "f1"}
        assert (await client.put(url, json=body)).status_code == 201
        second = await client.put(url, json=body)
        assert (second.status_code, second.json()["job"]["fingerprint"]) == (409, "f1")
        assert service.started["mine"] == 1


async def test_jobs_go_through_the_states_of_their_script(client: httpx2.AsyncClient) -> None:
    async with JobService() as service:
        scripts = {
            "pending 60": "PENDING",
            "forever": "RUNNING",
            "": "DONE",
            "fail boom": "FAILED",
            'return {"n": 1}': "DONE",
            "sleep 0; pending 0": "DONE",
        }
        shown = {}
        for script in scripts:
            shown[script] = (
                await client.post(f"{service.url}/jobs", json={"script": script})
            ).json()
        assert {script: job["state"] for script, job in shown.items()} == scripts
        assert shown["fail boom"]["error"] == "boom"
        assert shown['return {"n": 1}']["result"] == {"n": 1}
        bad = await client.post(f"{service.url}/jobs", json={"script": "sleep well"})
        assert (bad.status_code, bad.json()["error"]["code"]) == (400, "bad_script")
        assert (await client.post(f"{service.url}/jobs", json=[])).status_code == 400
        assert (await client.delete(f"{service.url}/jobs")).status_code == 405


async def test_a_cancel_takes_its_time_and_leaves_finished_jobs_alone(
    client: httpx2.AsyncClient,
) -> None:
    async with JobService(cancel_seconds=60) as service:
        url = f"{service.url}/jobs/j"
        await client.put(url, json={"script": "forever"})
        assert (await client.post(f"{url}/cancel")).status_code == 202
        assert (await client.get(url)).json()["state"] == "CANCELING"
        assert [job.id for job in service.live()] == ["j"]
        service.job("j").end("CANCELED")
        assert (await client.get(url)).json()["state"] == "CANCELED"
        assert (await client.post(f"{url}/cancel")).status_code == 200
        assert service.job("j").cancels == 2
        await client.put(f"{url}2", json={"script": ""})
        assert (await client.post(f"{url}2/cancel")).json()["state"] == "DONE"


async def test_the_job_service_asks_for_its_token(client: httpx2.AsyncClient) -> None:
    async with JobService(token="t0ken") as service:
        assert (await client.get(f"{service.url}/jobs")).status_code == 401
        bearer = {"Authorization": "Bearer t0ken"}
        assert (await client.get(f"{service.url}/jobs", headers=bearer)).status_code == 200


async def test_new_jobs_are_not_seen_before_the_lag_has_passed(
    client: httpx2.AsyncClient,
) -> None:
    async with JobService(lag=60) as service:
        await client.put(f"{service.url}/jobs/j", json={"script": ""})
        assert (await client.get(f"{service.url}/jobs/j")).status_code == 404
        assert (await client.get(f"{service.url}/jobs")).json() == {"jobs": []}
        service.lag = 0
        assert (await client.get(f"{service.url}/jobs/j")).status_code == 200


RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not RANGE.exists(), reason="this system does not say which ports it gives away")
def test_a_free_port_is_none_that_another_process_may_be_given_before_it_is_used_again() -> None:
    lowest = int(RANGE.read_text().split()[0])
    assert max(free_port() for _ in range(20)) < lowest
