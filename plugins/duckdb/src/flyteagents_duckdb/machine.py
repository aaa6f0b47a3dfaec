"""What this machine, or this container, has to give."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """The cores that this process may use, at least one."""
    try:
        mine = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        mine = os.cpu_count() or 1
    quota, _, period = _read("cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        mine = min(mine, int(quota) // int(period))
    return max(mine, 1)


def memory() -> int:
    """Bytes of memory that this process may use."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Without a limit, cgroup v2 has the word "max", and v1 a number beyond all memory.
    limit = _read("memory.max") or _read("memory/memory.limit_in_bytes")
    return min(there, int(limit)) if limit.isdigit() else there


def data_directory() -> Path:
    """The user's cache, or where there is none the directory for temporary files."""
    temporary = Path(tempfile.gettempdir()) / f"flyteagents-{os.getuid()}" / "duckdb"
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        home = cache if cache.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # neither a HOME nor a name for the user, as in some containers
        return temporary

    top = next(each for each in (home, *home.parents) if each.exists())
    return home / "flyteagents" / "duckdb" if os.access(top, os.W_OK) else temporary


def _read(name: str) -> str:
    try:
        return (_CGROUP / name).read_text().strip()
    except OSError:
        return ""
