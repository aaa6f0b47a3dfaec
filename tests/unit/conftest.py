"""What tests of the kernel's parts start from."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Iterator

import pytest
from tests.unit.kernel_setup import Setup
from tests.vendors.repeats import asked_once as asked_once

from flyteagents import _redact
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


@pytest.fixture(autouse=True)
def lines_of_its_own(request: pytest.FixtureRequest) -> None:
    """What asyncio says of tasks that an earlier test left, it says as they are collected."""
    if "caplog" in request.fixturenames:
        gc.collect()


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of one test is masked for the life of the process, also where another says it."""
    monkeypatch.setattr(_redact, "_known", OrderedDict())
