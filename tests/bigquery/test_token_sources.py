"""What keys, federations and the metadata server give, and how their failures are read."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from google.auth.compute_engine import _metadata
from tests.bigquery.credential_setup import bearers, default, opened
from tests.bigquery.fake_bigquery import FakeBigQuery
from tests.bigquery.google_tokens import EMAIL, GoogleTokens, MetadataServer

from flyteagents import InvalidTask, Unauthenticated, Unavailable
from flyteagents.testing import Delay, FakeVendor, Request, Response
from flyteagents_bigquery.credentials import Source, obtain
from flyteagents_bigquery.keys import Trust
from flyteagents_bigquery.settings import GOOGLE
from flyteagents_bigquery.transport import Transport

SCOPES = ["https://www.googleapis.com/auth/bigquery"]


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


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ("/keys/k.json", Unauthenticated, "the text of a JSON file, and not its path"),
        ("[]", Unauthenticated, "must be the text of a JSON file"),
        ('{"type": "gdch"}', Unauthenticated, "the secret x is of the type 'gdch'"),
        ('{"installed": {}}', Unauthenticated, "make a key of a service account"),
        ('{"type": "service_account"}', Unauthenticated, "missing fields"),
        (
            '{"type": "service_account", "client_email": "a@b", "private_key": "c4nary", '
            '"token_uri": "https://oauth2.googleapis.com/token"}',
            Unauthenticated,
            r"the secret x cannot be read .*: keep the JSON file as Google gave it out",
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
        *(
            (json.dumps({"type": "service_account", "token_uri": url}), InvalidTask, "token_uri")
            for url in (
                r"https://evil.example\.googleapis.com/t",
                r"https://evil.example\@oauth2.googleapis.com/t",
                "https://evil.example%2f.googleapis.com/t",
                "https://evil.example\t.googleapis.com/t",
                "https://evil.example:a@oauth2.googleapis.com/t",
            )
        ),
        (
            json.dumps({"type": "service_account", "universe_domain": r"x\.googleapis.com"}),
            InvalidTask,
            "universe_domain",
        ),
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
    sent = {"google_application_credentials": key}
    async with opened(bigquery, federated_secrets=True) as driver:
        await driver.create(driver.task(), sent_secrets=sent)
    assert google.who == ["of-the-cluster"]


@pytest.mark.usefixtures("asked_once")
async def test_a_token_service_that_is_down_may_come_back(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default(monkeypatch, tmp_path, google.service_account())
    await google.down()
    async with opened(bigquery) as driver:
        with pytest.raises(Unavailable, match="no access token"):
            await driver.create(task := driver.task())
        await google.up()
        await driver.create(task)


async def test_no_redirect_takes_a_key_s_secrets_elsewhere(
    bigquery: FakeBigQuery, google: GoogleTokens
) -> None:
    async with GoogleTokens() as elsewhere:
        away = Response(307, "", {"location": f"{elsewhere.url}/token"})
        google.script("POST", "*", away, repeat=True)
        sent = {"google_application_credentials": google.service_account()}
        async with opened(bigquery) as driver:
            with pytest.raises(Unavailable, match="no access token"):
                await driver.create(driver.task(), sent_secrets=sent, seconds=0.1)
    assert elsewhere.total == 0


@pytest.mark.parametrize(
    "reply",
    [
        Response(503, "<html>"),
        Response(429, "slow down"),
        Response(400, {"error": "invalid_grant", "error_description": "The token is stale."}),
        Response(400, {"error": "invalid_grant", "error_description": "ID Token has expired"}),
    ],
)
async def test_what_a_federation_cannot_get_yet_is_asked_for_again(
    bigquery: FakeBigQuery,
    google: GoogleTokens,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    reply: Response,
) -> None:
    (tmp_path / "token").write_text("of-the-cluster")
    default(monkeypatch, tmp_path, google.federated(tmp_path / "token"))
    google.script("*", "*", reply, reply)
    async with opened(bigquery) as driver:
        await driver.create(driver.task())
    assert (google.count("POST"), bigquery.inserted) == (3, 1)


async def test_what_a_federation_is_refused_is_said_at_once(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("of-the-cluster")
    default(monkeypatch, tmp_path, google.federated(tmp_path / "token"))
    refusal = {"error": "invalid_target", "error_description": "no such provider"}
    google.script("*", "*", Response(400, refusal), repeat=True)
    async with opened(bigquery) as driver:
        with pytest.raises(Unauthenticated, match="no such provider"):
            await driver.create(driver.task())
    assert google.total == 1


async def test_nobody_looks_up_the_project_of_a_federation(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("of-the-cluster")
    default(monkeypatch, tmp_path, google.federated(tmp_path / "token"))
    asked: list[object] = []
    monkeypatch.setattr(
        "google.auth.external_account.Credentials.get_project_id", lambda *args: asked.append(args)
    )
    async with opened(bigquery, project="ours") as driver:
        await driver.create(driver.task("SELECT 1", {"Location": "EU"}))
    assert (google.total, asked) == (1, [])
    assert bigquery.job.project == "ours"


async def test_a_metadata_server_that_is_not_ready_is_asked_again(
    bigquery: FakeBigQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MetadataServer() as metadata:
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{metadata.port}")
        # google-auth reads the variable when it is imported.
        monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", f"127.0.0.1:{metadata.port}")
        metadata.script("*", "*", Response(404), Response(404))
        async with opened(bigquery) as driver:
            await driver.create(driver.task())
    assert bearers(bigquery) == ["ya29.of-the-machine"]
    assert metadata.count("GET", "*project*") == 0  # nobody needs its project


async def test_the_metadata_server_is_asked_by_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with MetadataServer() as metadata:
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{metadata.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        await asyncio.to_thread(Transport(), f"{metadata.url}/computeMetadata/v1/")
    assert metadata.total == 1


async def test_a_reply_may_take_longer_than_google_auth_itself_would_wait(
    google: GoogleTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    google.script("*", "*", Delay(0.2))
    transport = Transport()
    url, body = f"{google.url}/token", b"subject_token=x"
    reply = await asyncio.to_thread(transport, url, "POST", body, timeout=0.01)
    assert (reply.status, transport.passing) == (200, False)


async def test_all_requests_for_one_token_end_after_a_while(
    google: GoogleTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("of-the-cluster")
    default(monkeypatch, tmp_path, google.federated(tmp_path / "token"))
    monkeypatch.setattr("flyteagents_bigquery.transport.ALL", 0.0)
    with pytest.raises(Unavailable, match="no access token within 0 s"):
        await asyncio.to_thread(obtain, Source(), SCOPES, Trust())
    assert google.total == 0


async def test_a_universe_that_is_not_googles_needs_its_address(
    bigquery: FakeBigQuery, google: GoogleTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = google.service_account(universe_domain="cloud.example")
    monkeypatch.setenv("FLYTEAGENTS_SECRET_GOOGLE_APPLICATION_CREDENTIALS", key)
    trusted = ("127.0.0.1", "*.cloud.example")
    async with opened(bigquery, url=GOOGLE, key_hosts=trusted) as driver:
        with pytest.raises(Unauthenticated, match=r"URL, to https://bigquery\.cloud\.example"):
            await driver.create(driver.task())
    async with opened(bigquery, key_hosts=trusted) as driver:
        await driver.create(driver.task())
    [bearer] = bearers(bigquery)
    assert bearer.count(".") == 2  # the key signs its own token there


@pytest.mark.parametrize("home", [True, False])
async def test_no_default_credentials_at_all_is_told_with_what_to_do(
    bigquery: FakeBigQuery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: bool
) -> None:
    if home:
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    else:
        monkeypatch.delenv("CLOUDSDK_CONFIG", raising=False)
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(os, "getuid", lambda: 54321)
    # Another cloud's metadata server is at the same address.
    async with FakeVendor(_not_google) as other:
        monkeypatch.setattr("flyteagents_bigquery.credentials.METADATA", other.url)
        async with opened(bigquery) as driver:
            with pytest.raises(Unauthenticated, match="set GOOGLE_APPLICATION_CREDENTIALS"):
                await driver.create(driver.task())


async def _not_google(request: Request) -> Response:
    return Response(200, "ami-id")


async def test_no_default_credentials_is_an_error_of_credentials(
    bigquery: FakeBigQuery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    async with opened(bigquery) as driver:
        with pytest.raises(Unauthenticated, match="default credentials"):
            await driver.create(driver.task())
