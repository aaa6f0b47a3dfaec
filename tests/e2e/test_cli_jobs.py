"""What became of a job after `run`: its log, the jobs there were, and a cancel from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.e2e.command import document, environment, flyteagents, gone, started, wait_for

from flyteagents._cli.inspecting import meta_bytes
from flyteagents._kernel.keys import key_of

FOREVER = "select sum(a.range * b.range) as n from range(9999999999) a, range(999) b"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(
        FLYTEAGENTS_PLUGINS="duckdb",
        FLYTEAGENTS_DUCKDB_DATA_DIR=str(tmp_path / "data"),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )


def task(folder: Path, sql: str) -> str:
    file = folder / "task.yaml"
    file.write_text(f"task_type: duckdb_query\nsql: {sql}\noutputs: {{n: integer}}\n")
    return str(file)


def test_a_failed_job_shows_its_log_and_is_found_again(env: dict[str, str], tmp_path: Path) -> None:
    done = flyteagents("run", task(tmp_path, "select nope"), env=env)
    assert done.returncode == 1
    assert re.search(r"^log: failed after .*[^^]$", done.stdout, re.MULTILINE), done.stdout

    last = flyteagents("logs", env=env)
    assert (last.returncode, last.stdout.count("failed after")) == (0, 1), last.stderr

    (job,) = json.loads(flyteagents("jobs", "--json", env=env).stdout)
    assert (job["phase"], job["project"], job["statement"]) == ("FAILED", "local", "select nope")
    shown = flyteagents("jobs", env=env).stdout
    assert job["job"] in shown
    assert "FAILED" in shown
    assert "LINE 1" not in shown
    for name in (job["job"], job["job"][:6], job["resource_meta"]):
        named = flyteagents("logs", name, env=env)
        assert named.stdout == last.stdout, named.stderr
    said = document(flyteagents("inspect", job["resource_meta"], "--json", env=env))
    assert said["task_type"] == "duckdb_query"


def test_a_table_that_is_not_where_it_was_wanted_is_told(
    env: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "table.yaml"
    file.write_text(
        "task_type: duckdb_query\nsql: select 1 as n\noutputs: {t: structured_dataset}\n"
    )
    told = "not below the output prefix; `flyteagents logs` says why"
    (tmp_path / "link").symlink_to(tmp_path)
    for place in (f"{tmp_path}/out", f"file://{tmp_path}/out2", f"{tmp_path}/link/out3"):
        there = flyteagents("run", str(file), "--output-prefix", place, env=env)
        assert told not in there.stdout, there.stdout
    elsewhere = flyteagents("run", str(file), "--output-prefix", str(file / "out"), env=env)
    assert told in elsewhere.stdout, elsewhere.stdout
    assert "the output prefix cannot be written to" in flyteagents("logs", env=env).stdout


def test_past_jobs_show_no_secret(env: dict[str, str], tmp_path: Path) -> None:
    sql = "select error('password=hunter22 is wrong')"
    done = flyteagents("run", task(tmp_path, sql), env=env)
    assert done.returncode == 1
    for shown in (flyteagents("jobs", env=env), flyteagents("jobs", "--json", env=env)):
        assert "password=[redacted] is wrong" in shown.stdout
        assert "hunter" not in shown.stdout


@pytest.mark.parametrize("named", [False, True], ids=["the last run's", "by its id"])
def test_a_job_is_cancelled_from_another_terminal(
    env: dict[str, str], tmp_path: Path, named: bool
) -> None:
    process = started("run", task(tmp_path, FOREVER), "--every", "0.1", env=env)
    server = int(wait_for(process.stdout, "is process ").split("is process ")[1].split()[0])
    wait_for(process.stdout, "RUNNING")
    which = []
    if named:
        which = [json.loads(flyteagents("jobs", "--json", env=env).stdout)[0]["job"]]
    done = flyteagents("cancel", *which, env=env)
    assert (done.returncode, done.stdout) == (0, "the job was cancelled\n"), done.stderr
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "cancelled" in out
    assert gone(server, within=60)
    again = flyteagents("cancel", *which, env=env)
    assert (again.returncode, again.stdout) == (0, "the job had been cancelled before\n")


def test_what_names_no_job_is_told(env: dict[str, str]) -> None:
    never = flyteagents("logs", env=env)
    assert never.returncode == 65
    assert "there was no run yet" in never.stderr
    unknown = flyteagents("cancel", "0123456789ab", env=env)
    assert unknown.returncode == 65
    assert "`flyteagents jobs` shows ids" in unknown.stderr
    assert flyteagents("jobs", env=env).stdout == "no agent here remembers a job\n"


def test_a_job_that_nobody_there_can_stop_is_not_said_to_be_cancelled(
    env: dict[str, str], tmp_path: Path
) -> None:
    said = document(flyteagents("run", task(tmp_path, "select 1 as n"), "--json", env=env))
    other = {**env, "FLYTEAGENTS_PLUGINS": "clocked"}
    for command in ("cancel", "logs"):
        done = flyteagents(command, said["resource_meta"], env=other)
        assert done.returncode == 78
        assert "no agent there serves task type 'duckdb_query'" in done.stderr


def test_an_id_that_could_be_base64_of_json_is_an_id(env: dict[str, str], tmp_path: Path) -> None:
    file = task(tmp_path, "select 1 as n")
    for number in range(200):
        prefix = f"{tmp_path}/out-{number}"
        if meta_bytes(key_of("", "duckdb_query", f"{prefix}/0").hex[:12]):
            break
    done = flyteagents("run", file, "--output-prefix", prefix, "--json", env=env)
    key = document(done)["job"]["key"]
    assert meta_bytes(key[:12]), "it looks like a resource_meta"
    assert flyteagents("logs", key[:12], env=env).returncode == 0
