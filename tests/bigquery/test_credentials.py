"""Whose tokens are used for a call, and for how long."""

from __future__ import annotations

import asyncio
import gc
import math
import re
from pathlib import Path

import pytest
from tests.bigquery.credential_setup import bearers, default, opened
from tests.bigquery.fake_bigquery import FakeBigQuery, Plan, error
from tests.bigquery.google_tokens import EMAIL, GoogleTokens, private_key

from flyteagents import Endpoint, Forbidden, Phase, Unauthenticated, Unavailable
from flyteagents.testing import Response
from flyteagents_bigquery.credentials import Source

SCOPES = ["https://www.googleapis.com/auth/bigquery"]


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


async def test_the_key_that_flyte_2_sends_is_used_in_each_call(
    bigquery: FakeBigQuery, google: GoogleTokens
) -> None:
    key = google.service_account(client_email="sent@p.iam.gserviceaccount.com")
    sent = {"google_application_credentials": key}
    async with opened(bigquery) as driver:
        job = await driver.create(driver.task(), sent_secrets=sent)
        await driver.get(job, sent_secrets=sent)
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


async def test_a_tasks_own_key_goes_first_and_the_services_key_last(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(email: str) -> str:
        return google.service_account(client_email=email)

    monkeypatch.setenv("FLYTEAGENTS_SECRET_GOOGLE_APPLICATION_CREDENTIALS", key("service@p"))
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SALES_KEY", key("sales@p"))
    sent = {"google_application_credentials": key("sent@p")}
    async with opened(bigquery, credentials={"sales/*": "sales_key"}) as driver:
        await driver.create(driver.task(), project="sales", sent_secrets=sent)
        await driver.create(driver.task(number=1), project="sales")
        await driver.create(driver.task(number=2), project="other")
    assert google.who == ["sent@p", "sales@p", "service@p"]


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


async def test_whom_google_refuses_is_said_at_once_and_at_the_jobs_end(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    bigquery.will("secrets", Plan(error=("accessDenied", "Access Denied: Table p:d.secrets")))
    async with opened(bigquery) as driver:
        status = await driver.get(await driver.create(driver.task("SELECT * FROM secrets")))
        assert (status.message or "").endswith(f" | credentials: {EMAIL}")
        bigquery.script("POST", "*/jobs", error(403, "accessDenied", "no bigquery.jobs.create"))
        with pytest.raises(Forbidden, match=re.escape(f"jobs.create | credentials: {EMAIL}")):
            await driver.create(driver.task(execution="another"))


async def test_a_refused_job_has_ended_also_where_no_token_says_whose_it_was(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    bigquery.will("secrets", Plan(error=("accessDenied", "Access Denied: Table p:d.secrets")))
    async with opened(bigquery) as driver:
        job = await driver.create(driver.task("SELECT * FROM secrets"))
        endpoints = [await driver.agent.endpoint(None, driver.env.call("get", job))]

        async def endpoint(*_: object) -> Endpoint:
            if not endpoints:
                raise Unavailable("the token service is away")
            return endpoints.pop()

        monkeypatch.setattr(driver.agent, "endpoint", endpoint)
        assert (await driver.get(job)).phase is Phase.FAILED


async def test_a_key_that_google_does_not_take_any_more_says_what_may_be_wrong(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    refusal = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
    google.script("POST", "*", Response(400, refusal), repeat=True)
    async with opened(bigquery) as driver:
        with pytest.raises(Unauthenticated, match=r"Signature\. \| the key or its account may be"):
            await driver.create(driver.task())


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
    sent = {"google_application_credentials": google.service_account()}
    async with opened(bigquery) as driver:
        await driver.create(driver.task(), sent_secrets=sent)
        gc.collect()
        line = private_key().splitlines()[1]
        kept = repr(driver.agent._tokens._kept) + repr(vars(driver.agent._tokens))
        assert line not in kept
        assert google.given[0] not in kept
    assert line not in repr(Source(key=google.service_account()))


async def test_a_slow_token_service_stops_no_other_call(
    bigquery: FakeBigQuery, google: GoogleTokens
) -> None:
    slow = {"google_application_credentials": google.service_account()}
    quick = {"google_application_credentials": google.service_account(client_id="2")}
    bigquery.will("SELECT", Plan(running=math.inf))
    async with opened(bigquery) as driver:
        await driver.create(driver.task(number=1), sent_secrets=quick)
        google.open.clear()
        waiting = asyncio.ensure_future(driver.create(driver.task(), sent_secrets=slow))
        await google.until(count=2)
        await driver.create(driver.task(number=2), sent_secrets=quick)
        assert not waiting.done()
        google.open.set()
        await waiting


async def test_the_check_says_whose_credentials_are_good(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    async with opened(bigquery) as driver:
        assert await driver.env.check() == ("BigQuery accepts the application default credentials")
        denied = {"error": {"errors": [{"reason": "accessDenied"}], "message": "no"}}
        bigquery.script("*", "*", Response(403, denied))
        with pytest.raises(Forbidden):
            await driver.env.check()


async def test_the_check_tries_all_credentials_that_are_named(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SALES_KEY", google.service_account(client_email="s@p"))
    async with opened(bigquery, credentials={"sales/*": "sales_key"}) as driver:
        told = await driver.env.check()
        assert told.endswith("; sales/*: there is a token for the secret sales_key")
        assert google.who == [EMAIL, "s@p"]
    async with opened(bigquery, credentials={"sales/*": "missing_key"}) as driver:
        with pytest.raises(Unauthenticated, match="missing_key"):
            await driver.env.check()
