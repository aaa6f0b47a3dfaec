"""The file with a task's inputs, for jobs that read it."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from flyteidl.core import literals_pb2

from flyteagents import Unsupported
from flyteagents._cli.inputs_file import place_inputs
from flyteagents._client.attempt import Attempt
from flyteagents._kernel.stores import read_file
from flyteagents.testing import task_template


def attempt(argument: str, folder: str) -> Attempt:
    arguments = ("--inputs", argument)
    task = task_template("databricks", inputs={"rows": 7}, image="i:1", args=arguments)
    return Attempt(task, folder=folder)


def rows(raw: bytes) -> int:
    read = literals_pb2.LiteralMap.FromString(raw)
    return int(read.literals["rows"].scalar.primitive.integer)


@pytest.mark.parametrize("argument", ["{{.input}}", "{{ $inputPrefix }}/inputs.pb"])
def test_a_job_finds_the_inputs_where_its_arguments_say(argument: str, tmp_path: Path) -> None:
    made = attempt(argument, str(tmp_path / "out"))
    assert place_inputs(made) == ""
    said = Path(made.template.container.args[1])
    assert rows(said.read_bytes()) == 7
    assert made.next().template.container.args[1] == str(said)


def test_no_file_is_written_for_a_job_that_reads_none(tmp_path: Path) -> None:
    assert place_inputs(attempt("{{.outputPrefix}}", str(tmp_path / "out"))) == ""
    assert not list(tmp_path.iterdir())


def test_they_are_written_to_stores_too() -> None:
    assert place_inputs(attempt("{{.input}}", "memory://bucket/run")) == ""
    assert rows(fsspec.filesystem("memory").cat_file("/bucket/run/inputs.pb")) == 7


def test_what_keeps_them_from_being_written_is_told(tmp_path: Path) -> None:
    nowhere = place_inputs(attempt("{{.input}}", "nosuch://bucket/run"))
    assert "nosuch://bucket/run/inputs.pb" in nowhere
    assert "pip install 'flyteagents[stores]' and the fsspec package for nosuch://" in nowhere
    (tmp_path / "file").touch()
    assert "File exists" in place_inputs(attempt("{{.input}}", str(tmp_path / "file")))


def test_a_missing_package_is_told_alike_where_is_read_and_where_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(url: str) -> None:
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(Unsupported) as read:
        read_file("gs://bucket/run", "outputs.pb")
    written = place_inputs(attempt("{{.input}}", "gs://bucket/run"))
    for text in (str(read.value), written):
        assert text.endswith(": pip install 'flyteagents[stores]' gcsfs")
