"""A Databricks workspace to test against: the Jobs API 2.1 and 2.2, OAuth, and workspace files.

What is submitted really runs where there is a `cluster` (see cluster.py); a run whose submit
contains the text of a plan does as that says instead. What the real API drops is dropped here.

https://docs.databricks.com/api/workspace/jobs

`python -m tests.databricks.fake_databricks --port 9060 --delay 0.2` serves it by itself: a run
with "forever" in its submit runs until it is stopped, one with "fails" fails, and a notebook
below /Users exits with what examples/databricks.yaml declares.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote_plus

from tests.databricks.retries import Cluster, worked
from tests.databricks.runs import FakeRun, Plan
from tests.databricks.submits import Rejected, kept
from tests.databricks.workspace import Workspace, error

from flyteagents.testing import Delay, FakeVendor, Request, Response

FIRST = 2**53 + 1
"""Ids beyond what a float can hold, as they are at Databricks."""


class FakeDatabricks(FakeVendor):
    """runs: by id. tokens: what idempotency tokens stand for. submits: the bodies that came.

    plans: what becomes of the submits that contain a text. cluster: does the others' work.
    versions: of the Jobs API, that this workspace has.
    bearers: the bearer tokens taken, None takes any. principals: client id to its secret, for
    OAuth, or None where its tokens are exchanged for others. lifetime: of OAuth tokens, in seconds.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(self._handle, host=host, port=port)
        self.runs: dict[int, FakeRun] = {}
        self.tokens: dict[str, int] = {}
        self.deleted: set[int] = set()
        self.submits: list[dict[str, Any]] = []
        self.plans: dict[str, Plan] = {}
        self.cluster: Cluster | None = None
        self.versions: tuple[str, ...] = ("2.1", "2.2")
        self.bearers: set[str] | None = None
        self.principals: dict[str, str | None] = {}
        self.given: list[str] = []
        self.exchanged: list[str] = []
        self.lifetime = 3600
        self.workspace = Workspace()

    def will(self, text: str, plan: Plan) -> None:
        """Runs whose submit contains `text` go by `plan`."""
        self.plans[text] = plan

    @property
    def run(self) -> FakeRun:
        """The only run."""
        [run] = self.runs.values()
        return run

    def of_token(self, token: str) -> list[FakeRun]:
        """The runs that were started with an idempotency token."""
        return [run for run in self.runs.values() if run.body.get("idempotency_token") == token]

    def add(self, run_id: int, plan: Plan, body: Mapping[str, Any] | None = None) -> FakeRun:
        """A run that is there, whoever started it."""
        run = FakeRun(run_id, dict(body or {}), plan, self.url)
        self.runs[run_id] = run
        return run

    def delete(self, run: FakeRun) -> None:
        """Somebody deletes a run; its idempotency token stays reserved."""
        del self.runs[run.id]
        self.deleted.add(run.id)

    async def _handle(self, request: Request) -> Response:
        if request.path == "/oidc/v1/token":
            return self._token(request)
        if request.path == "/oidc/.well-known/oauth-authorization-server":
            base = f"{self.url}/oidc/v1"
            places = {
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
            }
            return Response(200, places)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not bearer:
            return error(401, "401", "Credential was not sent or was of an unsupported type")
        if self.bearers is not None and bearer not in self.bearers:
            return error(403, "403", "Invalid access token.")
        _, _, version, area, *rest = [*request.path.split("/"), "", ""]
        if area != "jobs":
            return self.workspace.answer(request)
        if version not in self.versions:
            text = f"No API found for '{request.method} {request.path}'"
            return error(404, "ENDPOINT_NOT_FOUND", text)
        operation = "/".join(filter(None, rest))
        if operation == "runs/submit":
            return self._submit(request.json(), version)
        if operation == "runs/list":
            return Response(200, {"runs": [run.shown(version) for run in self.runs.values()]})
        return self._about(operation, request, version)

    def _submit(self, body: dict[str, Any], version: str) -> Response:
        self.submits.append(json.loads(json.dumps(body)))
        try:
            run_id = self._known(body.get("idempotency_token"))
            if run_id is not None:
                return Response(200, {"run_id": run_id})
            text = json.dumps(body)
            plan = next((plan for part, plan in self.plans.items() if part in text), None)
            if plan is not None and plan.rejected is not None:
                return error(*plan.rejected)
            understood = kept(body, version)
        except Rejected as rejected:
            return error(400, "INVALID_PARAMETER_VALUE", str(rejected))
        run_id = FIRST + 1000 * (len(self.runs) + len(self.deleted))
        run = self.add(run_id, plan or Plan(), understood)
        if token := body.get("idempotency_token"):
            self.tokens[token] = run_id
        if plan is None and self.cluster is not None:
            run.work = worked(self.cluster, understood, self.workspace)
        return Response(200, {"run_id": run_id})

    def _known(self, token: str | None) -> int | None:
        """The run that an idempotency token stands for. Raises Rejected."""
        if token is None:
            return None
        if len(token) > 64:
            raise Rejected("idempotency_token has more than 64 characters")
        run_id = self.tokens.get(token)
        if run_id in self.deleted:
            raise Rejected(f"The run with the idempotency token {token} was deleted.")
        return run_id

    def _about(self, operation: str, request: Request, version: str) -> Response:
        """What is asked about one run."""
        asked = (request.json() or {}).get("run_id") or request.query.get("run_id") or 0
        run_id = int(asked)
        run = self.runs.get(run_id)
        if operation == "runs/get-output":
            return self._output(run_id)
        if run is None:
            return error(400, "INVALID_PARAMETER_VALUE", f"Run {run_id} does not exist.")
        if operation == "runs/get":
            return Response(200, run.shown(version, request.query.get("page_token", "")))
        if operation == "runs/cancel":
            if run.ended:
                return error(400, "INVALID_STATE", f"Run {run_id} is already terminated.")
            run.cancel()
            return Response(200, {})
        return error(404, "ENDPOINT_NOT_FOUND", f"No API found for {request.path}")

    def _output(self, run_id: int) -> Response:
        for run in self.runs.values():
            if run_id == run.id and len(run.task_ids) > 1:
                text = "Retrieving the output of runs with multiple tasks is not supported"
                return error(400, "INVALID_PARAMETER_VALUE", text)
            if run_id in run.earlier_ids:
                attempt = run.earlier_ids.index(run_id)
                return Response(200, run.output(run.outcome.earlier[attempt]))
            if run_id == run.id or run_id in run.task_ids:
                plan = run.outcome if run_id == run.id else run.plan_of(run_id)
                return Response(200, run.output(plan))
        return error(400, "INVALID_PARAMETER_VALUE", f"Run {run_id} does not exist.")

    def _token(self, request: Request) -> Response:
        """https://docs.databricks.com/dev-tools/auth/oauth-m2m and oauth-federation"""
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        basic = request.headers.get("authorization", "").removeprefix("Basic ")
        given = base64.b64decode(basic).decode().partition(":")
        client = form.get("client_id") or unquote_plus(given[0])
        secret = form.get("client_secret") or unquote_plus(given[2])
        if client not in self.principals or form.get("scope") != "all-apis":
            return Response(401, {"error": "invalid_client", "error_description": "unknown client"})
        if form["grant_type"].endswith("token-exchange"):
            self.exchanged.append(form["subject_token"])
        elif self.principals[client] != secret:
            return Response(401, {"error": "invalid_client", "error_description": "bad secret"})
        token = f"eyJ-{secrets.token_hex(12)}"
        self.given.append(token)
        if self.bearers is not None:
            self.bearers.add(token)
        reply = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
        return Response(200, reply)


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Serves a made-up Databricks workspace.")
    parser.add_argument("--port", type=int, default=9060)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each reply")
    options = parser.parse_args()
    async with FakeDatabricks(port=options.port) as databricks:
        databricks.will("forever", Plan(running=math.inf))
        databricks.will("fails", Plan(result="FAILED", code="RUN_EXECUTION_ERROR", error="no"))
        databricks.will("/Users/", Plan(running=0.5, exit='{"n": 500, "told": "done"}'))
        databricks.script("*", "*", Delay(options.delay), repeat=True)
        print(f"fake Databricks on {databricks.url}, {time.strftime('%H:%M:%S')}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
