"""BigQuery's jobs.insert and jobs.get, of a job that runs, and the tokens that they need.

https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs
"""

from __future__ import annotations

import json
from typing import Any

LOGINS = ("/token",)
_JOBS: dict[str, dict[str, Any]] = {}


def reply(target: str, body: bytes) -> tuple[int, object]:
    path = target.partition("?")[0]
    if path in LOGINS:
        return 200, {"access_token": "t0ken", "expires_in": 3600, "token_type": "Bearer"}
    if not path.endswith("/jobs"):
        return 200, _JOBS[path.rpartition("/")[2]]
    asked = json.loads(body)
    reference = {**asked["jobReference"], "location": "US"}
    job = {
        "kind": "bigquery#job",
        "id": f"{reference['projectId']}:US.{reference['jobId']}",
        "jobReference": reference,
        "configuration": {"jobType": "QUERY", **asked["configuration"]},
        "status": {"state": "RUNNING"},
        "statistics": {"creationTime": "1700000000000", "startTime": "1700000000100"},
    }
    _JOBS[reference["jobId"]] = job
    return 200, job
