"""`flyteagents run`: a task file, a server, a caller, and what is shown at the end.

Each of these is a module of its own; here they come together, in the order in which a user meets
what can be wrong. Imports are inside, so that --help is quick.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flyteagents._cli import screen
from flyteagents._cli.endpoint import Remote, remote_options
from flyteagents._cli.interrupts import Interrupts
from flyteagents._client.exit_codes import BAD_DATA, CONFIG_ERROR, UNCLEAN

if TYPE_CHECKING:
    from flyteagents._cli.own_server import OwnServer
    from flyteagents._cli.task_file import TaskFile
    from flyteagents._client.attempt import FlyteTask
    from flyteagents._client.outcome import Outcome, Try
    from flyteagents.testing.otlp import OtlpReceiver


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    task: Path
    given: tuple[str, ...]
    remote: Remote | None
    flyte2: bool
    attempts: int | None
    every: float
    output_prefix: str | None
    project: str
    domain: str
    rows: int
    trace: bool
    verbose: bool
    as_json: bool


@click.command("run")
@click.argument("task", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--input",
    "-i",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input, in the type that the task declares: a number, true, 1h30m, "
    "2024-02-29T12:00:00Z, a path or URI, or JSON. Repeat for each.",
)
@remote_options
@click.option("--flyte2", is_flag=True, help="Speak as the Flyte 2 executor instead.")
@click.option("--attempts", type=click.IntRange(1, 100), help="Wins over the task's retries.")
@click.option(
    "--every",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0.05, 3600),
    help="Seconds between two polls.",
)
@click.option(
    "--output-prefix",
    metavar="PREFIX",
    help="Where outputs go; the attempt's number is added. The same prefix again is the same "
    "attempt: the agent finds its job instead of starting another. [default: a fresh folder]",
)
@click.option("--project", default="local", show_default=True, help="Whose task it is.")
@click.option("--domain", default="development", show_default=True, help="Whose task it is.")
@click.option(
    "--show",
    "rows",
    default=20,
    show_default=True,
    type=click.IntRange(min=0),
    help="Rows of result tables.",
)
@click.option("--trace", is_flag=True, help="Draw the task's trace from the server's own spans.")
@click.option("-v", "--verbose", is_flag=True, help="Show all that the started server logs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; progress goes to stderr.")
def command(**options: Any) -> None:
    """Run one task the way FlytePropeller would, and watch it.

    TASK is a YAML file, - for one on standard input, or a serialized TaskTemplate or TaskSpec as
    the Flyte SDKs write them. A server is started for it and stopped after it; the calls go over
    gRPC. Ctrl-C cancels the job and waits until it is seen to have stopped; a second one leaves at
    once. A YAML file looks like this:

    \b
      task_type: duckdb_query
      sql: select count(*) as n from flights where month = $month
      inputs: {flights: {format: csv}, month: integer}
      outputs: {n: integer}
      values: {month: 7}
      timeout: 10m
      retries: 2

    \b
    Exit codes:
      0    SUCCEEDED
      1    FAILED
      2    RETRYABLE_FAILED in the last attempt
      64   wrong usage, or an input that does not fit
      65   the file is no task
      69   the server cannot be reached, or stopped answering
      70   SUCCEEDED, and then the server that was started did not end cleanly
      74   what was to be printed could not be written
      78   a setting is bad, a plugin is broken, or no agent serves the task type
      130  interrupted

    \b
    Examples:
      flyteagents run examples/hello.yaml --trace
      flyteagents run task.yaml --input month=7 --trace
      flyteagents run template.pb --endpoint agents.example.com:443 --tls --json
    """
    interrupts = Interrupts()
    with interrupts.installed(), ExitStack() as stack:
        code = _run(Options(**options), interrupts, stack)
    sys.exit(code)


def _run(options: Options, interrupts: Interrupts, stack: ExitStack) -> int:
    from flyteagents._cli import outcome as results

    if options.trace and options.remote is not None:
        raise click.UsageError("--trace needs the server that run starts; leave --endpoint out")
    read, task = _task(options)
    folder = _resolved(options.output_prefix) or _fresh_folder(stack)
    receiver = _receiver(stack) if options.trace else None
    server = None
    if options.remote is None:
        from flyteagents._cli.opened import opened

        env = opened(task, read.inputs, folder)
        server = _server(stack, receiver, env, options.verbose)
    if server is not None:
        interrupts.before_leaving = server.ask_to_stop
        text = f"flyteagents serve is process {server.pid} at {server.endpoint}"
        click.secho(text, dim=True, err=options.as_json)

    ended = _play(options, task, folder, server, interrupts)

    rescue = _rescue(options.remote, server, ended.tries[-1]) if results.lost(ended) else ""
    unclean = server is not None and not _stop(server, options.as_json)
    statistics, tree = _trace(receiver, ended.tries[-1].meta)
    outputs = results.outputs_of(ended, read.outputs)

    def tell() -> None:
        if options.as_json:
            screen.print_json(results.document(ended, outputs, statistics))
        else:
            results.show(ended, outputs, statistics, options.rows)
        if tree is not None:
            screen.console(stderr=options.as_json).print(tree)

    _told(tell)
    if results.lost(ended):
        text = f"flyteagents: the server stopped answering: {ended.tries[-1].message}{rescue}"
        click.echo(text, err=True)
    return results.exit_code(ended) or (UNCLEAN if unclean else 0)


def _told(tell: Callable[[], None]) -> None:
    """Print. How the task ended is the same for a reader that has seen enough, as `head` has."""
    from flyteagents._cli.hung_up import Readers

    try:
        tell()
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # as click and rich meet a closed pipe
        Readers().look()


def _task(options: Options) -> tuple[TaskFile, FlyteTask]:
    """The task file, and the task with its inputs. Ends the program when they are bad."""
    from flyteagents._cli.input_values import BadInput, input_literals
    from flyteagents._cli.task_file import BadTaskFile, read_task
    from flyteagents._client.attempt import FlyteTask

    try:
        read = read_task(options.task)
    except BadTaskFile as error:
        screen.fail(BAD_DATA, str(error))
    local = options.remote is None
    try:
        inputs = input_literals(read.inputs, read.values, options.given, local=local)
    except BadInput as error:
        raise click.UsageError(str(error)) from None
    return read, FlyteTask(read.task.template, inputs)


def _play(
    options: Options,
    task: FlyteTask,
    folder: str,
    server: OwnServer | None,
    interrupts: Interrupts,
) -> Outcome:
    from flyteagents._cli.inputs_file import place_inputs
    from flyteagents._cli.playing import Play
    from flyteagents._cli.serving import NotServed
    from flyteagents._cli.watching import watch
    from flyteagents._client.attempt import Attempt

    first = Attempt(
        task,
        execution=f"run-{secrets.token_hex(5)}",
        generation=2 if options.flyte2 else 1,
        project=options.project,
        domain=options.domain,
        folder=folder,
    )
    if missing := place_inputs(first):
        click.echo(f"flyteagents: {missing}", err=True)
    with watch(stderr=options.as_json) as display:
        play = Play(
            server=options.remote or Remote(server.endpoint if server else ""),
            ours=server is not None,
            first=first,
            attempts=options.attempts or task.attempts,
            every=options.every,
            watch=display,
            alive=lambda: server is None or server.running,
            bug=lambda: server.bug if server is not None else None,
        )
        try:
            return play.to_its_end(interrupts)
        except NotServed as error:
            screen.fail(error.code, str(error))


def _server(
    stack: ExitStack, receiver: OtlpReceiver | None, env: dict[str, str], verbose: bool
) -> OwnServer:
    from flyteagents._cli.own_server import OwnServer
    from flyteagents._client.process import ServerEnded

    if receiver is not None:
        env = {
            **env,
            # Over what the user has set: it may switch spans off, or send them elsewhere.
            "OTEL_SDK_DISABLED": "false",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
    server = OwnServer(env, shown=verbose)
    try:
        return stack.enter_context(server)
    except ServerEnded as error:
        screen.fail(error.code or CONFIG_ERROR, f"the server did not start:\n{server.rest}")


def _rescue(remote: Remote | None, server: OwnServer | None, last: Try) -> str:
    """What to do about a job that nobody answers about any more, in words. Where its server has
    ended, the attempt's message says so."""
    from flyteagents._cli.cancelling import command_to_stop

    if not last.meta:
        return ""
    if server is not None and not server.running:
        last.message = (
            f"the server that run started has ended ({server.ending}); the job may run on"
        )
    command = command_to_stop(last.meta, remote, last.attempt.output_prefix)
    return f"; to stop it:\n  {command}"


def _stop(server: OwnServer, as_json: bool) -> bool:
    """Stop the server; whether it ended cleanly."""
    code = server.close()
    if code != 0:
        text = f"flyteagents: the server has ended ({server.ending}):\n{server.rest}"
        click.echo(text.rstrip(), err=True)
    else:
        text = "the server got SIGTERM and ended with exit code 0"
        _told(lambda: click.secho(text, dim=True, err=as_json))
    return code == 0


def _resolved(prefix: str | None) -> str | None:
    """A path from where the user is; the server may be somewhere else."""
    return str(Path(prefix).absolute()) if prefix and "://" not in prefix else prefix


def _fresh_folder(stack: ExitStack) -> str:
    """A prefix for outputs, kept when there are any."""
    folder = Path(tempfile.mkdtemp(prefix="flyteagents-"))

    def tidy() -> None:
        with suppress(OSError):  # it is not empty
            folder.rmdir()

    stack.callback(tidy)
    return str(folder / "data")


def _receiver(stack: ExitStack) -> OtlpReceiver:
    from flyteagents.testing.otlp import OtlpReceiver

    return stack.enter_context(OtlpReceiver())


def _trace(receiver: OtlpReceiver | None, meta: bytes) -> tuple[dict[str, Any], Any]:
    """The job's statistics and the tree of its trace."""
    from flyteagents._cli.trace_tree import statistics, trace_tree
    from flyteagents._kernel.envelope import load

    envelope = load(meta) if receiver is not None and meta else None
    if receiver is None or envelope is None:
        return {}, None
    return (
        statistics(receiver.spans, envelope.trace),
        trace_tree(receiver.spans, envelope.trace),
    )
