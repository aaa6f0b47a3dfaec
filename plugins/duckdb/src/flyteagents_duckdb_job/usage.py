"""What a job's process uses, and the most that it may."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any


class Usage:
    """Measures one job, from when it is made. The process may have run others before."""

    def __init__(self) -> None:
        self.began = time.time()
        self._cpu = _cpu_seconds()

    def statistics(self, description: dict[str, Any]) -> dict[str, float | int]:
        """Seconds and bytes until now."""
        waited = self.began - description["created"] / 1e9
        return {
            "seconds": round(time.time() - self.began, 3),
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 3),
            "waited_seconds": round(max(waited, 0.0), 3),
            "peak_memory_bytes": _peak_memory(),
        }


def limit(memory: int) -> None:
    """A wall behind DuckDB's own limit, for what that does not count; and no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return  # elsewhere RLIMIT_DATA does not count what is mapped

    wall = 2 * memory + (1 << 30)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or wall < hard:
        # The soft limit alone: the process begins anew for the next job, whose wall may be higher.
        resource.setrlimit(resource.RLIMIT_DATA, (wall, hard))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_memory() -> int:
    """Bytes. Not by getrusage where that can be helped: its figure outlives `execv`."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
