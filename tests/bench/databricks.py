"""Our Databricks agent beside flytekit's own connector."""

from __future__ import annotations

from typing import Any

from tests.bench import beside
from tests.bench.beside import Pair
from tests.bench.processes import BESIDE, Vendor


def measure() -> dict[str, Any]:
    """Over TLS, since flytekit's connector speaks nothing else; both use a personal token."""
    return beside.measure(PAIR)


def _ours(stub: Vendor) -> dict[str, str]:
    return {"FLYTEAGENTS_DATABRICKS_URL": stub.url, "DATABRICKS_TOKEN": "t0ken"}


def _theirs(stub: Vendor) -> dict[str, str]:
    return {
        "FLYTE_DATABRICKS_INSTANCE": stub.target,
        "_FSEC_FLYTE_DATABRICKS_ACCESS_TOKEN": "t0ken",
    }


PAIR = Pair(
    vendor="Databricks",
    plugin="databricks",
    task_type="databricks",
    # A notebook: for a file of Python our agent first delivers its entrypoint.
    task={
        "custom": {
            "databricksConf": {"run_name": "bench", "existing_cluster_id": "0923-164208-meows279"},
            "notebookPath": "/Workspace/Shared/bench",
        },
        "image": "bench",
    },
    ours=_ours,
    theirs=_theirs,
    python=BESIDE / "databricks" / "bin" / "python",
    tls=True,
)
