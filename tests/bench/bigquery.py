"""Our BigQuery agent beside flytekit's own connector."""

from __future__ import annotations

import json
from typing import Any

from tests.bench import beside
from tests.bench.beside import Pair
from tests.bench.processes import Vendor
from tests.bench.slow import DELAY
from tests.bench.stub_keys import private_key


def measure() -> dict[str, Any]:
    """flytekit's connector makes a client for each poll, which gets a token of its own: from
    Google that takes about as long as the poll, and from a metadata server no time. So both are
    measured."""
    return {
        "tokens take as long": beside.measure(PAIR, DELAY, ", tokens take 200 ms too"),
        "tokens at once": beside.measure(PAIR, 0.0, ", tokens at once"),
    }


def _ours(stub: Vendor) -> dict[str, str]:
    return {
        "FLYTEAGENTS_BIGQUERY_ANONYMOUS": "false",  # an emulator gets no credentials otherwise
        "FLYTEAGENTS_BIGQUERY_KEY_HOSTS": "127.0.0.1",
        **_theirs(stub),
    }


def _theirs(stub: Vendor) -> dict[str, str]:
    key = {
        "type": "service_account",
        "project_id": "bench",
        "private_key_id": "1",
        "private_key": private_key(),
        "client_email": "bench@bench.iam.gserviceaccount.com",
        "token_uri": f"{stub.url}/token",
    }
    file = stub.folder / "key.json"
    file.write_text(json.dumps(key))
    return {
        "BIGQUERY_EMULATOR_HOST": stub.url,
        "GOOGLE_CLOUD_PROJECT": "bench",
        "GOOGLE_APPLICATION_CREDENTIALS": str(file),
    }


PAIR = Pair(
    vendor="BigQuery",
    plugin="bigquery",
    task_type="bigquery_query_job_task",
    task={"custom": {"ProjectID": "bench", "Location": "US"}, "sql": "SELECT 1"},
    ours=_ours,
    theirs=_theirs,
)
