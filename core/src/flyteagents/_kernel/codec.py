"""The wire's part in the life of a job: outputs as protobuf, and declared types as a text.

The kernel knows no protobuf, so the functions are handed to it; what is decided here is what an
envelope has room for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from flyteagents._errors import InvalidTask
from flyteagents._kernel.requests import Connection, CreateRequest
from flyteagents._status import ErrorDocument
from flyteagents._types import Type

DECLARED_LIMIT = 400
"""Characters of declared types in an envelope with their columns; without if they take more. The
rest of an envelope takes some 500 of its 1024 bytes."""


@dataclass(frozen=True)
class Codec:
    """encode_outputs: to a serialized LiteralMap, by the declared types or, where these are None,
    by what the values suggest. Raises InvalidTask for what does not fit.
    dump_types, load_types: declared types to a short text and back. Raises ValueError.
    read_outputs, read_error: the files of Flyte's own code. Outputs that do not fit the types raise
    InvalidTask; an error that cannot be read says no more than that.
    without_secrets, read_request: a CreateTask's bytes without what its connection sent, None
    where the rest looks as if it held a secret; and back to a request of that generation, with a
    connection. Raises ValueError.
    """

    encode_outputs: Callable[[Mapping[str, object], Mapping[str, Type] | None], bytes]
    dump_types: Callable[[Mapping[str, Type]], str]
    load_types: Callable[[str], Mapping[str, Type]]
    read_outputs: Callable[[bytes, Mapping[str, Type]], Mapping[str, object]]
    read_error: Callable[[bytes], ErrorDocument]
    output_names: Callable[[bytes], Collection[str]]
    without_secrets: Callable[[bytes], bytes | None]
    read_request: Callable[[bytes, int, Connection], CreateRequest]

    def outputs(self, values: Mapping[str, object], declared: Mapping[str, Type] | None) -> bytes:
        """Outputs as a serialized LiteralMap. Raises InvalidTask for what does not fit, and for
        what is declared and missing."""
        check_complete(values, declared or {})
        return self.encode_outputs(values, declared)

    def declared_text(self, types: Mapping[str, Type]) -> str:
        """The declared outputs for an envelope, without columns where they take too much room."""
        text = self.dump_types(types)
        if len(text) > DECLARED_LIMIT:
            text = self.dump_types({name: _narrow(of) for name, of in types.items()})
        return text

    def declared(self, text: str) -> Mapping[str, Type] | None:
        """The outputs that the task declares, out of its envelope; None where nobody knows."""
        try:
            return self.load_types(text)
        except ValueError:
            return None


def check_complete(values: Mapping[str, object], declared: Mapping[str, Type]) -> None:
    """Raises InvalidTask for outputs that are declared and not there. Flyte would call the task a
    success, and the next one would fail for want of its input."""
    if missing := declared.keys() - values.keys():
        given = ", ".join(sorted(values)) or "none"
        raise InvalidTask(
            f"the task declares outputs ({', '.join(sorted(declared))}), and the job gave "
            f"({given}): {', '.join(sorted(missing))} missing"
        )


def _narrow(of: Type) -> Type:
    return replace(of, columns=(), of=tuple(map(_narrow, of.of)))
