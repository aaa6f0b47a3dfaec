"""A statement that runs, to Snowflake's SQL API and to Snowflake's driver for Python.

The driver's protocol is our own and not fakesnow's, which ends each statement before it answers:
there would be no running job to poll. What the driver reads of a reply stands in its
`auth/_auth.py`, `cursor.py` and `connection.py`.

https://docs.snowflake.com/en/developer-guide/sql-api/reference
"""

from __future__ import annotations

import uuid

LOGINS = ("/session/v1/login-request", "/oauth/token-request")
_RUNS = {
    "code": "333334",
    "message": "Asynchronous execution in progress. Use provided query id to perform query "
    "monitoring and management.",
}


def reply(target: str, body: bytes) -> tuple[int, object]:
    path = target.partition("?")[0]
    name = path.rpartition("/")[2]
    if path.startswith("/api/v2/statements"):
        handle = str(uuid.uuid4()) if name == "statements" else name
        url = f"/api/v2/statements/{handle}"
        return 202, {**_RUNS, "statementHandle": handle, "statementStatusUrl": url}
    return 200, {"success": True, "code": None, "message": None, **_to_driver(path, name)}


def _to_driver(path: str, name: str) -> dict[str, object]:
    if path.startswith(LOGINS):
        return {"data": {"token": "t0ken", "masterToken": "m", "sessionId": 1, "parameters": []}}
    if path == "/queries/v1/query-request":
        query = str(uuid.uuid4())
        url = f"/queries/{query}/result"
        return {**_RUNS, "data": {"queryId": query, "getResultUrl": url}}
    if path.startswith("/monitoring/queries/"):
        return {"data": {"queries": [{"id": name, "status": "RUNNING"}]}}
    return {"data": {}}  # telemetry, and the session's end
