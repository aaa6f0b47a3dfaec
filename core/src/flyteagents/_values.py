"""Python values for the Flyte literals that have no Python type of their own."""

from __future__ import annotations

from dataclasses import dataclass

from flyteagents._types import Column


@dataclass(frozen=True)
class Blob:
    """A file, or a directory where `multipart`, by its URI."""

    uri: str
    format: str = ""
    multipart: bool = False


@dataclass(frozen=True)
class StructuredDataset:
    """A table by its URI, with its columns (empty: not told) and format ("parquet", ...)."""

    uri: str
    columns: tuple[Column, ...] = ()
    format: str = ""


@dataclass(frozen=True)
class Schema:
    """A table of Flyte's older kind, by its URI."""

    uri: str
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True)
class Binary:
    """Bytes that are not msgpack, with the tag that says what they are."""

    value: bytes
    tag: str = ""
