"""The data directory: all that servers and jobs know of each other is in it.

| path | what |
|---|---|
| `id` | names the data directory, so that a server knows its own |
| `jobs/<key>/` | a job; made under `new/` and moved here in one step: the first claim |
| `jobs/<key>/job.json` | what the job does |
| `jobs/<key>/started` | the second claim: whoever makes it runs the job, or withdraws it |
| `jobs/<key>/alive` | locked by the job's process, and touched by it every second |
| `jobs/<key>/cancel` | asks the job to stop |
| `jobs/<key>/progress.json`, `job.log` | how it is doing |
| `jobs/<key>/ended.json` | how it ended; the first one who says so is right |
| `waiting/<created>-<key>` | jobs that have not started, oldest first |
| `slots/<n>` | locked by a process that runs a job: bounds how many run |
| `results/<project>/<domain>/<key>/` | results that are not under an output prefix |

It may be shared by servers on many machines, on any file system with hard links.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

STALE = 30.0
"""Seconds without a heartbeat after which a job on another machine counts as dead."""


@dataclass(frozen=True)
class JobDirectory:
    """One job's part of the data directory."""

    path: Path

    @property
    def key(self) -> str:
        return self.path.name

    @property
    def work(self) -> Path:
        """What the job's own process may fill: spilled data, downloads, results in the making."""
        return self.path / "work"

    def description(self) -> dict[str, Any] | None:
        """What the job does; None when there is no such job."""
        return _read(self.path / "job.json")

    def started(self) -> dict[str, Any] | None:
        return _read(self.path / "started")

    def progress(self) -> dict[str, Any]:
        return _read(self.path / "progress.json") or {}

    def ended(self) -> dict[str, Any] | None:
        return _read(self.path / "ended.json")

    def tell(self, progress: dict[str, Any]) -> None:
        """Replace the progress in one step."""
        draft = self.path / ".progress"
        draft.write_text(json.dumps(progress))
        draft.replace(self.path / "progress.json")

    def start(self, by: str) -> bool:
        """The second claim: True for one caller ever."""
        return claim(self.path / "started", {"by": by, "at": time.time(), "kernel": kernel()})

    def end(self, phase: str, message: str = "", **more: Any) -> bool:
        """Say how the job ended, unless somebody has."""
        at = more.pop("at", None) or time.time()
        return claim(
            self.path / "ended.json", {"phase": phase, "message": message, "at": at, **more}
        )

    def ask_cancel(self) -> None:
        (self.path / "cancel").touch()

    @property
    def cancel_asked(self) -> bool:
        return (self.path / "cancel").exists()

    def lock_alive(self) -> int | None:
        """Lock `alive` for as long as this process lives; None while another one has it."""
        descriptor = os.open(self.path / "alive", os.O_RDWR | os.O_CREAT, 0o600)
        for _ in range(10):  # one who looks whether the job lives holds it for a moment
            if lock(descriptor):
                return descriptor
            time.sleep(0.02)
        os.close(descriptor)
        return None

    def alive(self, now: float) -> bool:
        """Whether the job's process lives. Locks tell at once, but not between machines on
        every file system: there the heartbeat decides. `now` is the file system's own time."""
        try:
            descriptor = os.open(self.path / "alive", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            if not lock(descriptor):
                return True
            beat = os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)
        started = self.started()
        # Under the same kernel the free lock is proof enough.
        return started is not None and started["kernel"] != kernel() and now - beat < STALE


@dataclass(frozen=True)
class DataDirectory:
    """The place where jobs are kept."""

    root: Path

    def prepare(self) -> str:
        """Make what is not there; the directory's id. Raises OSError."""
        for name in ("jobs", "new", "waiting", "slots", "trash"):
            (self.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / "results").mkdir(exist_ok=True)
        claim(self.root / "id", {"id": secrets.token_hex(8)})
        found = self.id()
        if found is None:
            raise OSError(f"{self.root / 'id'} cannot be read back")
        return found

    def id(self) -> str | None:
        """The directory's id; None when it is not there, as when a volume is not mounted."""
        try:
            found = _read(self.root / "id")
        except OSError:
            return None
        return None if found is None else str(found["id"])

    def job(self, key: str) -> JobDirectory:
        return JobDirectory(self.root / "jobs" / key)

    def claim_job(self, key: str, description: dict[str, Any]) -> bool:
        """The first claim: make the job unless it is there, complete and in one step."""
        draft = self.root / "new" / f"{key}.{secrets.token_hex(6)}"
        try:
            (draft / "work").mkdir(mode=0o700, parents=True)
            with (draft / "job.json").open("w") as file:
                json.dump(description, file)
                file.flush()
                # A rename may be on disk before the content is, and such a job could never be read.
                os.fsync(file.fileno())
            # A directory cannot replace one that is not empty: of many that try, one wins.
            draft.rename(self.root / "jobs" / key)
        except OSError as error:
            for name in ("job.json", "work", ""):
                _discard(draft / name if name else draft)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def now(self) -> float:
        """The time by the clock that sets the times of this directory's files."""
        clock = self.root / "clock"
        clock.touch()
        return clock.stat().st_mtime

    def results_of(self, project: str, domain: str) -> Path:
        """Where one tenant's results are."""
        return self.root / "results" / _component(project) / _component(domain)


def claim(path: Path, content: dict[str, Any]) -> bool:
    """Make `path` unless it exists. Made complete and linked: no reader sees half of it, and of
    many writers on any machine one wins."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        draft.write_text(json.dumps(content))
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        _discard(draft)
    return True


def lock(descriptor: int) -> bool:
    """Take the lock of an open file if it is free."""
    try:
        # Not lockf: a process loses such a lock when it closes any descriptor of the file.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@lru_cache
def kernel() -> str:
    """Names the running kernel: two processes with the same one see each other's locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content


def _discard(path: Path) -> None:
    try:
        path.rmdir() if path.is_dir() else path.unlink()
    except OSError:
        return


def _component(name: str) -> str:
    """A project or domain as one directory's name, whatever is in it."""
    # `quote` leaves dots as they are, and `..` would lead out of the tenant's folder. No name
    # becomes a bare %, so that stands for the empty one.
    quoted = quote(name, safe="").replace(".", "%2E")
    return quoted or "%"
