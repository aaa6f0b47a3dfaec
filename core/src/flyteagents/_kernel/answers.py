"""What Flyte is answered, the same for both generations and free of protobuf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from sys import getsizeof

from flyteagents._status import Link, Phase

SMALL = 8 * 1024
"""Bytes of outputs that are kept, in a replica's memory or in an envelope. What Flyte stores with
the workflow has etcd's limit of about 1.5 MiB for all of its tasks together
(flytepropeller/pkg/controller/handler.go:379-411)."""

CANCELLED = "cancelled"
"""The key of custom info that tells a job that was stopped from one that failed by itself: to Flyte
both have FAILED."""

MAY_RUN_ON = "flyteagents-may-run-on-bin"
"""The trailing metadata of a DeleteTask that is OK although the job may run on: why, in UTF-8. For
people; Flyte reads no further than the OK."""


@dataclass(frozen=True)
class Answer:
    """How the task stands. `outputs` is a serialized LiteralMap; None: the job wrote them.
    `encoded` is for the wire, to keep what it makes of an answer that is given again and again."""

    phase: Phase
    message: str = ""
    outputs: bytes | None = None
    links: Sequence[Link] = ()
    info: Mapping[str, object] = field(default_factory=dict)
    encoded: dict[int, bytes] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )  # not in __init__: `replace` makes another answer, with bytes of its own

    @property
    def texts(self) -> int:
        """Bytes of memory that it takes at most, with what the wire makes of it."""
        plain = getsizeof(self.message) + getsizeof(self.outputs)
        links = sum(getsizeof(link.uri) + getsizeof(link.name) for link in self.links)
        # As objects they take some four times as much as when written.
        return 2 * (plain + links + 4 * len(str(self.info)))

    def says(
        self, phase: Phase, message: str, links: Sequence[Link], info: Mapping[str, object]
    ) -> bool:
        """Whether it says just this, without outputs: found out without making another."""
        return (
            self.phase is phase
            and self.message == message
            and self.outputs is None
            and self.links == links
            and self.info == info
        )


def warned(answer: Answer, warnings: Sequence[str]) -> Answer:
    """The answer with these before the warnings that the agent has put into its info itself."""
    if not warnings:
        return answer
    own = answer.info.get("warnings") or ()
    rest = [own] if isinstance(own, str) else list(own) if isinstance(own, Sequence) else []
    return replace(answer, info={**answer.info, "warnings": [*warnings, *rest]})


class Refused(Exception):
    """The call gets a gRPC error; `code` is the name of its status code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
