"""`flyteagents check`: every setting with its value, and every agent's own check.

It is what an operator runs before a roll-out, so it must find what a server would stumble over at
its start, and must never show a secret.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NoReturn

import click
from pydantic import BaseModel, SecretStr

from flyteagents._cli import screen
from flyteagents._cli.bad_settings import all_that_is_bad, settings_to_serve
from flyteagents._client.exit_codes import CONFIG_ERROR
from flyteagents._environment import PREFIX
from flyteagents._errors import AgentError
from flyteagents._kernel.call import KernelCall, ask
from flyteagents._kernel.offered import Offered
from flyteagents._kernel.plugins import Found, Plugin, discover
from flyteagents._kernel.served import ServedAgent
from flyteagents._kernel.settings import (
    BadSettings,
    KernelSettings,
    doubts,
    prefix_of,
    unknown_variables,
)
from flyteagents._redact import redact
from flyteagents._task import Identity
from flyteagents._telemetry.providers import BadTelemetry, start_telemetry
from flyteagents._vendor.budget import Budget

_SECRET = re.compile(r"(TOKEN|PASSWORD|PASSWD|SECRET|_KEY)$")
"""Secrets do not belong into settings; one that was put there all the same is not shown."""


@dataclass(frozen=True)
class Setting:
    """One variable: the value that would be used, and whether the environment has it."""

    name: str
    value: str
    given: bool
    description: str


@dataclass(frozen=True)
class Verdict:
    """What an agent said to its check. opens: else a server with it would not start."""

    task_type: str
    ok: bool
    text: str
    opens: bool = True


@click.command("check")
@click.option(
    "--timeout",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0.1, 600),
    help="Seconds that one agent's check may take.",
)
@click.option("-q", "--quiet", is_flag=True, help="Leave the settings out; show what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
def command(timeout: float, quiet: bool, as_json: bool) -> None:
    """Show all settings and try the credentials of every plugin. Starts no job, takes no port.

    Settings are environment variables; those that are set are marked with *. Variables that
    begin with FLYTEAGENTS_ and that nothing reads are named: a misspelt one is easy to miss.

    Exits with 78 when a setting or a variable OTEL_* is bad, a plugin is broken or an agent cannot
    be opened: a server would not start. Exits with 1 when an agent's check of its credentials
    fails.

    \b
    Examples:
      flyteagents check
      FLYTEAGENTS_PLUGINS=bigquery flyteagents check --quiet
      flyteagents check --json | jq '.agents[] | select(.ok | not)'
    """
    try:
        kernel = settings_to_serve()
        # As a server's; nothing is measured here, so it has nothing to send.
        start_telemetry()
    except (BadSettings, BadTelemetry) as error:
        screen.fail(CONFIG_ERROR, all_that_is_bad(error))
    found = discover(kernel.plugins)
    sections = dict(_sections(kernel, found))
    known = [setting.name for settings in sections.values() for setting in settings]
    unread = unknown_variables(known, found.left_out)
    unknown = [text for text in unread if not _of_broken(text, found)]
    slips = [sentence for plugin in found.plugins for sentence in plugin.slips]
    verdicts = asyncio.run(_try_all(kernel, found.plugins, timeout))
    if as_json:
        screen.print_json(
            {
                "settings": {title: list(map(asdict, part)) for title, part in sections.items()},
                "unknown_variables": unknown,
                "doubts": [*doubts(kernel), *slips],
                "broken": list(map(asdict, found.broken)),
                "agents": list(map(asdict, verdicts)),
            }
        )
    else:
        for title, settings in {} if quiet else sections.items():
            _print_settings(title, settings)
        _print_verdicts(verdicts)
    for sentence in [*unknown, *doubts(kernel), *slips]:
        click.echo(f"warning: {sentence}", err=True)
    for broken in found.broken:
        click.echo(f"broken: {broken}", err=True)
    unusable = found.broken or not all(verdict.opens for verdict in verdicts)
    _leave(CONFIG_ERROR if unusable else int(not all(verdict.ok for verdict in verdicts)))


def _leave(code: int) -> NoReturn:
    """End, also where a check that took too long still holds a thread."""
    # `os._exit` flushes nothing.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _sections(kernel: KernelSettings, found: Found) -> Iterator[tuple[str, list[Setting]]]:
    yield "kernel", list(_settings(kernel, PREFIX))
    for plugin in found.plugins:
        yield (
            plugin.name,
            [
                setting
                for values in plugin.settings.values()
                for setting in _settings(values, prefix_of(plugin.name))
            ],
        )


def _settings(values: BaseModel, prefix: str) -> Iterator[Setting]:
    given = {name.upper() for name in os.environ}
    for field, info in type(values).model_fields.items():
        name = f"{prefix}{field.upper()}"
        value = getattr(values, field)
        shown = _shown(value)
        if name in given and isinstance(value, str) and _SECRET.search(name):
            shown = "(set, not shown)"
        yield Setting(name, shown, name in given, info.description or "")


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return str(value)
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_shown(part)}" for name, part in value.items())
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return ",".join(map(_shown, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    # A password may have got into a URL.
    return redact(str(value))


def _of_broken(sentence: str, found: Found) -> bool:
    """Whether the variable is a setting of a plugin that could not be loaded, so that nobody
    knows its settings."""
    return any(f" {prefix_of(broken.name)}" in sentence for broken in found.broken)


async def _try_all(
    kernel: KernelSettings, plugins: Sequence[Plugin], timeout: float
) -> list[Verdict]:
    return [
        await _try(kernel, plugin, agent, timeout) for plugin in plugins for agent in plugin.agents
    ]


async def _try(kernel: KernelSettings, plugin: Plugin, agent: Offered, timeout: float) -> Verdict:
    served = ServedAgent(plugin, agent, kernel)
    budget = Budget(time.monotonic() + timeout, limit=timeout)

    opens = False

    async def opened() -> object:
        nonlocal opens
        await served.open()
        opens = True
        return await ask(KernelCall(served, "check", Identity(), budget), limit=timeout)

    try:
        said = await asyncio.wait_for(opened(), timeout)
        return Verdict(served.task_type, ok=True, text=redact(str(said)))
    except asyncio.TimeoutError:
        opens = True  # a server waits for as long as it takes
        text = f"no answer within {timeout:g} s; is the vendor reachable from here?"
    except AgentError as error:
        text = redact(str(error))
    except Exception as error:  # noqa: BLE001 # the agent's own code
        what = "the check failed" if opens else "it cannot be opened"
        text = f"{what}: {type(error).__name__}: {redact(str(error))}"
    finally:
        await served.close()
    return Verdict(served.task_type, ok=False, text=text, opens=opens)


def _print_settings(title: str, settings: Sequence[Setting]) -> None:
    click.secho(f"Settings of {'the ' if title == 'kernel' else ''}{title}", bold=True)
    for setting in settings:
        mark = "*" if setting.given else " "
        click.echo(f"{mark} {setting.name}={setting.value}")
        if setting.description:
            click.secho(f"      {setting.description}", dim=True)
    click.echo()


def _print_verdicts(verdicts: Sequence[Verdict]) -> None:
    click.secho("Agents", bold=True)
    for verdict in verdicts:
        word = click.style("ok    ", fg="green") if verdict.ok else click.style("FAILED", fg="red")
        click.echo(f"{word} {verdict.task_type}: {verdict.text}")
    if not verdicts:
        click.echo("no agent is loaded; see `flyteagents list`")
