"""The settings, `FLYTEAGENTS_DUCKDB_*`: where jobs are kept, what they may use, what they may read.

Defaults fit one person on one machine. They follow from the machine, so that they hold in a
container with limits as well; where one follows from another, it is in a validator and not in a
default factory, or a bad value would make two settings look bad.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from flyteagents import CommaList, Settings
from flyteagents_duckdb.machine import cores, data_directory, memory

SHARE = 0.7
"""The part of the machine's memory that jobs get by default, all together."""
_LEAST = 1_000_000
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[KMGT]?)(?P<binary>i?)B?", re.IGNORECASE)


def parse_size(value: object) -> object:
    """Bytes of "512MB", "2 GiB", "1Gi" or a plain number."""
    size = value
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise ValueError("a size is a number with a unit, such as 512MB or 2GiB")
        step = 1024 if match["binary"] else 1000
        size = int(float(match["number"]) * step ** " KMGT".index(match["unit"].upper() or " "))
    # Nobody wants that little: 4 is 4 GB to who writes it.
    if isinstance(size, int) and size < _LEAST:
        raise ValueError("that is less than a megabyte; write a unit, as in 512MB or 2GiB")
    return size


Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]


class DuckDBSettings(Settings):
    """What the operator decides. Prefixes may have `{project}` and `{domain}` in them."""

    data_dir: Path = Field(
        default_factory=data_directory,
        description="Where jobs are kept. Servers that share it, share their jobs.",
        examples=["/var/lib/flyteagents/duckdb"],
    )
    max_jobs: PositiveInt = Field(
        default_factory=cores, description="Jobs that run at once; others wait.", examples=[4]
    )
    threads: PositiveInt = Field(
        default_factory=lambda: min(2, cores()),
        description="Threads of a job that does not ask for any.",
        examples=[2],
    )
    max_threads: PositiveInt = Field(
        default_factory=cores, description="The most threads that a task may ask for.", examples=[8]
    )
    max_memory: Size = Field(
        None,
        validate_default=True,
        description="The most memory that a task may ask for; unset: 70 % of the machine's or "
        "container's, divided by `max_jobs`.",
        examples=["4GB"],
    )
    memory: Size = Field(
        None,
        validate_default=True,
        description="Memory of a job that does not ask for any; `max_memory` if unset.",
        examples=["1GB"],
    )
    max_spill: Size = Field(
        10_000_000_000,
        description="What a job may spill to disk when its memory does not suffice.",
        examples=["10GB"],
    )
    max_seconds: PositiveFloat = Field(
        86400.0, description="Seconds after which a running job is stopped and has failed."
    )
    open_prefixes: CommaList = Field(
        (),
        description="Prefixes that the SQL itself may read and write, and inputs be under.",
        examples=["/data/{project}/{domain}"],
    )
    input_prefixes: CommaList = Field(
        default_factory=lambda: (tempfile.gettempdir(),),
        description="Prefixes under which declared inputs may be, for reading only.",
        examples=["/data/{project},s3://lake/{project}/"],
    )
    output_prefixes: CommaList = Field(
        (),
        description="Local prefixes that Flyte's output prefixes must be under for results to go "
        "there; unset: any. Other results stay in the data directory.",
        examples=["/shared/flyte"],
    )
    keep: PositiveFloat = Field(
        7 * 86400.0, description="Seconds after which the directories of ended jobs are removed."
    )
    keep_results: PositiveFloat = Field(
        30 * 86400.0,
        description="The same for results in the data directory; others are never removed.",
    )
    min_free: Size = Field(
        64_000_000,
        description="Free disk space that the data directory must have for a new job.",
        examples=["64MB"],
    )

    @field_validator("open_prefixes", "input_prefixes", "output_prefixes")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in value:
            if not prefix.startswith("/") and "://" not in prefix:
                raise ValueError(f"{prefix!r} is neither an absolute path nor a URL")
        return value

    @field_validator("data_dir")
    @classmethod
    def _resolved(cls, value: Path) -> Path:
        found = value.expanduser().absolute()
        if any(letter in str(found) for letter in "*?["):
            raise ValueError(f"DuckDB takes the letters * ? [ in {str(found)!r} for a pattern")
        return found

    @field_validator("max_memory", mode="before")
    @classmethod
    def _share(cls, value: object, info: ValidationInfo) -> object:
        # pydantic leaves out what was refused, so without max_jobs that error is told alone.
        return int(memory() * SHARE / info.data.get("max_jobs", 1)) if value is None else value

    @field_validator("memory", mode="before")
    @classmethod
    def _most(cls, value: object, info: ValidationInfo) -> object:
        return info.data.get("max_memory", _LEAST) if value is None else value
