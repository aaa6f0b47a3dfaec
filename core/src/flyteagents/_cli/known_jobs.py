"""The jobs that a user can name: the last run's, those that agents remember, and any by what Flyte
keeps of it, its `resource_meta`."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyteagents._cli import screen
from flyteagents._client.exit_codes import BAD_DATA
from flyteagents._kernel.envelope import BrokenEnvelope, Envelope, dump, load
from flyteagents._kernel.returned import job_values
from flyteagents._redact import redact

SHORT_ID = 12
"""Letters of a key that are shown."""
_ID_FORM = re.compile("[0-9a-f]{6,40}")
"""What names a job: the begin of its key, of six letters at least."""


@dataclass(frozen=True)
class Past:
    """A job that an agent remembers."""

    envelope: Envelope
    told: Any

    @property
    def id(self) -> str:
        return self.envelope.key[:SHORT_ID]

    @property
    def message(self) -> str:
        """What the agent kept of the job's end; what is shown goes into tickets and chats."""
        return redact(self.told.message)

    @property
    def statement(self) -> str:
        return redact(self.told.statement)


def remember(meta: bytes, output_prefix: str) -> None:
    """Keep what names the last run's job; it holds no secret."""
    with suppress(OSError):
        file = _last_run()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%s\n%s" % (base64.b64encode(meta), output_prefix.encode()))


def _remembered() -> tuple[bytes, str]:
    """The last run's `resource_meta` and output prefix. Raises OSError."""
    meta, _, prefix = _last_run().read_bytes().partition(b"\n")
    return base64.b64decode(meta), prefix.decode()


def last_prefix(meta: bytes) -> str:
    """The output prefix of this job, where it is the last run's; else ""."""
    with suppress(OSError):
        last, prefix = _remembered()
        return prefix if last == meta else ""
    return ""


def _last_run() -> Path:
    """Where it is kept. Raises OSError for a user without a home, as in some containers."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(cache or Path.home() / ".cache") / "flyteagents" / "last-run"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error


def named(job: str | None) -> tuple[bytes, Envelope]:
    """The job's `resource_meta`, and what it says. Ends the program where there is none."""
    from flyteagents._cli.inspecting import meta_bytes

    raw: bytes | None
    if job is None:
        try:
            raw, _ = _remembered()
        except OSError:
            screen.fail(BAD_DATA, "there was no run yet; name a job, see `flyteagents jobs`")
    else:
        # An id first: one in twenty is base64 of something that begins as JSON does.
        raw = next(_with_id(job), None) or meta_bytes(job)
    try:
        envelope = load(raw) if raw is not None else None
    except BrokenEnvelope as error:
        screen.fail(BAD_DATA, f"{error}; copy all of it, the text is cut or was changed")
    if raw is None or envelope is None:
        screen.fail(
            BAD_DATA,
            "that is neither a resource_meta nor the id of a job that is known; `flyteagents jobs` "
            "shows ids",
        )
    return raw, envelope


def _with_id(job: str) -> Iterator[bytes]:
    if _ID_FORM.fullmatch(job):
        for past in past_jobs(1000):
            if past.envelope.key.startswith(job):
                yield dump(past.envelope)


def past_jobs(count: int) -> Iterator[Past]:
    """What the installed agents remember, each agent's newest first."""
    from flyteagents._cli.listing import kernel_settings
    from flyteagents._kernel.call import KernelCall, ask
    from flyteagents._kernel.plugins import discover
    from flyteagents._kernel.served import ServedAgent
    from flyteagents._task import Identity
    from flyteagents._vendor.budget import Budget

    async def remembered(served: ServedAgent) -> Any:
        try:
            budget = Budget(time.monotonic() + 10)
            return await ask(KernelCall(served, "past_jobs", Identity(), budget), count)
        finally:
            await served.place.client.aclose()

    kernel = kernel_settings()
    for plugin in discover(kernel.plugins).plugins:
        for agent in plugin.agents:
            # A convention, not a hook: no server offers it, and Flyte never asks.
            if not hasattr(agent.cls, "past_jobs"):
                continue
            for told in asyncio.run(remembered(ServedAgent(plugin, agent, kernel))):
                yield Past(_envelope(agent.cls.task_type, told), told)


def _envelope(task_type: str, told: Any) -> Envelope:
    """What a CreateTask of today would have answered."""
    return Envelope(
        key=told.job.key,
        task_type=task_type,
        created=told.created.timestamp(),
        project=told.project,
        domain=told.domain,
        execution=told.execution,
        node=told.node,
        job=job_values(told.job),
    )
