"""`flyteagents run`."""

from __future__ import annotations

import secrets
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flyteagents._cli import screen
from flyteagents._cli.inspecting import BAD_DATA
from flyteagents._cli.interrupts import interruptible
from flyteagents._cli.serve import CONFIG_ERROR, UNAVAILABLE

if TYPE_CHECKING:
    import grpc

    from flyteagents._cli.flyte_client import FlyteClient
    from flyteagents._cli.own_server import OwnServer
    from flyteagents._cli.task_file import TaskFile
    from flyteagents.testing.otlp import OtlpReceiver

UNCLEAN = 70
"""EX_SOFTWARE of sysexits.h."""


@click.command("run")
@click.argument("task", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--input", "-i", "given", multiple=True, metavar="NAME=VALUE",
    help="An input, in the type that the task declares: a number, true, 1h30m, "
    "2024-02-29T12:00:00Z, a path or URI, or JSON. Repeat for each.",
)  # fmt: skip
@click.option("--endpoint", help="A server that runs already, host:port; else one is started.")
@click.option("--tls", is_flag=True, help="Talk TLS to --endpoint.")
@click.option("--flyte2", is_flag=True, help="Speak as the Flyte 2 executor instead.")
@click.option("--attempts", type=click.IntRange(1, 100), help="Wins over the task's retries.")
@click.option(
    "--every", default=0.5, show_default=True, type=click.FloatRange(0.05, 3600),
    help="Seconds between two polls.",
)  # fmt: skip
@click.option(
    "--output-prefix", metavar="PREFIX",
    help="Where outputs go; the attempt's number is added. The same prefix again is the same "
    "attempt: the agent finds its job instead of starting another. [default: a fresh folder]",
)  # fmt: skip
@click.option("--project", default="local", show_default=True, help="Whose task it is.")
@click.option("--domain", default="development", show_default=True, help="Whose task it is.")
@click.option(
    "--show", "rows", default=20, show_default=True, type=click.IntRange(min=0),
    help="Rows of result tables.",
)  # fmt: skip
@click.option("--trace", is_flag=True, help="Draw the task's trace from the server's own spans.")
@click.option("-v", "--verbose", is_flag=True, help="Show all that the started server logs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; progress goes to stderr.")
def command(
    task: Path, given: tuple[str, ...], endpoint: str | None, tls: bool, flyte2: bool,
    attempts: int | None, every: float, output_prefix: str | None, project: str, domain: str,
    rows: int, trace: bool, verbose: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run one task the way FlytePropeller would, and watch it.

    TASK is a YAML file, or a serialized TaskTemplate or TaskSpec as the Flyte SDKs write them. A
    server is started for it and stopped after it; the calls go over gRPC. Ctrl-C cancels the
    job; a second one leaves at once. A YAML file looks like this:

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
      78   a setting is bad, a plugin is broken, or no agent serves the task type
      130  interrupted

    \b
    Examples:
      flyteagents run examples/flights.yaml --input flights=flights.csv
      flyteagents run task.yaml --input month=7 --trace
      flyteagents run template.pb --endpoint agents.example.com:443 --tls --json
    """
    server: OwnServer | None = None
    with ExitStack() as stack:
        stack.enter_context(interruptible(lambda: server.ask_to_stop() if server else None))
        # Imported here, so that --help is quick.
        from flyteagents._cli import outcome as results
        from flyteagents._cli.input_values import BadInput, input_literals
        from flyteagents._cli.task_file import BadTaskFile, read_task

        if trace and endpoint is not None:
            raise click.UsageError("--trace needs the server that run starts; leave --endpoint out")
        try:
            read = read_task(task)
        except BadTaskFile as error:
            screen.fail(BAD_DATA, str(error))
        try:
            inputs = input_literals(read.inputs, read.values, given, local=endpoint is None)
        except BadInput as error:
            raise click.UsageError(str(error)) from None
        base = output_prefix or _fresh_folder(stack)
        receiver = _receiver(stack) if trace else None
        server = None if endpoint else _server(stack, receiver, verbose)
        if server is not None:
            text = f"flyteagents serve is process {server.pid} at {server.endpoint}"
            click.secho(text, dim=True, err=as_json)
        channel = _channel(stack, endpoint or (server.endpoint if server else ""), tls)
        client = _client(channel, flyte2, read, inputs, project, domain)
        ended = _play(client, read, server, base, every, attempts, as_json)
        unclean = server is not None and not _stop(server, as_json)
        statistics, tree = _trace(receiver, ended.attempts[-1].meta)
        outputs = results.outputs_of(ended, read.outputs)
        if as_json:
            screen.print_json(results.document(ended, outputs, statistics))
        else:
            results.show(ended, outputs, statistics, rows)
        if tree is not None:
            screen.console(stderr=as_json).print(tree)
        if ended.lost:
            click.echo(f"flyteagents: the server stopped answering: {ended.lost}", err=True)
        code = results.exit_code(ended) or (UNCLEAN if unclean else 0)
    sys.exit(code)


def _play(
    client: FlyteClient, read: TaskFile, server: OwnServer | None, base: str, every: float,
    attempts: int | None, as_json: bool,
) -> Any:  # fmt: skip
    from flyteagents._cli.playing import Player
    from flyteagents._cli.watching import watch

    sync = _sync(client, read.template.type)
    with watch(stderr=as_json) as display:
        player = Player(
            client, base, display, every, attempts or read.attempts, read.timeout,
            alive=lambda: server is None or server.running,
        )  # fmt: skip
        return player.play(sync)


def _sync(client: FlyteClient, task_type: str) -> bool:
    """Whether the agent for the type is synchronous. Ends the program when there is none."""
    import grpc

    try:
        served = client.served()
    except grpc.RpcError as error:
        reason = error.details() if isinstance(error, grpc.Call) else error
        screen.fail(UNAVAILABLE, f"the server cannot be reached: {reason}; check --endpoint, --tls")
    if task_type not in served:
        there = ", ".join(sorted(served)) or "none"
        screen.fail(
            CONFIG_ERROR,
            f"no agent there serves task type {task_type!r}; served: {there}. Install the plugin "
            "for it, or see `flyteagents list`",
        )
    return served[task_type]


def _client(
    channel: grpc.Channel, flyte2: bool, read: TaskFile, inputs: bytes, project: str, domain: str
) -> FlyteClient:
    from flyteagents._cli.flyte_client import FlyteClient, Who
    from flyteagents._wire.messages import FLYTE1, FLYTE2

    who = Who(project, domain, execution=f"run-{secrets.token_hex(5)}")
    return FlyteClient(channel, FLYTE2 if flyte2 else FLYTE1, read.template, inputs, who)


def _channel(stack: ExitStack, endpoint: str, tls: bool) -> grpc.Channel:
    import grpc

    if tls:
        return stack.enter_context(grpc.secure_channel(endpoint, grpc.ssl_channel_credentials()))
    return stack.enter_context(grpc.insecure_channel(endpoint))


def _server(stack: ExitStack, receiver: OtlpReceiver | None, verbose: bool) -> OwnServer:
    from flyteagents._cli.own_server import NotStarted, OwnServer

    env = {}
    if receiver is not None:
        env = {
            "OTEL_SDK_DISABLED": "false",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
    try:
        return stack.enter_context(OwnServer(env, show_log=verbose))
    except NotStarted as error:
        screen.fail(error.code, f"the server did not start:\n{error}")


def _stop(server: OwnServer, as_json: bool) -> bool:
    """Stop the server; whether it ended cleanly."""
    code = server.stop()
    if code != 0:
        text = f"flyteagents: the server ended with exit code {code}:\n{server.log}"
        click.echo(text.rstrip(), err=True)
    else:
        click.secho("the server got SIGTERM and ended with exit code 0", dim=True, err=as_json)
    return code == 0


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
