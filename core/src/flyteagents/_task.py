"""What Flyte asks for, as an agent sees it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

from pydantic import BaseModel

from flyteagents._types import Type

ConfigT = TypeVar("ConfigT", bound=BaseModel)


@dataclass(frozen=True)
class Key:
    """The idempotency key of an attempt: 40 hex digits that repeat when the attempt repeats."""

    hex: str

    @property
    def uuid(self) -> uuid.UUID:
        """The key as a UUID, for vendors that want one."""
        return uuid.UUID(self.hex[:32])


@dataclass(frozen=True)
class Fingerprint:
    """Says whether two jobs are the same work: `<rules version>-<16 hex digits>`.

    Fits a label of most vendors. Store it with the job and compare with `matches`.
    """

    text: str

    def matches(self, other: str) -> bool:
        """Whether `other` is the same work. Made by other rules it cannot be told: then yes."""
        mine, theirs = self.text.partition("-")[0], other.partition("-")[0]
        return other == self.text or theirs != mine

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Identity:
    """Who asks. All of it comes from the request and none of it is proven.

    `attempt` is the retry attempt, 0-based.
    """

    project: str = ""
    domain: str = ""
    organization: str = ""
    execution: str = ""
    node: str = ""
    task: str = ""
    version: str = ""
    attempt: int = 0
    namespace: str = ""
    service_account: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Container:
    """The container that the task declares; `args` are rendered by the caller."""

    image: str = ""
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task(Generic[ConfigT]):
    """One attempt of a task.

    type: the task type. config: `config` and `custom` of the template, checked by the model.
    statement: `sql.statement`, "" where the task has none.
    inputs: name to Python value. interface: name to declared type of every input.
    declared: name to declared type of every output.
    output_prefix: where this attempt's outputs go; "" when the caller gave none.
    unread: the keys of its config that `config`'s model has no field for.
    timeout: the task's own, None where it has none. retries: as the template says; Flyte 1 may
    grant another number.
    environment: the execution's environment variables, which a job that runs code is to have.
    """

    type: str
    config: ConfigT
    key: Key
    fingerprint: Fingerprint
    identity: Identity
    statement: str = ""
    inputs: Mapping[str, object] = field(default_factory=dict)
    interface: Mapping[str, Type] = field(default_factory=dict)
    declared: Mapping[str, Type] = field(default_factory=dict)
    output_prefix: str = ""
    unread: Sequence[str] = ()
    timeout: timedelta | None = None
    retries: int = 0
    runtime: str = ""
    container: Container | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
