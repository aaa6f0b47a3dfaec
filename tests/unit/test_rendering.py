"""A container's arguments as Flyte sends them."""

from __future__ import annotations

from flyteagents.testing import Attempt, task_template

ARGS = (
    "pyflyte-execute",
    "--inputs",
    "{{.input}}",
    "--output-prefix",
    "{{ $OutputPrefix }}",
    "--month={{.inputs.month}}",
)


def test_an_attempts_places_are_in_its_containers_arguments_and_each_has_its_own() -> None:
    task = task_template("any", image="i:1", args=ARGS)
    for number in (0, 1):
        attempt = Attempt(task, execution="e", number=number)
        sent = attempt.create_request()
        assert list(sent.template.container.args) == [
            "pyflyte-execute",
            "--inputs",
            "s3://flyte/tests/development/e/n0/data/inputs.pb",
            "--output-prefix",
            sent.output_prefix,
            "--month={{.inputs.month}}",
        ]
    assert list(task.template.container.args) == list(ARGS)


def test_a_task_without_places_is_sent_as_it_is() -> None:
    task = task_template("any", sql="SELECT '{{.input}}'")
    assert Attempt(task).create_request().template == task.template
