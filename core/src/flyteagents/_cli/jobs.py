"""`flyteagents jobs`, `logs` and `cancel`: what became of a job after `run`, or without it.

Which job is meant is found out in `known_jobs`. The calls are those that Flyte makes, to a server
that is started for them or that `--endpoint` names, so that all that a server checks is checked.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from flyteagents._cli import screen
from flyteagents._cli.endpoint import Remote, remote_options
from flyteagents._cli.known_jobs import SHORT_ID, Past, last_prefix, named, past_jobs
from flyteagents._client.exit_codes import FAILED, UNAVAILABLE
from flyteagents._kernel.envelope import Envelope, dump

if TYPE_CHECKING:
    from flyteagents._client.attempt import Attempt
    from flyteagents._client.caller import Caller
    from flyteagents._client.rpc import Rpc

_PAGE = 500
_RUNS_ON = "the job was not seen to stop, and may still run"
_NOT_SEEN = (
    "the server accepted the cancel; whether the job has stopped was not seen, and it may still "
    "run. To see it, give its --output-prefix, the folder of the attempt's outputs.pb; or look at "
    "the vendor; or cancel without --endpoint, where the plugin and its credentials are. What the "
    "server could not cancel is in its log"
)


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
    found = list(past_jobs(count))
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
            " ".join((each.message.partition("\n")[0] or each.statement).split())[:60],
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
    meta, envelope = named(job)

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
@click.option(
    "--output-prefix",
    metavar="PREFIX",
    help="The attempt's, with its number: with it --endpoint can be asked how the job ended. "
    "[default: the last run's]",
)
def cancel(job: str | None, remote: Remote | None, output_prefix: str | None) -> None:
    """Cancel a job, and wait until it is seen to have stopped. One that has ended is left as it
    is.

    JOB is a resource_meta, as `inspect` takes it, or the id that `jobs` shows. Without it, the
    last run's.

    Exits with 1 when the job was not seen to stop, and may still run. That is also so at an
    --endpoint for a job of Flyte's without its --output-prefix: there nobody can look.

    \b
    Examples:
      flyteagents cancel
      flyteagents cancel 3f2a91c04d5e
      flyteagents cancel eyJmbHl0ZWFnZW50cyI6... --endpoint localhost:8000 \\
          --output-prefix s3://flyte/metadata/sales-production-f3a1/n0/data/0
    """
    from flyteagents._cli.cancelling import Cancel, NotStopped
    from flyteagents._cli.standing import AtServer, at_vendor, refused

    if output_prefix is not None and remote is None:
        raise click.UsageError("--output-prefix goes with --endpoint; else the vendor is asked")
    meta, envelope = named(job)
    prefix = last_prefix(meta) if output_prefix is None else _checked(output_prefix, envelope)
    # Without a name it is the last run's, and that may be another one than the user thinks of.
    click.echo(f"to be cancelled: {_described(envelope)}", err=True)
    if envelope.parked is not None:
        click.echo("no job was started: the attempt ended when it was created")
        return
    if remote is None and (why := refused(envelope)):
        screen.fail(FAILED, f"{_RUNS_ON}: {why}")
    said = ""

    async def cancelled(caller: Caller, attempt: Attempt) -> str:
        nonlocal said

        def delete() -> Awaitable[Rpc]:
            return caller.delete(attempt, meta)

        def get() -> Awaitable[Rpc]:
            return caller.get(attempt, meta)

        try:
            if remote is None:
                async with at_vendor(envelope) as looking:
                    said = await Cancel(delete, looking).done()
            elif prefix:
                said = await Cancel(delete, AtServer(get)).done()
            else:
                await Cancel(delete, AtServer(get)).accepted()
        except NotStopped as error:
            return str(error)
        return ""

    if problem := _asked(remote, envelope, cancelled, prefix):
        screen.fail(FAILED, f"{_RUNS_ON}: {problem}")
    if not said:
        screen.fail(FAILED, _NOT_SEEN)
    click.echo(said)


def _described(envelope: Envelope) -> str:
    """What a user knows a job by."""
    began = datetime.fromtimestamp(envelope.created, timezone.utc)
    # What is not set says nothing to a reader.
    fields = {name: value for name, value in (envelope.job or {}).items() if value}
    job = f" {json.dumps(fields, ensure_ascii=False)}" if fields else ""
    task = "/".join(filter(None, (envelope.project, envelope.domain, envelope.execution)))
    short = envelope.key[:SHORT_ID]
    return f"{envelope.task_type} job {short}{job} of {task}, started {_clock(began)}"


def _checked(output_prefix: str, envelope: Envelope) -> str:
    """The output prefix. Ends the program where it is not this job's."""
    from flyteagents._cli.listing import kernel_settings
    from flyteagents._kernel.keys import attempt_number, key_of

    # GetTask with another one would look for outputs where there are none, and fail the task.
    key = key_of(kernel_settings().cluster, envelope.task_type, output_prefix)
    if key.hex != envelope.key or attempt_number(output_prefix) < 0:
        raise click.UsageError(
            f"{output_prefix} is not this job's output prefix: its key does not follow from it. "
            "Give all of it, with the attempt's number at its end; and where the server has a "
            "FLYTEAGENTS_CLUSTER, set the same here"
        )
    return output_prefix


def _asked(
    remote: Remote | None,
    envelope: Envelope,
    work: Callable[[Caller, Attempt], Awaitable[str]],
    output_prefix: str = "",
) -> str:
    """What `work` has to complain about, with a caller and the job's attempt. output_prefix: what
    GetTask needs; GetTaskLogs and DeleteTask carry none."""
    from flyteidl.core.tasks_pb2 import TaskTemplate

    from flyteagents._cli.own_server import OwnServer
    from flyteagents._cli.serving import NotServed, serves
    from flyteagents._client.attempt import Attempt, FlyteTask
    from flyteagents._client.caller import Caller
    from flyteagents._client.process import ServerEnded
    from flyteagents._kernel.keys import attempt_number, prefix_of_task

    attempt = Attempt(
        FlyteTask(TaskTemplate(type=envelope.task_type)),
        number=max(attempt_number(output_prefix), 0),
        folder=prefix_of_task(output_prefix) or "/unknown",
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


def _document(past: Past) -> dict[str, Any]:
    told = past.told
    return {
        "job": past.id,
        "task_type": past.envelope.task_type,
        "phase": told.phase.name,
        "message": past.message,
        "statement": past.statement,
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
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
