"""What an agent's method gets besides the task or the job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from flyteagents._http import Http
from flyteagents._task import Identity
from flyteagents._types import Type

T = TypeVar("T")


class Call(Protocol):
    """One call of the kernel's to an agent. Only read it; the kernel makes it."""

    @property
    def operation(self) -> str:
        """create, get, cancel, run, find, logs or check: the method that is called."""

    @property
    def http(self) -> Http:
        """The vendor's API: pooled, limited in time, traced. Uses the agent's `endpoint`."""

    @property
    def identity(self) -> Identity:
        """Who asks. In get and cancel only what the envelope keeps: project, domain, attempt,
        execution and node."""

    @property
    def output_prefix(self) -> str:
        """Where the job's outputs go: the prefix of the attempt that the job was made for.
        Empty in cancel and logs, and in a `get` that the kernel asks while it cancels, since Flyte
        does not send it there."""

    @property
    def declared(self) -> Mapping[str, Type]:
        """The outputs that the task declares, also in get. Empty where it declares none, and where
        nobody knows: return what the job has, and the kernel drops what is not declared."""

    @property
    def configs(self) -> Mapping[str, str]:
        """The configs of a Flyte 2 connection; empty elsewhere."""

    @property
    def fresh(self) -> bool:
        """The vendor has just refused our credentials: look past every cache of them."""

    @property
    def remaining(self) -> float:
        """Seconds left to answer in. A request on the wire may take longer; a new one may not
        begin after it."""

    async def secret(self, name: str) -> str:
        """The secret `name`: from the request's Flyte 2 connection, from
        `FLYTEAGENTS_SECRET_<NAME>`, from a file `<name>` in `FLYTEAGENTS_SECRETS_DIR`, or where
        flytekit looks (`_FSEC_<NAME>`, `/etc/secrets/<name>`).

        Raises Unauthenticated, naming all those places, when none has it."""

    async def find_secret(self, name: str) -> str | None:
        """As `secret`, None when there is none."""

    async def sent_secret(self, name: str) -> str | None:
        """The secret `name` of the request's Flyte 2 connection alone; None when it has none.
        For agents that have other credentials to fall back on, which the task's own go before."""

    async def blocking(self, function: Callable[..., T], *args: object) -> T:
        """Run what must block (a vendor's SDK, files) in this agent's own threads."""
