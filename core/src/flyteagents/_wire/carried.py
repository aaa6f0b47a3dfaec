"""Which CreateTask may ride in `resource_meta`, which Flyte stores and logs.

Its own module, since it has to be stricter than `redact`, which masks and goes on: here a secret
that is missed is kept for as long as its workflow. So each text is looked at as it is, and not as
JSON or protobuf spell it; a name such as `password` is enough, whatever its value; and what cannot
be looked through is not carried. A request that is left out costs little: another replica then
cannot submit it on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from flyteidl.admin import agent_pb2 as flyte1
from google.protobuf.json_format import Error as JsonError
from google.protobuf.json_format import MessageToDict

from flyteagents._redact import is_plain, redact

# Propeller's, for every task that asks for secrets (flytepropeller/pkg/secret, PodLabel).
_LABEL = "inject-flyte-secrets"


class _Opaque(Exception):
    """There is something that cannot be looked through."""


def without_secrets(raw: bytes) -> bytes | None:
    """The kernel's codec: a CreateTask's bytes for `resource_meta`; None where they may hold a
    secret."""
    message = flyte1.CreateTaskRequest.FromString(raw)
    message.DiscardUnknownFields()  # the connection of Flyte 2 is one
    if message.template.HasField("k8s_pod"):
        return None
    # Nobody here reads them, and they name the secrets that the task asks for.
    message.template.ClearField("security_context")
    message.task_execution_metadata.ClearField("annotations")
    try:
        said = MessageToDict(message, preserving_proto_field_name=True)
        names = "\n".join(map(_letters, _names(said)))
        texts = "\n".join(_texts(said))
    except (JsonError, ValueError, RecursionError, _Opaque):  # JSON has no infinity, say
        return None
    # Joined, they are looked through at once: line by line it would take a hundred times as long.
    return message.SerializeToString() if is_plain(names) and redact(texts) == texts else None


def _names(value: object) -> Iterator[str]:
    """What names a value: a key, the `name` beside a `value`, an argument before another."""
    if isinstance(value, dict):
        yield from (key for key, said in value.items() if said and said is not True)
        if any("value" in key.lower() for key in value):
            yield from (str(value[key]) for key in value if key.lower() in ("key", "name"))
    elif isinstance(value, list):
        yield from (said for said in value if isinstance(said, str))
    for part in _parts(value):
        yield from _names(part)


def _texts(value: object) -> Iterator[str]:
    """Every text, also without the backslashes that would hide a quote from the patterns."""
    if isinstance(value, dict):
        yield from value
    elif not isinstance(value, list):
        text = str(value)
        yield text
        if "\\" in text:
            yield text.replace("\\", "")
    for part in _parts(value):
        yield from _texts(part)


def _parts(value: object) -> list[object]:
    """What is within a mapping, a list, or a text that is JSON. Raises _Opaque."""
    if isinstance(value, dict):
        binary = value.get("binary")
        # A `Binary` literal is msgpack, as a rule, and the other an Arrow schema.
        if isinstance(binary, dict) and binary.keys() <= {"value", "tag"}:
            raise _Opaque
        if "external_schema_bytes" in value:
            raise _Opaque
        return list(value.values())
    if isinstance(value, list):
        return value
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "[", '"'):
        try:
            return [json.loads(value)]
        except ValueError:
            return []
    return []


def _letters(name: str) -> str:
    """`--api-key` and `API key` are `apikey`."""
    letters = "".join(filter(str.isalnum, name.replace(_LABEL, "").casefold()))
    return letters.encode("ascii", "ignore").decode()
