"""Plays FlytePropeller with one task: attempts, polls, timeouts, and the cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import grpc

from flyteagents._cli.flyte_client import DEADLINE, FlyteClient, View
from flyteagents._status import Phase

_PATIENCE = 60.0
"""Seconds without an answer to GetTask after which we stop asking. Flyte gives up earlier."""
_CANCELS = 11
"""DeleteTask calls, a second apart, after which Flyte 1 gives up."""


@dataclass(frozen=True)
class Attempt:
    """One attempt, as it ended. `phase` is None for one that was cancelled, or got lost."""

    number: int
    output_prefix: str
    phase: Phase | None
    message: str
    seconds: float
    meta: bytes = b""


@dataclass
class Outcome:
    """How the task ended: its attempts, the last answer, and what stood in the way."""

    attempts: list[Attempt] = field(default_factory=list)
    view: View | None = None
    cancelled: bool = False
    lost: str = ""


class Watch(Protocol):
    """Shows what goes on."""

    def attempt(self, number: int, of: int) -> None: ...
    def view(self, view: View, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass
class Player:
    """Runs one task to its end. `alive` says whether there is a server to ask at all."""

    client: FlyteClient
    base: str
    watch: Watch
    every: float
    attempts: int
    timeout: float | None
    alive: Callable[[], bool] = lambda: True

    def play(self, sync: bool) -> Outcome:
        """Until SUCCEEDED, FAILED, or the last RETRYABLE_FAILED. Ctrl-C cancels the job."""
        outcome = Outcome()
        for number in range(self.attempts):
            self.watch.attempt(number + 1, self.attempts)
            prefix = f"{self.base.rstrip('/')}/{number + self.client.first}"
            started = time.monotonic()
            if sync:
                attempt = self._execute(number, prefix, outcome)
            else:
                attempt = self._one(number, prefix, outcome)
            attempt = replace(attempt, seconds=time.monotonic() - started)
            outcome.attempts.append(attempt)
            if attempt.phase is not Phase.RETRYABLE_FAILED:
                break
            if number + 1 < self.attempts:
                self.watch.note(f"attempt {number + 1} failed: {attempt.message}; trying again")
        return outcome

    def _execute(self, number: int, prefix: str, outcome: Outcome) -> Attempt:
        try:
            outcome.view = self.client.execute(prefix, number, self.attempts)
        except grpc.RpcError as error:
            return _burnt(number, prefix, "ExecuteTaskSync", error)
        except KeyboardInterrupt:
            outcome.cancelled = True
            return Attempt(number, prefix, None, "interrupted", 0)
        self.watch.view(outcome.view, 0)
        return Attempt(number, prefix, outcome.view.phase, outcome.view.message, 0)

    def _one(self, number: int, prefix: str, outcome: Outcome) -> Attempt:
        create: grpc.Future[Any] | None = None
        meta = b""
        try:
            create = self.client.create(prefix, number, self.attempts)
            meta = create.result().resource_meta
            return self._poll(number, prefix, meta, outcome)
        except grpc.RpcError as error:
            return _burnt(number, prefix, "CreateTask", error)
        except KeyboardInterrupt:
            outcome.cancelled = True
            self.watch.note("cancelling the job; another Ctrl-C leaves it as it is")
            if not meta and create is not None:
                meta = _late(create)
            text = self._cancel(meta) if meta else "interrupted before the job was started"
            self.watch.note(text)
            return Attempt(number, prefix, None, text, 0, meta)

    def _poll(self, number: int, prefix: str, meta: bytes, outcome: Outcome) -> Attempt:
        started = answered = time.monotonic()
        while True:
            try:
                view = outcome.view = self.client.get(meta, prefix)
            except grpc.RpcError as error:
                text = f"GetTask: {_reason(error)}"
                self.watch.note(text)
                if not self.alive() or time.monotonic() - answered > _PATIENCE:
                    outcome.lost = text
                    return Attempt(number, prefix, None, text, 0, meta)
            else:
                answered = time.monotonic()
                self.watch.view(view, answered - started)
                if view.phase.terminal:
                    if view.phase is Phase.RETRYABLE_FAILED and number + 1 < self.attempts:
                        self._cancel(meta)  # as Flyte does before it tries again
                    return Attempt(number, prefix, view.phase, view.message, 0, meta)
            if self.timeout is not None and time.monotonic() - started > self.timeout:
                text = f"it took longer than its timeout of {self.timeout:g} s"
                outcome.view = View(Phase.RETRYABLE_FAILED, text)
                self._cancel(meta)
                return Attempt(number, prefix, Phase.RETRYABLE_FAILED, text, 0, meta)
            time.sleep(self.every)

    def _cancel(self, meta: bytes) -> str:
        """DeleteTask until it is accepted; what came of it."""
        text = ""
        for _ in range(_CANCELS):
            try:
                self.client.delete(meta)
            except grpc.RpcError as error:
                text = _reason(error)
                if not self.alive():
                    break
                time.sleep(1)
            else:
                return "the job was cancelled"
        return f"the job could not be cancelled and may still run: {text}"


def _late(create: grpc.Future[Any]) -> bytes:
    """What CreateTask answers after all: a job that was started has to be cancelled."""
    try:
        meta: bytes = create.result(timeout=DEADLINE).resource_meta
    except (grpc.RpcError, grpc.FutureTimeoutError, grpc.FutureCancelledError):
        return b""
    return meta


def _burnt(number: int, prefix: str, call: str, error: grpc.RpcError) -> Attempt:
    """Flyte takes an error of this call for a failure that may be tried again."""
    text = f"{call}: {_reason(error)}"
    return Attempt(number, prefix, Phase.RETRYABLE_FAILED, text, 0)


def _reason(error: grpc.RpcError) -> str:
    if not isinstance(error, grpc.Call):
        return str(error)
    return f"{error.code().name}: {error.details()}"
