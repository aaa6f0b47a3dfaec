"""One run of the made-up Databricks: what becomes of it, and how the API shows it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.databricks.stored import outputs_pb

PAGE = 100
"""Tasks on one page of runs/get."""


@dataclass(frozen=True)
class Plan:
    """What becomes of a run. Times are in seconds; `running` may be math.inf.

    rejected: status, error code and message with which the submit itself fails.
    end: the last life cycle state. result: its result state.
    code, type, message: of the termination. state: a state to show for ever, as it is.
    error, trace, logs: what get-output tells of the task. exit: what a notebook exits with.
    tasks: how many tasks the run shows; the last ones, `ending` of them, end as said.
    writes: outputs that the task's code has written below its output prefix when it has ended well.
    each: how tasks ended, those of the first; they end after `running` seconds each.
    dies: seconds that a cancel takes.
    earlier: the task's attempts before, which Databricks made again by itself.
    """

    queued: float = 0.0
    pending: float = 0.0
    running: float = 0.0
    rejected: tuple[int, str, str] | None = None
    end: str = "TERMINATED"
    result: str = "SUCCESS"
    code: str = ""
    type: str = ""
    message: str = ""
    state: Mapping[str, Any] | None = None
    error: str = ""
    trace: str = ""
    logs: str = ""
    exit: str | None = None
    writes: Mapping[str, object] | None = None
    truncated: bool = False
    tasks: int = 1
    ending: int = 1
    each: tuple[Plan, ...] = ()
    dies: float = 0.0
    earlier: tuple[Plan, ...] = ()


class Work(Protocol):
    """A process that does a run's work; see cluster.py."""

    @property
    def ended(self) -> float | None:
        """When it ended, a time of `time.time()`; None while it runs."""

    def plan(self) -> Plan:
        """How it ended."""

    def kill(self) -> None:
        """SIGKILL, to it and what it started."""


@dataclass
class FakeRun:
    """One run; its state follows from the clock, or from the process that does its work.

    body: what the API kept of the submit.
    """

    id: int
    body: dict[str, Any]
    plan: Plan
    host: str
    work: Work | None = None
    created: float = field(default_factory=time.time)
    cancelled: float | None = None
    cancels: int = 0

    @property
    def task_ids(self) -> list[int]:
        return [self.id + 1 + number for number in range(self.plan.tasks)]

    def as_said(self, task_id: int) -> bool:
        """Whether this task ends as the plan says; others succeed."""
        return task_id in self.task_ids[-self.plan.ending :]

    def plan_of(self, task_id: int) -> Plan:
        """How a task ends."""
        number = task_id - self.id - 1
        if number < len(self.plan.each):
            return self.plan.each[number]
        return self.outcome if self.as_said(task_id) else Plan()

    @property
    def earlier_ids(self) -> list[int]:
        """Of the attempts before the last one."""
        return [self.id + 500 + number for number in range(len(self.outcome.earlier))]

    @property
    def begins(self) -> float:
        return self.created + self.plan.queued + self.plan.pending

    @property
    def ends(self) -> float:
        if self.work is not None:
            ends = math.inf if self.work.ended is None else self.work.ended
        else:
            ends = self.begins + self.plan.running
        return ends if self.cancelled is None else min(ends, self.cancelled + self.plan.dies)

    @property
    def ended(self) -> bool:
        return time.time() >= self.ends and self.plan.state is None

    @property
    def outcome(self) -> Plan:
        """How it ended."""
        if self.cancelled is not None and self.ends >= self.cancelled:
            return Plan(result="CANCELED", code="USER_CANCELED", message="Run cancelled.")
        return self.plan if self.work is None else self.work.plan()

    def cancel(self) -> None:
        self.cancels += 1
        if self.cancelled is None and not self.ended:
            self.cancelled = time.time()
            if self.work is not None:
                self.work.kill()

    def life_cycle(self) -> str:
        """The state's name in 2.1."""
        now = time.time()
        if self.ended:
            return self.outcome.end
        if self.cancelled is not None:
            return "TERMINATING"
        if now < self.created + self.plan.queued:
            return "QUEUED"
        return "PENDING" if now < self.begins else "RUNNING"

    def shown(self, version: str, token: str = "") -> dict[str, Any]:
        """The answer of runs/get; `token` is that of a page."""
        if self.ended and self.outcome.writes is not None:
            outputs_pb(self._output_folder, self.outcome.writes)
        start = int(token or 0)
        tasks = self._tasks(version)
        # In no order, says the documentation: the one that failed is not on the first page.
        page = tasks[start : start + PAGE] if version == "2.2" else tasks
        shown: dict[str, Any] = {
            "job_id": self.id * 7,
            "run_id": self.id,
            "run_name": self.body.get("run_name", "Untitled"),
            "run_type": "SUBMIT_RUN",
            "creator_user_name": "robot@example.com",
            "attempt_number": 0,
            "run_page_url": f"{self.host}/?o=7011#job/{self.id * 7}/run/{self.id}",
            "start_time": int(self.created * 1000),
            "end_time": int(self.ends * 1000) if self.ended else 0,
            "run_duration": int((self.ends - self.created) * 1000) if self.ended else 0,
            "queue_duration": _milliseconds(self.plan.queued),
            "tasks": page,
            **self.states(version),
        }
        if version == "2.2" and start + PAGE < len(tasks):
            shown["next_page_token"] = str(start + PAGE)
        return shown

    def states(self, version: str, outcome: Plan | None = None) -> dict[str, Any]:
        """`state`, and in 2.2 also `status`."""
        if self.plan.state is not None:
            return dict(self.plan.state)
        outcome = outcome or (self.outcome if self.ended else Plan())
        life = outcome.end if self.ended else self.life_cycle()
        cancelled = self.cancelled is not None
        state: dict[str, Any] = {
            "life_cycle_state": life,
            "state_message": outcome.message if self.ended else "In run",
            "user_cancelled_or_timedout": cancelled or outcome.result == "TIMEDOUT",
        }
        ended = self.ended
        if ended and life == "TERMINATED":
            state["result_state"] = outcome.result
        if version == "2.1":
            return {"state": state}
        names = {"SKIPPED": "TERMINATED", "INTERNAL_ERROR": "TERMINATED"}
        status: dict[str, Any] = {"state": names.get(life, life)}
        if life == "QUEUED":
            status["queue_details"] = {
                "code": "ACTIVE_RUNS_LIMIT_REACHED",
                "message": "Queued due to reaching maximum active runs",
            }
        if ended:
            code = outcome.code or ("SUCCESS" if outcome.result == "SUCCESS" else "INTERNAL_ERROR")
            status["termination_details"] = {
                "code": code,
                "type": outcome.type or ("SUCCESS" if code == "SUCCESS" else "CLIENT_ERROR"),
                "message": outcome.message,
            }
        return {"state": state, "status": status}

    def output(self, outcome: Plan) -> dict[str, Any]:
        """The answer of runs/get-output for a task that ended so."""
        told: dict[str, Any] = {
            "error": outcome.error,
            "error_trace": outcome.trace,
            "logs": outcome.logs,
            "logs_truncated": outcome.truncated,
        }
        if outcome.exit is not None:
            told["notebook_output"] = {"result": outcome.exit, "truncated": outcome.truncated}
        return {name: value for name, value in told.items() if value}

    @property
    def _output_folder(self) -> Path:
        """Where the code of the run's task is told to write to."""
        [task] = self.body["tasks"]
        told: list[str] = task["spark_python_task"]["parameters"]
        folder = Path(told[told.index("--output-prefix") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _tasks(self, version: str) -> Sequence[dict[str, Any]]:
        earlier = self.outcome.earlier
        made = [
            self._task(task_id, version, self.plan_of(task_id), len(earlier))
            for task_id in self.task_ids
        ]
        # In no order: a last attempt may come before the ones that it followed.
        before = zip(self.earlier_ids, earlier, strict=False)
        return made + [self._task(at, version, plan, n) for n, (at, plan) in enumerate(before)]

    def _task(self, task_id: int, version: str, outcome: Plan, attempt: int) -> dict[str, Any]:
        submitted = self.body.get("tasks") or [{}]
        took = outcome.running if outcome in self.plan.each else self.ends - self.created
        return {
            **submitted[(task_id - self.id - 1) % len(submitted)],
            "run_id": task_id,
            "attempt_number": attempt,
            "cluster_instance": {"cluster_id": f"0923-{self.id}", "spark_context_id": "42"},
            "run_page_url": f"{self.host}/?o=7011#job/{self.id * 7}/run/{task_id}",
            "start_time": int(self.created * 1000) + attempt,
            "end_time": int((self.created + took) * 1000) if self.ended else 0,
            "setup_duration": _milliseconds(self.plan.pending),
            "execution_duration": 1200 if self.ended else 0,
            "cleanup_duration": 30 if self.ended else 0,
            **self.states(version, outcome),
        }


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000) if math.isfinite(seconds) else 0
