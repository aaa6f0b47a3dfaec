"""Where a workspace is: its host, as tasks, settings and jobs name it, and its address."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

from flyteagents import InvalidTask
from flyteagents.kit.texts import excerpt

Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:\d{1,5})?$")]
"""A workspace's host. It comes over the wire and gets credentials, where it is allowed."""
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:\d{1,5})?")
KNOWN = ("*.cloud.databricks.com", "*.azuredatabricks.net", "*.gcp.databricks.com")
"""Patterns of Databricks' own hosts."""


def instance_url(text: str) -> str:
    """The address of a workspace from its host, or from what people write for it. Raises
    ValueError."""
    scheme, _, rest = text.strip().rpartition("://")
    host = rest.partition("/")[0].lower()
    if scheme not in ("", "https", "http") or not _HOST.fullmatch(host):
        raise ValueError("it is not the host of a workspace, such as my.cloud.databricks.com")
    return f"https://{host}"


def instance_host(named: str | None, default: str | None) -> str:
    """The host of the workspace that a task is for. Raises InvalidTask."""
    text = named or default
    if not text:
        raise InvalidTask(
            "the task names no workspace: give it a databricks_instance, or the service "
            "FLYTEAGENTS_DATABRICKS_INSTANCE"
        )
    try:
        return instance_url(text).removeprefix("https://")
    except ValueError as error:
        raise InvalidTask(f"databricks_instance {excerpt(text, 100)!r}: {error}") from None
