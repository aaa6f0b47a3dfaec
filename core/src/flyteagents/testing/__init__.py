"""What an author of an agent tests with: vendors that fail on request, on real sockets."""

from flyteagents.testing.jobs import JobService, VendorJob
from flyteagents.testing.server import RealServer, ServerEnded, free_port
from flyteagents.testing.vendor import (
    Cut,
    Delay,
    DropReply,
    FakeVendor,
    Nonsense,
    Request,
    Response,
    Script,
    SlowReply,
)

__all__ = [
    "Cut",
    "Delay",
    "DropReply",
    "FakeVendor",
    "JobService",
    "Nonsense",
    "RealServer",
    "Request",
    "Response",
    "Script",
    "ServerEnded",
    "SlowReply",
    "VendorJob",
    "free_port",
]
