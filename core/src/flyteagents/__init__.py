"""A Flyte agent service that finds its agents in the plugins you install.

Everything an author of an agent uses is here; modules that begin with an underscore are private.
"""

from flyteagents._agent import Agent, Idempotency, SyncAgent
from flyteagents._call import Call
from flyteagents._errors import (
    AgentError,
    Forbidden,
    InvalidTask,
    JobConflict,
    JobNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
    Unsupported,
    VendorError,
)
from flyteagents._hooks import API, hookimpl
from flyteagents._http import Endpoint, Http, Reply
from flyteagents._job import Job, Name
from flyteagents._settings import CommaList, Settings
from flyteagents._status import ErrorDocument, Link, LogLine, LogPage, Phase, Status
from flyteagents._task import Container, Fingerprint, Identity, Key, Task
from flyteagents._types import Column, Kind, Type
from flyteagents._values import Binary, Blob, Schema, StructuredDataset

__all__ = [
    "API",
    "Agent",
    "AgentError",
    "Binary",
    "Blob",
    "Call",
    "Column",
    "CommaList",
    "Container",
    "Endpoint",
    "ErrorDocument",
    "Fingerprint",
    "Forbidden",
    "Http",
    "Idempotency",
    "Identity",
    "InvalidTask",
    "Job",
    "JobConflict",
    "JobNotFound",
    "Key",
    "Kind",
    "Link",
    "LogLine",
    "LogPage",
    "Name",
    "Phase",
    "Reply",
    "Schema",
    "Settings",
    "Status",
    "StructuredDataset",
    "SyncAgent",
    "Task",
    "Throttled",
    "Type",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "VendorError",
    "hookimpl",
]
