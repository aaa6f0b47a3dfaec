"""A BigQuery that does as it is told: jobs.insert, get, cancel and list in the documented REST
dialect, for what the emulator does not have: locations, statistics, child jobs, every reason to
fail, states that last as long as a test wants.

https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs

`python -m tests.bigquery.fake_bigquery --port 9050 --delay 0.2` serves it by itself: a statement
with "forever" in it runs until it is stopped, one with "nowhere" fails.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from tests.bigquery.partial import select

from flyteagents.testing import Delay, FakeVendor, Request, Response

MULTI_REGIONS = ("US", "EU")
BASE = "/bigquery/v2"


@dataclass(frozen=True)
class Plan:
    """What becomes of a statement. `pending` and `running` are seconds, `running` may be math.inf.

    rejected: status, reason and message with which the insert itself fails.
    error: reason and message that the job ends with. errors: those that it survives.
    dies: seconds that a cancel takes. state: a state that BigQuery never had.
    children: the statements of a script. statistics, query: more of what the job shows.
    """

    pending: float = 0.0
    running: float = 0.0
    rejected: tuple[int, str, str] | None = None
    error: tuple[str, str] | None = None
    errors: Sequence[tuple[str, str]] = ()
    dies: float = 0.0
    state: str = ""
    statement_type: str = "SELECT"
    children: Sequence[Plan] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class FakeJob:
    """One job; its state follows from the clock."""

    id: str
    project: str
    location: str
    configuration: dict[str, Any]
    plan: Plan
    parent: str = ""
    created: float = field(default_factory=time.time)
    cancelled: float | None = None
    cancels: int = 0

    @property
    def ends(self) -> float:
        ends = self.created + self.plan.pending + self.plan.running
        return ends if self.cancelled is None else min(ends, self.cancelled + self.plan.dies)

    @property
    def state(self) -> str:
        now = time.time()
        if self.plan.state:
            return self.plan.state
        if now >= self.ends:
            return "DONE"
        return "RUNNING" if now >= self.created + self.plan.pending else "PENDING"

    def shown(self) -> dict[str, Any]:
        """The Job resource."""
        state = self.state
        status: dict[str, Any] = {"state": state}
        error = self.plan.error
        if self.cancelled is not None and self.ends >= self.cancelled:
            error = ("stopped", "Job execution was cancelled: User requested cancellation")
        errors = [*self.plan.errors, *([error] if error else [])]
        if state == "DONE" and error:
            status["errorResult"] = _proto(*error)
        if errors:
            status["errors"] = [_proto(*one) for one in errors]
        return {
            "kind": "bigquery#job",
            "id": f"{self.project}:{self.location}.{self.id}",
            "jobReference": {
                "projectId": self.project,
                "jobId": self.id,
                "location": self.location,
            },
            "configuration": self.configuration,
            "statistics": self._statistics(state),
            "status": status,
        }

    def _statistics(self, state: str) -> dict[str, Any]:
        statistics: dict[str, Any] = {"creationTime": _ms(self.created)}
        if state != "PENDING":
            statistics["startTime"] = _ms(self.created + self.plan.pending)
        if state == "RUNNING":
            statistics["completionRatio"] = 0.1
        if state == "DONE":
            query = {"statementType": self.plan.statement_type, **self.plan.query}
            statistics |= {"endTime": _ms(self.ends), "totalBytesProcessed": "0", "query": query}
        if self.plan.children:
            statistics["numChildJobs"] = str(len(self.plan.children))
        if self.parent:
            statistics["parentJobId"] = self.parent
        return {**statistics, **self.plan.statistics}


class FakeBigQuery(FakeVendor):
    """jobs: by project and id. plans: what becomes of the statements that contain a text.

    place: where BigQuery puts jobs whose request names no location.
    lag: seconds before a new job is seen by GET. tokens: the bearer tokens taken, None: any.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(self._handle, host=host, port=port)
        self.jobs: dict[tuple[str, str], FakeJob] = {}
        self.plans: dict[str, Plan] = {}
        self.place = "US"
        self.lag = 0.0
        self.tokens: set[str] | None = None
        self.inserted = 0

    def will(self, text: str, plan: Plan) -> None:
        """Statements that contain `text` go by `plan`."""
        self.plans[text] = plan

    @property
    def job(self) -> FakeJob:
        """The only job that is no child."""
        [job] = [job for job in self.jobs.values() if not job.parent]
        return job

    @property
    def body(self) -> dict[str, Any]:
        """What the last jobs.insert said."""
        inserts = [one for one in self.requests if one.method == "POST" and _is_insert(one.path)]
        body: dict[str, Any] = inserts[-1].json()
        return body

    def add(self, job: FakeJob) -> FakeJob:
        """A job that is there, whoever made it."""
        self.jobs[job.project, job.id] = job
        for number, plan in enumerate(job.plan.children):
            child = FakeJob(
                f"script_job_{number}", job.project, job.location, _query("child"), plan, job.id
            )
            child.created = job.created - len(job.plan.children) + number
            _with_result(child)
            self.jobs[child.project, child.id] = child
        return job

    async def _handle(self, request: Request) -> Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.tokens is not None and bearer not in self.tokens:
            return error(401, "authError", "Request had invalid authentication credentials.")
        parts = unquote(request.path.removeprefix(BASE)).strip("/").split("/")
        if parts == ["projects"]:
            return Response(200, {"projects": []})
        if not request.path.startswith(BASE) or len(parts) < 3 or parts[2] != "jobs":
            return error(404, "notFound", f"Not found: URL {request.path}")
        project, rest = parts[1], parts[3:]
        if not rest:
            if request.method == "POST":
                return self._insert(project, request.json())
            return self._list(project, request)
        job = self._find(project, rest[0], request.query.get("location"))
        if job is None:
            return error(404, "notFound", f"Not found: Job {project}:{rest[0]}")
        if rest[1:] == ["cancel"]:
            job.cancels += 1
            if job.state != "DONE" and job.cancelled is None:
                job.cancelled = time.time()
            return Response(200, {"kind": "bigquery#jobCancelResponse", "job": job.shown()})
        shown = job.shown()
        fields = request.query.get("fields")
        return Response(200, select(shown, fields) if fields else shown)

    def _find(self, project: str, name: str, location: str | None) -> FakeJob | None:
        job = self.jobs.get((project, name))
        if job is None or time.time() < job.created + self.lag:
            return None
        # Without a location only the multi-regions are looked into.
        right = job.location == location if location else job.location in MULTI_REGIONS
        return job if right else None

    def _insert(self, project: str, body: Any) -> Response:
        reference, configuration = body["jobReference"], body["configuration"]
        name = reference.get("jobId", "")  # a dry run may have none
        location = reference.get("location") or self.place
        known = self.jobs.get((project, name))
        if known is not None:
            text = f"Already Exists: Job {project}:{known.location}.{name}"
            return error(409, "duplicate", text)
        statement = configuration["query"]["query"]
        plan = next((plan for text, plan in self.plans.items() if text in statement), Plan())
        if plan.rejected is not None:
            return error(*plan.rejected)
        job = FakeJob(name, project, location, {**configuration, "jobType": "QUERY"}, plan)
        if configuration.get("dryRun"):
            job.plan = replace(plan, running=0.0)
            shown = job.shown()
            del shown["jobReference"]["jobId"]  # it is not kept
            return Response(200, shown)
        self.inserted += 1
        _with_result(job)
        return Response(200, self.add(job).shown())

    def _list(self, project: str, request: Request) -> Response:
        parent = request.query.get("parentJobId", "")
        found = [
            job for job in self.jobs.values() if (job.project, job.parent) == (project, parent)
        ]
        found.sort(key=lambda job: job.created, reverse=True)
        start = int(request.query.get("pageToken") or 0)
        size = min(int(request.query.get("maxResults") or 50), 50)
        page: dict[str, Any] = {"jobs": [job.shown() for job in found[start : start + size]]}
        if start + size < len(found):
            page["nextPageToken"] = str(start + size)
        fields = request.query.get("fields")
        return Response(200, select(page, fields) if fields else page)


def _with_result(job: FakeJob) -> None:
    """The server fills in where the result is, for statements that have one, and for views."""
    kind = job.plan.statement_type
    telling = kind in ("SELECT", "INSERT", "UPDATE", "MERGE") or kind.endswith("VIEW")
    if telling and not job.plan.children:
        digest = hashlib.sha256(job.id.encode()).hexdigest()[:12]
        job.configuration["query"].setdefault(
            "destinationTable",
            {"projectId": job.project, "datasetId": f"_{digest}", "tableId": f"anon{digest}"},
        )


def _query(statement: str) -> dict[str, Any]:
    return {"jobType": "QUERY", "query": {"query": statement}}


def _is_insert(path: str) -> bool:
    return path.endswith("/jobs")


def _proto(reason: str, message: str) -> dict[str, str]:
    return {"reason": reason, "message": message}


def error(status: int, reason: str, message: str) -> Response:
    """An error as BigQuery writes it."""
    errors = [{"domain": "global", **_proto(reason, message)}]
    return Response(status, {"error": {"code": status, "message": message, "errors": errors}})


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000)) if math.isfinite(seconds) else "0"


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Serves a made-up BigQuery.")
    parser.add_argument("--port", type=int, default=9050)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each reply")
    options = parser.parse_args()
    async with FakeBigQuery(port=options.port) as bigquery:
        bigquery.will("forever", Plan(running=math.inf))
        bigquery.will("nowhere", Plan(error=("notFound", "Not found: Table p:nowhere.t")))
        bigquery.script("*", "*", Delay(options.delay), repeat=True)
        print(f"fake BigQuery on {bigquery.url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
