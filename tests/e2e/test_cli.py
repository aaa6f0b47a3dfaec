"""The commands that look and do not run: list, check, inspect, propeller-config, and help."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
from tests.e2e.command import document, environment, flyteagents, on_terminal

from flyteagents._kernel.envelope import Envelope, Parked, dump
from flyteagents._status import Phase
from flyteagents._types import Kind, Type
from flyteagents._wire.types import dump_types

COMMANDS = (
    "serve",
    "list",
    "check",
    "run",
    "jobs",
    "logs",
    "cancel",
    "inspect",
    "probe",
    "propeller-config",
)
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


SLIPS = """
from pydantic import BaseModel
import flyteagents as fa
API = 1
class Slips(fa.SyncAgent[fa.Settings, BaseModel]):
    task_type = "slips"
    async def run(self, task, call):
        return {}
    def explaim(self, reply):
        return None
@fa.hookimpl
def register_agents():
    return [Slips]
"""


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
    assert "did you mean run?" in flyteagents("rnu").stderr


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


@pytest.mark.parametrize("columns", [120, 80, 40])
def test_a_narrow_terminal_breaks_no_name(columns: int) -> None:
    env = environment(FLYTEAGENTS_PLUGINS="bigquery,snowflake", TERM="xterm")
    code, text = on_terminal("list", env=env, columns=columns)
    assert code == 0, text
    table = text.split("snowflake: Snowflake promises")[0].splitlines()
    assert max(map(len, table)) <= columns + len("\x1b[1m\x1b[0m")
    for name in ("bigquery_query_job_task", "flyteagents-bigquery 0.1.0", "flyteagents_snowflake"):
        assert name in text, text
    # Others than these fit beside them.
    assert ("module: flyteagents_bigquery" in text) == (columns < 120)
    assert ("plugin: bigquery" in text) == (columns < 80)


def test_a_pipe_takes_whole_lines() -> None:
    done = flyteagents("list", env=environment(FLYTEAGENTS_PLUGINS="snowflake", COLUMNS="40"))
    heading, row, caveat, _left_out = done.stdout.splitlines()
    assert heading.split() == ["TASK", "TYPE", "IDEMPOTENCY", "PLUGIN", "PACKAGE", "MODULE"]
    assert row.endswith("flyteagents-snowflake 0.1.0  flyteagents_snowflake")
    assert caveat.endswith("looks first)")


def test_list_says_what_is_broken_and_why() -> None:
    env = environment(FLYTEAGENTS_PLUGINS="clocked,broken")
    done = flyteagents("list", env=env)
    assert done.returncode == 78
    assert "clocked_job" in done.stdout
    for words in ("broken-agents 2.0", "module_that_is_not_there"):
        assert words in done.stderr
    (broken,) = document(flyteagents("list", "--json", env=env))["broken"]
    assert broken["name"] == "broken"


def test_list_tells_no_plugin_that_is_named_from_none_that_is_installed() -> None:
    done = flyteagents("list", env=environment(FLYTEAGENTS_PLUGINS=""))
    assert "FLYTEAGENTS_PLUGINS is set, and names no plugin" in done.stdout
    assert "no plugin is installed" not in done.stdout
    assert "installed, and not in FLYTEAGENTS_PLUGINS: " in done.stdout


def test_check_shows_every_setting_and_what_the_agents_say() -> None:
    env = environment(FLYTEAGENTS_CLOCKED_MOOD="good", FLYTEAGENTS_PORT="8123")
    done = flyteagents("check", env=env)
    assert done.returncode == 0, done.stderr
    assert "* FLYTEAGENTS_PORT=8123" in done.stdout
    assert "  FLYTEAGENTS_METRICS_PORT=9090" in done.stdout
    assert "  FLYTEAGENTS_ADOPT=true\n" in done.stdout
    assert "  FLYTEAGENTS_OUTAGE_PATIENCE=21600\n" in done.stdout
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


def test_what_a_server_would_not_start_with_is_78(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = environment(
        FLYTEAGENTS_PLUGINS="duckdb",
        FLYTEAGENTS_DUCKDB_DATA_DIR=f"{tmp_path}/file",
        FLYTEAGENTS_METRICS_PORT="0",  # another server here may have the usual one
    )
    for command in (["check"], ["serve", "--port", "0"]):
        done = flyteagents(*command, env=env)
        assert done.returncode == 78, done.stderr
        assert "FLYTEAGENTS_DUCKDB_DATA_DIR names another one" in done.stdout + done.stderr


def test_check_tells_a_method_whose_name_is_almost_one_of_ours(tmp_path: Path) -> None:
    info = tmp_path / "slips-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slips\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flyteagents]\nslips = slips_agent\n")
    (tmp_path / "slips_agent.py").write_text(SLIPS)
    done = flyteagents(
        "check", env=environment(FLYTEAGENTS_PLUGINS="slips", PYTHONPATH=str(tmp_path))
    )
    assert done.returncode == 0, done.stderr
    assert "warning: slips_agent.Slips defines explaim; is it meant to be explain?" in done.stderr


def test_a_directory_for_secrets_that_is_not_there_is_told() -> None:
    done = flyteagents("check", env=environment(FLYTEAGENTS_SECRETS_DIR="/not/there"))
    assert done.returncode == 0
    assert "warning: FLYTEAGENTS_SECRETS_DIR=/not/there is no directory" in done.stderr


@pytest.mark.parametrize("command", ["serve", "probe"])
def test_a_port_that_is_none_is_blamed_on_the_option_that_has_it(command: str) -> None:
    done = flyteagents(command, "--port", "99999")
    assert done.returncode == 64
    assert "'--port': 99999" in done.stderr
    assert "FLYTEAGENTS_PORT" not in done.stderr


def test_jobs_are_cancelled_only_for_a_client_that_has_died() -> None:
    done = flyteagents("serve", "--cancel-jobs")
    assert done.returncode == 64
    assert "--cancel-jobs goes with --until-stdin-ends" in done.stderr


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


@pytest.mark.parametrize("command", ["serve", "check", "list", "propeller-config"])
def test_bad_settings_of_the_kernel_and_of_plugins_are_told_at_once(command: str) -> None:
    env = environment(
        FLYTEAGENTS_PLUGINS="clocked,duckdb",
        FLYTEAGENTS_PORT="many",
        FLYTEAGENTS_DUCKDB_MAX_JOBS="lots",
    )
    done = flyteagents(command, env=env)
    assert done.returncode == 78
    assert "FLYTEAGENTS_PORT" in done.stderr
    assert "FLYTEAGENTS_DUCKDB_MAX_JOBS" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "oltp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "foo"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grcp"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("FLYTEAGENTS_HOST", "no-such-host.invalid"),
        ("FLYTEAGENTS_METRICS_HOST", "no-such-host.invalid"),
        ("FLYTEAGENTS_METRICS_HOST", ""),
        ("FLYTEAGENTS_METRICS_PORT", "8000"),
        ("FLYTEAGENTS_TLS_CERT", "/not/there"),
    ],
)
def test_check_refuses_what_a_server_would_not_start_with(name: str, value: str) -> None:
    with_others = {
        "OTEL_BSP_MAX_QUEUE_SIZE": {"OTEL_TRACES_EXPORTER": "otlp"},
        "OTEL_EXPORTER_OTLP_PROTOCOL": {"OTEL_TRACES_EXPORTER": "otlp"},
        "FLYTEAGENTS_TLS_CERT": {"FLYTEAGENTS_TLS_KEY": "/not/there"},
    }
    env = environment(**{name: value, **with_others.get(name, {})})
    for command in ("serve", "check"):
        done = flyteagents(command, env=env)
        assert done.returncode == 78, (command, done.stdout, done.stderr)
        assert name.removesuffix("_MAX_QUEUE_SIZE") in done.stderr


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
