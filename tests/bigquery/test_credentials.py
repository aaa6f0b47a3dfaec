"""Where tokens come from, how long they are kept, and whose they are."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.bigquery.driving import Driver
from tests.bigquery.fake_bigquery import FakeBigQuery, Plan
from tests.bigquery.google_tokens import EMAIL, GoogleTokens, private_key

from flyteagents import Forbidden, InvalidTask, Phase, Unauthenticated, Unavailable
from flyteagents._kernel.requests import Connection
from flyteagents.testing import Response
from flyteagents_bigquery.credentials import Source, obtain
from flyteagents_bigquery.keys import Trust

SCOPES = ["https://www.googleapis.com/auth/bigquery"]


@pytest.fixture
async def google() -> AsyncIterator[GoogleTokens]:
    async with GoogleTokens() as tokens:
        yield tokens


@contextlib.asynccontextmanager
async def opened(bigquery: FakeBigQuery, **settings: Any) -> AsyncIterator[Driver]:
    trusted = {"anonymous": False, "key_hosts": ("127.0.0.1", "*.googleapis.com")}
    async with Driver(bigquery.url, **{**trusted, **settings}).opened() as driver:
        yield driver


def default(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """Make `text` the application default credentials."""
    path = folder / "default.json"
    path.write_text(text)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))


def bearers(bigquery: FakeBigQuery) -> list[str]:
    return [one.headers["authorization"].removeprefix("Bearer ") for one in bigquery.requests]


async def test_the_application_default_credentials_are_used_and_kept(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    async with opened(bigquery) as driver:
        job = await driver.create(driver.task())
        await asyncio.gather(*(driver.get(job) for _ in range(10)))
    assert google.who == [EMAIL]
    assert set(bearers(bigquery)) == {google.given[0]}


async def test_calls_count_against_the_quota_project(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "payer")  # what google-auth itself reads
    async with opened(bigquery) as driver:
        await driver.create(driver.task())
    assert bigquery.requests[-1].headers["x-goog-user-project"] == "payer"
    async with opened(bigquery, quota_project="other") as driver:
        await driver.create(driver.task(number=1))
    assert bigquery.requests[-1].headers["x-goog-user-project"] == "other"


@pytest.mark.parametrize("impersonate", [False, True])
async def test_workload_identity_federation_is_used(
    bigquery: FakeBigQuery,
    google: GoogleTokens,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    impersonate: bool,
) -> None:
    (tmp_path / "token").write_text("of-the-cluster")
    default(monkeypatch, tmp_path, google.federated(tmp_path / "token", impersonate))
    async with opened(bigquery) as driver:
        await driver.create(driver.task())
    assert google.who == ["of-the-cluster", *([EMAIL] if impersonate else [])]
    assert bearers(bigquery) == [google.given[-1]]


async def test_the_key_that_flyte_2_sends_is_used_in_each_call(
    bigquery: FakeBigQuery, google: GoogleTokens
) -> None:
    key = google.service_account(client_email="sent@p.iam.gserviceaccount.com")
    sent = Connection({"google_application_credentials": key})
    async with opened(bigquery) as driver:
        job = await driver.create(driver.task(), connection=sent)
        await driver.get(job, connection=sent)
        with pytest.raises(Unauthenticated):  # nobody else has its token
            await driver.get(job)
    assert google.who == ["sent@p.iam.gserviceaccount.com"]


async def test_projects_and_domains_have_credentials_of_their_own(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    for name in ("sales", "ops"):
        key = google.service_account(client_email=f"{name}@p")
        monkeypatch.setenv(f"FLYTEAGENTS_SECRET_{name.upper()}_KEY", key)
    mapped = {"sales/*": "sales_key", "*/production": "ops_key"}
    async with opened(bigquery, credentials=mapped) as driver:
        for number, (project, domain) in enumerate(
            [("sales", "development"), ("other", "production"), ("other", "development")]
        ):
            task = driver.task(number=number)
            await driver.create(task, project=project, domain=domain)
    assert google.who == ["sales@p", "ops@p", EMAIL]


async def test_a_missing_secret_names_where_it_could_be(bigquery: FakeBigQuery) -> None:
    async with opened(bigquery, credentials={"*/*": "sales_key"}) as driver:
        with pytest.raises(Unauthenticated, match="FLYTEAGENTS_SECRET_SALES_KEY"):
            await driver.create(driver.task())


async def test_a_service_account_is_impersonated_with_the_default_credentials(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # IAM's own address is fixed in google-auth, so this sees only who is asked first.
    default(monkeypatch, tmp_path, google.service_account())
    google.script("*", "*", Response(400, {"error": "invalid_grant"}), repeat=True)
    async with opened(bigquery, credentials={"*/*": "etl@p.iam.gserviceaccount.com"}) as driver:
        with pytest.raises(Unauthenticated, match=r"etl@p.*invalid_grant"):
            await driver.create(driver.task())
    assert google.count("POST", "/token") == 1


async def test_a_refused_token_is_replaced_once_for_all_that_are_under_way(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    async with opened(bigquery) as driver:
        job = await driver.create(driver.task())
        for kept in driver.agent._tokens._kept.values():
            kept.obtained -= 60
        bigquery.tokens = {"ya29.token-number-2"}
        found = await asyncio.gather(*(driver.get(job) for _ in range(20)))
    assert {status.phase for status in found} == {Phase.SUCCEEDED}
    assert google.total == 2


async def test_credentials_that_stay_refused_are_an_error_of_credentials(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    bigquery.tokens = set()
    async with opened(bigquery) as driver:
        with pytest.raises(Unauthenticated):
            await driver.create(driver.task())


async def test_a_token_is_renewed_ahead_of_its_end_and_nobody_waits(
    bigquery: FakeBigQuery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with GoogleTokens(lifetime=200) as google:
        default(monkeypatch, tmp_path, google.service_account())
        async with opened(bigquery) as driver:
            job = await driver.create(driver.task())
            for kept in driver.agent._tokens._kept.values():
                kept.again = 0.0
            google.open.clear()
            await asyncio.gather(*(driver.get(job) for _ in range(10)))
            await google.until(count=2)
            google.open.set()
            [kept] = driver.agent._tokens._kept.values()
            assert kept.renewal is not None
            await kept.renewal
            await driver.get(job)
        assert bearers(bigquery)[-1] == google.given[1]
        assert set(bearers(bigquery)[:-1]) == {google.given[0]}


async def test_a_renewal_that_fails_is_tried_again_while_the_token_lasts(
    bigquery: FakeBigQuery,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with GoogleTokens(lifetime=200) as google:
        default(monkeypatch, tmp_path, google.service_account())
        async with opened(bigquery) as driver:
            job = await driver.create(driver.task())
            [kept] = driver.agent._tokens._kept.values()
            google.script("*", "*", Response(400, {"error": "invalid_grant"}), repeat=True)
            kept.again = 0.0
            with caplog.at_level(logging.WARNING, "flyteagents.bigquery"):
                await driver.get(job)
                assert kept.renewal is not None
                await asyncio.wait([kept.renewal])
            await driver.get(job)
    assert "could not be renewed" in caplog.text
    assert set(bearers(bigquery)) == {google.given[0]}


async def test_a_token_that_has_ended_is_not_used(
    bigquery: FakeBigQuery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with GoogleTokens(lifetime=5) as google:
        default(monkeypatch, tmp_path, google.service_account())
        async with opened(bigquery) as driver:
            await driver.get(await driver.create(driver.task()))
        assert bearers(bigquery) == google.given


async def test_nothing_that_is_kept_has_a_key_in_it(
    bigquery: FakeBigQuery, google: GoogleTokens
) -> None:
    sent = Connection({"google_application_credentials": google.service_account()})
    async with opened(bigquery) as driver:
        await driver.create(driver.task(), connection=sent)
        gc.collect()
        line = private_key().splitlines()[1]
        kept = repr(driver.agent._tokens._kept) + repr(vars(driver.agent._tokens))
        assert line not in kept
        assert google.given[0] not in kept
    assert line not in repr(Source(key=google.service_account()))


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ("not json", Unauthenticated, "must be the text of a JSON file"),
        ("[]", Unauthenticated, "must be the text of a JSON file"),
        ('{"type": "gdch"}', Unauthenticated, "must have the type"),
        ('{"type": "service_account"}', Unauthenticated, "missing fields"),
        (
            '{"type": "service_account", "client_email": "a@b", "private_key": "c4nary", '
            '"token_uri": "https://oauth2.googleapis.com/token"}',
            Unauthenticated,
            "the secret x cannot be used",
        ),
        (
            '{"type": "authorized_user", "token_uri": "https://evil.example/t"}',
            InvalidTask,
            "token_uri is not an address of Google's",
        ),
        (
            '{"type": "authorized_user", "token_uri": "http://oauth2.googleapis.com/t"}',
            InvalidTask,
            "token_uri",
        ),
        (
            '{"type": "service_account", "universe_domain": "evil.example"}',
            InvalidTask,
            "universe_domain",
        ),
        (
            '{"type": "impersonated_service_account", '
            '"source_credentials": {"token_uri": "https://evil.example"}}',
            InvalidTask,
            "token_uri",
        ),
        ('{"type": "external_account"}', InvalidTask, "FEDERATED_SECRETS"),
    ],
)
def test_a_key_that_is_no_good_is_refused_without_quoting_it(
    key: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as raised:
        obtain(Source(key=key, shown="the secret x"), SCOPES, Trust())
    assert "evil.example" not in str(raised.value)
    assert "c4nary" not in str(raised.value)


def test_a_secret_may_never_name_a_program() -> None:
    key = {"type": "external_account", "credential_source": {"executable": {"command": "id"}}}
    with pytest.raises(InvalidTask, match="program"):
        obtain(Source(key=json.dumps(key)), SCOPES, Trust(federated=True))


async def test_a_secret_may_be_federated_where_the_operator_allows_it(
    bigquery: FakeBigQuery, google: GoogleTokens, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("of-the-cluster")
    key = google.federated(tmp_path / "token")
    sent = Connection({"google_application_credentials": key})
    async with opened(bigquery, federated_secrets=True) as driver:
        await driver.create(driver.task(), connection=sent)
    assert google.who == ["of-the-cluster"]


async def test_a_token_service_that_is_down_may_come_back(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    await google.down()
    async with opened(bigquery) as driver:
        with pytest.raises(Unavailable, match="no access token"):
            await driver.agent.create(
                task := driver.task(), driver.call("create", task, seconds=0.1)
            )
        await google.up()
        await driver.create(task)


async def test_no_default_credentials_is_an_error_of_credentials(
    bigquery: FakeBigQuery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    async with opened(bigquery) as driver:
        with pytest.raises(Unauthenticated, match="default credentials"):
            await driver.create(driver.task())


async def test_a_slow_token_service_stops_no_other_call(
    bigquery: FakeBigQuery, google: GoogleTokens
) -> None:
    slow = Connection({"google_application_credentials": google.service_account()})
    quick = Connection({"google_application_credentials": google.service_account(client_id="2")})
    bigquery.will("SELECT", Plan(running=math.inf))
    async with opened(bigquery) as driver:
        await driver.create(driver.task(number=1), connection=quick)
        google.open.clear()
        waiting = asyncio.ensure_future(driver.create(driver.task(), connection=slow))
        await google.until(count=2)
        await driver.create(driver.task(number=2), connection=quick)
        assert not waiting.done()
        google.open.set()
        await waiting


async def test_the_check_says_whose_credentials_are_good(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    async with opened(bigquery) as driver:
        call = driver.call("check", None)
        assert await driver.agent.check(call) == (
            "BigQuery accepts the application default credentials"
        )
        denied = {"error": {"errors": [{"reason": "accessDenied"}], "message": "no"}}
        bigquery.script("*", "*", Response(403, denied))
        with pytest.raises(Forbidden):
            await driver.agent.check(call)


async def test_the_check_tries_all_credentials_that_are_named(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SALES_KEY", google.service_account(client_email="s@p"))
    async with opened(bigquery, credentials={"sales/*": "sales_key"}) as driver:
        told = await driver.agent.check(driver.call("check", None))
        assert "there is a token for the secret sales_key" in told
        assert google.who == [EMAIL, "s@p"]
        variable = "FLYTEAGENTS_SECRET_GOOGLE_APPLICATION_CREDENTIALS"
        monkeypatch.setenv(variable, google.service_account())
        assert "goes before all of these" in await driver.agent.check(driver.call("check", None))
    async with opened(bigquery, credentials={"sales/*": "missing_key"}) as driver:
        with pytest.raises(Unauthenticated, match="missing_key"):
            await driver.agent.check(driver.call("check", None))
