"""The body of a submit.

https://docs.snowflake.com/en/developer-guide/sql-api/submitting-requests
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flyteagents import InvalidTask, Task
from flyteagents.kit.limits import time_limit
from flyteagents.kit.texts import excerpt
from flyteagents_snowflake import binding
from flyteagents_snowflake.config import SnowflakeConfig
from flyteagents_snowflake.job import Sdk, SnowflakeJob, located
from flyteagents_snowflake.literals import text_literal
from flyteagents_snowflake.names import exact
from flyteagents_snowflake.scanner import Part, parts
from flyteagents_snowflake.settings import SnowflakeSettings
from flyteagents_snowflake.tag import query_tag

STARTS = 24
"""Statements whose places are kept with the job, which must stay small."""
# Seven days in seconds: Snowflake takes no longer timeout.
LONGEST = 604_800
# Session parameters that a request takes; the others need an ALTER SESSION before the statement.
_TAKEN = frozenset(
    [
        "BINARY_OUTPUT_FORMAT",
        "CLIENT_RESULT_CHUNK_SIZE",
        "DATE_OUTPUT_FORMAT",
        "ROWS_PER_RESULTSET",
        "TIMESTAMP_LTZ_OUTPUT_FORMAT",
        "TIMESTAMP_NTZ_OUTPUT_FORMAT",
        "TIMESTAMP_OUTPUT_FORMAT",
        "TIMESTAMP_TZ_OUTPUT_FORMAT",
        "TIMEZONE",
        "TIME_OUTPUT_FORMAT",
        "USE_CACHED_RESULT",
    ]
)
# Not for ALTER SESSION: the tag, the timeout and the count have a place in the request itself.
_OURS = frozenset({"QUERY_TAG", "STATEMENT_TIMEOUT_IN_SECONDS", "MULTI_STATEMENT_COUNT"})
_PARAMETER = re.compile(r"[A-Z][A-Z0-9_]{0,127}")


@dataclass(frozen=True)
class Submit:
    """What is asked of Snowflake, and what is kept of it with the job."""

    body: Mapping[str, Any]
    kept: Mapping[str, Any]


def place_of(task: Task[SnowflakeConfig], settings: SnowflakeSettings) -> dict[str, Any]:
    """Where the task runs and as whom, as far as a job keeps it. Raises InvalidTask."""
    config, given = task.config, task.config.connection_kwargs
    account, user = config.account or settings.account, config.user or settings.user
    for what, value in (("account", account), ("user", user)):
        if not value:
            raise InvalidTask(
                f"the task names no {what}: give its SnowflakeConfig one, or the service "
                f"FLYTEAGENTS_SNOWFLAKE_{what.upper()}"
            )
    assert account is not None
    account, host = located(account, given.model_dump())
    return {
        "account": account,
        "user": user,
        "database": config.database or settings.database,
        "schema_name": config.schema_name or settings.schema,
        "warehouse": config.warehouse or settings.warehouse,
        "host": host,
        "login": given.login,
        "sdk": sdk_of(task),
    }


def sdk_of(task: Task[Any]) -> Sdk:
    """flyte-sdk begins with 2; flytekit's releases are 0 and 1."""
    return "flyte-sdk" if task.runtime.partition(".")[0] == "2" else "flytekit"


def submit(task: Task[SnowflakeConfig], settings: SnowflakeSettings) -> Submit:
    """Everything that the task says, as the SQL API has it. Raises InvalidTask."""
    place = place_of(task, settings)
    text, bindings = _statement(task, settings)
    parameters = _parameters(task.config)
    before = _alterations(parameters)
    # Cut as the one text that Snowflake gets: it tells a failure's line and position in that.
    every = parts(before + text)
    _refuse(every)
    # The SQL API takes no bindings with several statements.
    if len(every) > 1 and bindings:
        raise InvalidTask(
            "inputs cannot be sent beside several statements, or with session parameters that "
            'need one more; write them into the text (bindings: "client")'
        )
    timeout, limited = _timeout(task, parameters)
    body = {
        "statement": before + text,
        "timeout": timeout,
        "database": _exact(place["database"]),
        "schema": _exact(place["schema_name"]),
        "warehouse": _exact(place["warehouse"]),
        "role": _exact(task.config.role or task.config.connection_kwargs.role or settings.role),
        "bindings": bindings or None,
        "parameters": {
            **{name.lower(): _plain(parameters[name]) for name in parameters.keys() & _TAKEN},
            "query_tag": query_tag(task, _given_tag(parameters)),
            # 0 is any number: with another count than its own Snowflake refuses the request.
            **({"MULTI_STATEMENT_COUNT": "0"} if len(every) > 1 else {}),
        },
    }
    kept = {**place, "limited": limited, **_places(before + text, every, 1 if before else 0)}
    return Submit({name: value for name, value in body.items() if value is not None}, kept)


def named(kept: Mapping[str, Any], query_id: str) -> SnowflakeJob:
    """The job with this id. Raises ValueError."""
    return SnowflakeJob.model_validate({**kept, "query_id": query_id})


def _statement(
    task: Task[SnowflakeConfig], settings: SnowflakeSettings
) -> tuple[str, binding.Bindings]:
    if not task.statement.strip():
        raise InvalidTask("the task has no SQL statement")
    if task.config.batch and task.inputs:
        return binding.rows(task.statement, task.inputs), {}
    if (task.config.bindings or settings.bindings) == "server":
        return binding.beside(task.statement, task.inputs)
    return binding.written(task.statement, task.inputs), {}


def _parameters(config: SnowflakeConfig) -> dict[str, bool | int | float | str]:
    """The session's parameters. A name becomes SQL, so it must be one. Raises InvalidTask."""
    given = config.connection_kwargs
    found = {name.upper(): value for name, value in given.session_parameters.items()}
    if given.timezone:
        found.setdefault("TIMEZONE", given.timezone)
    for name in found:
        if not _PARAMETER.fullmatch(name):
            raise InvalidTask(f"{excerpt(name, 100)!r} is not the name of a session parameter")
    return found


def _alterations(parameters: Mapping[str, bool | int | float | str]) -> str:
    """A statement before the others, for the parameters that a request does not take."""
    needed = sorted(parameters.keys() - _TAKEN - _OURS)
    if not needed:
        return ""
    told = " ".join(f"{name} = {_value(parameters[name])}" for name in needed)
    return f"ALTER SESSION SET {told};\n"


def _value(value: bool | int | float | str) -> str:
    return text_literal(value) if isinstance(value, str) else _plain(value)


def _plain(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _given_tag(parameters: Mapping[str, bool | int | float | str]) -> str | None:
    return str(parameters["QUERY_TAG"]) if "QUERY_TAG" in parameters else None


def _timeout(
    task: Task[SnowflakeConfig], parameters: Mapping[str, bool | int | float | str]
) -> tuple[int | None, bool]:
    """Seconds, None for what Snowflake says itself; and whether they are the Flyte task's."""
    limits: list[tuple[int, bool]] = []
    limit = time_limit(task.timeout)
    if limit is not None:
        limits.append((int(limit.total_seconds()), True))
    asked = parameters.get("STATEMENT_TIMEOUT_IN_SECONDS")
    if asked is not None:
        try:
            limits.append((int(asked), False))
        except ValueError:
            raise InvalidTask(f"STATEMENT_TIMEOUT_IN_SECONDS is not a number: {asked!r}") from None
    # 0 asks Snowflake for its longest timeout, and so is no limit.
    shortest = min((one for one in limits if one[0] > 0), default=None)
    return (min(shortest[0], LONGEST), shortest[1]) if shortest else (None, False)


def _refuse(every: Sequence[Part]) -> None:
    if not every:
        raise InvalidTask("the statement is nothing but comments")
    for part in every:
        if part.word in ("PUT", "GET"):
            raise InvalidTask(
                f"{part.word} moves files of the machine that runs it, which is this service's; "
                "use COPY INTO with a stage"
            )


def _places(text: str, every: Sequence[Part], ours: int) -> dict[str, Any]:
    """What a job keeps of several statements; the first `ours` are none of the task's."""
    if len(every) == 1:
        return {}
    telling = [number for number, part in enumerate(every) if part.tells]
    starts = tuple(
        (text.count("\n", 0, part.at) + 1, part.at - (text.rfind("\n", 0, part.at) + 1))
        for part in every[ours:]
    )
    return {
        "several": True,
        "result": telling[-1] if telling else len(every) - 1,
        "count": len(every),
        "starts": starts if len(starts) <= STARTS else (),
    }


def _exact(name: str | None) -> str | None:
    return None if name is None else exact(name)
