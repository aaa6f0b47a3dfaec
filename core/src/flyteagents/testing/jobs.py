"""A made-up vendor that runs jobs, for tests, examples and benchmarks.

| request | does |
|---|---|
| POST /jobs | starts a job; the same `Idempotency-Key` header names the same job (200, not 201) |
| PUT /jobs/{id} | starts a job under the client's own name; 409 with the job when it exists |
| GET /jobs?tag=T | lists the jobs, or those with the tag |
| GET /jobs/{id} | shows a job |
| POST /jobs/{id}/cancel | asks it to stop (202); finished jobs are left as they are (200) |
| DELETE /jobs/{id} | forgets a job, its result too |

A body has `script`, and may have `tag` and `fingerprint`. A script is made of steps with ";"
between them: `pending 1`, `sleep 0.2`, `fail MESSAGE`, `return JSON`, `forever`.
States: PENDING, RUNNING, DONE, FAILED, CANCELING, CANCELED.
`python -m flyteagents.testing.serve_jobs --port 9000` serves it by itself.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flyteagents.testing.vendor import FakeVendor, Request, Response

LIVE = ("PENDING", "RUNNING", "CANCELING")


class BadScript(ValueError):
    """A script that the service does not understand."""


@dataclass
class VendorJob:
    """One job. Its state follows from the clock: nothing runs.

    runs_at, ends_at: when it leaves PENDING, and when it ends unless somebody stops it.
    outcome: what it ends as, DONE or FAILED, with `error` or `result`.
    """

    id: str
    script: str
    key: str = ""
    tag: str = ""
    fingerprint: str = ""
    created: float = field(default_factory=time.time)
    runs_at: float = 0.0
    ends_at: float = 0.0
    outcome: str = "DONE"
    error: str = ""
    result: object = None
    cancels: int = 0

    def __post_init__(self) -> None:
        self.runs_at = self.ends_at = self.created
        for step in filter(None, map(str.strip, self.script.split(";"))):
            word, _, rest = step.partition(" ")
            try:
                if word == "pending":
                    self.runs_at += float(rest)
                    self.ends_at += float(rest)
                elif word == "sleep":
                    self.ends_at += float(rest)
                elif word == "forever":
                    self.ends_at = math.inf
                elif word == "fail":
                    self.outcome, self.error = "FAILED", rest or "failed"
                elif word == "return":
                    self.result = json.loads(rest)
                else:
                    raise ValueError
            except ValueError:
                raise BadScript(f"no such step: {step!r}") from None

    @property
    def state(self) -> str:
        now = time.time()
        if now >= self.ends_at:
            return self.outcome
        if self.outcome == "CANCELED":
            return "CANCELING"
        return "RUNNING" if now >= self.runs_at else "PENDING"

    def end(self, outcome: str = "DONE", error: str = "") -> None:
        """End the job now: "DONE", "FAILED" or "CANCELED"."""
        self.outcome, self.error, self.ends_at = outcome, error, time.time()

    def cancel(self, seconds: float) -> None:
        self.cancels += 1
        if self.state in ("PENDING", "RUNNING"):
            self.outcome, self.ends_at = "CANCELED", time.time() + seconds

    def shown(self) -> dict[str, object]:
        """The job as the service answers it."""
        state = self.state
        return {
            "id": self.id,
            "state": state,
            "tag": self.tag,
            "fingerprint": self.fingerprint,
            "created": self.created,
            "started": None if state == "PENDING" else self.runs_at,
            "ended": None if state in LIVE else self.ends_at,
            "error": self.error if state == "FAILED" else None,
            "result": self.result if state == "DONE" else None,
        }


class JobService(FakeVendor):
    """The job service as a `FakeVendor`: scripts, restarts and counts work as there.

    ```python
    async with JobService(token="s3cret", cancel_seconds=0.5) as service:
        service.script("POST", "/jobs", DropReply())   # the job starts, nobody is told
        ...
        assert service.started[key.hex] == 1
        service.job(key.hex).end()                     # let a "forever" job end
    ```
    token: the bearer token that every request must carry, if any; may be changed meanwhile.
    cancel_seconds: how long a cancel takes. lag: seconds before a new job is seen by GET.
    jobs: by id. started: how many jobs were started by key, tag and client-given name.
    """

    def __init__(
        self,
        *,
        token: str = "",
        cancel_seconds: float = 0.0,
        lag: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
        keep: int = 10_000,
    ) -> None:
        super().__init__(self._handle, host=host, port=port, keep=keep)
        self.token, self.cancel_seconds, self.lag = token, cancel_seconds, lag
        self.jobs: dict[str, VendorJob] = {}
        self.started: Counter[str] = Counter()
        self._by_key: dict[str, VendorJob] = {}

    def job(self, name: str) -> VendorJob:
        """The job with this id, key or tag; the newest of several. Raises KeyError."""
        for job in reversed(self.jobs.values()):
            if name in (job.id, job.key, job.tag):
                return job
        raise KeyError(f"no job {name!r}; there are {', '.join(self.jobs) or 'none'}")

    def live(self) -> list[VendorJob]:
        """The jobs that have not ended."""
        return [job for job in self.jobs.values() if job.state in LIVE]

    async def _handle(self, request: Request) -> Response:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return _refused(401, "bad_token", "the token is missing or not accepted")
        try:
            return self._route(request)
        except BadScript as error:
            return _refused(400, "bad_script", str(error))
        except KeyError as error:
            return _refused(404, "no_such_job", f"there is no job {error}")
        except (ValueError, AttributeError):
            return _refused(400, "bad_request", "the body is not a JSON object with a script")

    def _route(self, request: Request) -> Response:
        parts = request.path.strip("/").split("/")
        if parts[0] != "jobs":
            return _refused(404, "no_such_path", f"there is nothing at {request.path}")
        match request.method, parts[1:]:
            case "POST", []:
                return self._submit(request)
            case "PUT", [name]:
                return self._put(name, request)
            case "GET", []:
                tag = request.query.get("tag")
                seen = [j for j in self.jobs.values() if self._seen(j) and tag in (None, j.tag)]
                return Response(200, {"jobs": [job.shown() for job in seen]})
            case "GET", [name]:
                if not self._seen(self.jobs[name]):
                    raise KeyError(name)
                return Response(200, self.jobs[name].shown())
            case "POST", [name, "cancel"]:
                job = self.jobs[name]
                job.cancel(self.cancel_seconds)
                return Response(202 if job.state == "CANCELING" else 200, job.shown())
            case "DELETE", [name]:
                return Response(200, self.jobs.pop(name).shown())
        return _refused(405, "no_such_method", f"{request.method} is not for {request.path}")

    def _submit(self, request: Request) -> Response:
        key, body = request.headers.get("idempotency-key", ""), request.json()
        known = self._by_key.get(key) if key else None
        if known is None:
            return self._start(f"job-{len(self.jobs) + 1}", body, key)
        mine = (body.get("fingerprint", ""), body["script"])
        if mine != (known.fingerprint, known.script):
            return _conflict("key_reused", "the key belongs to a job that does other work", known)
        return Response(200, known.shown())

    def _put(self, name: str, request: Request) -> Response:
        if name in self.jobs:
            return _conflict("exists", f"the job {name} exists already", self.jobs[name])
        return self._start(name, request.json(), "")

    def _start(self, name: str, body: Mapping[str, Any], key: str) -> Response:
        if not isinstance(body.get("script"), str):
            raise ValueError
        tag, print_ = str(body.get("tag", "")), str(body.get("fingerprint", ""))
        job = self.jobs[name] = VendorJob(name, body["script"], key, tag, print_)
        if key:
            self._by_key[key] = job
        self.started.update(filter(None, {key, tag, "" if key or tag else name}))
        return Response(201, job.shown())

    def _seen(self, job: VendorJob) -> bool:
        return time.time() >= job.created + self.lag


def _refused(status: int, code: str, message: str) -> Response:
    return Response(status, {"error": {"code": code, "message": message}})


def _conflict(code: str, message: str, job: VendorJob) -> Response:
    return Response(409, {"error": {"code": code, "message": message}, "job": job.shown()})
