"""Why a job failed, and whether another attempt may help."""

from __future__ import annotations

import contextlib

from flyteagents import Call, Forbidden, Phase, Unsupported
from quarry_agent.states import Statement

PASSING = frozenset({"OVERLOADED"})
PROCEDURE = "PROCEDURE_FAILED"


async def failure(found: Statement, call: Call) -> tuple[Phase, str, str]:
    """The phase, the message and the code of a job that failed."""
    if found.code == PROCEDURE:
        # A procedure is the task's own code, which knows more than quarry does. Where its file
        # cannot be read from here, quarry's words must do.
        with contextlib.suppress(Unsupported, Forbidden):
            document = await call.read_error()
            if document is not None:
                phase = Phase.RETRYABLE_FAILED if document.recoverable else Phase.FAILED
                return phase, document.message, document.code
    phase = Phase.RETRYABLE_FAILED if found.code in PASSING else Phase.FAILED
    return phase, found.error, found.code
