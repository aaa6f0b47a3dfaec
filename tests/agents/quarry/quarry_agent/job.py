"""What names a job to quarry."""

from __future__ import annotations

from flyteagents import Job, Name


class QuarryJob(Job):
    """id: quarry's own."""

    id: Name

    @property
    def path(self) -> str:
        return f"/statements/{self.id}"
