"""Protobuf messages to the kernel's requests, and its answers back.

The messages of Flyte 2 are those of Flyte 1 on the wire, but for the connection and some new
fields of log links; so requests of both are read with Flyte 1's classes.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timezone
from typing import Any, TypeVar

from flyteidl.admin import agent_pb2 as flyte1
from flyteidl.core import errors_pb2, literals_pb2
from flyteidl.core import execution_pb2 as core1
from flyteidl2.connector import connector_pb2 as flyte2
from flyteidl2.core import execution_pb2 as core2
from flyteidl2.logs.dataplane import payload_pb2 as logs2
from flyteidl2.task import common_pb2 as task2
from google.protobuf.message import DecodeError, Message

from flyteagents._errors import InvalidTask
from flyteagents._kernel.answers import Answer, Refused
from flyteagents._kernel.codec import Codec
from flyteagents._kernel.copies import copied, unshared
from flyteagents._kernel.requests import NO_CONNECTION, Connection, CreateRequest, JobRequest
from flyteagents._redact import excerpt, redact, remember
from flyteagents._status import ErrorDocument, LogLine, Phase
from flyteagents._task import Identity, Task
from flyteagents._types import Type
from flyteagents._wire.carried import without_secrets
from flyteagents._wire.literals import decode_literals, encode_literals
from flyteagents._wire.structs import to_struct, without_nulls
from flyteagents._wire.templates import Templates
from flyteagents._wire.types import dump_types, load_types

M = TypeVar("M", bound=Message)
TEMPLATES = Templates()
_NOBODY = Identity()
FLYTE1, FLYTE2 = 1, 2
NAME_LIMIT = 1024
"""Characters of a name that comes over the wire. It is kept with the job, and in spans and log
lines that wait; Flyte's own names have 255 at most."""
RESPONSE_LIMIT = 4 << 20
"""Bytes. More is refused by gRPC: by ours when it sends, by Flyte's when it reads."""
LINE_LIMIT = 16 * 1024
"""Bytes of a log's line."""
log = logging.getLogger("flyteagents")
# `state`, which the oldest callers read instead of `phase`.
_STATES = {
    Phase.INITIALIZING: flyte1.PENDING,
    Phase.RUNNING: flyte1.RUNNING,
    Phase.SUCCEEDED: flyte1.SUCCEEDED,
    Phase.FAILED: flyte1.PERMANENT_FAILURE,
    Phase.RETRYABLE_FAILED: flyte1.RETRYABLE_FAILURE,
}


def parse(message: type[M], raw: bytes) -> M:
    """Parse bytes. Raises Refused with INVALID_ARGUMENT: the generated servicers' UNKNOWN would
    blame the server."""
    try:
        return message.FromString(raw)
    except DecodeError:
        raise Refused("INVALID_ARGUMENT", f"not a {message.DESCRIPTOR.name}") from None


def encode_outputs(outputs: Mapping[str, object], declared: Mapping[str, Type] | None) -> bytes:
    """The kernel's codec: outputs as a serialized LiteralMap. Raises InvalidTask."""
    encoded: bytes = encode_literals(outputs, declared).SerializeToString()
    return encoded


def read_outputs(raw: bytes, declared: Mapping[str, Type]) -> Mapping[str, object]:
    """The kernel's codec: `outputs.pb`, which both generations write alike. Raises InvalidTask."""
    try:
        literals = literals_pb2.LiteralMap.FromString(raw)
    except DecodeError:
        raise InvalidTask("the job's outputs.pb is damaged") from None
    return decode_literals(literals, declared, what="output")


def output_names(raw: bytes) -> Collection[str]:
    """The kernel's codec: what `outputs.pb` has. Raises InvalidTask."""
    try:
        return literals_pb2.LiteralMap.FromString(raw).literals.keys()
    except DecodeError:
        raise InvalidTask("the job's outputs.pb is damaged") from None


def read_error(raw: bytes) -> ErrorDocument:
    """The kernel's codec: `error.pb`, which both generations write alike."""
    try:
        error = errors_pb2.ErrorDocument.FromString(raw).error
    except DecodeError:
        return ErrorDocument("", "the job's error.pb is damaged")
    # proto3 does not tell "not recoverable" from nothing said, so an empty document says nothing.
    said = error.ByteSize() > 0
    origins = {1: "user", 2: "system"}
    return ErrorDocument(
        code=error.code,
        message=error.message,
        recoverable=error.kind == errors_pb2.ContainerError.RECOVERABLE if said else None,
        origin=origins.get(error.origin, ""),
    )


def codec() -> Codec:
    """What the kernel is handed of protobuf."""
    return Codec(
        encode_outputs=encode_outputs,
        dump_types=dump_types,
        load_types=load_types,
        read_outputs=read_outputs,
        read_error=read_error,
        output_names=output_names,
        without_secrets=without_secrets,
        read_request=read_request,
    )


def create_request(raw: bytes, generation: int) -> CreateRequest:
    message = parse(flyte1.CreateTaskRequest, raw)
    connection = NO_CONNECTION
    if generation == FLYTE2:
        connection = _connection(parse(flyte2.CreateTaskRequest, raw))
    return _create(message, message.inputs, generation, connection, raw)


def read_request(raw: bytes, generation: int, connection: Connection) -> CreateRequest:
    """The kernel's codec: what `without_secrets` wrote. Raises ValueError."""
    try:
        message = flyte1.CreateTaskRequest.FromString(raw)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    return _create(message, message.inputs, generation, connection)


def sync_request(header: flyte1.CreateRequestHeader, inputs: Any) -> CreateRequest:
    return _create(header, inputs, FLYTE1, NO_CONNECTION)


def _create(
    said: Any, inputs: Any, generation: int, connection: Connection, raw: bytes = b""
) -> CreateRequest:
    who = _identity(said.task_execution_metadata)
    return CreateRequest(
        task_type=said.template.type,
        generation=generation,
        output_prefix=said.output_prefix,
        identity=who,
        # Read by the kernel: what is wrong with a task is then parked as its end (rule 4),
        # and is no gRPC error.
        read=lambda: _task(said, inputs, who),
        connection=connection,
        raw=raw,
    )


def job_request(message: Any, raw: bytes, generation: int) -> JobRequest:
    """GetTask, DeleteTask and GetTaskLogs, from their Flyte 1 message."""
    connection = NO_CONNECTION
    # A GetTaskLogsRequest of Flyte 2 has no connection.
    if generation == FLYTE2 and isinstance(
        message, flyte1.GetTaskRequest | flyte1.DeleteTaskRequest
    ):
        same = {flyte1.GetTaskRequest: flyte2.GetTaskRequest}.get(
            type(message), flyte2.DeleteTaskRequest
        )
        connection = _connection(parse(same, raw))
    return JobRequest(
        # `task_type` is deprecated, and all that the oldest callers send.
        task_type=message.task_category.name or message.task_type,
        meta=message.resource_meta,
        # Only a GetTaskRequest has it.
        output_prefix=getattr(message, "output_prefix", ""),
        connection=connection,
    )


def get_response(answer: Answer, generation: int) -> bytes:
    """GetTask's response. A job that runs is answered the same again and again, so the bytes are
    kept with the answer; those of an end may be megabytes, and are asked for once."""
    known = answer.encoded.get(generation)
    if known is not None:
        return known
    response = flyte1.GetTaskResponse if generation == FLYTE1 else flyte2.GetTaskResponse
    raw = b""
    try:
        raw = response(resource=resource(answer, generation)).SerializeToString()
    except (ValueError, TypeError, RecursionError) as error:
        log.error("an answer's links or info cannot be sent: %s", type(error).__name__)
    if not raw or len(raw) > RESPONSE_LIMIT:  # what an agent adds must not fail a poll
        answer = replace(answer, links=(), info={})
        raw = response(resource=resource(answer, generation)).SerializeToString()
    if not answer.phase.terminal:
        answer.encoded[generation] = raw
    return raw


def resource(answer: Answer, generation: int) -> Message:
    """The answer as a Resource of its generation."""
    # Flyte 1 takes a null in a later info for the end of its key, nested ones too: a JSON merge
    # patch (flyteadmin .../transformers/task_execution.go, mergeCustom).
    info = to_struct(without_nulls(answer.info), redact) if answer.info else None
    shared: dict[str, Any] = {
        "phase": answer.phase.value,
        "message": answer.message,
        "custom_info": info,
    }
    if generation == FLYTE1:
        outputs1 = answer.outputs
        return flyte1.Resource(
            state=_STATES[answer.phase],
            log_links=[core1.TaskLog(name=link.name, uri=link.uri) for link in answer.links],
            # Absent, Flyte reads outputs.pb; present, also empty, it takes these for all there are
            # (webapi/agent/plugin.go:411-431).
            outputs=None if outputs1 is None else parse(literals_pb2.LiteralMap, outputs1),
            **shared,
        )
    links = [
        core2.TaskLog(name=link.name, uri=link.uri, ready=True, link_type=core2.TaskLog.DASHBOARD)
        for link in answer.links
    ]
    # The bytes of a LiteralMap are those of an `Outputs`: a map's entries are messages with the key
    # as field 1 and the value as field 2.
    outputs2 = None if answer.outputs is None else parse(task2.Outputs, answer.outputs)
    return flyte2.Resource(log_links=links, outputs=outputs2, **shared)


def log_body(lines: Sequence[LogLine], generation: int) -> Message:
    """Some lines of a log as one message of the stream."""
    pb: Any = logs2 if generation == FLYTE2 else flyte1
    built = []
    for line in lines:
        text = excerpt(line.message, LINE_LIMIT)
        one = pb.LogLine(message=text, originator=2 if line.system else 1)
        if line.timestamp is not None:
            one.timestamp.FromDatetime(line.timestamp.astimezone(timezone.utc))
        built.append(one)
    if generation == FLYTE2:
        return flyte2.GetTaskLogsResponse(body=flyte2.GetTaskLogsResponseBody(lines=built))
    return flyte1.GetTaskLogsResponse(body=flyte1.GetTaskLogsResponseBody(structured_lines=built))


def log_header(token: str, generation: int) -> Message:
    if generation == FLYTE2:
        return flyte2.GetTaskLogsResponse(header=flyte2.GetTaskLogsResponseHeader(token=token))
    return flyte1.GetTaskLogsResponse(header=flyte1.GetTaskLogsResponseHeader(token=token))


def _connection(message: Any) -> Connection:
    if not message.HasField("connection"):
        return NO_CONNECTION
    # They come as plain values of any form, so only their very text can be masked where a vendor
    # repeats it.
    for secret in message.connection.secrets.values():
        remember(secret)
    return Connection(dict(message.connection.secrets), dict(message.connection.configs))


def _identity(metadata: flyte1.TaskExecutionMetadata) -> Identity:
    # Each look into a message makes an object of what is there.
    attempt = metadata.task_execution_id
    task, node = attempt.task_id, attempt.node_execution_id
    execution, labels = node.execution_id, metadata.labels
    name = _name if metadata.ByteSize() > NAME_LIMIT else str  # none of them is long
    return copied(
        _NOBODY,
        project=name(execution.project or task.project),
        domain=name(execution.domain or task.domain),
        organization=execution.org or task.org,
        execution=name(execution.name),
        node=name(node.node_id),
        task=name(task.name),
        version=task.version,
        attempt=attempt.retry_attempt,
        namespace=metadata.namespace,
        service_account=metadata.k8s_service_account,
        # A map of protobuf is copied by Python code, and most have none.
        labels=dict(labels) if labels else {},
    )


def _name(text: str) -> str:
    # Marked, so that it is not the name of another project.
    return text if len(text) <= NAME_LIMIT else f"{text[:NAME_LIMIT]}…"


def _task(said: Any, inputs: literals_pb2.LiteralMap, who: Identity) -> Task[Any]:
    # Deterministic, since maps may be written in another order each time, and the cache would miss.
    raw = said.template.SerializeToString(deterministic=True)
    try:
        template = TEMPLATES.read(raw)
        given = decode_literals(inputs, template.interface) if inputs.literals else {}
    except (RecursionError, OverflowError) as error:
        text = f"the task's timeout or inputs cannot be read: {type(error).__name__}"
        raise InvalidTask(text) from None
    container = template.container
    environment = said.task_execution_metadata.environment_variables
    return copied(
        template,
        # Nobody's but this attempt's: an agent that changed what is kept would change the tasks of
        # others.
        config=unshared(template.config),
        interface=dict(template.interface),
        declared=dict(template.declared),
        container=container and copied(container, env=dict(container.env)),
        identity=who,
        inputs=given,
        output_prefix=said.output_prefix,
        environment=dict(environment) if environment else {},
    )
