"""Each of the two SDKs in turn, and the tasks that were written with it. A folder's conftest takes
them in by name."""

from __future__ import annotations

import pytest
from tests.sdk.environments import Sdk
from tests.sdk.templates import SDKS, Authored, authored

from flyteagents import Column, Kind, Type

COLUMNS = (
    Column("i", Type(Kind.INTEGER)),
    Column("scaled", Type(Kind.FLOAT)),
    Column("label", Type(Kind.STRING)),
)
"""What the tasks with an output declare it with."""


@pytest.fixture(scope="module", params=SDKS)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    name: Sdk = request.param
    return name


@pytest.fixture(scope="module")
def tasks(sdk: Sdk) -> dict[str, Authored]:
    return authored(sdk)
