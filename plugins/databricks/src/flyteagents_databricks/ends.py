"""How a run ended. Databricks' word for it is not the last: what the task's code has left says
whether a success is one, and of a failure why, and whether another attempt may help."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flyteagents import (
    AgentError,
    Call,
    Forbidden,
    InvalidTask,
    Phase,
    Status,
    Unauthenticated,
    VendorError,
)
from flyteagents_databricks.delivery import NAME
from flyteagents_databricks.failures import Failure, failure_of
from flyteagents_databricks.job import DatabricksJob
from flyteagents_databricks.left import error_left, tells_failures
from flyteagents_databricks.outputs import notebook_outputs
from flyteagents_databricks.run import Run
from flyteagents_databricks.runs import Runs
from flyteagents_databricks.settings import DatabricksSettings
from flyteagents_databricks.states import Reading, failures


@dataclass(frozen=True)
class Ended:
    """A run that has ended, with all of its tasks. status: what is known without asking more."""

    job: DatabricksJob
    run: Run
    reading: Reading
    status: Status
    runs: Runs
    call: Call
    settings: DatabricksSettings

    async def told(self) -> Status:
        """What Flyte is told."""
        if self.reading.phase is Phase.SUCCEEDED:
            return await self._succeeded()
        if self.reading.phase is Phase.ABORTED:
            return self.status
        return await self._failed()

    async def _succeeded(self) -> Status:
        """A run that Databricks calls a success: what its code left says whether it is one."""
        # No runtime of Flyte's is in a notebook, so it leaves no error.pb.
        if all(task.notebook_task is not None for task in self.run.tasks):
            return await self._exited()
        try:
            failure = await error_left(self.call)
        except AgentError as error:
            if tells_failures(self.run.tasks, self.settings.entrypoint_path):
                return await self._with_outputs()
            # The store may answer the next poll, and a success that Flyte was told stays one. Where
            # it goes on to refuse, the next attempt is told so before it runs (`will_be_known`).
            if isinstance(error, VendorError | Unauthenticated | Forbidden):
                raise
            text = (
                "the run ended well at Databricks, and whether the task's code failed stands in "
                f"{self.call.output_prefix}/error.pb, which cannot be read: {error.message}"
            )
            return replace(self.status, phase=Phase.FAILED, message=text)
        if failure is not None:
            return self._of_code(failure)
        return await self._with_outputs()

    async def _with_outputs(self) -> Status:
        """The outputs that the code has written, where Flyte will not look for them."""
        if not self.call.adopted or not self.call.declared:
            return self.status
        outputs = await self.call.read_outputs()
        if outputs is None:
            prefix = self.call.output_prefix
            text = f"the run that was taken over has left no outputs under {prefix}"
            return replace(self.status, phase=Phase.RETRYABLE_FAILED, message=text)
        return replace(self.status, outputs=outputs)

    async def _exited(self) -> Status:
        if not self.call.declared:
            return replace(self.status, outputs={})
        output = await self.runs.output(self.run.tasks[-1])
        try:
            outputs = notebook_outputs(output.notebook_output, self.call.declared)
        except InvalidTask as error:
            return replace(self.status, phase=Phase.FAILED, message=error.message)
        return replace(self.status, outputs=outputs)

    async def _failed(self) -> Status:
        """The user's own message, from where there is one."""
        try:
            failure = await error_left(self.call)
        except AgentError:
            failure = None  # it says more, and Databricks says enough
        if failure is None:
            tasks = failures(self.run.tasks)
            failure = failure_of(tasks, await self.runs.outputs(tasks))
        elif not self.reading.code_failed and self.reading.phase is Phase.RETRYABLE_FAILED:
            failure = replace(failure, recoverable=True)  # the cluster was lost as well
        if not self.reading.code_failed and failure.recoverable is None:
            message = failure.message or self.reading.message or "the run failed"
            phase = self.status.phase
            if self.reading.code == "RESOURCE_NOT_FOUND" and NAME in message:
                phase = Phase.RETRYABLE_FAILED  # a retry looks for it before it runs
                message = (
                    "somebody has removed the file that runs begin with, and the next attempt puts "
                    f"it back: {message}"
                )
            return replace(self.status, phase=phase, message=f"{message} | run={self.job}")
        return self._of_code(failure)

    def _of_code(self, failure: Failure) -> Status:
        """A failure of the task's code, which may say itself whether to try again."""
        again = failure.recoverable
        if again is None:
            again = self.settings.retry_failed_code
        return replace(
            self.status,
            phase=Phase.RETRYABLE_FAILED if again else Phase.FAILED,
            message=failure.message or self.status.message,
            # What the code said of itself is no error of Databricks'.
            code=self.status.code if failure.recoverable is None else None,
        )
