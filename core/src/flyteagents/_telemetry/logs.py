"""Log lines: JSON for machines, short text for people, and no secrets in either."""

from __future__ import annotations

import logging
import os
import sys
import threading
from datetime import datetime, timezone
from functools import lru_cache
from itertools import islice
from typing import Literal, TextIO

from opentelemetry.trace import get_current_span
from pydantic_core import to_json

from flyteagents._redact import is_plain, redact
from flyteagents._telemetry.batched_lines import BatchedLines, Event, Lines

_PLAIN_RECORD = logging.makeLogRecord({}).__dict__
_FIRST_EXTRA = len(_PLAIN_RECORD)
_STANDARD = frozenset(_PLAIN_RECORD) | {"message", "asctime", "taskName", "span"}
_NUMBERS = (bool, int, float)
_NOISY = ("aiohttp", "httpx", "httpcore", "urllib3", "google.auth", "asyncio")


def start_logging(
    level: str = "INFO",
    form: Literal["auto", "json", "text"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Log to `stream` (stderr), through the one handler that the root logger then has. Call it
    before gRPC is imported: its C core reads how much to say only once."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    out = sys.stderr if stream is None else stream
    json_lines = form == "json" or (form == "auto" and not out.isatty())
    # Who reads a terminal sees each line as it comes.
    handler = BatchedLines(out) if json_lines else Lines(out)
    handler.setFormatter(JsonLines() if json_lines else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # Python writes these to stderr as they are: no JSON, and with the secrets in them.
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        name = failed.thread.name if failed.thread else "a thread"
        logging.getLogger("flyteagents").error("%s has failed", name, exc_info=failed.exc_value)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return to_json(describe(record)).decode()


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = describe(record)
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        text = f"{clock} {line.pop('level')} {line.pop('logger')}: {line.pop('message')}"
        traceback = line.pop("traceback", None)
        for name in ("time", "span_id"):
            line.pop(name, None)
        text += "".join(f" {name}={value}" for name, value in line.items())
        return f"{text}\n{traceback}" if traceback else text


@lru_cache(2)  # to spell it anew would be a sixth of a line
def _second(since_epoch: int) -> str:
    return f"{datetime.fromtimestamp(since_epoch, timezone.utc):%Y-%m-%dT%H:%M:%S}"


def describe(record: logging.LogRecord) -> dict[str, str | int | float | bool]:
    """What a line says. Texts are redacted; tracebacks show code, never values of variables."""
    line: dict[str, str | int | float | bool] = {
        "time": f"{_second(int(record.created))}.{int(record.created % 1 * 1000):03}+00:00",
        "level": record.levelname,
        "logger": record.name,
        "message": record.getMessage(),
    }
    # A collector that is down says so again and again, each time with a traceback.
    exporter = record.name.startswith("opentelemetry.")
    if exporter and record.exc_info:
        line["message"] = f"{line['message']} {record.exc_info[1]}"
    span = (record.span if isinstance(record, Event) else get_current_span()).get_span_context()
    if span.is_valid:
        line["trace_id"] = f"{span.trace_id:032x}"
        line["span_id"] = f"{span.span_id:016x}"
    # Extras come last.
    for name, value in islice(record.__dict__.items(), _FIRST_EXTRA, None):
        if name not in _STANDARD and value is not None:
            line[name] = value if isinstance(value, _NUMBERS) else str(value)
    if record.exc_info and not exporter:
        line["traceback"] = _PLAIN.formatException(record.exc_info)
    # All texts at once: a look at each of them would take as long as the rest of the line.
    if is_plain("\n".join(map(str, line.values()))):
        return line
    return {name: redact(part) if isinstance(part, str) else part for name, part in line.items()}


_PLAIN = logging.Formatter()
