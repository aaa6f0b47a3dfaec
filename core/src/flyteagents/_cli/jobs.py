"""`flyteagents jobs`, `logs` and `cancel`: what became of a job after `run`, or without it.

A job is named by what Flyte keeps of it, its `resource_meta`; by the id that `jobs` shows; or by
nothing, which is the last run of this user's. The calls are those that Flyte makes, to a server
that is started for them or that `--endpoint` names, so that all that a server checks is checked.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flyteagents._cli import screen
from flyteagents._cli.endpoint import Remote, remote_options
from flyteagents._client.exit_codes import BAD_DATA, FAILED, UNAVAILABLE
from flyteagents._kernel.envelope import BrokenEnvelope, Envelope, dump, load

if TYPE_CHECKING:
    from flyteagents._client.attempt import Attempt
    from flyteagents._client.caller import Caller
    from flyteagents._client.rpc import Rpc

_ID = 12
"""Letters of a key that are shown."""
_ID_FORM = re.compile("[0-9a-f]{6,40}")
"""What names a job: the begin of its key, of six letters at least."""
_PAGE = 500
_RUNS_ON = "the job could not be cancelled and may still run"


@dataclass(frozen=True)
class Past:
    """A job that an agent remembers."""

    envelope: Envelope
    told: Any

    @property
    def id(self) -> str:
        return self.envelope.key[:_ID]


@click.command("jobs")
@click.option("--count", "-n", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
def jobs(count: int, as_json: bool) -> None:
    """Show the newest jobs of agents that keep their own, such as DuckDB's.

    Jobs in an outside service are that service's to list.

    \b
    Examples:
      flyteagents jobs
      flyteagents jobs --json | jq -r '.[] | select(.phase == "FAILED") | .message'
    """
    found = list(_past(count))
    if as_json:
        screen.print_json([_document(each) for each in found])
        return
    if not found:
        click.echo("no agent here remembers a job")
        return
    rows = [
        (
            each.id,
            each.told.phase.name,
            _clock(each.told.created),
            f"{each.envelope.project}/{each.envelope.domain}/{each.envelope.execution}",
            " ".join((each.told.message or each.told.statement).split())[:60],
        )
        for each in found
    ]
    screen.table(("JOB", "PHASE", "CREATED", "FOR", "MESSAGE OR STATEMENT"), rows)


@click.command("logs")
@click.argument("job", required=False)
@remote_options
def logs(job: str | None, remote: Remote | None) -> None:
    """Print the log of a job.

    JOB is a resource_meta, as `inspect` takes it, or the id that `jobs` shows. Without it, the
    last run's.

    \b
    Examples:
      flyteagents logs
      flyteagents logs 3f2a91c04d5e
      flyteagents logs eyJmbHl0ZWFnZW50cyI6... --endpoint localhost:8000
    """
    meta, envelope = _named(job)

    async def printed(caller: Caller, attempt: Attempt) -> str:
        token = ""
        while True:
            rpc, lines, token = await caller.logs(attempt, meta, token, _PAGE)
            for line in lines:
                click.echo(line)
            # While a job lives its last page has a token for what follows.
            if not rpc.ok or not token or not lines:
                return "" if rpc.ok else rpc.error

    if problem := _asked(remote, envelope, printed):
        screen.fail(UNAVAILABLE, problem)


@click.command("cancel")
@click.argument("job", required=False)
@remote_options
def cancel(job: str | None, remote: Remote | None) -> None:
    """Cancel a job, and wait until it is seen to have stopped. One that has ended is left as it
    is.

    JOB is a resource_meta, as `inspect` takes it, or the id that `jobs` shows. Without it, the
    last run's.

    Exits with 1 when the job was not seen to stop, and may still run.

    \b
    Examples:
      flyteagents cancel
      flyteagents cancel 3f2a91c04d5e
    """
    from flyteagents._cli.cancelling import Cancel, NotStopped
    from flyteagents._cli.standing import onlooker, refused

    meta, envelope = _named(job)
    # Without a name it is the last run's, and that may be another one than the user thinks of.
    click.echo(f"to be cancelled: {_described(envelope)}", err=True)
    if remote is None and envelope.parked is None and (why := refused(envelope)):
        screen.fail(FAILED, f"{_RUNS_ON}: {why}")
    said = ""

    async def cancelled(caller: Caller, attempt: Attempt) -> str:
        nonlocal said

        def delete() -> Awaitable[Rpc]:
            return caller.delete(attempt, meta)

        try:
            # Only here: a server's own polls are Flyte's, and what we ask could end the task.
            if remote is not None:
                said = await Cancel(delete).done()
            elif envelope.parked is not None:
                said = "no job was started: the attempt ended when it was created"
            else:
                async with onlooker(envelope) as looking:
                    said = await Cancel(delete, looking).done()
        except NotStopped as error:
            return str(error)
        return ""

    if problem := _asked(remote, envelope, cancelled):
        screen.fail(FAILED, f"{_RUNS_ON}: {problem}")
    click.echo(said)


def _described(envelope: Envelope) -> str:
    """What a user knows a job by."""
    began = datetime.fromtimestamp(envelope.created, timezone.utc)
    # What is not set says nothing to a reader.
    named = {name: value for name, value in (envelope.job or {}).items() if value}
    job = f" {json.dumps(named, ensure_ascii=False)}" if named else ""
    task = "/".join(filter(None, (envelope.project, envelope.domain, envelope.execution)))
    return f"{envelope.task_type} job {envelope.key[:_ID]}{job} of {task}, started {_clock(began)}"


def remember(meta: bytes) -> None:
    """Keep what names the last run's job; it holds no secret."""
    file = _last_run()
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64encode(meta))


def _last_run() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "flyteagents" / "last-run"


def _named(job: str | None) -> tuple[bytes, Envelope]:
    """The job's `resource_meta`, and what it says. Ends the program where there is none."""
    from flyteagents._cli.inspecting import meta_bytes

    raw: bytes | None
    if job is None:
        try:
            raw = base64.b64decode(_last_run().read_bytes())
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
        screen.fail(BAD_DATA, "that is neither a resource_meta nor the id of a job that is known")
    return raw, envelope


def _with_id(job: str) -> Iterator[bytes]:
    if _ID_FORM.fullmatch(job):
        for past in _past(1000):
            if past.envelope.key.startswith(job):
                yield dump(past.envelope)


def _asked(
    remote: Remote | None, envelope: Envelope, work: Callable[[Caller, Attempt], Awaitable[str]]
) -> str:
    """What `work` has to complain about, with a caller and the job's attempt."""
    from flyteidl.core.tasks_pb2 import TaskTemplate

    from flyteagents._cli.own_server import OwnServer
    from flyteagents._cli.serving import NotServed, serves
    from flyteagents._client.attempt import Attempt, FlyteTask
    from flyteagents._client.caller import Caller
    from flyteagents._client.process import ServerEnded

    # GetTaskLogs and DeleteTask carry a task's type and no output prefix; a GetTask has one.
    attempt = Attempt(
        FlyteTask(TaskTemplate(type=envelope.task_type)), number=envelope.attempt, folder="/unknown"
    )

    async def talk(to: Remote) -> str:
        async with Caller(to.endpoint, tls=to.credentials) as caller:
            # Else a cancel would be answered OK in the end, since nobody there can do it.
            await serves(caller, envelope.task_type)
            return await work(caller, attempt)

    with ExitStack() as stack:
        to = remote
        if to is None:
            server = OwnServer()
            try:
                to = Remote(stack.enter_context(server).endpoint)
            except ServerEnded as error:
                screen.fail(error.code or UNAVAILABLE, f"the server did not start:\n{server.rest}")
        try:
            return asyncio.run(talk(to))
        except NotServed as error:
            screen.fail(error.code, str(error))


def _past(count: int) -> Iterator[Past]:
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
        job=told.job.model_dump(mode="json"),
    )


def _document(past: Past) -> dict[str, Any]:
    told = past.told
    return {
        "job": past.id,
        "task_type": past.envelope.task_type,
        "phase": told.phase.name,
        "message": told.message,
        "statement": told.statement,
        "project": told.project,
        "domain": told.domain,
        "execution": told.execution,
        "created": told.created,
        "started": told.started,
        "ended": told.ended,
        "result": told.result,
        "resource_meta": base64.b64encode(dump(past.envelope)).decode(),
    }


def _clock(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
