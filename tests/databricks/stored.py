"""What a task's code leaves under its output prefix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flyteidl.core import errors_pb2

from flyteagents.testing import task_template


def error_pb(folder: Path, code: str, message: str, recoverable: bool) -> None:
    error = errors_pb2.ContainerError(code=code, message=message)
    kinds = errors_pb2.ContainerError
    error.kind = kinds.RECOVERABLE if recoverable else kinds.NON_RECOVERABLE
    document = errors_pb2.ErrorDocument(error=error)
    (folder / "error.pb").write_bytes(document.SerializeToString())


def outputs_pb(folder: Path, values: Mapping[str, object]) -> None:
    literals = task_template("any", inputs=values).inputs
    (folder / "outputs.pb").write_bytes(literals.SerializeToString())
