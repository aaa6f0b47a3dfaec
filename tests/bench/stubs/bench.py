"""The vendor of the agent that makes one request in each poll."""

from __future__ import annotations

LOGINS = ("/token",)


def reply(target: str, body: bytes) -> tuple[int, object]:
    return 200, {"state": "RUNNING"}
