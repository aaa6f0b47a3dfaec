"""The configuration that `propeller-config` prints, and what it says beside it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml
from tests.e2e.command import environment, flyteagents


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
    assert "snowflake is no plugin that is installed here" in other.stderr
    assert "routed nowhere: clocked_job, clocked_sum" in other.stderr


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("nonsense", "has no port, and Flyte's client takes 443"),
        ("agents:8000", "does not begin with dns:///"),
    ],
)
def test_an_endpoint_that_flyte_would_hardly_reach_us_by_is_told(endpoint: str, words: str) -> None:
    for option in (["--endpoint", endpoint], ["--service", f"a={endpoint}"]):
        done = flyteagents("propeller-config", *option)
        assert done.returncode == 0
        assert f"warning: {endpoint} {words}" in done.stderr
    assert flyteagents("propeller-config").stderr == ""
    assert flyteagents("propeller-config", "--endpoint", "http://agents:8000").returncode == 64


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


def test_both_generations_at_once_are_wrong_usage() -> None:
    done = flyteagents("propeller-config", "--flyte2", "--agent-service")
    assert done.returncode == 64
    assert done.stdout == ""
    assert "give one of them" in done.stderr
