"""Our BigQuery agent beside flytekit's own connector, on vendors that behave alike."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.bench import processes
from tests.bench.processes import Client, Vendor
from tests.bench.slow import DELAY, compare

TASK_TYPE = "bigquery_query_job_task"
IN_FLIGHT, JOBS = 64, 600


def measure() -> dict[str, Any]:
    """64 polls in flight. flytekit's connector makes a client for each poll, which gets a token
    of its own: from Google that takes about as long as the poll, and from a metadata server no
    time. So both are measured."""
    return {
        "tokens take as long": _measure(DELAY, "tokens take 200 ms too"),
        "tokens at once": _measure(0.0, "tokens at once"),
    }


def _measure(token_delay: float, title: str) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        collector = stack.enter_context(processes.collector())
        vendors = [Vendor(DELAY, token_delay), Vendor(DELAY, token_delay)]
        for vendor in vendors:
            stack.enter_context(vendor)
        mine, theirs = (_environment(folder, vendor) for vendor in vendors)
        # Ours sends an emulator no credentials otherwise.
        mine["FLYTEAGENTS_BIGQUERY_ANONYMOUS"] = "false"
        mine["FLYTEAGENTS_BIGQUERY_KEY_HOSTS"] = "127.0.0.1"
        servers = [
            stack.enter_context(processes.ours(stack, collector, mine, plugin="bigquery")),
            stack.enter_context(processes.flytekit(theirs)),
        ]
        client = stack.enter_context(Client())
        for server in servers:
            client.order("fill", server, TASK_TYPE, jobs=JOBS)
        by_server = dict(zip((server.name for server in servers), vendors, strict=True))
        return compare(servers, by_server, client, TASK_TYPE, IN_FLIGHT, 25, f"BigQuery, {title}")


def _environment(folder: Path, vendor: Vendor) -> dict[str, str]:
    """A vendor's address, and a key that is accepted there and nowhere else."""
    private = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    key = {
        "type": "service_account",
        "project_id": "bench",
        "private_key_id": "1",
        "private_key": private.decode(),
        "client_email": "bench@bench.iam.gserviceaccount.com",
        "token_uri": f"{vendor.url}/token",
    }
    file = folder / f"{vendor.port}.json"
    file.write_text(json.dumps(key))
    return {
        "BIGQUERY_EMULATOR_HOST": vendor.url,
        "GOOGLE_CLOUD_PROJECT": "bench",
        "GOOGLE_APPLICATION_CREDENTIALS": str(file),
    }
