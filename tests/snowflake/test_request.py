"""What a task says becomes a request, and what it keeps with the job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from tests.snowflake.driving import CONFIG, QUERY_ID, Driver

from flyteagents import Fingerprint, InvalidTask, StructuredDataset
from flyteagents_snowflake.request import Submit, named, submit
from flyteagents_snowflake.tag import LIMIT, marks, query_tag

CUSTOM: Mapping[str, object] = {**CONFIG, "connection_kwargs": {}}


@pytest.fixture
def driver() -> Driver:
    return Driver(None)


def asked(driver: Driver, *arguments: Any, **options: Any) -> Submit:
    return submit(driver.task(*arguments, **options), driver.settings)


def with_kwargs(**given: object) -> dict[str, object]:
    return {**CONFIG, "connection_kwargs": given}


def test_flytekits_config_and_flyte_sdks_custom_ask_for_the_same(driver: Driver) -> None:
    inputs = {"x": "it's"}
    first = asked(driver, "SELECT %(x)s", inputs)
    second = asked(driver, "SELECT %(x)s", inputs, custom=CUSTOM, runtime="2.12.1")
    assert first.body == second.body
    tag = first.body["parameters"]["query_tag"]
    assert first.body == {
        "statement": r"SELECT 'it\'s'",
        "database": "DB",
        "schema": "PUBLIC",
        "warehouse": "WH",
        "parameters": {"query_tag": tag},
    }
    theirs = {**first.kept, "sdk": "flyte-sdk"}
    assert (first.kept["sdk"], second.kept) == ("flytekit", theirs)


def test_the_service_has_defaults() -> None:
    driver = Driver(
        None, account="ORG-A", user="u", role="r", warehouse='"my wh"', database="d", schema="s"
    )
    found = asked(driver, "SELECT 1", config={})
    body = found.body
    names = (body["database"], body["schema"], body["warehouse"], body["role"])
    assert names == ("D", "S", "my wh", "R")
    assert (found.kept["account"], found.kept["user"]) == ("ORG-A", "u")
    mine = asked(driver, "SELECT 1", custom={**CONFIG, "role": "x"})
    assert (mine.body["role"], mine.body["warehouse"]) == ("X", "WH")


def test_a_null_is_a_field_that_is_not_there(driver: Driver) -> None:
    found = asked(driver, "SELECT 1", custom={**CONFIG, "schema": None, "warehouse": ""})
    assert found.body["schema"] == "PUBLIC"
    assert "warehouse" not in found.body


@pytest.mark.parametrize("what", ["account", "user"])
def test_without_an_account_or_a_user_there_is_no_request(driver: Driver, what: str) -> None:
    config = {name: value for name, value in CONFIG.items() if name != what}
    with pytest.raises(InvalidTask, match=f"FLYTEAGENTS_SNOWFLAKE_{what.upper()}"):
        asked(driver, "SELECT 1", config=config)


def test_connection_kwargs_that_mean_something_are_honoured(driver: Driver) -> None:
    given = with_kwargs(
        role="analyst",
        timezone="UTC",
        login_timeout=60.0,
        client_session_keep_alive=True,
        session_parameters={
            "query_tag": "mine",
            "DATE_OUTPUT_FORMAT": "YYYY",
            "use_cached_result": False,
        },
    )
    body = asked(driver, "SELECT 1", custom=given).body
    assert body["role"] == "ANALYST"
    tag = json.loads(body["parameters"].pop("query_tag"))
    assert tag["user"] == "mine"
    assert body["parameters"] == {
        "timezone": "UTC",
        "date_output_format": "YYYY",
        "use_cached_result": "false",
    }


def test_other_session_parameters_are_set_before_the_statement(driver: Driver) -> None:
    parameters = {
        "WEEK_START": 1.0,
        "QUOTED_IDENTIFIERS_IGNORE_CASE": True,
        "s3_stage_vpce_dns_name": "a'; DROP",
    }
    given = with_kwargs(session_parameters=parameters)
    found = asked(driver, "SELECT 1", custom=given)
    assert found.body["statement"] == (
        "ALTER SESSION SET QUOTED_IDENTIFIERS_IGNORE_CASE = true "
        r"S3_STAGE_VPCE_DNS_NAME = 'a\'; DROP' WEEK_START = 1;" + "\nSELECT 1"
    )
    assert found.body["parameters"]["MULTI_STATEMENT_COUNT"] == "0"
    assert (found.kept["several"], found.kept["result"]) == (True, 1)


@pytest.mark.parametrize("name", ["A B", "A=1", "A;B", "1A", ""])
def test_the_name_of_a_parameter_cannot_become_sql(driver: Driver, name: str) -> None:
    with pytest.raises(InvalidTask, match="not the name of a session parameter"):
        asked(driver, "SELECT 1", custom=with_kwargs(session_parameters={name: 1}))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"password": "hunter2"}, "takes no password; use a key pair"),
        ({"authenticator": "externalbrowser"}, "is not for a service"),
        ({"authenticator": "WORKLOAD_IDENTITY"}, "use a key pair"),
        ({"authenticator": "username_password_mfa"}, "use a key pair"),
        ({"authenticator": "https://x.okta.com"}, "use a key pair"),
        ({"workload_identity_provider": "AWS"}, "takes no workload identity"),
        ({"token": "hunter2"}, "put it into the secret snowflake_token"),
        ({"private_key": "hunter2"}, "put it into the secret snowflake_private_key"),
        ({"private_key_file": "/etc/passwd"}, "may not name files"),
        ({"autocommit": False}, "BEGIN; ...; COMMIT"),
        ({"session_parameters": {"autocommit": False}}, "BEGIN; ...; COMMIT"),
        ({"session_parameters": {"AUTOCOMMIT": "false"}}, "BEGIN; ...; COMMIT"),
        ({"port": 99999}, "less than or equal"),
    ],
)
def test_what_the_sql_api_does_not_take_is_refused_in_words(
    driver: Driver, given: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidTask, match=words) as raised:
        driver.task("SELECT 1", custom=with_kwargs(**given))
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ({}, None),
        ({"host": "sf.internal", "port": 443.0}, "sf.internal"),
        ({"host": "sf.internal", "port": 8443.0}, "sf.internal:8443"),
        ({"port": 443.0}, None),
        ({"port": 8443.0}, "acct.snowflakecomputing.com:8443"),
        ({"region": "eu-central-1"}, None),
        ({"host": "sf.internal", "region": "eu-central-1"}, "sf.internal"),
    ],
)
def test_a_host_of_the_tasks_own_is_kept_with_the_job(
    driver: Driver, given: dict[str, object], host: str | None
) -> None:
    found = asked(driver, "SELECT 1", custom=with_kwargs(**given))
    assert named(found.kept, QUERY_ID).host == host


def test_a_region_that_is_none_is_the_tasks_fault(driver: Driver) -> None:
    with pytest.raises(InvalidTask, match="is not a Snowflake account"):
        asked(driver, "SELECT 1", custom=with_kwargs(region="eu/../evil"))


@pytest.mark.parametrize(
    "word", ["PUT file:///etc/passwd @s", "get @s file:///tmp", "/* */ PUT x y"]
)
@pytest.mark.parametrize("before", ["", "SELECT 1;"])
def test_statements_that_move_files_are_refused(driver: Driver, before: str, word: str) -> None:
    with pytest.raises(InvalidTask, match="COPY INTO with a stage"):
        asked(driver, before + word)


@pytest.mark.parametrize("statement", ["", "  ", "-- nothing", ";"])
def test_no_statement_is_no_request(driver: Driver, statement: str) -> None:
    with pytest.raises(InvalidTask):
        asked(driver, statement)


@pytest.mark.parametrize(
    ("timeout", "parameter", "seconds", "limited"),
    [
        (0, None, None, False),
        (60, None, 180, True),
        (60, 30, 30, False),
        (60, "6000", 180, True),
        (0, 30.0, 30, False),
        (0, 0, None, False),
        (timedelta(days=30), None, 604_800, True),
    ],
)
def test_a_statement_is_limited_by_the_shorter_of_two_times(
    driver: Driver, timeout: Any, parameter: object, seconds: int | None, limited: bool
) -> None:
    given = {} if parameter is None else {"STATEMENT_TIMEOUT_IN_SECONDS": parameter}
    found = asked(driver, "SELECT 1", custom=with_kwargs(session_parameters=given), timeout=timeout)
    assert (found.body.get("timeout"), found.kept["limited"]) == (seconds, limited)


def test_several_statements_keep_where_each_begins_and_which_has_the_result(driver: Driver) -> None:
    kept = asked(
        driver, "CREATE TABLE t (n INT);\n INSERT INTO t VALUES (1); SELECT 1; COMMIT"
    ).kept
    assert kept["starts"] == ((1, 0), (2, 1), (2, 27), (2, 37))
    assert (kept["several"], kept["result"]) == (True, 2)
    many = asked(driver, ";".join(["SELECT 1"] * 60)).kept
    assert (many["starts"], many["result"]) == ((), 59)
    none = asked(driver, "INSERT INTO t VALUES (1); DELETE FROM t").kept
    assert none["result"] == 1


def test_inputs_go_beside_one_statement_only(driver: Driver) -> None:
    server = {**CONFIG, "bindings": "server"}
    found = asked(driver, "SELECT %(x)s", {"x": 1}, custom=server)
    assert found.body["statement"] == "SELECT ?"
    assert found.body["bindings"] == {"1": {"type": "FIXED", "value": "1"}}
    for custom in (server, {**server, "connection_kwargs": {"session_parameters": {"A": 1}}}):
        statement = "SELECT %(x)s" + ("; SELECT 2" if custom is server else "")
        with pytest.raises(InvalidTask, match="cannot be sent beside several"):
            asked(driver, statement, {"x": 1}, custom=custom)
    service = Driver(None, bindings="server")
    assert asked(service, "SELECT %(x)s", {"x": 1}).body["statement"] == "SELECT ?"


def test_a_batch_is_expanded(driver: Driver) -> None:
    found = asked(
        driver, "INSERT INTO t VALUES (%(a)s)", {"a": [1, 2]}, custom={**CONFIG, "batch": True}
    )
    assert found.body["statement"] == "INSERT INTO t VALUES (1), (2)"


def test_the_fingerprint_is_of_the_work_alone(driver: Driver) -> None:
    def fingerprint(*arguments: Any, **options: Any) -> Fingerprint:
        return driver.task(*arguments, **options).fingerprint

    same = fingerprint("SELECT %(x)s", {"x": 1})
    assert fingerprint("SELECT %(x)s", {"x": 1}, config={**CONFIG, "warehouse": "o"}) == same
    tagged = with_kwargs(session_parameters={"QUERY_TAG": "x"}, login_timeout=5)
    assert fingerprint("SELECT %(x)s", {"x": 1}, custom=tagged) == same
    assert fingerprint("SELECT %(x)s", {"x": 1}, timeout=5) == same
    others = [
        fingerprint("SELECT %(x)s", {"x": 2}),
        fingerprint("SELECT  %(x)s", {"x": 1}),
        fingerprint("SELECT %(x)s", {"x": 1}, config={**CONFIG, "database": "o"}),
        fingerprint("SELECT %(x)s", {"x": 1}, custom={**CONFIG, "role": "o"}),
        fingerprint("SELECT %(x)s", {"x": 1}, custom=with_kwargs(session_parameters={"A": 1})),
    ]
    assert same not in others
    assert len({str(one) for one in others}) == 5


def test_the_tag_says_whose_it_is_and_keeps_the_users_own(driver: Driver) -> None:
    task = driver.task()
    ours = json.loads(query_tag(task))["flyte"]
    assert ours["key"] == task.key.hex
    assert ours["fp"] == str(task.fingerprint)
    assert (ours["project"], ours["domain"], ours["exec"]) == ("tests", "development", "run")
    assert json.loads(query_tag(task, "nightly"))["user"] == "nightly"
    members = json.loads(query_tag(task, '{"app": "x", "flyte": "theirs"}'))
    assert (members["app"], members["flyte"]) == ("x", ours)
    assert marks(query_tag(task, "nightly")) == (task.key.hex, str(task.fingerprint))


@pytest.mark.parametrize(
    "given", ["x" * 5000, '{"a": "' + "x" * 5000 + '"}', "ü" * 900, "\\" * 3000]
)
def test_a_long_tag_is_cut_and_the_key_is_not(driver: Driver, given: str) -> None:
    task = driver.task()
    text = query_tag(task, given)
    assert len(text) <= LIMIT
    assert marks(text) == (task.key.hex, str(task.fingerprint))
    assert given.startswith(json.loads(text)["user"])


def test_a_job_is_small(driver: Driver) -> None:
    found = asked(driver, ";".join(["SELECT 1"] * 24), outputs={"results": StructuredDataset})
    job = named(found.kept, QUERY_ID)
    assert len(job.model_dump_json()) < 600
