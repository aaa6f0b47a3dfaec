"""Runs of the Jobs API, 2.1 and 2.2, that run.

https://docs.databricks.com/api/workspace/jobs/getrun
"""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import parse_qs

LOGINS = ("/oidc/v1/token",)
_NUMBERS = itertools.count(1_000_001)
_TASKS: dict[int, list[dict[str, Any]]] = {}


def reply(target: str, body: bytes) -> tuple[int, object]:
    path, _, query = target.partition("?")
    if path.endswith("/runs/submit"):
        asked, number = json.loads(body), next(_NUMBERS)
        _TASKS[number] = asked.get("tasks") or [asked]
        return 200, {"run_id": number}
    return 200, _run(int(parse_qs(query)["run_id"][0]))


def _run(number: int) -> dict[str, object]:
    """As a workspace shows a run of one task on a cluster."""
    shown = {
        "start_time": 1_700_000_000_000,
        "setup_duration": 0,
        "execution_duration": 0,
        "cleanup_duration": 0,
        "end_time": 0,
        "state": {"life_cycle_state": "RUNNING", "state_message": "In run"},
        "status": {"state": "RUNNING"},
        "cluster_instance": {"cluster_id": "0923-164208-meows279", "spark_context_id": "42"},
        "run_page_url": f"https://bench.cloud.databricks.com/?o=1#job/7/run/{number}",
    }
    return {
        "job_id": 7,
        "run_id": number,
        "run_name": "bench",
        "run_type": "SUBMIT_RUN",
        "number_in_job": number,
        "attempt_number": 0,
        "creator_user_name": "bench@example.com",
        **shown,
        "tasks": [{**task, "run_id": number + 1, **shown} for task in _TASKS[number]],
    }
