"""One job's work: inputs, statements, result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flyteagents_duckdb_job import results, sandbox, statements
from flyteagents_duckdb_job.access import Reader, Refused, open_directories
from flyteagents_duckdb_job.directory import DataDirectory, JobDirectory
from flyteagents_duckdb_job.inputs import InputFile, Inputs
from flyteagents_duckdb_job.statements import Statement
from flyteagents_duckdb_job.values import pack
from flyteagents_duckdb_job.views import Views
from flyteagents_duckdb_job.watch import Watch


class Query:
    """Does what a job's description says, watched by `watch`.

    files: those of each declared input, when they have been found.
    """

    def __init__(
        self,
        data: DataDirectory,
        job: JobDirectory,
        description: dict[str, Any],
        watch: Watch,
        say: Callable[[str], None],
    ) -> None:
        self._data = data
        self._job = job
        self._description = description
        self._watch = watch
        self._say = say
        self.files: dict[str, list[InputFile]] = {}

    def run(self) -> dict[str, Any]:
        """Run it; what its end says of the result. Raises what DuckDB and files raise, Refused
        and Stopped."""
        description = self._description
        reader = Reader.of(description, self._data)
        inputs = Inputs(description, reader, self._job, self._say)
        for name, table in description["tables"].items():
            self.files[name] = inputs.find(name, table["uris"])
        self._watch.check()

        # Chosen before the connection is made: what that may write to is fixed from then on.
        to = None
        if description["outputs"]["table"]:
            to = results.choose_destination(description, self._data, self._job, self._say)
            self._watch.growing = to.file

        opened = open_directories(description["open"], self._data)
        connection = self._connect(opened, to)
        try:
            self._make_tables(connection)
            return self._run(connection, opened, to)
        finally:
            # Before it is closed, or the watch's thread would ask a closed one.
            self._watch.connection = None
            connection.close()
            if to is not None:
                shutil.rmtree(to.draft, ignore_errors=True)

    def named_outside(self, text: str) -> str:
        """A message with the files called what they are called outside of the job."""
        for file in (file for found in self.files.values() for file in found):
            if file.path != Path(file.uri):
                text = text.replace(str(file.path), file.uri)
        return text

    def _connect(self, opened: list[str], to: results.Destination | None) -> Any:
        description = self._description
        self._say(f"{description['threads']} threads, {description['memory'] >> 20} MiB of memory")
        return sandbox.connect(
            threads=description["threads"],
            memory=description["memory"],
            spill=description["spill"],
            work=str(self._job.work),
            directories=[*opened, *([f"{to.draft}/"] if to else [])],
            files=[str(file.real) for found in self.files.values() for file in found],
        )

    def _make_tables(self, connection: Any) -> None:
        views = Views(connection, self._description)
        for name, found in self.files.items():
            views.make(name, self._description["tables"][name], found)
            self._say(f"input {name}: {_count(len(found), 'file')}")
        views.check_all_used()

    def _run(
        self, connection: Any, opened: list[str], to: results.Destination | None
    ) -> dict[str, Any]:
        *first, last = parsed = statements.parse(connection, self._description["statement"])
        # All of them before the first one runs, so that a job that is refused has written nothing.
        self._check_targets(parsed, opened)
        self._watch.connection, self._watch.of = connection, len(parsed)

        for statement in first:
            self._watch.check()
            statement.run(connection, statements.bind(statement, self._description))
            self._watch.done += 1
        self._watch.check()

        if last.has_rows:
            return self._result(connection, last, to)

        outputs = self._description["outputs"]
        declared = [*([outputs["table"]["name"]] if to else []), *outputs["scalars"]]
        if declared:
            raise Refused(
                f"the last statement is {last.kind} and returns no rows, but the task "
                f"declares outputs: {', '.join(declared)}"
            )
        last.run(connection, statements.bind(last, self._description))
        return {"counts": {}}

    def _check_targets(self, parsed: list[Statement], opened: list[str]) -> None:
        """No COPY writes to an input; to those in a directory that is open to it, it may."""
        closed = [
            file.real
            for found in self.files.values()
            for file in found
            if not any(file.real.is_relative_to(directory) for directory in opened)
        ]
        for statement in parsed:
            statements.check_target(statement, closed, self._job.work / "inputs")

    def _result(
        self, connection: Any, last: Statement, to: results.Destination | None
    ) -> dict[str, Any]:
        outputs = self._description["outputs"]
        bound = statements.bind(last, self._description)

        # Scalars are read from the rows that the table gets: a query may answer twice differently.
        stored = bool(outputs["scalars"]) or to is None
        read = results.Source.stored if stored else results.Source.of
        source = read(connection, last, bound)

        counts = {"rows": source.count()} if stored else {}
        extra: dict[str, Any] = {"counts": counts}
        if outputs["scalars"]:
            values = results.single_row(source, outputs["scalars"])
            extra["scalars"] = {name: pack(value) for name, value in values.items()}
        if to is None:
            return extra

        declared = outputs["table"]["columns"]
        counts["rows"], extra["columns"] = results.write_table(source, declared, to)
        counts["bytes"] = to.file.stat().st_size
        self._watch.check()
        uri, file = results.publish(to, self._description, self._job.key, self._say)
        rows = _count(counts["rows"], "row")
        self._say(f"{rows}, {counts['bytes']} bytes written to {uri}")
        return {**extra, "uri": uri, "file": file}


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
