"""Databricks' error replies."""

from __future__ import annotations

import json

import pytest

from flyteagents import (
    AgentError,
    Forbidden,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Reply,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from flyteagents.testing import AgentEnvironment
from flyteagents_databricks import DatabricksAgent


def explain(reply: Reply) -> AgentError | None:
    return AgentEnvironment(DatabricksAgent).agent.explain(reply)


def error(status: int, code: str, message: str) -> AgentError | None:
    body = json.dumps({"error_code": code, "message": message})
    return explain(Reply(status, {}, body.encode()))


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, "INVALID_PARAMETER_VALUE", "node_type_id is missing", InvalidTask),
        (400, "INVALID_PARAMETER_VALUE", "Run 5 does not exist.", JobNotFound),
        (400, "INVALID_PARAMETER_VALUE", "Run: 5 in job: 6 doesn't exist", JobNotFound),
        (400, "INVALID_PARAMETER_VALUE", "the idempotency token x was deleted", JobConflict),
        (400, "COULD_NOT_ACQUIRE_LOCK", "busy", Unavailable),
        (400, "INVALID_STATE", "ClusterNotReadyException: wait", Unavailable),
        (400, "INVALID_STATE", "Run 5 is already terminated.", InvalidTask),
        (409, "ABORTED", "a sequencer check failed", Unavailable),
        (499, "CANCELLED", "the caller went away", Unavailable),
        (403, "PERMISSION_DENIED", "robot does not have Attach permissions", Forbidden),
        (403, "403", "Invalid access token.", Unauthenticated),
        (403, "403", "The access token is expired", Unauthenticated),
        (404, "RESOURCE_DOES_NOT_EXIST", "Cluster x does not exist", JobNotFound),
        (429, "REQUEST_LIMIT_EXCEEDED", "slow down", None),
        (400, "RESOURCE_EXHAUSTED", "too many", Throttled),
        (500, "INTERNAL_ERROR", "oops", Unavailable),
        (503, "TEMPORARILY_UNAVAILABLE", "soon", Unavailable),
        (501, "NOT_IMPLEMENTED", "never", InvalidTask),
    ],
)
def test_the_code_and_the_words_say_what_it_is(
    status: int, code: str, message: str, kind: type[AgentError] | None
) -> None:
    found = error(status, code, message)
    assert (found and type(found)) is kind
    if found is not None and found.code is not None:
        assert found.code == code


def test_a_page_instead_of_an_answer_is_an_expired_token_with_403_and_a_gateway_else() -> None:
    page = b"<html>Invalid Token</html>"
    assert isinstance(explain(Reply(403, {}, page)), Unauthenticated)
    assert explain(Reply(502, {}, page)) is None
    assert explain(Reply(400, {}, b"[1]")) is None


def test_a_long_message_is_cut_by_whoever_masks_the_secrets_in_it() -> None:
    """Half of one would not be known for one."""
    told = error(400, "INVALID_PARAMETER_VALUE", "x" * 3000)
    assert told is not None
    assert told.message == "x" * 3000
