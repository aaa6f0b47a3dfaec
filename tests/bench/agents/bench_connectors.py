"""flytekit's side of the comparison: the same two agents, as its users write them."""

# mypy: disable-error-code="import-not-found, import-untyped, misc, no-any-return, unused-ignore"
from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import Any

import requests
from flyteidl.core.execution_pb2 import TaskExecution
from flytekit.extend.backend.base_connector import (
    AsyncConnectorBase,
    ConnectorRegistry,
    Resource,
    ResourceMeta,
)
from flytekit.extend.backend.utils import convert_to_flyte_phase

URL = os.environ.get("BENCH_URL", "http://127.0.0.1:1")


@dataclass
class BenchMeta(ResourceMeta):
    id: str


class Nothing(AsyncConnectorBase):
    """Starts nothing, and says that it runs."""

    name = "Nothing"
    task_type = "bench_nothing"

    def __init__(self) -> None:
        super().__init__(task_type_name=self.task_type, metadata_type=BenchMeta)

    async def create(self, task_template: Any, **rest: Any) -> BenchMeta:
        return BenchMeta(id=uuid.uuid4().hex)

    async def get(self, resource_meta: BenchMeta, **rest: Any) -> Resource:
        return Resource(phase=TaskExecution.RUNNING)

    async def delete(self, resource_meta: BenchMeta, **rest: Any) -> None:
        pass


class Slow(Nothing):
    """Asks its vendor at each poll. Synchronous, as flytekit's own BigQuery and Snowflake
    connectors are: flytekit then calls it in the default thread pool."""

    name = "Slow"
    task_type = "bench_slow"

    def get(self, resource_meta: BenchMeta, **rest: Any) -> Resource:
        reply = requests.get(f"{URL}/jobs/{resource_meta.id}", timeout=60)
        reply.raise_for_status()
        return Resource(phase=convert_to_flyte_phase(reply.json()["state"]))


ConnectorRegistry.register(Nothing())
ConnectorRegistry.register(Slow())
