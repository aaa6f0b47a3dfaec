"""Declared types as a short text, to ride in the envelope.

GetTask does not say which outputs the task declares, so CreateTask has to leave a note. The text
is JSON, deflated, in base85: none of its characters needs an escape in JSON.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from flyteagents._types import Column, Kind, Type

LIMIT = 64 * 1024
"""Bytes of JSON. A compressed text can blow up a thousandfold, and it comes over the wire."""

# Other releases read this: a letter is never changed or used again.
_LETTERS = {
    Kind.NONE: "n",
    Kind.INTEGER: "i",
    Kind.FLOAT: "f",
    Kind.STRING: "s",
    Kind.BOOLEAN: "b",
    Kind.DATETIME: "t",
    Kind.DURATION: "d",
    Kind.BINARY: "y",
    Kind.ERROR: "x",
    Kind.STRUCT: "o",
    Kind.ENUM: "e",
    Kind.BLOB: "B",
    Kind.SCHEMA: "S",
    Kind.STRUCTURED_DATASET: "D",
    Kind.COLLECTION: "L",
    Kind.MAP: "M",
    Kind.UNION: "U",
}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}


def dump_types(types: Mapping[str, Type]) -> str:
    """The text for `load_types`; empty for no types. Look at its length: a table has columns
    without end, and over 64 KiB of JSON `load_types` refuses."""
    return _dump(tuple(sorted(types.items()))) if types else ""


# Tasks are few and calls are many: the compressor alone would take a fifth of a CreateTask.
@lru_cache(64)
def _dump(types: tuple[tuple[str, Type], ...]) -> str:
    packed = {name: _pack(its_type) for name, its_type in types}
    plain = json.dumps(packed, separators=(",", ":")).encode()
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)  # no header, no checksum
    return base64.b85encode(deflate.compress(plain) + deflate.flush()).decode()


@lru_cache(64)
def load_types(text: str) -> Mapping[str, Type]:
    """The types that `dump_types` was given. Raises ValueError for any other text."""
    if not text:
        return {}
    try:
        packed = json.loads(_inflate(base64.b85decode(text)))
        return MappingProxyType({name: _unpack(item) for name, item in packed.items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error) as error:
        raise ValueError(f"not a text of declared types: {error!r}"[:200]) from None


def _inflate(data: bytes) -> bytes:
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    plain = inflate.decompress(data, LIMIT + 1)
    if len(plain) > LIMIT:
        raise ValueError(f"more than {LIMIT} bytes")
    if not inflate.eof or inflate.unused_data:
        raise ValueError("cut off, or followed by something")
    return plain


def _pack(declared: Type) -> object:
    packed: dict[str, object] = {"k": _LETTERS[declared.kind]}
    if declared.of:
        packed["o"] = [_pack(of) for of in declared.of]
    if declared.values:
        packed["v"] = declared.values
    if declared.columns:
        packed["c"] = [[column.name, _pack(column.type)] for column in declared.columns]
    if declared.format:
        packed["f"] = declared.format
    if declared.multipart:
        packed["m"] = 1
    if declared.tag:
        packed["t"] = declared.tag
    return packed if len(packed) > 1 else packed["k"]


def _unpack(packed: Any) -> Type:
    if isinstance(packed, str):
        return Type(_KINDS[packed])
    return Type(
        _KINDS[packed["k"]],
        of=tuple(_unpack(of) for of in _expect(list, packed.get("o", []))),
        values=tuple(_expect(str, value) for value in _expect(list, packed.get("v", []))),
        columns=tuple(
            Column(_expect(str, name), _unpack(of))
            for name, of in _expect(list, packed.get("c", []))
        ),
        format=_expect(str, packed.get("f", "")),
        multipart=packed.get("m", 0) == 1,
        tag=_expect(str, packed.get("t", "")),
    )


def _expect(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value
