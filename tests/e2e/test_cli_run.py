"""`flyteagents run` plays FlytePropeller against a real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from flyteidl.core import literals_pb2
from tests.e2e.command import (
    AGENTS,
    JOBS,
    document,
    drawn,
    environment,
    flyteagents,
    on_terminal,
    self_signed,
    started,
    task,
    wait_for,
)

from flyteagents.testing import RealServer, free_port, task_template


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(**{JOBS: str(tmp_path), "TMPDIR": str(tmp_path)})


@pytest.mark.parametrize("generation", [(), ("--flyte2",)], ids=["flyte1", "flyte2"])
def test_a_task_succeeds_with_its_outputs_links_and_info(
    env: dict[str, str], tmp_path: Path, generation: tuple[str, ...]
) -> None:
    done = flyteagents(
        "run",
        task(tmp_path, seconds=2),
        "-i",
        "month=8",
        "--every",
        "0.1",
        "--json",
        *generation,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    said = document(done)
    assert said["phase"] == "SUCCEEDED"
    assert said["outputs"] == {"total": 42, "inputs": {"month": "8", "note": "None"}}
    assert said["links"][0]["name"] == "Clock"
    assert said["info"] == {"bytes_read": 2048, "progress": 1, "rows": 1200}
    assert said["output_prefix"].endswith("/1" if generation else "/0")
    assert "RUNNING" in done.stderr


def test_the_trace_is_drawn_from_what_the_server_sent(env: dict[str, str], tmp_path: Path) -> None:
    done = flyteagents("run", task(tmp_path, seconds=2), "--trace", "--every", "0.1", env=env)
    assert done.returncode == 0, done.stderr
    root = next(line for line in done.stdout.splitlines() if "job clocked_job" in line)
    assert "SUCCEEDED" in root
    assert "1,200 rows" in root
    assert drawn(done.stdout, "AsyncAgentService/CreateTask") == 1
    assert drawn(done.stdout, "AsyncAgentService/GetTask") >= 4
    # The agent's own work has a span where the phase changes.
    assert drawn(done.stdout, "get clocked_job") >= 2
    assert "total = 42" in done.stdout
    assert "ended with exit code 0" in done.stdout


def test_the_exit_code_tells_a_failure_from_one_that_may_pass(
    env: dict[str, str], tmp_path: Path
) -> None:
    failed = flyteagents("run", task(tmp_path, fail="no such table"), env=env)
    assert failed.returncode == 1
    assert "no such table" in failed.stdout
    again = flyteagents("run", task(tmp_path, fail="overloaded", again=True), env=env)
    assert again.returncode == 2


def test_retries_are_attempts_of_their_own(env: dict[str, str], tmp_path: Path) -> None:
    file = task(tmp_path, retries=2, fail="overloaded", again=True)
    done = flyteagents("run", file, "--json", "--every", "0.1", env=env)
    assert done.returncode == 2
    attempts = document(done)["attempts"]
    assert [attempt["phase"] for attempt in attempts] == ["RETRYABLE_FAILED"] * 3
    assert len(list(tmp_path.glob("*.json"))) == 3
    assert flyteagents("run", file, "--attempts", "1", env=env).stdout.count("overloaded") == 1


def test_the_same_prefix_again_is_the_same_attempt(env: dict[str, str], tmp_path: Path) -> None:
    command = ("run", task(tmp_path), "--output-prefix", str(tmp_path / "out"), "--json")
    first, second = (document(flyteagents(*command, env=env)) for _ in range(2))
    assert first["job"]["job"] == second["job"]["job"]
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_job_that_reads_its_inputs_from_the_prefix_finds_them(
    env: dict[str, str], tmp_path: Path
) -> None:
    args = ("--inputs", "{{.input}}")
    made = task_template(
        "clocked_job", custom={"seconds": 0}, inputs={"month": 7}, image="i:1", args=args
    )
    (tmp_path / "task.pb").write_bytes(made.template.SerializeToString())
    places = (str(tmp_path / "task.pb"), "--output-prefix", str(tmp_path / "out"))
    done = flyteagents("run", *places, "-i", "month=8", env=env)
    assert done.returncode == 0, done.stderr
    raw = (tmp_path / "out" / "inputs.pb").read_bytes()
    read = literals_pb2.LiteralMap.FromString(raw)
    assert read.literals["month"].scalar.primitive.integer == 8


def test_what_is_found_where_the_user_is_is_resolved_there(
    env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "flyteagents", "run", "-", "--output-prefix", "out2", "--json"],
        env=env,
        cwd=tmp_path / "work",
        input=Path(task(tmp_path)).read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert document(done)["output_prefix"] == str(tmp_path / "work" / "out2" / "0")


def test_a_key_that_the_agent_does_not_read_is_told_with_the_nearest_one(
    env: dict[str, str], tmp_path: Path
) -> None:
    done = flyteagents("run", task(tmp_path, secnds=0.1), "--json", env=env)
    assert done.returncode == 0, done.stderr
    told = "'secnds' in the task's config is not known and does nothing; did you mean 'seconds'?"
    assert done.stderr.count(f"warning: {told}") == 1
    assert document(done)["info"]["warnings"] == [told]
    assert "warning" not in flyteagents("run", task(tmp_path), env=env).stderr


def test_a_file_that_the_user_names_is_open_to_this_run(tmp_path: Path) -> None:
    elsewhere = Path(__file__).with_name("numbers.csv")
    file = tmp_path / "task.yaml"
    file.write_text(
        "task_type: duckdb_query\nsql: select sum(n) as total from t\n"
        "inputs: {t: {format: csv}}\noutputs: {total: integer}\n"
    )
    variables = {
        "FLYTEAGENTS_DUCKDB_DATA_DIR": str(tmp_path / "data"),
        "FLYTEAGENTS_DUCKDB_INPUT_PREFIXES": str(tmp_path / "other"),
    }
    env = environment(FLYTEAGENTS_PLUGINS="duckdb", **variables)
    done = flyteagents("run", str(file), "-i", f"t={elsewhere}", "--json", env=env)
    assert done.returncode == 0, done.stderr + done.stdout
    assert document(done)["outputs"] == {"total": 6}


def test_what_a_user_names_is_open_to_this_run_whatever_plugin_it_is(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    file.write_text("task_type: clocked_job\ninputs: {t: file}\noutputs: {inputs: struct}\n")
    named = ("-i", f"t={Path(__file__)}", "--output-prefix", str(tmp_path / "out"))
    env = environment(
        FLYTEAGENTS_CLOCKED_DIRECTORY=str(tmp_path),
        FLYTEAGENTS_CLOCKED_INPUT_PREFIXES="/elsewhere",
        FLYTEAGENTS_CLOCKED_OUTPUT_PREFIXES="/elsewhere",
    )
    done = flyteagents("run", str(file), *named, env=env)
    assert done.returncode == 0, done.stderr + done.stdout


def test_a_server_with_a_private_authority_is_talked_to(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    tls = {"FLYTEAGENTS_TLS_CERT": certificate, "FLYTEAGENTS_TLS_KEY": key}
    port = free_port()
    env = environment(**{JOBS: str(tmp_path), "FLYTEAGENTS_METRICS_PORT": "0", **tls})
    server = started("serve", "--host", "127.0.0.1", "--port", str(port), env=env)
    try:
        wait_for(server.stderr, "serves clocked_job")
        to = ("--endpoint", f"localhost:{port}", "--tls")
        distrusted = flyteagents("run", task(tmp_path), *to)
        assert distrusted.returncode == 69
        assert "name its authority by --ca" in distrusted.stderr
        plain = flyteagents("run", task(tmp_path), *to[:2])
        assert "whether the server wants --tls" in plain.stderr
        done = flyteagents("run", task(tmp_path), *to, "--ca", certificate, "--json")
        assert done.returncode == 0, done.stderr
        job = (document(done)["resource_meta"], *to)
        assert flyteagents("cancel", *job, "--ca", certificate).returncode == 0
        assert "clocked_job has no logs" in flyteagents("logs", *job, "--ca", certificate).stderr
        assert flyteagents("cancel", *job).returncode == 69
    finally:
        server.kill()
        server.communicate()


def test_no_colour_means_none_also_on_a_terminal(env: dict[str, str], tmp_path: Path) -> None:
    def shown(**variables: str) -> str:
        arguments = ("run", task(tmp_path), "--every", "0.1")
        code, text = on_terminal(*arguments, env={**env, **variables})
        assert code == 0, text
        return text

    green = "\x1b[32m"
    assert green in shown(TERM="xterm")
    assert green not in shown(TERM="xterm", NO_COLOR="1")
    assert "\x1b" not in shown(TERM="dumb")


def test_a_sync_agent_is_called_as_propeller_would(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "sum.yaml"
    file.write_text(
        "task_type: clocked_sum\ninputs: {a: integer, b: integer}\noutputs: {sum: integer}\n"
    )
    for generation in ((), ("--flyte2",)):
        done = flyteagents("run", str(file), "-i", "a=2", "-i", "b=40", *generation, env=env)
        assert done.returncode == 0, done.stderr
        assert "sum = 42" in done.stdout


def test_a_running_server_is_used_and_left_running(tmp_path: Path) -> None:
    with RealServer(["clocked"], {JOBS: str(tmp_path)}, [AGENTS]) as server:
        done = flyteagents("run", task(tmp_path), "--endpoint", server.endpoint, "--json")
        assert done.returncode == 0, done.stderr
        assert document(done)["outputs"]["total"] == 42
        assert server.serving()
    gone = flyteagents("run", task(tmp_path), "--endpoint", server.endpoint)
    assert gone.returncode == 69
    assert "--endpoint" in gone.stderr


def test_a_server_that_is_restarted_is_waited_for(tmp_path: Path) -> None:
    with RealServer(["clocked"], {JOBS: str(tmp_path)}, [AGENTS]) as server:
        arguments = ("--endpoint", server.endpoint, "--every", "0.1")
        process = started("run", task(tmp_path, seconds=3), *arguments)
        wait_for(process.stdout, "RUNNING")
        server.kill()
        wait_for(process.stdout, "UNAVAILABLE")
        server.start()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "SUCCEEDED" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-i", "month=may"], ["month", "integer", "may"]),
        (["-i", "moth=5"], ["moth", "month: integer"]),
        (["-i", "month"], ["name=value"]),
        (["-i", "month=5", "-i", "month=6"], ["'month' is given twice"]),
        (["--trace", "--endpoint", "localhost:1"], ["--trace"]),
        (["--nonsense"], ["--nonsense"]),
        (["--tls"], ["--tls", "--endpoint"]),
        (["--ca", __file__, "--endpoint", "localhost:1"], ["--ca goes with --tls"]),
        (["--endpoint", "http://localhost:8000"], ["gRPC takes no URL", "host:port"]),
        (["--endpoint", "localhost:http"], ["localhost:http", "host:port"]),
    ],
)
def test_wrong_usage_is_64_and_says_what_is_expected(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    done = flyteagents("run", task(tmp_path), *arguments)
    assert done.returncode == 64
    for word in words:
        assert word in done.stderr


def test_what_cannot_be_served_says_what_to_do(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("task_type: other\n")
    unserved = flyteagents("run", str(file), env=env)
    assert unserved.returncode == 78
    assert "clocked_job" in unserved.stderr
    file.write_text("task_type: clocked_jb\n")
    assert "did you mean clocked_job?" in flyteagents("run", str(file), env=env).stderr
    broken = flyteagents("run", str(file), env={**env, "FLYTEAGENTS_PLUGINS": "missing"})
    assert broken.returncode == 78
    assert "no installed package offers it" in broken.stderr
    assert flyteagents("run", str(tmp_path / "nothing.yaml"), env=env).returncode == 65


def test_the_meta_that_run_prints_can_be_inspected(env: dict[str, str], tmp_path: Path) -> None:
    said = document(flyteagents("run", task(tmp_path), "--json", env=env))
    done = flyteagents("inspect", "-", env=env, feed=said["resource_meta"])
    assert done.returncode == 0, done.stderr
    for words in ("clocked_job of cli-agents 1.0", said["job"]["key"], "output total", "integer"):
        assert words in done.stdout


def test_nothing_is_left_where_a_task_wrote_nothing(env: dict[str, str], tmp_path: Path) -> None:
    flyteagents("run", task(tmp_path), env=env)
    assert not list(tmp_path.glob("flyteagents-*"))
