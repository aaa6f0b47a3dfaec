"""Whose credentials a task has, where they go, and what happens when they end."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.databricks.driving import EXISTING, HOST, Driver
from tests.databricks.fake_databricks import FakeDatabricks
from tests.databricks.fake_kubernetes import FakeKubernetes
from tests.databricks.runs import Plan

from flyteagents import Forbidden, InvalidTask, Unauthenticated, Unavailable
from flyteagents.testing import Response
from flyteagents_databricks.job import DatabricksJob

NAMESPACE = "tests-development"
SHARED = "FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_ACCESS_TOKEN"


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubernetes]:
    with FakeKubernetes(tmp_path).serving() as fake:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(fake.port))
        monkeypatch.setattr("flyteagents_databricks.kubernetes.ACCOUNT", fake.folder)
        yield fake


async def bearer(
    databricks: FakeDatabricks, driver: Driver, custom: dict[str, Any] | None = None, **options: Any
) -> str:
    """The token that a task is submitted with."""
    run = f"run{databricks.total}"
    task = driver.task(EXISTING, execution=run, notebookPath="/n", **(custom or {}))
    await driver.create(task, **options)
    last = [one for one in databricks.requests if one.path.endswith("/runs/submit")][-1]
    return last.headers["authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize(
    "variable",
    [
        SHARED,
        "_FSEC_FLYTE_DATABRICKS_ACCESS_TOKEN",
        "FLYTEAGENTS_SECRET_FLYTE_DATABRICKS_API_TOKEN",
        "DATABRICKS_TOKEN",
    ],
)
async def test_the_services_own_token_is_where_todays_deployments_have_it(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "dapi-own")
    async with Driver(databricks.url).opened() as driver:
        assert await bearer(databricks, driver) == "dapi-own"


async def test_a_task_of_flyte_2_brings_its_own(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED, "dapi-own")
    sent = {"databricks_token": "dapi-sent"}
    async with Driver(databricks.url).opened() as driver:
        assert await bearer(databricks, driver, sent_secrets=sent) == "dapi-sent"
        assert await bearer(databricks, driver) == "dapi-own"


async def test_projects_domains_and_workspaces_may_have_their_own(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    databricks.principals = {"robot": "its secret"}
    monkeypatch.setenv(SHARED, "dapi-own")
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SALES", "dapi-sales")
    pair = json.dumps({"client_id": "robot", "client_secret": "its secret"})
    monkeypatch.setenv("FLYTEAGENTS_SECRET_ROBOT", pair)
    given = json.dumps({"sales/*": "sales", "*/production": "robot", "hr/*": "sales@other.example"})
    monkeypatch.setenv("FLYTEAGENTS_DATABRICKS_CREDENTIALS", given)
    # Of the name by which a task sends its own, and the service's all the same.
    monkeypatch.setenv("FLYTEAGENTS_SECRET_DATABRICKS_TOKEN", "dapi-of-the-last-resort")
    read = json.loads(given)
    async with Driver(databricks.url, credentials=read).opened() as driver:
        assert await bearer(databricks, driver, project="sales") == "dapi-sales"
        assert await bearer(databricks, driver, project="hr") == "dapi-own"
        assert await bearer(databricks, driver) == "dapi-own"
        assert await bearer(databricks, driver, domain="production") == databricks.given[0]
    monkeypatch.setenv("FLYTEAGENTS_SECRET_ROBOT", "{not json")
    async with Driver(databricks.url, credentials=read).opened() as driver:
        with pytest.raises(Unauthenticated, match="client_secret"):
            await bearer(databricks, driver, domain="production")


async def test_a_service_principal_asks_for_one_token_and_keeps_it(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    databricks.principals, databricks.bearers = {"robot": "its secret"}, set()
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "robot")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "its secret")
    databricks.principals["of-the-task"] = "its secret"
    async with Driver(databricks.url).opened() as driver:
        tokens = await asyncio.gather(*(bearer(databricks, driver) for _ in range(5)))
        assert databricks.given == [tokens[0]]
        assert set(tokens) == {databricks.given[0]}
        named = {"databricksAuthType": "oauth_m2m", "databricksClientId": "of-the-task"}
        assert await bearer(databricks, driver, named) == databricks.given[1]


async def test_a_token_that_ended_is_a_403_and_is_renewed_once(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    databricks.principals, databricks.bearers = {"robot": "its secret"}, set()
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "robot")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "its secret")
    monkeypatch.setattr("flyteagents.kit.tokens.JUST_NOW", 0.0)
    async with Driver(databricks.url).opened() as driver:
        first = await bearer(databricks, driver)
        databricks.bearers.discard(first)
        second = await bearer(databricks, driver)
        assert databricks.given == [first, second]
        html = Response(403, "<html>expired</html>")
        databricks.script("POST", "*/runs/submit", html)
        await bearer(databricks, driver)
        databricks.script("POST", "*/runs/submit", html, repeat=True)
        with pytest.raises(Unauthenticated, match=r"\| credentials: the service's own principal"):
            await bearer(databricks, driver)
        assert len(databricks.given) == 4


async def test_a_token_service_that_is_down_is_a_hiccup_and_one_that_refuses_is_told(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    databricks.principals = {"robot": "another"}
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "robot")
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "its secret")
    async with Driver(databricks.url).opened() as driver:
        with pytest.raises(Unauthenticated, match="bad secret") as refused:
            await bearer(databricks, driver)
        assert "its secret" not in str(refused.value)
        databricks.script("POST", "/oidc/*", Response(503), repeat=True)
        with pytest.raises(Unavailable):
            await bearer(databricks, driver, seconds=0.5)


async def test_a_projected_token_is_exchanged_and_its_file_comes_from_the_settings_alone(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    databricks.principals = {"robot": None}
    file, other = tmp_path / "token", tmp_path / "other"
    file.write_text("jwt-of-the-pod\n")
    other.write_text("a secret of somebody else's")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", "robot")
    monkeypatch.setenv("FLYTE_DATABRICKS_OIDC_TOKEN_FILE", str(file))
    async with Driver(databricks.url, auth_type="oidc_federation").opened() as driver:
        named = {"databricksOidcTokenFile": str(other)}
        assert await bearer(databricks, driver, named) == databricks.given[0]
        theirs = DatabricksJob.model_validate(
            {
                "databricks_instance": HOST,
                "run_id": "7",
                "oidc_token_file": str(other),
                "auth_type": "oidc_federation",
                "client_id": "robot",
            }
        )
        databricks.add(7, Plan(running=math.inf))
        await driver.get(theirs)
    assert set(databricks.exchanged) == {"jwt-of-the-pod"}
    for request in databricks.requests:
        assert b"somebody" not in request.body


async def test_the_namespaces_secret_goes_before_the_services(
    databricks: FakeDatabricks, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED, "dapi-own")
    # The cluster is asked by no proxy, as NO_PROXY says in a way that few libraries read.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    kubernetes.secrets[NAMESPACE, "databricks-token"] = {"token": "dapi-theirs"}
    kubernetes.secrets[NAMESPACE, "special"] = {"token": "dapi-special", "jks": "\udcff"}
    async with Driver(databricks.url).opened() as driver:
        assert await bearer(databricks, driver) == "dapi-theirs"
        assert await bearer(databricks, driver, {"databricksTokenSecret": "special"}) == (
            "dapi-special"
        )
        # It is found again where there is no task any more.
        task = driver.task(
            EXISTING, execution="x", notebookPath="/n", databricksTokenSecret="special"
        )
        job = await driver.create(task)
        await driver.get(DatabricksJob.model_validate_json(job.model_dump_json()))
        assert databricks.requests[-1].headers["authorization"] == "Bearer dapi-special"
        asked = len(kubernetes.asked)
        assert await bearer(databricks, driver) == "dapi-theirs"
        assert len(kubernetes.asked) == asked  # a minute long


async def test_an_absent_secret_is_the_services_and_a_forbidden_one_never_is(
    databricks: FakeDatabricks, kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED, "dapi-own")
    async with Driver(databricks.url).opened() as driver:
        assert await bearer(databricks, driver) == "dapi-own"
    kubernetes.forbidden.add("secrets")
    async with Driver(databricks.url).opened() as driver:
        sent = databricks.total
        with pytest.raises(Unauthenticated, match="NAMESPACE_SECRETS=false"):
            await bearer(databricks, driver)
        assert databricks.total == sent
    kubernetes.forbidden.clear()
    kubernetes.down = True
    async with Driver(databricks.url).opened() as driver:
        with pytest.raises(Unavailable):
            await bearer(databricks, driver, seconds=0.5)
    async with Driver(databricks.url, namespace_secrets=False).opened() as driver:
        assert await bearer(databricks, driver) == "dapi-own"


async def test_a_namespaces_principal_and_its_service_account(
    databricks: FakeDatabricks, kubernetes: FakeKubernetes
) -> None:
    databricks.principals = {"theirs": "secret", "trusted": None}
    kubernetes.secrets[NAMESPACE, "databricks-oauth"] = {
        "client_id": "theirs",
        "client_secret": "secret",
    }
    async with Driver(databricks.url).opened() as driver:
        await bearer(databricks, driver, {"databricksAuthType": "oauth_m2m"})
        kubernetes.mark(NAMESPACE, "spark", "trusted")
        await bearer(databricks, driver, {"databricksAuthType": "oidc_federation"})
        assert databricks.exchanged == ["jwt-of-spark-for-databricks"]
    kubernetes.mark(NAMESPACE, "other", "trusted")
    async with Driver(databricks.url).opened() as driver:
        with pytest.raises(InvalidTask, match="other, spark"):
            await bearer(databricks, driver, {"databricksAuthType": "oidc_federation"})


@pytest.mark.parametrize(
    "host",
    ["evil.example", "databricks.com.evil.example", "127.0.0.1:1", "169.254.169.254", "localhost"],
)
async def test_no_token_goes_to_a_host_that_is_not_allowed(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv(SHARED, "dapi-own")
    async with Driver(None).opened() as driver:
        task = driver.task(EXISTING, databricksInstance=host, notebookPath="/n")
        with pytest.raises(Forbidden, match="FLYTEAGENTS_ALLOW_HOSTS"):
            await driver.create(task)
        with pytest.raises(Forbidden):
            await driver.get(DatabricksJob(databricks_instance=host, run_id="7"))


async def test_with_one_address_a_tasks_own_is_never_contacted(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED, "dapi-own")
    async with (
        FakeDatabricks() as evil,
        Driver(databricks.url, allow=("127.0.0.1",)).opened() as driver,
    ):
        host = evil.url.removeprefix("http://")
        job = await driver.create(driver.task(EXISTING, databricksInstance=host))
        await driver.get(job)
        assert evil.total == 0
        assert job.databricks_instance == host


async def test_an_entrypoints_repository_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED, "dapi-own")
    git: dict[str, Any] = {
        "entrypoint_git_url": "https://git.example/r",
        "entrypoint_path": "s3://bucket/e.py",
    }
    async with Driver(None, **git).opened() as driver:
        for host in ("git.example", "bucket"):
            task = driver.task(EXISTING, databricksInstance=host)
            with pytest.raises(Forbidden):
                await driver.create(task)


async def test_nothing_to_log_in_with_says_what_to_set(databricks: FakeDatabricks) -> None:
    async with Driver(databricks.url).opened() as driver:
        with pytest.raises(Unauthenticated, match="DATABRICKS_CLIENT_ID"):
            await bearer(databricks, driver)
        for kind in ("pat", "oauth_m2m", "oidc_federation"):
            with pytest.raises(Unauthenticated):
                await bearer(databricks, driver, {"databricksAuthType": kind})


async def test_check_says_who_it_is(databricks: FakeDatabricks, driver: Driver) -> None:
    told = await driver.agent.check(driver.call("check", None))
    assert told == (
        f"{databricks.url} accepts the secret flyte_databricks_access_token: "
        "it is robot@example.com"
    )
    assert "dapi" not in told


async def test_check_tries_the_credentials_of_each_tenant(
    databricks: FakeDatabricks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED, "dapi-own")
    monkeypatch.setenv("FLYTEAGENTS_SECRET_SALES", "dapi-sales")
    tenants = {"sales/*": "sales", "far/*": f"sales@{HOST}", "*/production": "robot"}
    async with Driver(databricks.url, credentials=tenants).opened() as driver:
        with pytest.raises(Unauthenticated, match=r"^\*/production: there is no secret 'robot'"):
            await driver.agent.check(driver.call("check", None))
        monkeypatch.setenv("FLYTEAGENTS_SECRET_ROBOT", '{"client_id": "app"}')
        with pytest.raises(Unauthenticated, match="the secret robot is not a token"):
            await driver.agent.check(driver.call("check", None))

        monkeypatch.setenv("FLYTEAGENTS_SECRET_ROBOT", "dapi-robot")
        databricks.requests.clear()
        told = (await driver.agent.check(driver.call("check", None))).split("; ")
    assert told[1:] == [
        f"sales/*: {databricks.url} accepts the secret sales: it is robot@example.com",
        "far/*: the secret sales can be read",  # it counts for another workspace
        f"*/production: {databricks.url} accepts the secret robot: it is robot@example.com",
    ]
    sent = [one.headers["authorization"] for one in databricks.requests]
    assert sent == ["Bearer dapi-own", "Bearer dapi-sales", "Bearer dapi-robot"]
