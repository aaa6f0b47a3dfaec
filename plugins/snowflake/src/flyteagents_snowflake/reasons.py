"""What Snowflake's error codes mean: in the reply to a request, and as the end of a statement.

https://docs.snowflake.com/en/developer-guide/sql-api/reference#label-sql-api-reference-responses
"""

from __future__ import annotations

import math
import re

from flyteagents import (
    AgentError,
    Forbidden,
    InvalidTask,
    JobNotFound,
    Phase,
    Reply,
    Throttled,
    Unauthenticated,
)
from flyteagents.kit.answers import json_object

CANCELLED = frozenset({"000604"})
TIMED_OUT = frozenset({"000630"})
GONE = "000709"
"""No such statement, or none that runs."""
EXPIRED = "000710"
"""The statement ended more than a day ago, and its result is not kept any longer."""
# The same work may end well the next time. Codes of Snowflake's own troubles have SQLSTATE XX000.
_PASSING = frozenset(
    {
        "000603",  # internal error, which Snowflake has an incident for
        "000625",  # too many statements wait for a lock
        "000629",  # waited too long for a lock
        "000707",  # a file of the stage changed while it was read
        "390111",  # the session is gone
        "390112",  # the session's token has expired
        "390114",  # the login has expired
        "390195",  # the token is not valid any longer
        "390318",  # the OAuth token has expired
    }
)
# Load errors quote the row, which is the user's data and may be anything.
_ROWS = re.compile(r"(?<=Row Values: )\[.*\]?", re.DOTALL)
_SEVERAL = re.compile(
    r"(?:JavaScript execution error: )?(?:Uncaught )?Execution of multiple statements failed on "
    r"statement \"(?P<text>.*?)\" \(at line (?P<line>\d+), position (?P<column>\d+)\)\.\s*"
    r"(?P<words>.*)",
    re.DOTALL,
)
_TRACE = re.compile(r"\s+in SYSTEM\$MULTISTMT at .*", re.DOTALL)
_DEFAULTS = "give the task's config a {0}, or the service FLYTEAGENTS_SNOWFLAKE_{1}"
_ROLE = (
    "asked as {user}: has the role the right? It is that of the task's config, else "
    "FLYTEAGENTS_SNOWFLAKE_ROLE, else the user's default one"
)
_RENEW = "put a new token into its secret"
# What to do, where Snowflake says what somebody at its console would do, or nothing.
_HINTS = {
    "000604": "somebody has cancelled it at Snowflake, or its warehouse was taken away",
    "000606": _DEFAULTS.format("warehouse", "WAREHOUSE"),
    "090105": _DEFAULTS.format("database", "DATABASE"),
    "090106": _DEFAULTS.format("schema", "SCHEMA"),
    "002003": _ROLE,
    "002043": _ROLE,
    "003001": _ROLE,
    "390144": "has the user the public half of this key (ALTER USER ... SET RSA_PUBLIC_KEY), are "
    "the names of user and account right, and is this machine's clock?",
    "390189": "a role is named by the task's config, or by FLYTEAGENTS_SNOWFLAKE_ROLE",
    "390303": _RENEW,
    "390318": _RENEW,
}
_REFUSALS = {400: InvalidTask, 401: Unauthenticated, 403: Forbidden}


class Started(Throttled):
    """Snowflake turned the request away, and the statement that it names runs: of a submit that is
    the job, and of any other request a refusal that passes."""

    def __init__(self, handle: str) -> None:
        # Never sent again by itself: a repeated requestId promises nothing for what runs.
        text = f"Snowflake asks for fewer requests, and runs the statement {handle}"
        super().__init__(text, retry_after=math.inf)
        self.handle = handle


def ending(code: str, state: str, *, limited: bool = False) -> Phase:
    """What the end of a statement means to Flyte. limited: it had the Flyte task's timeout, after
    which the task may be tried again. What is not known is permanent."""
    if code in CANCELLED:
        return Phase.ABORTED
    if code in TIMED_OUT:
        return Phase.RETRYABLE_FAILED if limited else Phase.FAILED
    passes = code in _PASSING or state == "XX000"
    return Phase.RETRYABLE_FAILED if passes else Phase.FAILED


def explain(reply: Reply) -> AgentError | None:
    """The error that an error reply stands for; None where its HTTP status says it."""
    body = json_object(reply)
    code, message = str(body.get("code") or ""), str(body.get("message") or "")
    handle = body.get("statementHandle")
    if reply.status == 429 and isinstance(handle, str) and handle:
        return Started(handle)
    if reply.status == 422 and code == GONE:
        return JobNotFound(words(message), code=code)
    if reply.status == 400 and code == "390505":
        return Throttled(words(message), code=code)
    if reply.status in _REFUSALS and code in _HINTS:
        return _REFUSALS[reply.status](told(code, message), code=code)
    # The driver reads it so as well (snowflake.connector.auth: "Verify the account name").
    if reply.status == 403 and not code and not message:
        return Forbidden(
            "Snowflake answered 403 and nothing else, as it does for an account that it does not "
            "have: is the account's name right? A firewall on the way may be the cause too"
        )
    return None


def told(code: str, message: str, user: str = "the user") -> str:
    """Snowflake's message, and what to do about it."""
    hint = _HINTS.get(code)
    return f"{words(message)} | {hint.format(user=user)}" if hint else words(message)


def words(message: str) -> str:
    """Snowflake's message, without the rows that it quotes."""
    return _ROWS.sub("(not shown)", message).strip() or "Snowflake does not say why"


def place_of_failure(message: str) -> tuple[int, int, str] | None:
    """Of several statements: line and column of the one that failed, and its own words."""
    found = _SEVERAL.search(message)
    if found is None:
        return None
    return int(found["line"]), int(found["column"]), _TRACE.sub("", found["words"]).strip()
