"""Sends log lines over OTLP, where OTEL_LOGS_EXPORTER asks for it."""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import get_current
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from flyteagents._telemetry.logs import describe

_SEVERITIES = {
    "DEBUG": SeverityNumber.DEBUG,
    "INFO": SeverityNumber.INFO,
    "WARNING": SeverityNumber.WARN,
    "ERROR": SeverityNumber.ERROR,
    "CRITICAL": SeverityNumber.FATAL,
}


class LogSender(logging.Handler):
    """On the root logger until it is closed."""

    def __init__(self, exporters: list[Any], resource: Resource) -> None:
        super().__init__()
        self._provider = LoggerProvider(resource, shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        # What sending a line logs must not be sent again.
        if record.name.startswith(("opentelemetry.", "grpc", "urllib3", "requests")):
            return
        try:
            line = describe(record)
            for named in ("time", "level", "trace_id", "span_id"):
                line.pop(named, None)
            self._provider.get_logger(record.name).emit(
                LogRecord(
                    timestamp=int(record.created * 1e9),
                    context=get_current(),
                    severity_text=record.levelname,
                    severity_number=_SEVERITIES.get(record.levelname),
                    body=str(line.pop("message")),
                    attributes=line,
                )
            )
        except Exception:  # noqa: BLE001 # the convention of logging: never into the caller
            self.handleError(record)

    def close(self) -> None:
        logging.getLogger().removeHandler(self)
        self._provider.shutdown()
        super().close()
