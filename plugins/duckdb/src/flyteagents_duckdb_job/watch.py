"""The thread beside the query: heartbeat, progress, and the ways to be stopped.

A query runs inside one call into DuckDB, for hours perhaps. All that must happen meanwhile is done
here, in one thread: servers learn that the process lives, and the job learns that it must not.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from flyteagents_duckdb_job.directory import JobDirectory

GRACE = 3.0
"""Seconds in which a query must stop when it is told to."""


class Stopped(Exception):
    """The job was told to stop. `phase` is how it ended, the text says why."""

    def __init__(self, phase: str, message: str) -> None:
        super().__init__(message)
        self.phase = phase


class Watch(threading.Thread):
    """Watches one job until it has ended.

    limits: for each, the seconds that the job may take, and how it ends then.
    """

    def __init__(self, job: JobDirectory, alive: int, limits: list[tuple[float, str, str]]) -> None:
        super().__init__(name="watch", daemon=True)
        self._job = job
        self._alive = alive
        self._limits = limits
        self._began = time.monotonic()
        self._over = threading.Event()
        self._told: dict[str, Any] = {}
        self.stopped: Stopped | None = None
        self.connection: Any = None
        self.growing: Path | None = None
        self.done, self.of = 0, 1

    def run(self) -> None:
        beat = told = deadline = 0.0
        share = 0.0
        while not self._over.wait(0.05):
            now = time.monotonic()
            if now - beat >= 1.0:
                os.utime(self._alive)
                beat = now
            if self._job.ended() is not None:
                os._exit(0)  # somebody took this process for dead, and said so
            if self.stopped is None:
                self.stopped = self._reason(now)
                deadline = now + GRACE
            if self.stopped is not None:
                # Again and again: one that comes before the query begins is not heard.
                self._interrupt()
                if now > deadline:
                    self._leave(self.stopped)
            share = max(share, self._share())
            if now - told >= 0.2:
                self._tell(share)
                told = now

    def check(self) -> None:
        """Raises Stopped when the job was told to stop."""
        if self.stopped is not None:
            raise self.stopped

    def end(self) -> None:
        """Stop watching."""
        self._over.set()
        self.join()

    def _reason(self, now: float) -> Stopped | None:
        if self._job.cancel_asked:
            return Stopped("ABORTED", "the job was cancelled")
        for seconds, phase, message in self._limits:
            if now - self._began > seconds:
                return Stopped(phase, message)
        return None

    def _interrupt(self) -> None:
        try:
            if self.connection is not None:
                self.connection.interrupt()
        except Exception:  # noqa: BLE001 # it is being closed
            return

    def _share(self) -> float:
        """How much is done, 0 to 1. DuckDB's estimate jumps, and is -1 when there is none."""
        try:
            percent = 0.0 if self.connection is None else self.connection.query_progress()
        except Exception:  # noqa: BLE001 # an estimate must not end a job
            percent = 0.0
        # 1 is for a job that has succeeded.
        return min((self.done + max(float(percent), 0.0) / 100) / self.of, 0.99)

    def _tell(self, share: float) -> None:
        told: dict[str, Any] = {"progress": round(share, 3)}
        if self.growing is not None:
            try:
                told["bytes"] = self.growing.stat().st_size
            except OSError:
                told["bytes"] = 0
        if told != self._told:
            try:
                self._job.tell(told)
            except OSError:
                return  # a full disk: the query will say so
            self._told = told

    def _leave(self, stopped: Stopped) -> None:
        # First, as in the runner: on a full disk there is no room for the verdict before.
        shutil.rmtree(self._job.work, ignore_errors=True)
        if self.growing is not None:
            shutil.rmtree(self.growing.parent, ignore_errors=True)
        self._job.end(stopped.phase, str(stopped))
        # The main thread is inside DuckDB; sys.exit would end this thread alone.
        os._exit(0)
