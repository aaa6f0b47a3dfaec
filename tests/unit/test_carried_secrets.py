"""What is not carried in `resource_meta`, which Flyte stores and logs: whatever may be a secret."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flyteidl.admin import agent_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from flyteagents import _redact
from flyteagents._redact import is_plain, remember
from flyteagents._wire.carried import without_secrets

Change = Callable[[Any], object]
KNOWN, QUOTED = "known-value-1", 'pa"ss\nword-known'


@pytest.fixture(autouse=True)
def _remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redact, "_known", type(_redact._known)())
    remember(KNOWN)
    remember(QUOTED)


def carried(*changes: Change) -> bytes | None:
    message = agent_pb2.CreateTaskRequest(output_prefix="s3://b/p/0")
    message.template.type = "bigquery"
    message.template.sql.statement = r"SELECT '\d+' FROM t WHERE x = 'größe'"
    for change in changes:
        change(message)
    return without_secrets(message.SerializeToString())


def given(name: str, value: str) -> Change:
    def change(message: Any) -> None:
        message.inputs.literals[name].scalar.primitive.string_value = value

    return change


def binary(value: bytes) -> Change:
    def change(message: Any) -> None:
        message.inputs.literals["x"].scalar.binary.value = value
        message.inputs.literals["x"].scalar.binary.tag = "msgpack"

    return change


def custom(**values: object) -> Change:
    return lambda message: message.template.custom.update(values)


def args(*values: str) -> Change:
    return lambda message: message.template.container.args.extend(values)


def environment(name: str, value: str) -> Change:
    def change(message: Any) -> None:
        message.task_execution_metadata.environment_variables[name] = value

    return change


def config(message: Any) -> None:
    message.template.config["token"] = "x"


def asks_for_secrets(message: Any) -> None:
    """As Propeller says it (flytepropeller/pkg/controller/nodes/task/taskexec_context.go)."""
    message.template.security_context.secrets.add(group="g", key="DB_PASSWORD")
    message.task_execution_metadata.annotations["flyte.secrets/s0"] = "m4zg54lqhiqceztc"
    message.task_execution_metadata.labels["inject-flyte-secrets"] = "true"


def schema(message: Any) -> None:
    variable = message.template.interface.inputs.variables["x"]
    variable.type.structured_dataset_type.external_schema_bytes = b"x"


def pod(message: Any) -> None:
    containers = [{"env": [{"name": "PLAIN", "value": "x"}]}]
    message.template.k8s_pod.pod_spec.update({"containers": containers})


def nested(times: int, value: object) -> Change:
    for _ in range(times):
        value = json.dumps({"inner": value})
    return custom(outer=value)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(binary(b"dapi0123456789abcdef0123"), id="a token in a binary input"),
        pytest.param(binary(KNOWN.encode()), id="a known secret in a binary input"),
        pytest.param(binary(b"x"), id="a binary input"),
        pytest.param(given("x", QUOTED), id="a known secret that JSON escapes"),
        pytest.param(given("x", "dapi0123456789abcdef0123"), id="a token"),
        pytest.param(given("password", "hunter2"), id="an input that is named so"),
        pytest.param(given("DB_Api-Key", "a;b"), id="a name in another spelling"),
        pytest.param(custom(password=123456), id="a number"),
        pytest.param(custom(conf={"x_secret": {"value": "hunter2"}}), id="a name far above"),
        pytest.param(custom(env=[{"Name": "PASSWORD", "Value": "a;b"}]), id="a name beside"),
        pytest.param(pod, id="a pod"),
        pytest.param(schema, id="a schema in bytes"),
        pytest.param(args("--password", "a;b"), id="an argument before"),
        pytest.param(args("--api-key=hunter2", "x"), id="an argument with its value"),
        pytest.param(
            lambda message: message.template.container.config.add(key="DB_PASSWORD", value="a;b"),
            id="a container's config",
        ),
        pytest.param(
            lambda message: message.template.container.env.add(key="DB_PASSWORD", value="a;b"),
            id="a container's environment",
        ),
        pytest.param(config, id="config"),
        pytest.param(environment("API_KEY", "x"), id="the environment"),
        *(
            pytest.param(nested(times, {"password": "hunter2"}), id=f"JSON, {times} deep")
            for times in (1, 2, 5)
        ),
        pytest.param(nested(3, {"password": 123456}), id="a number within JSON"),
        pytest.param(nested(3, QUOTED), id="a known secret within JSON"),
        pytest.param(
            given("x", f"it is {json.dumps(json.dumps(json.dumps({'password': 'hunter2'})))}"),
            id="JSON within a text",
        ),
        pytest.param(given("x", "[" * 100_000), id="what is nested without end"),
        pytest.param(custom(n=float("inf")), id="what JSON does not have"),
    ],
)
def test_what_may_be_a_secret_or_cannot_be_looked_through_is_not_carried(change: Change) -> None:
    assert carried(change) is None


@pytest.mark.parametrize(
    "change",
    [
        given("binary", "x"),
        given("größe", '{"a": [1, "{{.input}}"]}'),
        given("x", '{"not": JSON'),
        custom(databricksToken="", nested={"a": [1, None, True]}, use_tokens=True),
        args("pyflyte-execute", "--inputs", "s3://b/in.pb", "--prev-checkpoint", '""'),
        lambda message: message.template.container.env.add(key="A", value="1"),
        environment("A", "1"),
    ],
)
def test_what_is_harmless_is_carried(change: Change) -> None:
    assert carried(change) is not None


def test_the_names_of_the_secrets_that_a_task_asks_for_are_left_out() -> None:
    raw = carried(asks_for_secrets)
    assert raw is not None
    assert b"DB_PASSWORD" not in raw
    assert b"m4zg54lqhiqceztc" not in raw


def fields(of: Descriptor, seen: set[str]) -> Iterator[FieldDescriptor]:
    if of.full_name in seen:
        return
    seen.add(of.full_name)
    for field in of.fields:
        yield field
        if field.message_type is not None:
            yield from fields(field.message_type, seen)


def test_binary_literals_and_a_schema_are_all_that_a_request_has_in_bytes() -> None:
    found = list(fields(agent_pb2.CreateTaskRequest.DESCRIPTOR, set()))
    in_bytes = {field.full_name for field in found if field.type == FieldDescriptor.TYPE_BYTES}
    assert in_bytes == {
        "flyteidl.core.Binary.value",
        "flyteidl.core.StructuredDatasetType.external_schema_bytes",
    }
    assert not any("google.protobuf.Any" in str(field.message_type) for field in found)
    # Else the message's own form would keep every request from being carried.
    named = {field.full_name for field in found if not is_plain(field.name)}
    assert {name.rpartition(".")[0] for name in named} <= {
        "flyteidl.core.SecurityContext",
        "flyteidl.core.OAuth2Client",
        "flyteidl.core.OAuth2TokenRequest",
    }
