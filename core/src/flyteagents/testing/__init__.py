"""What an author of an agent tests with: real servers, a fake FlytePropeller that calls them as the
real one does, and vendors that fail on request, all on real sockets.

`flyteagents.testing.contract` has the tests that every agent should pass, and
`flyteagents.testing.fixtures` pytest fixtures for all of it.
"""

from flyteagents.testing.calls import Caller, Rpc
from flyteagents.testing.execution import Execution, Outcome
from flyteagents.testing.jobs import JobService, VendorJob
from flyteagents.testing.propeller import FakePropeller, NotSent
from flyteagents.testing.server import RealServer, ServerEnded, free_port
from flyteagents.testing.tasks import Attempt, FlyteTask, task_template
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
    "Attempt",
    "Caller",
    "Cut",
    "Delay",
    "DropReply",
    "Execution",
    "FakePropeller",
    "FakeVendor",
    "FlyteTask",
    "JobService",
    "Nonsense",
    "NotSent",
    "Outcome",
    "RealServer",
    "Request",
    "Response",
    "Rpc",
    "Script",
    "ServerEnded",
    "SlowReply",
    "VendorJob",
    "free_port",
    "task_template",
]
