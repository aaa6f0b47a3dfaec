"""Where `task_template` and its types were; they are in `flyteagents.testing`."""

from flyteagents._client.attempt import Attempt, FlyteTask, Generation
from flyteagents._client.templates import Declared, declared, task_template, type_of

create_message = Attempt.create_request

__all__ = [
    "Attempt",
    "Declared",
    "FlyteTask",
    "Generation",
    "create_message",
    "declared",
    "task_template",
    "type_of",
]
