from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from flyteagents import _redact
from flyteagents._redact import redact, sendable, without_keys
from flyteagents._telemetry.logs import describe, start_logging

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIabc+/=\nxyz\n-----END RSA PRIVATE KEY-----"
Lines = Callable[[], list[dict[str, Any]]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def lines() -> Lines:
    stream = io.StringIO()
    start_logging("INFO", "auto", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_without_a_terminal_each_line_is_json_with_extras(lines: Lines) -> None:
    logging.getLogger("acme.agent").warning("%d jobs", 3, extra={"error_id": "ab12", "n": 1})
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "logger": "acme.agent",
        "message": "3 jobs",
        "error_id": "ab12",
        "n": 1,
    }


@pytest.mark.parametrize("created", [1.0625, 1_700_000_000.007, 1_700_000_000.999, 1_700_000_001.0])
def test_a_line_has_its_time_to_the_millisecond(created: float) -> None:
    line = describe(logging.makeLogRecord({"name": "x", "created": created}))
    moment = datetime.fromtimestamp(created, timezone.utc)
    assert abs(datetime.fromisoformat(str(line["time"])) - moment) <= timedelta(milliseconds=1)
    assert len(str(line["time"])) == len(moment.isoformat(timespec="milliseconds"))


def test_a_line_carries_the_ids_of_the_current_span(lines: Lines) -> None:
    context = trace.SpanContext(0xAB, 0xCD, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        logging.getLogger("x").info("in a span")
    (line,) = lines()
    assert (line["trace_id"], line["span_id"]) == ("ab".zfill(32), "cd".zfill(16))


def test_a_terminal_gets_one_short_line() -> None:
    stream = Terminal()
    start_logging("INFO", "auto", stream)
    logging.getLogger("acme").error("it broke", extra={"error_id": "ab12"})
    assert stream.getvalue().split(" ", 1)[1] == "ERROR acme: it broke error_id=ab12\n"


def test_the_form_can_be_asked_for() -> None:
    stream = Terminal()
    start_logging("INFO", "json", stream)
    logging.getLogger("acme").error("it broke")
    assert json.loads(stream.getvalue())["message"] == "it broke"


def test_lines_below_the_level_and_the_chatter_of_http_clients_are_left_out(lines: Lines) -> None:
    logging.getLogger("acme").debug("detail")
    logging.getLogger("aiohttp.client").info("GET https://vendor/?token=abc")
    assert lines() == []


def test_a_traceback_shows_code_and_no_secret(lines: Lines) -> None:
    def fail() -> None:
        password = "in-a-variable"
        raise RuntimeError("Bearer abcdef0123456789" + password[:0])

    try:
        fail()
    except RuntimeError:
        logging.getLogger("acme").exception("failed")
    (line,) = lines()
    assert "RuntimeError" in line["traceback"]
    assert "in fail" in line["traceback"]
    assert "abcdef0123456789" not in json.dumps(line)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz"),
        ("authorization: bearer canary-1234", "canary-1234"),
        ("Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
        (f"key {PEM} end", "MIIabc"),
        (json.dumps({"private_key": PEM}), "MIIabc"),
        ("-----BEGIN PRIVATE KEY-----\nMIIcut", "MIIcut"),
        ("got eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.c2lnbmF0dXJl back", "eyJzdWIiOiIxMjM0"),
        ("ya29.a0AfH6SMBxyz-123", "a0AfH6SMB"),
        ("dapi0123456789abcdef0123", "0123456789abcdef"),
        ("https://ann:hunter2@db.example/x", "hunter2"),
        ("https://x.example/?access_token=abc123def&y=1", "abc123def"),
        ('{"client_secret": "shh-shh-shh"}', "shh-shh-shh"),
        ("connect(password='hunter2')", "hunter2"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert "[redacted]" in redact(text)


KEY = [
    "-----BEGIN RSA PRIVATE KEY-----",
    "Proc-Type: 4,ENCRYPTED",
    "",
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
    "xyz=",
    "-----END RSA PRIVATE KEY-----",
]
HIDDEN = "[redacted]"


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["it is", *KEY, "and on"], ["it is", *[HIDDEN] * 6, "and on"]),
        ([f"INFO {line}" for line in KEY], [f"INFO {HIDDEN}", *[HIDDEN] * 5]),
        # The page ends, or begins, within the key.
        (["it is", *KEY[:4]], ["it is", *[HIDDEN] * 4]),
        ([*KEY[3:], "and on"], [*[HIDDEN] * 3, "and on"]),
        # One that is only spoken of.
        ([f"no {KEY[0]} in it", "so it ends"], [f"no {HIDDEN}", "so it ends"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_a_key_that_goes_over_several_lines_of_a_log_is_masked_in_all(
    lines: list[str], shown: list[str]
) -> None:
    told = [redact(line) for line in without_keys(lines)]
    assert [line.replace(" in it", "") for line in told] == shown


@pytest.mark.parametrize(
    "text",
    [
        "Syntax error: Unexpected token: SELECT at 1:5",
        "Bearer authentication failed",
        "no secret acme_token; set FLYTEAGENTS_SECRET_ACME_TOKEN or a file acme_token",
        "table project:dataset.table was not found in location EU",
        "s3://bucket/metadata/p-d-exec/n0/data/0",
    ],
)
def test_what_a_user_needs_to_read_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "name",
    ["token", "passwd", "secret", "apikey", "api_key", "privateKey", "PRIVATE_KEY", "signature"],
)
def test_what_a_secret_is_called_masks_it(name: str) -> None:
    assert redact(f"it said {name}=c4nary") == f"it said {name}=[redacted]"


@given(st.from_regex(_redact._SECRETS))
def test_no_secret_is_missed_for_want_of_its_sign(text: str) -> None:
    assert redact(text) == _redact._SECRETS.sub(_redact._mask, sendable(text))


def test_a_text_becomes_one_that_can_be_sent() -> None:
    assert redact("half \ud800, é") == "half ?, é"


def test_masking_a_long_text_takes_no_time() -> None:
    began = time.process_time()
    for text in (
        "a" * 200_000,
        "token" * 40_000,
        "://" * 60_000,
        "-eyJ" * 40_000,
        "bearer " * 30_000,
    ):
        redact(text)
    assert time.process_time() - began < 2


def test_an_exporter_that_fails_says_why_in_one_line(lines: Lines) -> None:
    try:
        raise ConnectionError("no collector")
    except ConnectionError:
        logging.getLogger("opentelemetry.sdk").exception("Exception while exporting %s.", "Span")
    (line,) = lines()
    assert line["message"] == "Exception while exporting Span. no collector"
    assert "traceback" not in line


def test_a_program_logs_to_stderr_and_grpc_says_nothing_there() -> None:
    code = (
        "from flyteagents._telemetry.logs import start_logging; start_logging();"
        "import grpc, logging; c = grpc.insecure_channel('127.0.0.1:1');"
        "logging.getLogger('x').warning('one line');"
        "c.unary_unary('/a/b').future(b'').exception(5); c.close()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b""
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["message"] == "one line"


def test_threads_that_fail_and_warnings_are_lines_without_secrets() -> None:
    code = (
        "import threading, warnings\n"
        "from flyteagents._telemetry.logs import start_logging\n"
        "start_logging(form='json')\n"
        "def fails(): raise ValueError('refused: password=hunter22')\n"
        "thread = threading.Thread(target=fails, name='poller')\n"
        "thread.start(); thread.join()\n"
        "warnings.warn('token=abcdef123456 is deprecated')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    failed, warned = map(json.loads, ran.stderr.splitlines())
    assert failed["message"] == "poller has failed"
    assert failed["traceback"].endswith("ValueError: refused: password=[redacted]")
    assert "token=[redacted]" in warned["message"]
