"""The Snowflake to test against does what Snowflake's pages say that the SQL API does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import jwt
import pytest
from tests.snowflake.fake_snowflake import BASE, FakeSnowflake, Repeat
from tests.snowflake.logins import TOKEN_PATH, Logins, _key, fingerprint, private_key
from tests.snowflake.statements import FOREVER, Plan

Client = httpx2.AsyncClient


@pytest.fixture
async def client(snowflake: FakeSnowflake) -> AsyncIterator[Client]:
    async with Client(base_url=snowflake.url) as client:
        yield client


async def submit(client: Client, statement: str, request: str = "", **body: Any) -> Any:
    """The reply of a request that is held until its statement has ended."""
    params = {"requestId": request, "retry": "true"} if request else {}
    if body.pop("wait", True) is False:
        params["async"] = "true"
    reply = await client.post(BASE, params=params, json={"statement": statement, **body})
    return {"status": reply.status_code, **reply.json()}


async def test_sql_is_run_and_its_cells_are_texts(client: Client) -> None:
    await submit(client, "CREATE TABLE t (n INT, s VARCHAR)")
    inserted = await submit(client, r"INSERT INTO db.public.t VALUES (1, 'a\'b'), (2, NULL)")
    assert inserted["stats"]["numRowsInserted"] == "2"
    found = await submit(
        client, "SELECT n, s, n > 1 AS b, DATE '1970-01-03' AS d FROM t ORDER BY n", warehouse="W"
    )
    assert (found["status"], found["code"]) == (200, "090001")
    assert found["data"] == [["1", "a'b", "false", "2"], ["2", None, "true", "2"]]


@pytest.mark.parametrize(
    ("statement", "code", "state"),
    [
        ("SELEC 1", "001003", "42000"),
        ("SELECT * FROM nowhere", "002003", "42S02"),
        ("SELECT CAST('x' AS INT)", "100038", "22018"),
        ("SELECT 1; SELECT 2", "000008", "0A000"),
    ],
)
async def test_what_fails_is_422_with_its_code(
    client: Client, statement: str, code: str, state: str
) -> None:
    failed = await submit(client, statement)
    assert (failed["status"], failed["code"], failed["sqlState"]) == (422, code, state)
    again = await client.get(f"{BASE}/{failed['statementHandle']}")
    assert (again.status_code, again.json()["code"]) == (422, code)


async def test_several_statements_have_handles_and_a_failure_names_its_place(
    client: Client, snowflake: FakeSnowflake
) -> None:
    await submit(client, "CREATE TABLE t (n INT)")
    several: dict[str, Any] = {"parameters": {"MULTI_STATEMENT_COUNT": "0"}}
    text = "BEGIN; INSERT INTO t VALUES (1); COMMIT; SELECT SUM(n) FROM t"
    done = await submit(client, text, **several)
    assert len(done["statementHandles"]) == 4
    last = await client.get(f"{BASE}/{done['statementHandles'][3]}")
    assert last.json()["data"] == [["1"]]
    failed = await submit(
        client, "INSERT INTO t VALUES (2);\n INSERT INTO t VALUES ('x')", **several
    )
    assert failed["code"] == "100132"
    assert "(at line 2, position 1)" in failed["message"]
    await submit(client, "BEGIN; INSERT INTO t VALUES (3); SELECT * FROM nowhere", **several)
    assert snowflake.rows("SELECT n FROM t ORDER BY n") == [["1"], ["2"]]


@pytest.mark.parametrize(
    ("repeats", "running", "failed", "done"),
    [(Repeat.SAME, 1, 1, 1), (Repeat.DONE, 2, 2, 1), (Repeat.ANEW, 2, 2, 2)],
)
async def test_a_repeated_request_is_what_the_switch_says(
    client: Client, snowflake: FakeSnowflake, repeats: Repeat, running: int, failed: int, done: int
) -> None:
    snowflake.repeats = repeats
    snowflake.will("forever", FOREVER)
    for name, statement in (("r", "SELECT 'forever'"), ("f", "SELEC"), ("d", "SELECT 1")):
        for _ in range(2):
            await submit(client, statement, name, wait=name != "r")
    counts = [sum(one.request_id == name for one in snowflake.statements) for name in "rfd"]
    assert counts == [running, failed, done]


async def test_without_retry_a_request_is_a_new_one(
    client: Client, snowflake: FakeSnowflake
) -> None:
    for _ in range(2):
        await client.post(BASE, params={"requestId": "x"}, json={"statement": "SELECT 1"})
    assert len(snowflake.statements) == 2


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'forever'",
        "SELECT SYSTEM$WAIT(60)",
        "SELECT SUM(a.range * b.range) FROM range(100000000) a, range(100000000) b",
    ],
)
async def test_a_statement_runs_until_it_is_cancelled(
    client: Client, snowflake: FakeSnowflake, statement: str
) -> None:
    snowflake.will("forever", FOREVER)
    handle = (await submit(client, statement, wait=False))["statementHandle"]
    await asyncio.sleep(0.05)
    assert (await client.get(f"{BASE}/{handle}")).status_code == 202
    assert (await client.post(f"{BASE}/{handle}/cancel")).json()["code"] == "000604"
    while (ended := await client.get(f"{BASE}/{handle}")).status_code == 202:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert (ended.status_code, ended.json()["code"]) == (422, "000604")
    assert (await client.post(f"{BASE}/{handle}/cancel")).json()["code"] == "000709"


async def test_a_statement_is_limited_in_time(client: Client) -> None:
    ended = await submit(client, "SELECT SYSTEM$WAIT(60)", timeout=1)
    assert (ended["status"], ended["code"]) == (408, "000630")


async def test_a_result_comes_in_partitions(client: Client, snowflake: FakeSnowflake) -> None:
    snowflake.partition = 2
    first = await submit(client, "SELECT range AS n FROM range(5)")
    assert (len(first["data"]), len(first["resultSetMetaData"]["partitionInfo"])) == (2, 3)
    path = f"{BASE}/{first['statementHandle']}"
    last = await client.get(path, params={"partition": 2})
    assert last.json() == {"data": [["4"]]}
    assert (await client.get(path, params={"partition": 3})).status_code == 400


async def test_the_history_shows_tags_late_and_cuts_before_it_filters(
    client: Client, snowflake: FakeSnowflake
) -> None:
    look = (
        'SELECT query_id, execution_status FROM TABLE("DB".INFORMATION_SCHEMA.'
        "QUERY_HISTORY_BY_USER(RESULT_LIMIT => {0})) WHERE CONTAINS(query_tag, ?)"
    )
    mine = {"1": {"type": "TEXT", "value": "mine"}}
    snowflake.lag = 60.0
    made = await submit(client, "SELECT 1", parameters={"query_tag": "it is mine"})
    assert (await submit(client, look.format(10), bindings=mine))["data"] == []
    snowflake.lag = 0.0
    found = (await submit(client, look.format(10), bindings=mine))["data"]
    assert found == [[made["statementHandle"], "SUCCESS"]]
    assert (await submit(client, look.format(1), bindings=mine))["data"] == []


async def test_every_kind_of_login_is_checked(client: Client, snowflake: FakeSnowflake) -> None:
    logins = Logins({"A.ME": [0]}, {"app": "word"}, {"refresh"}, {"pat"})
    snowflake.logins = logins

    async def status(kind: str, token: str) -> int:
        headers = {
            "Authorization": f"Bearer {token}",
            "X-Snowflake-Authorization-Token-Type": kind,
        }
        reply = await client.post(BASE, json={"statement": "SELECT 1"}, headers=headers)
        return reply.status_code

    def signed(key: int, subject: str = "A.ME", life: int = 3000) -> str:
        issuer = f"{subject}.{fingerprint(_key(key).public_key())}"
        now = int(time.time())
        claims = {"iss": issuer, "sub": subject, "iat": now, "exp": now + life}
        return jwt.encode(claims, private_key(key), algorithm="RS256")

    for token in (signed(1), signed(0, "B.ME"), signed(0, life=7200), signed(0, life=-5), "x"):
        assert await status("KEYPAIR_JWT", token) == 401
    assert await status("KEYPAIR_JWT", signed(0)) == 200
    assert await status("PROGRAMMATIC_ACCESS_TOKEN", "pat") == 200
    assert await status("PROGRAMMATIC_ACCESS_TOKEN", "other") == 401
    assert await status("", "pat") == 401
    form = {"grant_type": "client_credentials", "client_id": "app", "client_secret": "word"}
    token = (await client.post(TOKEN_PATH, data=form)).json()["access_token"]
    assert await status("OAUTH", token) == 200
    logins.given[token] = 0
    assert await status("OAUTH", token) == 401
    assert (await client.post(TOKEN_PATH, data={**form, "client_secret": "?"})).status_code == 401


async def test_a_plan_may_refuse_a_submit_and_run_it_all_the_same(
    client: Client, snowflake: FakeSnowflake
) -> None:
    busy = (429, {"code": "390505", "message": "too many requests"})
    snowflake.will("one", Plan(refused=busy))
    snowflake.will("two", Plan(refused=busy, started=True))
    assert "statementHandle" not in await submit(client, "SELECT 'one'")
    handle = (await submit(client, "SELECT 'two'"))["statementHandle"]
    assert [one.handle for one in snowflake.statements] == [handle]
