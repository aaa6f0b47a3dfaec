"""The SDKs in turn, and their tasks."""

from __future__ import annotations

from tests.sdk.fixtures import sdk as sdk
from tests.sdk.fixtures import tasks as tasks
