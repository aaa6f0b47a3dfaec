"""What tests of the kernel's parts start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.kernel_setup import Setup

from flyteagents._telemetry.providers import Telemetry, start_telemetry


@pytest.fixture(scope="session")
def quiet_telemetry() -> Iterator[Telemetry]:
    """Telemetry that sends nothing."""
    started = start_telemetry()
    yield started
    started.shutdown()


@pytest.fixture
def setup(quiet_telemetry: Telemetry) -> Setup:
    """A kernel around a scripted agent."""
    return Setup(quiet_telemetry)
