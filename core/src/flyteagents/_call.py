"""What an agent's method gets besides the task or the job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from flyteagents._http import Http, Reply
from flyteagents._status import ErrorDocument, Status
from flyteagents._task import Fingerprint, Identity, Key
from flyteagents._types import Type

T = TypeVar("T")


class Call(Protocol):
    """One call of the kernel's to an agent. Only read it; the kernel makes it."""

    @property
    def operation(self) -> str:
        """create, find, get, adopts, cancel, run, logs or check: the method that is called."""

    @property
    def task_type(self) -> str:
        """The task type that the call is for, one of those the agent `serves`."""

    @property
    def key(self) -> Key:
        """The idempotency key that the job was made with, or is to be made with: `task.key`, also
        where there is no task. For a job that was taken over it is the earlier attempt's. For one
        that another connector started, and in check, it means nothing to the vendor."""

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The fingerprint of the work; None for jobs that another connector started, and in
        check."""

    @property
    def settling(self) -> bool:
        """Whether the kernel settles an earlier attempt: then `create` and `find` are asked for
        that attempt's job, and `get` for whether it is worth taking over."""

    @property
    def adopted(self) -> bool:
        """Whether the job was taken over from an earlier attempt. Flyte does not look under that
        one's prefix, so `get` returns the outputs itself (`read_outputs`)."""

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

    @property
    def trouble(self) -> str:
        """Why the vendor is asked again, in its last words; "" where it is not. For an agent that
        ends its own waiting."""

    def unchanged(self, reply: Reply) -> Status | None:
        """What `get` returns at once where this reply is, byte for byte, that of the poll before,
        as nearly all are; None where it has to be read.

        For a Status that follows from the job and the replies shown here alone, as long as the job
        has not ended. Of the job's end, of a poll after one that could not say, and of what the
        kernel asks for itself nothing is unchanged."""

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

    async def read_error(self, prefix: str = "") -> ErrorDocument | None:
        """What flytekit's or flyte-sdk's own code, run by the job, wrote into `error.pb` below
        `prefix` when it failed; None where there is no such file. "" is `output_prefix`.

        Local paths and file:// are read as they are, other stores by fsspec, with
        `flyteagents[stores]` and the store's package. Raises Unsupported where that is missing, or
        where no prefix is known; Unauthenticated where the store does not accept this server's
        credentials; Forbidden where it refuses; Unavailable where it does not answer."""

    async def read_outputs(self, prefix: str = "") -> Mapping[str, object] | None:
        """The outputs that the job wrote into `outputs.pb`, as `Status.outputs` takes them; None
        where there is no such file. Raises as `read_error` does, and InvalidTask for outputs that
        do not fit the declared types."""
