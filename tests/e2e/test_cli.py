"""The commands that look and do not run: list, check, inspect, propeller-config, and help."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.command import document, environment, flyteagents

from flyteagents._kernel.envelope import Envelope, Parked, dump
from flyteagents._status import Phase
from flyteagents._types import Kind, Type
from flyteagents._wire.types import dump_types

COMMANDS = ("serve", "list", "check", "run", "inspect", "propeller-config")
ENVELOPE = Envelope(
    key="ab" * 20,
    task_type="clocked_job",
    created=1_700_000_000.0,
    fingerprint="1-00ff00ff00ff00ff",
    trace="1f" * 16,
    wrote=2,
    attempt=2,
    project="sales",
    domain="production",
    execution="f1234",
    node="n0",
    adopted=True,
    declared=dump_types({"total": Type(Kind.COLLECTION, (Type(Kind.INTEGER),))}),
    job={"id": "job-7"},
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command: str) -> None:
    done = flyteagents(command, "--help")
    assert done.returncode == 0
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert any(line.partition("=duckdb ")[2].startswith("flyteagents") for line in lines) or any(
        line.startswith(f"flyteagents {command}") for line in lines
    )


def test_the_overview_names_every_command() -> None:
    done = flyteagents("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in done.stdout
    assert flyteagents("nonsense").returncode == 64


def test_list_shows_agents_and_where_they_come_from() -> None:
    done = flyteagents("list")
    assert done.returncode == 0, done.stderr
    for words in ("clocked_job", "vendor", "clocked_sum", "sync", "cli-agents 1.0", "cli_agents"):
        assert words in done.stdout
    (plugin,) = document(flyteagents("list", "--json"))["plugins"]
    assert plugin["package"] == "cli-agents"
    assert {agent["task_type"]: agent["idempotency"] for agent in plugin["agents"]} == {
        "clocked_job": "vendor",
        "clocked_sum": "sync",
    }


def test_list_says_what_is_broken_and_why() -> None:
    env = environment(FLYTEAGENTS_PLUGINS="clocked,broken")
    done = flyteagents("list", env=env)
    assert done.returncode == 78
    assert "clocked_job" in done.stdout
    for words in ("broken-agents 2.0", "module_that_is_not_there"):
        assert words in done.stderr
    (broken,) = document(flyteagents("list", "--json", env=env))["broken"]
    assert broken["name"] == "broken"


def test_check_shows_every_setting_and_what_the_agents_say() -> None:
    env = environment(FLYTEAGENTS_CLOCKED_MOOD="good", FLYTEAGENTS_PORT="8123")
    done = flyteagents("check", env=env)
    assert done.returncode == 0, done.stderr
    assert "* FLYTEAGENTS_PORT=8123" in done.stdout
    assert "  FLYTEAGENTS_METRICS_PORT=9090" in done.stdout
    assert "FLYTEAGENTS_CLOCKED_DIRECTORY=" in done.stdout
    assert "Where a file for each job is." in done.stdout
    assert "the clock ticks" in done.stdout
    assert "has no check of its credentials" in done.stdout
    assert "FLYTEAGENTS_PORT" not in flyteagents("check", "--quiet", env=env).stdout


def test_check_shows_what_a_setting_that_is_computed_came_to(tmp_path: Path) -> None:
    env = environment(FLYTEAGENTS_PLUGINS="duckdb", FLYTEAGENTS_DUCKDB_DATA_DIR=str(tmp_path))
    shown = document(flyteagents("check", "--json", env=env))["settings"]["duckdb"]
    values = {setting["name"]: setting["value"] for setting in shown}
    assert int(values["FLYTEAGENTS_DUCKDB_MAX_JOBS"]) > 0
    assert int(values["FLYTEAGENTS_DUCKDB_MAX_MEMORY"]) > 0
    assert values["FLYTEAGENTS_DUCKDB_MEMORY"] == values["FLYTEAGENTS_DUCKDB_MAX_MEMORY"]


def test_check_fails_when_an_agent_cannot_reach_its_vendor() -> None:
    bad = flyteagents("check", "--json", env=environment(FLYTEAGENTS_CLOCKED_MOOD="bad"))
    assert bad.returncode == 1
    said = {agent["task_type"]: agent for agent in document(bad)["agents"]}
    assert not said["clocked_job"]["ok"]
    assert "the clock has stopped" in said["clocked_job"]["text"]
    assert said["clocked_sum"]["ok"]


def test_check_does_not_wait_for_ever() -> None:
    began = time.monotonic()
    slow = environment(FLYTEAGENTS_CLOCKED_MOOD="slow")
    done = flyteagents("check", "--timeout", "0.5", env=slow)
    assert done.returncode == 1
    assert "no answer within 0.5 s" in done.stdout
    assert time.monotonic() - began < 30


def test_check_names_variables_that_nothing_reads_and_shows_no_secret() -> None:
    done = flyteagents(
        "check",
        env=environment(
            FLYTEAGENTS_CLOCKED_MODE="x",
            FLYTEAGENTS_CLOCKED_URL="https://ada:hunter22@clock.example",
            FLYTEAGENTS_CLOCKED_API_KEY="hunter33",
            FLYTEAGENTS_SECRET_CLOCK="hunter44",
        ),
    )
    assert "FLYTEAGENTS_CLOCKED_MODE; did you mean FLYTEAGENTS_CLOCKED_MOOD?" in done.stderr
    assert "clock.example" in done.stdout
    assert "FLYTEAGENTS_CLOCKED_API_KEY=(set, not shown)" in done.stdout
    assert "hunter" not in done.stdout + done.stderr


def test_check_and_list_stop_at_a_bad_setting() -> None:
    env = environment(FLYTEAGENTS_PORT="many")
    for command in ("check", "list", "propeller-config"):
        done = flyteagents(command, env=env)
        assert done.returncode == 78
        assert "FLYTEAGENTS_PORT" in done.stderr
    plugin = flyteagents("check", env=environment(FLYTEAGENTS_PLUGINS="clocked,broken"))
    assert plugin.returncode == 78
    assert "module_that_is_not_there" in plugin.stderr


@pytest.mark.parametrize(
    "form",
    [
        lambda raw: base64.b64encode(raw).decode(),
        lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
        lambda raw: raw.hex(),
        lambda raw: raw.decode(),
        lambda raw: json.dumps(raw.decode()),
    ],
    ids=["base64", "urlsafe", "hex", "json", "string"],
)
def test_inspect_reads_every_form_of_a_meta(form: object) -> None:
    assert callable(form)
    done = flyteagents("inspect", form(dump(ENVELOPE)))
    assert done.returncode == 0, done.stderr
    for words in (
        "clocked_job of cli-agents 1.0",
        '{"id": "job-7"}',
        "2023-11-14 22:13:20 UTC",
        "sales / production / f1234 / n0",
        "earlier attempt",
        "attempt number 2",
        "[integer]",
        ENVELOPE.key,
        ENVELOPE.fingerprint,
        ENVELOPE.trace,
    ):
        assert words in done.stdout


def test_inspect_reads_files_and_prints_json(tmp_path: Path) -> None:
    file = tmp_path / "meta.bin"
    file.write_bytes(dump(ENVELOPE))
    said = document(flyteagents("inspect", str(file), "--json"))
    assert said["job"] == {"id": "job-7"}
    assert said["declared"] == {"total": "[integer]"}
    assert said["read_by"] == [{"task_type": "clocked_job", "package": "cli-agents 1.0"}]


def test_inspect_says_why_an_attempt_ended_before_there_was_a_job() -> None:
    parked = Parked(Phase.FAILED, "the statement is empty")
    meta = dump(Envelope(key="ab" * 20, task_type="clocked_job", created=1.0, parked=parked))
    done = flyteagents("inspect", meta.hex())
    assert done.returncode == 0, done.stderr
    assert "FAILED" in done.stdout
    assert "the statement is empty" in done.stdout


def test_inspect_tells_which_agent_reads_another_connectors_meta() -> None:
    done = flyteagents("inspect", '{"id": "job-9"}')
    assert done.returncode == 0, done.stderr
    assert "another connector" in done.stdout
    assert "clocked_job of cli-agents 1.0" in done.stdout
    unknown = flyteagents("inspect", '{"run_id": "9"}')
    assert unknown.returncode == 65
    assert "run_id" in unknown.stderr


@pytest.mark.parametrize("meta", ["nonsense", "{}", "", "eyJ"])
def test_inspect_refuses_what_is_no_meta(meta: str) -> None:
    done = flyteagents("inspect", meta)
    assert done.returncode == 65
    assert done.stderr.startswith("flyteagents: ")


def test_inspect_sees_a_meta_that_was_cut_or_changed() -> None:
    changed = dump(ENVELOPE).replace(b"job-7", b"job-8")
    done = flyteagents("inspect", changed.decode())
    assert done.returncode == 65
    assert "checksum" in done.stderr


def configuration(*arguments: str) -> dict[str, Any]:
    done = flyteagents("propeller-config", *arguments)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = yaml.safe_load(done.stdout)
    assert loaded == json.loads(flyteagents("propeller-config", "--json", *arguments).stdout)
    return loaded


def waiting(deployment: dict[str, Any]) -> set[tuple[str, str]]:
    """Service and method of the calls that wait for a server; "" is every method."""
    methods = json.loads(deployment["defaultServiceConfig"])["methodConfig"]
    return {
        (name["service"], name.get("method", ""))
        for method in methods
        for name in method["name"]
        if method.get("waitForReady")
    }


def test_calls_that_a_stopping_server_cancels_are_made_again_but_no_call_that_does_the_work() -> (
    None
):
    default = configuration()["plugins"]["connector-service"]["defaultConnector"]
    again = {
        name.get("method", ""): method.get("retryPolicy", {}).get("retryableStatusCodes", [])
        for method in json.loads(default["defaultServiceConfig"])["methodConfig"]
        for name in method["name"]
    }
    assert again == {
        "CreateTask": ["UNAVAILABLE", "CANCELLED"],
        # Its UNAVAILABLE means: not stopped yet.
        "DeleteTask": ["CANCELLED"],
        "GetTask": ["UNAVAILABLE", "CANCELLED"],
        "": [],
    }


def test_the_flyte_1_configuration_has_what_keeps_tasks_alive() -> None:
    config = configuration("--endpoint", "dns:///agents:8000")
    assert config["tasks"] == {
        "task-plugins": {
            "enabled-plugins": ["container", "sidecar", "k8s-array", "connector-service"]
        }
    }
    section = config["plugins"]["connector-service"]
    default = section["defaultConnector"]
    assert default["endpoint"] == "dns:///agents:8000"
    assert default["insecure"] is True
    service = json.loads(default["defaultServiceConfig"])
    assert service["loadBalancingConfig"] == [{"round_robin": {}}]
    assert section["supportedTaskTypes"] == ["clocked_job", "clocked_sum"]
    assert section["webApi"]["caching"] == {"maxSystemFailures": 100000, "resyncInterval": "30s"}


def test_starting_and_cancelling_wait_for_a_server_and_polling_does_not() -> None:
    """A poll that waits holds one of the ten workers that poll the jobs of all services."""
    flyte1 = configuration()["plugins"]["connector-service"]["defaultConnector"]
    assert waiting(flyte1) == {
        ("flyteidl.service.AsyncAgentService", "CreateTask"),
        ("flyteidl.service.AsyncAgentService", "DeleteTask"),
        ("flyteidl.service.SyncAgentService", ""),
    }
    flyte2 = configuration("--flyte2")["plugins"]["connector-service"]["defaultConnector"]
    assert waiting(flyte2) == {
        ("flyteidl2.connector.AsyncConnectorService", "CreateTask"),
        ("flyteidl2.connector.AsyncConnectorService", "DeleteTask"),
    }
    for deployment in (flyte1, flyte2):
        # Flyte's loader keeps the capitals of keys in lists alone.
        timeouts = {name: span for entry in deployment["timeouts"] for name, span in entry.items()}
        assert timeouts["CreateTask"] == timeouts["DeleteTask"] == "60s"
        assert timeouts["GetTask"] == "10s"


@pytest.mark.parametrize("arguments", [(), ("--flyte2",), ("--service", "clocks=dns:///c:8000")])
def test_each_list_that_replaces_one_of_the_users_says_so(arguments: tuple[str, ...]) -> None:
    lines = flyteagents("propeller-config", *arguments).stdout.splitlines()
    above = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.rstrip().endswith(":") and following.lstrip().startswith("- "):
            assert "This list replaces yours" in above, line
        above = f"{above} {line.strip()}" if line.lstrip().startswith("#") else ""


def test_the_comments_are_about_the_flyte_that_reads_them() -> None:
    flyte1, flyte2 = (
        flyteagents("propeller-config", *arguments).stdout for arguments in ((), ("--flyte2",))
    )
    assert "it does not start" in flyte1
    assert "FlytePropeller" not in flyte2
    for text in (flyte1, flyte2):
        assert "holds one worker" in text
        assert "second look" in text


def test_an_entry_of_its_own_inherits_nothing_and_pins_no_sync_agents() -> None:
    config = configuration("--service", "clocks=dns:///clocks:8000", "--tls")
    section = config["plugins"]["connector-service"]
    entry = section["connectors"]["clocks"]
    assert entry["endpoint"] == "dns:///clocks:8000"
    assert entry["insecure"] is False
    assert entry["defaultTimeout"] == "10s"
    assert "waitForReady" in entry["defaultServiceConfig"]
    assert section["connectorForTaskTypes"] == [{"clocked_job": "clocks"}]
    assert "defaultConnector" not in section


def test_several_services_share_one_configuration() -> None:
    config = configuration(
        "--endpoint",
        "dns:///agents:8000",
        "--service",
        "lake=dns:///lake:8000=spark_job,databricks",
        "--service",
        "house=dns:///house:8000=snowflake",
        "--flyte2",
    )
    section = config["plugins"]["connector-service"]
    assert section["defaultConnector"]["endpoint"] == "dns:///agents:8000"
    assert {name: at["endpoint"] for name, at in section["connectors"].items()} == {
        "lake": "dns:///lake:8000",
        "house": "dns:///house:8000",
    }
    assert section["connectorForTaskTypes"] == [
        {"databricks": "lake"},
        {"spark_job": "lake"},
        {"snowflake": "house"},
    ]
    every = ["clocked_job", "clocked_sum", "databricks", "snowflake", "spark_job"]
    assert section["supportedTaskTypes"] == every


def test_a_plugins_name_stands_for_its_task_types_and_the_rest_is_told() -> None:
    service = ("--service", "clocks=dns:///clocks:8000=clocked", "--flyte2")
    section = configuration(*service)["plugins"]["connector-service"]
    assert section["connectorForTaskTypes"] == [
        {"clocked_job": "clocks"},
        {"clocked_sum": "clocks"},
    ]
    other = flyteagents("propeller-config", "--service", "a=dns:///a:1=snowflake")
    assert other.returncode == 0
    assert "snowflake is not installed here" in other.stderr
    assert "routed nowhere: clocked_job, clocked_sum" in other.stderr


@pytest.mark.parametrize(
    ("services", "words"),
    [
        (["Clocks=dns:///c:1"], "small letters"),
        (["clocks"], "NAME=ENDPOINT"),
        (["a=dns:///a:1", "b=dns:///b:1"], "which task types go to a, b"),
        (["a=dns:///a:1=x", "b=dns:///b:1=x"], "x is named for a and for b"),
        (["a=dns:///a:1=x", "a=dns:///b:1=y"], "two services are named a"),
    ],
)
def test_services_that_cannot_be_told_apart_are_wrong_usage(
    services: list[str], words: str
) -> None:
    arguments = [word for service in services for word in ("--service", service)]
    done = flyteagents("propeller-config", *arguments)
    assert done.returncode == 64
    assert words in " ".join(done.stderr.split())


def test_the_flyte_2_configuration_routes_every_type_by_name() -> None:
    config = configuration("--flyte2")
    routes = config["tasks"]["task-plugins"]["default-for-task-types"]
    # A map is added to that of Flyte's chart, which is in another file.
    assert routes["clocked_job"] == "connector-service"
    default = config["plugins"]["connector-service"]["defaultConnector"]
    assert not any("ExecuteTaskSync" in timeout for timeout in default["timeouts"])


def test_an_older_propeller_gets_the_older_names() -> None:
    config = configuration("--agent-service", "--service", "clocks=dns:///clocks:8000")
    section = config["plugins"]["agent-service"]
    assert section["agentForTaskTypes"] == [{"clocked_job": "clocks"}]
    assert {"ListAgents": "5s"} in section["agents"]["clocks"]["timeouts"]


def test_without_agents_there_is_no_configuration() -> None:
    done: subprocess.CompletedProcess[str] = flyteagents(
        "propeller-config", env=environment(FLYTEAGENTS_PLUGINS="")
    )
    assert done.returncode == 78
    assert "install a plugin" in done.stderr
