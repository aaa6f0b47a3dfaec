"""databricks-sdk as a client of the test server: its replies are read by somebody else's code.

Runs in the environment of `requirements/databricks.txt`, as `reference_client.py <url> <secret>`,
and prints what it saw as one line of JSON.
"""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

import base64
import json
import sys
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors import DatabricksError
from databricks.sdk.service import jobs, workspace

FILE = "/Users/robot@example.com/told.py"


def client(url: str, **auth: Any) -> WorkspaceClient:
    return WorkspaceClient(
        config=Config(host=url, retry_timeout_seconds=5, http_timeout_seconds=20, **auth)
    )


def submitted(text: str) -> list[jobs.SubmitTask]:
    file = jobs.SparkPythonTask(python_file=FILE, parameters=[text])
    return [jobs.SubmitTask(task_key="one", existing_cluster_id="0923-1", spark_python_task=file)]


def refused(call: Any, *arguments: Any) -> str:
    try:
        call(*arguments)
    except DatabricksError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def main(url: str, secret: str) -> dict[str, Any]:
    token = client(url, token="dapi-reference", auth_type="pat")
    made = token.jobs.submit(tasks=submitted("ends"), idempotency_token="a", run_name="told")
    again = token.jobs.submit(tasks=submitted("ends"), idempotency_token="a")
    run = token.jobs.get_run(made.response.run_id)
    many = token.jobs.get_run(token.jobs.submit(tasks=submitted("many")).response.run_id)
    failing = token.jobs.get_run(token.jobs.submit(tasks=submitted("fails")).response.run_id)
    output = token.jobs.get_run_output((failing.tasks or [])[-1].run_id or 0)
    repeated = token.jobs.get_run(token.jobs.submit(tasks=submitted("again")).response.run_id)
    attempts = sorted(repeated.tasks or [], key=lambda task: task.attempt_number or 0)
    first = token.jobs.get_run_output(attempts[0].run_id or 0)
    long = token.jobs.submit(tasks=submitted("forever")).response.run_id
    token.jobs.cancel_run(long).result()
    stopped = token.jobs.get_run(long)

    content = base64.b64encode(b"told").decode()
    token.workspace.import_(FILE, content=content, format=workspace.ImportFormat.AUTO)
    read = token.workspace.download(FILE, format=workspace.ExportFormat.AUTO).read()

    oauth = client(
        url,
        client_id="robot",
        client_secret=secret,
        auth_type="oauth-m2m",
        discovery_url=f"{url}/oidc/.well-known/oauth-authorization-server",
    )
    return {
        "same": made.response.run_id == again.response.run_id,
        "state": str(run.state and run.state.result_state),
        "status": str(run.status and run.status.state),
        "page": run.run_page_url,
        "tasks": len(many.tasks or []),
        "error": output.error,
        "attempts": [task.attempt_number for task in attempts],
        "first": first.error,
        "termination": str(failing.status and failing.status.termination_details),
        "stopped": str(stopped.state and stopped.state.result_state),
        "missing": refused(token.jobs.get_run, 5),
        "wrong": refused(client(url, token="no", auth_type="pat").jobs.get_run, 5),
        "read": read.decode(),
        "me": oauth.current_user.me().user_name,
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
