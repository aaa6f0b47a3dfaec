"""Drives the Go program beside this file: FlytePropeller with one task to run."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyteidl.core import identifier_pb2, literals_pb2, tasks_pb2, types_pb2

SIMPLE = {"integer": types_pb2.INTEGER, "string": types_pb2.STRING, "float": types_pb2.FLOAT}


@dataclass(frozen=True)
class Task:
    """A task to run. Inputs are integers; outputs map a name to a simple type or "table"."""

    type: str
    custom: Mapping[str, Any] = field(default_factory=dict)
    sql: str = ""
    inputs: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    def template(self) -> Any:
        made = tasks_pb2.TaskTemplate(
            type=self.type,
            id=identifier_pb2.Identifier(
                resource_type=identifier_pb2.TASK,
                project="interop",
                domain="development",
                name=f"interop.{self.type}",
                version="1",
            ),
        )
        made.metadata.SetInParent()
        made.interface.inputs.SetInParent()
        made.interface.outputs.SetInParent()
        if self.custom:
            made.custom.update(self.custom)
        if self.sql:
            made.sql.statement = self.sql
        for name in self.inputs:
            made.interface.inputs.variables[name].type.simple = types_pb2.INTEGER
        for name, kind in self.outputs.items():
            declared = made.interface.outputs.variables[name].type
            if kind == "table":
                declared.structured_dataset_type.SetInParent()
            else:
                declared.simple = SIMPLE[kind]
        return made

    def literals(self) -> Any:
        made = literals_pb2.LiteralMap()
        for name, value in self.inputs.items():
            made.literals[name].scalar.primitive.integer = value
        return made


class Propeller:
    """A FlytePropeller process. What it keeps is in `state`: after `kill`, another one that is
    started there carries on. `lines` are what it printed so far, as report.go describes them."""

    def __init__(self, binary: Path, state: Path, config: Path) -> None:
        self._binary, self.state, self.config = binary, state, config
        self.lines: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread()
        self._done = False
        state.mkdir(parents=True, exist_ok=True)

    def run(self, task: Task, *, attempts: int = 1, flags: tuple[str, ...] = ()) -> None:
        """Start with this task."""
        (self.state / "task.pb").write_bytes(task.template().SerializeToString())
        (self.state / "inputs.pb").write_bytes(task.literals().SerializeToString())
        self.carry_on(f"-attempts={attempts}", *flags)

    def carry_on(self, *flags: str) -> None:
        """Start with what is kept in `state`."""
        assert self._process is None, "it runs already"
        command = [
            str(self._binary),
            f"-config={self.config}",
            f"-state={self.state}",
            f"-task={self.state / 'task.pb'}",
            f"-inputs={self.state / 'inputs.pb'}",
            f"-name={self.name}",
            "-limit=180s",
            *flags,
        ]
        self.lines, self._done = [], False
        with (self.state / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    @property
    def name(self) -> str:
        """The name of the execution."""
        return self.state.name

    def wait_for(self, kind: str, *, seconds: float = 60.0, **fields: object) -> dict[str, Any]:
        """The first line of this kind with these fields, as soon as there is one."""
        until = time.monotonic() + seconds
        with self._news:
            while True:
                for line in self.lines:
                    if line["kind"] == kind and all(line.get(k) == v for k, v in fields.items()):
                        return line
                if self._done or not self._news.wait(until - time.monotonic()):
                    raise AssertionError(f"no {kind} {fields} in {seconds} s:\n{self.story()}")

    def wait_for_end(self, phase: str, *, seconds: float = 120.0) -> None:
        """Until the workflow has ended, and ended so: Succeeded, Failed or Aborted."""
        line = self.wait_for("end", seconds=seconds)
        self._close()
        assert line["phase"] == phase, self.story()

    def succeed(self, task: Task, *, links: Sequence[str]) -> None:
        """Run a task to its success: by one CreateTask, with no call that fails."""
        self.run(task, attempts=3)
        self.wait_for_end("Succeeded")
        assert self.calls("CreateTask", None) == self.calls("CreateTask") == 1
        assert self.calls("GetTask", None) == self.calls("GetTask")
        done = self.wait_for("task", phase="SUCCEEDED")
        assert [link["name"] for link in done["links"]] == list(links)

    def abort_running(self, task: Task) -> None:
        """Abort a task while it runs: every DeleteTask is taken."""
        self.run(task)
        self.wait_for("task", phase="RUNNING")
        self.abort()
        self.wait_for_end("Aborted")
        assert self.calls("DeleteTask", None) == self.calls("DeleteTask")

    def abort(self) -> None:
        """What a user's abort is to Propeller."""
        assert self._process is not None
        print("abort", file=self._process.stdin, flush=True)

    def kill(self) -> None:
        """End the process with no chance to store anything."""
        if self._process is not None:
            self._process.kill()
            self._close()

    def calls(self, method: str, code: str | None = "OK") -> int:
        """How many RPCs of this method ended with this code, or with any."""
        return sum(
            1
            for line in list(self.lines)
            if line["kind"] == "call" and line["method"] == method and code in (None, line["code"])
        )

    def phases(self) -> list[tuple[int, str]]:
        """Attempt and phase of each task event that flyteadmin would have got."""
        return [(line["attempt"], line["phase"]) for line in self.lines if line["kind"] == "task"]

    def outputs(self) -> Any:
        """The task's outputs as Propeller stored them, by name."""
        done = next(line for line in self.lines if line.get("outputs"))
        return literals_pb2.LiteralMap.FromString(base64.b64decode(done["outputs"])).literals

    def error(self) -> dict[str, str]:
        """The error that the user sees."""
        failed = [
            line["error"] for line in self.lines if line["kind"] == "node" and line.get("error")
        ]
        assert failed, f"no error:\n{self.story()}"
        return dict(failed[-1])

    def story(self) -> str:
        """All that happened, for a test's failure."""
        log = (self.state / "log.txt").read_text()[-2000:]
        return "\n".join([*map(json.dumps, self.lines), log])

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for text in process.stdout:
            with self._news:
                self.lines.append(json.loads(text))
                self._news.notify_all()
        with self._news:
            self._done = True
            self._news.notify_all()

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with process:  # closes the pipes and waits for its end
                self._reader.join(10)


def build(folder: Path, into: Path) -> Path:
    """Compile the Go program; minutes at first, since it is most of FlytePropeller."""
    into.mkdir(parents=True, exist_ok=True)
    binary = into / "interop"
    go = shutil.which("go")
    assert go, "no go on the PATH"
    # Tests run side by side: the first process compiles, the others wait and find it done.
    with (into / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [go, "build", "-o", str(binary), "."],
            cwd=folder,
            env={**os.environ, "GOFLAGS": "-p=2 -buildvcs=false"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, f"the Go program does not compile:\n{done.stderr[-3000:]}"
    return binary
