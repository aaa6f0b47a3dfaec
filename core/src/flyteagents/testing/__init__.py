"""What an author of an agent tests with: real servers, a fake FlytePropeller that calls them as the
real one does, and vendors that fail on request, all on real sockets.

`flyteagents.testing.contract` has the tests that every agent should pass, and
`flyteagents.testing.fixtures` pytest fixtures for all of it.
"""

from flyteagents._client.attempt import Attempt, FlyteTask, Generation
from flyteagents._client.caller import Caller
from flyteagents._client.execution import Execution
from flyteagents._client.outcome import Outcome
from flyteagents._client.process import ServerEnded, free_port
from flyteagents._client.rpc import Rpc
from flyteagents._client.templates import Declared, task_template
from flyteagents.testing.environment import AgentEnvironment, SyncAgentEnvironment
from flyteagents.testing.jobs import JobService, VendorJob
from flyteagents.testing.propeller import FakePropeller, NotSent
from flyteagents.testing.server import RealServer
from flyteagents.testing.vendor import (
    Cut,
    Delay,
    DropReply,
    FakeVendor,
    Held,
    Nonsense,
    Request,
    Response,
    Script,
    SlowReply,
)

__all__ = [
    "AgentEnvironment",
    "Attempt",
    "Caller",
    "Cut",
    "Declared",
    "Delay",
    "DropReply",
    "Execution",
    "FakePropeller",
    "FakeVendor",
    "FlyteTask",
    "Generation",
    "Held",
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
    "SyncAgentEnvironment",
    "VendorJob",
    "free_port",
    "task_template",
]
