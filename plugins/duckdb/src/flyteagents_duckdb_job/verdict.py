"""How a job with an error has ended: phase, message and code."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from typing import Any

from flyteagents_duckdb_job.access import Refused
from flyteagents_duckdb_job.watch import Stopped

LONGEST = 100_000
"""Characters of an error that are kept. The server masks the secrets in it and cuts it after that:
cut here to what is shown, it might end with half a secret, which nobody knows for one."""

CSV_ADVICE = (
    "\n(csv_types, csv_encoding, csv_delimiter and csv_null in the task's config say how its CSV "
    "files are read; what else DuckDB advises cannot be set)"
)


@dataclass(frozen=True)
class Verdict:
    """phase: the name of one of Flyte's. code: short, for messages; "" where there is none."""

    phase: str
    message: str
    code: str = ""


def verdict(error: BaseException, text: str, description: dict[str, Any]) -> Verdict:
    """What an error means. `text` is its message as the user may see it."""
    if isinstance(error, Stopped):
        return Verdict(error.phase, text)

    text = text.strip()[:LONGEST]
    if isinstance(error, Refused):
        return Verdict("FAILED", text)
    if _is_full(error, text):
        return Verdict("RETRYABLE_FAILED", f"no space left for the job's files: {text}", "DiskFull")

    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryException":
        return Verdict("FAILED", _out_of_memory(text, description), "OutOfMemory")

    # Not imported: that may be what failed, and an error of DuckDB's means that it is loaded.
    duckdb = sys.modules.get("duckdb")
    if duckdb is None or not isinstance(error, duckdb.Error):
        return Verdict("RETRYABLE_FAILED", f"the job's process failed: {name}: {text}")

    if name == "PermissionException":
        text += (
            "\n\nA query reads its declared inputs and what the operator opened, and nothing else: "
            "declare the file as an input, or open its folder with FLYTEAGENTS_DUCKDB_OPEN_PREFIXES"
        )
    if "CSV" in text and ("sniffing" in text or "CSV Error" in text or "CSV Reader" in text):
        text += CSV_ADVICE
    return Verdict("FAILED", text)


def _is_full(error: BaseException, text: str) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in text


def _out_of_memory(text: str, description: dict[str, Any]) -> str:
    # What DuckDB proposes are settings, which are the operator's.
    cause = text.partition("Possible solutions")[0].strip()
    return (
        f"the query needs more memory than the job's limit of {description['memory'] >> 20} MiB "
        f"(`memory` in the task's config), and may spill {description['spill'] >> 20} MiB to disk "
        f"(FLYTEAGENTS_DUCKDB_MAX_SPILL). {cause}"
    )
