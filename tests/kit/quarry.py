"""Quarry, a made-up warehouse: statements as jobs, opened by OAuth's client credentials.

| request | does |
|---|---|
| POST /oauth/token | a token for a client that says its secret by HTTP Basic |
| POST /statements | starts a job; the same `key` names the same job |
| GET /statements/{id} | shows a job, with its result and its log |
| POST /statements/{id}/cancel | asks it to stop |

A statement with "slowly" in it takes a moment, with "forever" it runs until it is stopped, and
one with "nowhere" fails. One with "CALL" runs the task's own code, which fails and leaves an
`error.pb` below the task's output prefix.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flyteidl.core import errors_pb2

from flyteagents.testing import FakeVendor, Request, Response


@dataclass
class QuarryJob:
    """One job; its state follows from the clock."""

    id: str
    body: Mapping[str, Any]
    created: float = field(default_factory=time.time)
    cancelled: float | None = None
    dies: float = 0.0

    @property
    def ends(self) -> float:
        statement = self.body["statement"]
        lasts = math.inf if "forever" in statement else 0.2 if "slowly" in statement else 0.0
        end = self.created + lasts
        return end if self.cancelled is None else min(end, self.cancelled + self.dies)

    @property
    def live(self) -> bool:
        return time.time() < self.ends

    @property
    def state(self) -> str:
        if self.live:
            return "RUNNING" if self.cancelled is None else "STOPPING"
        if self.cancelled is not None and self.cancelled <= self.ends:
            return "STOPPED"
        fails = any(word in self.body["statement"] for word in ("nowhere", "CALL"))
        return "FAILED" if fails else "SUCCEEDED"

    def shown(self) -> dict[str, Any]:
        """The job as quarry answers it."""
        state = self.state
        shown = {"id": self.id, "state": state, "tags": self.body["tags"]}
        shown["log"] = ["queued", "running", state.lower()]
        if state == "SUCCEEDED":
            shown |= {"error": None, "code": None, "table": f"main.{self.id}", "rows": 3}
        if state == "FAILED" and "CALL" in self.body["statement"]:
            self._write_error()
            shown |= {"code": "PROCEDURE_FAILED", "error": "the procedure failed"}
        elif state == "FAILED":
            shown |= {"code": "NO_SUCH_TABLE", "error": "there is no table nowhere"}
        return shown

    def _write_error(self) -> None:
        """What flytekit writes when a task's own code has failed."""
        error = errors_pb2.ContainerError(
            code="USER:Flaky",
            message="the sheet is locked",
            kind=errors_pb2.ContainerError.RECOVERABLE,
        )
        folder = Path(self.body["prefix"])
        folder.mkdir(parents=True, exist_ok=True)
        document = errors_pb2.ErrorDocument(error=error)
        (folder / "error.pb").write_bytes(document.SerializeToString())


class Quarry(FakeVendor):
    """secrets: those that are good. tokens: those given out. dies: seconds that a cancel takes.

    asked: the ids and secrets of who asked for a token.
    """

    def __init__(self, *secrets: str) -> None:
        super().__init__(self._handle)
        self.jobs: dict[str, QuarryJob] = {}
        self.secrets = set(secrets)
        self.tokens: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.dies = 0.0

    @property
    def job(self) -> QuarryJob:
        """The only job."""
        [job] = self.jobs.values()
        return job

    async def _handle(self, request: Request) -> Response:
        if request.path == "/oauth/token":
            return self._token(request)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return Response(401, {"error": "unknown token"})
        if request.path == "/statements":
            return self._submit(request) if request.method == "POST" else Response(200, [])
        job = self._named(request.path.split("/")[2])
        if job is None:
            return Response(404, {"error": "no such statement"})
        if request.path.endswith("/cancel") and job.live and job.cancelled is None:
            job.cancelled, job.dies = time.time(), self.dies
        return Response(200, job.shown())

    def _token(self, request: Request) -> Response:
        pair = request.headers["authorization"].removeprefix("Basic ")
        client, _, secret = base64.b64decode(pair).decode().partition(":")
        self.asked.append((client, secret))
        if secret not in self.secrets:
            refusal = {
                "error": "invalid_client",
                "error_description": f"not the secret of {client}",
            }
            return Response(401, refusal)
        self.tokens.append(f"quarry-token-{len(self.tokens) + 1}")
        return Response(200, {"access_token": self.tokens[-1], "expires_in": 3600})

    def _submit(self, request: Request) -> Response:
        body = request.json()
        job = self.jobs.setdefault(body["key"], QuarryJob(f"q{len(self.jobs)}", body))
        return Response(200, job.shown())

    def _named(self, name: str) -> QuarryJob | None:
        return next((job for job in self.jobs.values() if job.id == name), None)
