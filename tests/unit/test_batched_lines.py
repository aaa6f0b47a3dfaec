"""Lines of ordinary events wait a moment; none is lost, out of order, or another than it was."""

from __future__ import annotations

import errno
import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, use_span

from flyteagents._redact import remember
from flyteagents._telemetry import batched_lines
from flyteagents._telemetry.batched_lines import BatchedLines, Event, Lines
from flyteagents._telemetry.logs import JsonLines, start_logging

log = logging.getLogger("flyteagents")


class Stream(io.StringIO):
    """Tells when something has been written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()
        self.failing: list[str] = []

    def write(self, text: str) -> int:
        self._fail("write")
        return super().write(text)

    def flush(self) -> None:
        self.written.set()
        self._fail("flush")

    def _fail(self, what: str) -> None:
        if what in self.failing:
            self.failing.remove(what)
            raise OSError(errno.ENOSPC, "No space left on device")

    @property
    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stream]:
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    stream = Stream()
    start_logging("INFO", "auto", stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_lines, "BATCH", 1000.0)


@pytest.fixture
def lost() -> Callable[[], int]:
    """How many lines were lost since the test began."""
    before = Lines.lost
    return lambda: Lines.lost - before


def happens(text: str, **fields: str | float) -> None:
    log.handle(Event(log, text, fields, INVALID_SPAN))


def test_an_event_is_written_by_itself_after_a_moment(stream: Stream) -> None:
    for number in range(3):
        happens(f"job {number}")
    assert stream.written.wait(10)
    assert stream.messages == ["job 0", "job 1", "job 2"]

    stream.written.clear()
    happens("job 3")
    assert stream.written.wait(10)
    assert stream.messages[3:] == ["job 3"]


@pytest.mark.usefixtures("waits_for_ever")
def test_another_line_goes_out_at_once_with_those_before_it(stream: Stream) -> None:
    happens("job 0")
    assert stream.messages == []
    log.info("ordinary")
    happens("job 1")
    log.warning("trouble")
    assert stream.messages == ["job 0", "ordinary", "job 1", "trouble"]


@pytest.mark.usefixtures("waits_for_ever")
def test_an_event_has_the_fields_the_span_and_the_masks_of_any_line(stream: Stream) -> None:
    remember("c4nary-c4nary")
    span = NonRecordingSpan(SpanContext(0xAB, 0xCD, is_remote=False))
    fields: dict[str, str | float] = {
        "execution": "p/d/e",
        "attempt": 2,
        "node": "password=hunter2",
    }
    log.handle(Event(log, "started job id=c4nary-c4nary", fields, span))
    logging.getLogger().handlers[0].flush()
    with use_span(span):
        log.info("started job id=c4nary-c4nary", extra=fields)
    event, line = stream.lines
    assert event.pop("time")[:-10] == line.pop("time")[:-10]
    assert event == line
    assert event["trace_id"] == "ab".zfill(32)
    assert "hunter2" not in stream.getvalue()
    assert "c4nary" not in stream.getvalue()


@pytest.mark.usefixtures("waits_for_ever")
def test_where_very_many_wait_whoever_logs_writes_them(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched_lines, "MOST", 2)
    for number in range(4):
        happens(f"job {number}")
    assert stream.messages == ["job 0", "job 1", "job 2"]


def test_one_line_switches_it_off(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched_lines, "BATCH", 0)
    happens("job 0")
    assert stream.messages == ["job 0"]


def test_one_that_cannot_be_formatted_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed: list[logging.LogRecord] = []
    stream = Stream()
    lines = BatchedLines(stream)
    lines.setFormatter(JsonLines())
    monkeypatch.setattr(lines, "handleError", failed.append)
    good, bad = Event(log, "good", {}, INVALID_SPAN), Event(log, "bad", {}, INVALID_SPAN)
    bad.args = ("nothing to put it in",)
    for event in (bad, good):
        lines.handle(event)
    lines.flush()
    assert stream.messages == ["good"]
    assert failed == [bad]


@pytest.mark.parametrize("what", ["write", "flush"])
def test_the_thread_outlives_a_stream_that_fails(
    stream: Stream, what: str, lost: Callable[[], int]
) -> None:
    stream.failing = [what]
    happens("job 0")
    until(lambda: not stream.failing)

    happens("job 1")
    until(lambda: "job 1" in stream.messages)
    assert lost() == 1


@pytest.mark.usefixtures("waits_for_ever")
@pytest.mark.parametrize("what", ["write", "flush"])
def test_who_logs_does_not_fail_by_the_lines_of_others_which_are_counted(
    stream: Stream, what: str, lost: Callable[[], int]
) -> None:
    for number in range(3):
        happens(f"job {number}")
    stream.failing = [what]
    log.warning("trouble")
    assert stream.failing == []
    assert stream.messages[-1] == "trouble"
    assert lost() == 3


def test_a_line_that_is_written_at_once_and_cannot_be_is_counted(
    stream: Stream, lost: Callable[[], int]
) -> None:
    for what in ("write", "flush"):
        stream.failing = [what]
        log.warning("trouble")
    log.warning("fine")
    assert lost() == 2


def test_lines_that_a_full_disk_refuses_are_counted(lost: Callable[[], int]) -> None:
    with suppress(OSError), Path("/dev/full").open("w", buffering=1) as full:
        lines = BatchedLines(full)
        lines.setFormatter(JsonLines())
        for number in range(3):
            lines.handle(Event(log, f"job {number}", {}, INVALID_SPAN))
        lines.flush()
        lines.stream = Stream()  # else this one is flushed at exit
        assert lost() == 3


@pytest.mark.usefixtures("waits_for_ever")
def test_a_job_is_begun_where_very_many_wait_and_none_can_be_written(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched_lines, "MOST", 1)
    stream.failing = ["write", "write"]
    happens("job 0")
    happens("job 1")
    assert stream.failing == []


def test_where_no_thread_can_be_had_whoever_logs_writes(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        happens("job 0")
    assert stream.messages == ["job 0"]

    happens("job 1")
    until(lambda: stream.messages == ["job 0", "job 1"])


@pytest.mark.usefixtures("waits_for_ever")
@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("event", [True, False])
def test_a_line_that_cannot_be_written_shows_no_secret(
    stream: Stream, capsys: pytest.CaptureFixture[str], form: Literal["json", "text"], event: bool
) -> None:
    start_logging("INFO", form, stream)
    stream.failing = ["write"]
    if event:
        happens("vendor said password=hunter2")
        logging.getLogger().handlers[0].flush()
    else:
        log.warning("vendor said %s", "password=hunter2")
    log.warning("vendor said password=hunter2", "and no place for this")
    told = capsys.readouterr().err
    assert "OSError" in told
    assert "a line of flyteagents: TypeError" in told
    assert "hunter2" not in told


def test_stderr_that_is_closed_stops_no_program() -> None:
    code = (
        "import logging, sys\n"
        "from flyteagents._telemetry.logs import start_logging\n"
        "start_logging(form='json')\n"
        "sys.stderr.close()\n"
        "logging.getLogger('flyteagents').warning('trouble')\n"
        "print('went on')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.stdout == b"went on\n"


def test_a_forked_process_writes_its_own_lines_and_none_of_its_parents() -> None:
    code = (
        "import logging, os, time\n"
        "from opentelemetry.trace import INVALID_SPAN\n"
        "from flyteagents._telemetry import batched_lines\n"
        "from flyteagents._telemetry.logs import start_logging\n"
        "def happens(text): log.handle(batched_lines.Event(log, text, {}, INVALID_SPAN))\n"
        "batched_lines.BATCH = 1000.0\n"
        "start_logging('INFO', 'json')\n"
        "log = logging.getLogger('flyteagents')\n"
        "lines = logging.getLogger().handlers[0]\n"
        "happens('parent')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    batched_lines.BATCH = 0.01\n"
        "    happens('child, later')\n"
        "    end = time.monotonic() + 10\n"
        "    while lines._waiting and time.monotonic() < end: time.sleep(0.005)\n"
        "    missing = len(lines._waiting)\n"
        "    log.info('child, at once')\n"
        "    os._exit(missing)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    # From 3.12 on Python warns of a fork beside threads, which would be a line of its own.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, check=False)
    written = [json.loads(line) for line in done.stderr.splitlines() if line[:1] == b"{"]
    messages = [line["message"] for line in written]
    assert messages == ["child, later", "child, at once", "parent"]
    assert done.stdout == b"0\n"


def until(seen: Callable[[], bool]) -> None:
    """Wait for the thread."""
    end = time.monotonic() + 10
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_lines_of_many_threads_all_arrive_and_each_threads_in_their_order(stream: Stream) -> None:
    def work(name: str) -> None:
        for number in range(500):
            happens(f"{name} {number}")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logging.getLogger().handlers[0].flush()
    for name in "abcd":
        mine = [text for text in stream.messages if text.startswith(name)]
        assert mine == [f"{name} {number}" for number in range(500)]


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise RuntimeError('fatal')"])
def test_a_program_that_ends_has_written_all(end: str) -> None:
    code = (
        "import logging, sys\n"
        "from opentelemetry.trace import INVALID_SPAN\n"
        "from flyteagents._telemetry import batched_lines\n"
        "from flyteagents._telemetry.logs import start_logging\n"
        "batched_lines.BATCH = 1000.0\n"
        "start_logging()\n"
        "log = logging.getLogger('flyteagents')\n"
        "for n in range(3): log.handle(batched_lines.Event(log, f'job {n}', {}, INVALID_SPAN))\n"
    )
    done = subprocess.run([sys.executable, "-c", code + end], capture_output=True, check=False)
    written = [json.loads(line) for line in done.stderr.splitlines() if line[:1] == b"{"]
    assert [line["message"] for line in written] == ["job 0", "job 1", "job 2"]
