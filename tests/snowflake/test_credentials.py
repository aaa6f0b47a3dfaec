"""Whose credentials a call uses, and how long a token of them lasts."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.snowflake.driving import CONFIG, QUERY_ID, Driver
from tests.snowflake.fake_snowflake import BASE, FakeSnowflake
from tests.snowflake.logins import Logins, _key, private_key
from tests.snowflake.statements import FOREVER

from flyteagents import AgentError, Forbidden, InvalidTask, Phase, Unauthenticated
from flyteagents._kernel.requests import NO_CONNECTION, Connection
from flyteagents.testing import Response
from flyteagents_snowflake import credentials
from flyteagents_snowflake.job import SnowflakeJob

NAME = "FLYTEAGENTS_SECRET_SNOWFLAKE_PRIVATE_KEY"
CLIENT = json.dumps({"client_id": "app", "client_secret": "word-of-the-client"})
REFRESH = json.dumps(
    {
        "client_id": "app",
        "client_secret": "word-of-the-client",
        "refresh_token": "refresh-me",
        "scope": "session:role:ANALYST",
    }
)


async def done(driver: Driver, connection: Connection = NO_CONNECTION, **options: Any) -> None:
    """One statement, with what the call itself has for credentials."""
    project = options.pop("project", "tests")
    task = driver.task(**options)
    job = await driver.create(task, connection=connection, project=project)
    status = await driver.ended(job, connection=connection, project=project)
    assert status.phase is Phase.SUCCEEDED, status


def der(number: int = 0) -> str:
    raw = _key(number).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    "account", ["acct", "acct.us-east-1", "ACCT.privatelink", "https://acct.snowflakecomputing.com"]
)
async def test_a_key_pair_logs_in_to_every_form_of_an_account(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch, account: str
) -> None:
    monkeypatch.setenv(NAME, private_key())
    async with Driver(snowflake.url).opened() as driver:
        await done(driver, config={**CONFIG, "account": account})
        await done(driver, config={**CONFIG, "account": "org-my_acct"}, execution="other")
    assert set(logins.seen) == {"JWT ACCT.ME", "JWT ORG-MY_ACCT.ME"}


@pytest.mark.parametrize("key", [private_key(), private_key().replace("\n", "\\n"), der()])
async def test_a_key_may_be_written_in_one_line_or_without_its_armour(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(NAME, f"  {key}\n")
    async with Driver(snowflake.url).opened() as driver:
        await done(driver)


async def test_an_encrypted_key_takes_its_passphrase(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, private_key(0, "open sesame"))
    async with Driver(snowflake.url).opened() as driver:
        with pytest.raises(Unauthenticated, match="_passphrase behind it"):
            await done(driver)
        monkeypatch.setenv(f"{NAME}_PASSPHRASE", "wrong")
        with pytest.raises(Unauthenticated, match="is the passphrase right"):
            await done(driver)
        monkeypatch.setenv(f"{NAME}_PASSPHRASE", "open sesame")
        await done(driver)
        # One too many, left behind when the key was replaced by one without.
        monkeypatch.setenv(NAME, private_key(0))
        await done(driver, execution="2")


async def test_secrets_are_where_flytekits_deployments_have_them(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("_FSEC_SNOWFLAKE_PRIVATE_KEY", private_key())
    async with Driver(snowflake.url).opened() as driver:
        await done(driver)
    monkeypatch.delenv("_FSEC_SNOWFLAKE_PRIVATE_KEY")
    (tmp_path / "snowflake_private_key").write_text(private_key())
    monkeypatch.setenv("FLYTE_SECRETS_DEFAULT_DIR", str(tmp_path))
    async with Driver(snowflake.url).opened() as driver:
        await done(driver, execution="2")


async def test_a_key_rotates_without_a_restart(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, private_key(0))
    async with Driver(snowflake.url).opened() as driver:
        await done(driver)
        logins.keys["ACCT.ME"] = [1]
        with pytest.raises(Unauthenticated, match="JWT token is invalid"):
            await done(driver, execution="2")
        monkeypatch.setenv(NAME, private_key(1))
        await done(driver, execution="2")


async def test_a_token_is_kept_and_renewed_ahead_of_its_end(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, private_key())
    snowflake.will("forever", FOREVER)
    made: list[int] = []
    real = credentials.signed

    def counting(source: credentials.Source) -> object:
        made.append(1)
        return real(source)

    monkeypatch.setattr(credentials, "signed", counting)
    async with Driver(snowflake.url).opened() as driver:
        job = await driver.create(driver.task("SELECT 'forever'"))
        await asyncio.gather(*(driver.get(job) for _ in range(20)))
        assert len(made) == 1
        monkeypatch.setattr(credentials, "LIFE", credentials.SKEW + 200)
        monkeypatch.setattr("flyteagents.kit.tokens.PAUSE", 0.0)
        await driver.agent.close()  # forgets it
        await driver.get(job)
        made.clear()
        await driver.get(job)  # with less than AHEAD seconds left
        while not made:  # noqa: ASYNC110 # it is made beside the poll
            await asyncio.sleep(0.01)
        assert len(made) == 1


async def test_an_expired_token_is_renewed_and_nobody_sees_it(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SNOWFLAKE_OAUTH", CLIENT)
    snowflake.will("forever", FOREVER)
    async with Driver(snowflake.url).opened() as driver:
        job = await driver.create(driver.task("SELECT 'forever'"), connection=NO_CONNECTION)
        for token in logins.given:
            logins.given[token] = 0  # Snowflake's clock, or somebody, ended it early
        monkeypatch.setattr("flyteagents.kit.tokens.JUST_NOW", 0.0)
        assert (await driver.get(job, connection=NO_CONNECTION)).phase is Phase.RUNNING
    assert len(logins.given) == 2


@pytest.mark.parametrize(
    ("secret", "grant"), [(CLIENT, "client_credentials"), (REFRESH, "refresh_token")]
)
async def test_an_oauth_client_asks_the_account_for_its_tokens(
    snowflake: FakeSnowflake,
    logins: Logins,
    monkeypatch: pytest.MonkeyPatch,
    secret: str,
    grant: str,
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SNOWFLAKE_OAUTH", secret)
    async with Driver(snowflake.url).opened() as driver:
        await done(driver)
    assert set(logins.seen) == {"OAUTH"}
    [asked] = logins.asked
    assert asked["grant_type"] == grant
    assert ("scope" in asked) == (grant == "refresh_token")


async def test_a_token_service_elsewhere_must_be_allowed(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = json.loads(CLIENT) | {"token_url": "https://login.evil.example/token"}
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SNOWFLAKE_OAUTH", json.dumps(client))
    async with Driver(snowflake.url).opened() as driver:
        with pytest.raises(Forbidden, match="FLYTEAGENTS_ALLOW_HOSTS"):
            await done(driver)


async def test_a_refused_client_is_told_of_by_name_and_not_by_its_secret(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins.clients.clear()
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SNOWFLAKE_OAUTH", CLIENT)
    async with Driver(snowflake.url).opened() as driver:
        with pytest.raises(Unauthenticated, match="client 'app'") as raised:
            await done(driver)
    assert "word-of-the-client" not in str(raised.value)


async def test_a_programmatic_access_token_is_sent_as_one(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SNOWFLAKE_TOKEN", "the-pat\n")
    async with Driver(snowflake.url).opened() as driver:
        await done(driver)
    assert set(logins.seen) == {"PAT"}


@pytest.mark.parametrize(
    ("authenticator", "seen"),
    [
        ("snowflake_jwt", "JWT ACCT.ME"),
        ("oauth", "OAUTH"),
        ("OAUTH_CLIENT_CREDENTIALS", "OAUTH"),
        ("programmatic_access_token", "PAT"),
        ("snowflake", "JWT ACCT.ME"),
    ],
)
async def test_the_tasks_authenticator_says_which_credentials(
    snowflake: FakeSnowflake,
    logins: Logins,
    monkeypatch: pytest.MonkeyPatch,
    authenticator: str,
    seen: str,
) -> None:
    monkeypatch.setenv(NAME, private_key())
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SNOWFLAKE_OAUTH", CLIENT)
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SNOWFLAKE_TOKEN", "the-pat")
    async with Driver(snowflake.url).opened() as driver:
        custom = {**CONFIG, "connection_kwargs": {"authenticator": authenticator}}
        await done(driver, custom=custom)
    assert set(logins.seen) == {seen}


async def test_a_tasks_own_key_goes_before_the_tenants_and_that_before_the_services(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, private_key())
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SALES", "the-pat")
    sent = Connection(
        {"snowflake_private_key": private_key(0, "x"), "snowflake_private_key_passphrase": "x"}, {}
    )
    async with Driver(snowflake.url, credentials={"sales/*": "sales"}).opened() as driver:
        await done(driver, project="tests")
        await done(driver, project="sales", execution="2")
        await done(driver, sent, project="sales", execution="3")
    assert list(dict.fromkeys(logins.seen)) == ["JWT ACCT.ME", "PAT"]
    assert logins.seen[-1] == "JWT ACCT.ME"
    # As flyte-sdk calls it, whatever the service's own is called.
    async with Driver(snowflake.url, private_key_secret="none").opened() as driver:
        await done(driver, sent, execution="4")


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("no key at all", "no private key in PEM"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "no private key in PEM"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "it is the public one"),
        ("/keys/snowflake.p8", "the key itself, and not its path"),
        ("ec", "no RSA key"),
    ],
)
async def test_what_is_no_key_is_told_without_showing_it(
    snowflake: FakeSnowflake, monkeypatch: pytest.MonkeyPatch, secret: str, words: str
) -> None:
    if secret == "ec":
        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
    monkeypatch.setenv(NAME, secret)
    async with Driver(snowflake.url).opened() as driver:
        with pytest.raises(Unauthenticated, match=words) as raised:
            await done(driver)
    assert secret not in str(raised.value)


async def test_no_credentials_are_told_with_the_places_where_they_could_be(
    snowflake: FakeSnowflake,
) -> None:
    async with Driver(snowflake.url).opened() as driver:
        with pytest.raises(Unauthenticated, match="_FSEC_SNOWFLAKE_PRIVATE_KEY") as raised:
            await done(driver)
    assert "or log in by the secret snowflake_oauth or the secret snowflake_token" in str(
        raised.value
    )


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        ((401, "390144", "JWT token is invalid."), Unauthenticated, "SET RSA_PUBLIC_KEY"),
        ((401, "390318", "OAuth access token expired."), Unauthenticated, "put a new token"),
        ((403, "390189", "Role 'X' is not granted."), Forbidden, "FLYTEAGENTS_SNOWFLAKE_ROLE"),
        ((403, "390422", "IP 1.2.3.4 is not allowed."), Forbidden, "IP 1.2.3.4 is not allowed"),
        ((403, "", ""), Forbidden, "is the account's name right?"),
    ],
)
async def test_a_login_that_is_refused_says_what_to_do(
    snowflake: FakeSnowflake,
    monkeypatch: pytest.MonkeyPatch,
    reply: tuple[int, str, str],
    kind: type[AgentError],
    words: str,
) -> None:
    monkeypatch.setenv(NAME, private_key())
    status, code, message = reply
    body: object = {"code": code, "message": message} if code else "<html>Forbidden</html>"
    snowflake.script("POST", BASE, Response(status, body), repeat=True)
    async with Driver(snowflake.url).opened() as driver:
        with pytest.raises(kind, match=re.escape(words)) as raised:
            await done(driver)
    assert message in str(raised.value)
    assert str(raised.value).endswith(" | credentials: the secret snowflake_private_key")


async def test_a_host_of_a_tasks_own_gets_no_credentials_unless_it_is_allowed(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, private_key())
    async with Driver(None).opened() as driver:
        for host in ("evil.example", "snowflakecomputing.com.evil.example", "127.0.0.1"):
            custom = {**CONFIG, "connection_kwargs": {"host": host}}
            with pytest.raises(Forbidden, match="FLYTEAGENTS_ALLOW_HOSTS"):
                await driver.create(driver.task(custom=custom))
        job = SnowflakeJob(query_id=QUERY_ID, account="acct", user="me", host="evil.example")
        with pytest.raises(Forbidden):
            await driver.get(job)
        with pytest.raises(InvalidTask, match="host"):
            driver.task(
                custom={**CONFIG, "connection_kwargs": {"host": "a.snowflakecomputing.com/b"}}
            )
    assert logins.seen == []


async def test_a_clock_that_is_some_minutes_ahead_keeps_nobody_out(
    snowflake: FakeSnowflake, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = time.time() + 240
    source = credentials.Source("key", private_key(), "the secret", "ACCT.ME", snowflake.url)
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: ahead)
        token = credentials.signed(source)
    assert logins._jwt(token.value) is None
