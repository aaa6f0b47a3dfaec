"""What a Databricks driver does with a submitted Python file or notebook.

Runs in the environment of `requirements/databricks.txt`, as `driver.py <result> <kind> <file>
<parameters...>`, and writes what became of it to `<result>` as JSON. As at Databricks the file is
executed inside a process that has an event loop already, and on serverless without a `__file__`.
"""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

import asyncio
import builtins
import json
import os
import sys
import traceback
import types
from pathlib import Path
from typing import Any


class NotebookExit(BaseException):
    """`dbutils.notebook.exit`."""


class Widgets:
    """`dbutils.widgets`."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def get(self, name: str) -> str:
        if name not in self._values:
            raise KeyError(f"No input widget named {name} is defined")
        return self._values[name]


class NotebookOf:
    """`dbutils.notebook`."""

    def exit(self, value: object) -> None:
        raise NotebookExit(str(value))


class DBUtils:
    """As much of `dbutils` as notebooks here use."""

    def __init__(self, parameters: dict[str, str]) -> None:
        self.widgets = Widgets(parameters)
        self.notebook = NotebookOf()


def spark() -> Any:
    """The session that a notebook, and a serverless driver, has from the start."""
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate()


def execute(kind: str, file: Path, parameters: list[str], result: Path) -> None:
    result.write_text(json.dumps(run(kind, file, parameters)))


def run(kind: str, file: Path, parameters: list[str]) -> dict[str, Any]:
    source = file.read_text()
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    if kind != "serverless":
        scope["__file__"] = str(file)
    if kind == "notebook":
        scope["dbutils"] = DBUtils(json.loads(parameters[0]))
        scope["spark"] = spark()
    else:
        sys.argv = [str(file), *parameters]
    module = types.ModuleType("__main__")
    module.__dict__.update(scope)
    sys.modules["__main__"] = module
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)
    except NotebookExit as left:
        return {"result": "SUCCESS", "exit": str(left)}
    except SystemExit as left:
        if left.code in (None, 0):
            return {"result": "SUCCESS"}
        return {"result": "FAILED", "error": f"SystemExit: {left.code}", "trace": ""}
    except BaseException as error:  # noqa: BLE001 # whatever the file raises
        trace = "\x1b[0;31m" + traceback.format_exc()
        return {"result": "FAILED", "error": f"{type(error).__name__}: {error}", "trace": trace}
    return {"result": "SUCCESS"}


async def main() -> None:
    result, kind, file, *parameters = sys.argv[1:]
    sys.path[0] = os.path.dirname(file)  # noqa: PTH120 # as Python has it
    execute(kind, Path(file), parameters, Path(result))


if __name__ == "__main__":
    asyncio.run(main())
    os._exit(0)  # threads of Spark would be waited for
