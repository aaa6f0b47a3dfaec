"""A vendor that fails is not asked again within a call."""

from __future__ import annotations

import math

import pytest

from flyteagents._kernel import call
from flyteagents._vendor import http


@pytest.fixture
def asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """How often it would be asked is by chance; and with so little time for a call that it is not
    asked again, a busy machine may not have asked it at all."""
    for module in (call, http):
        monkeypatch.setattr(module, "backoff", lambda tries, asked: math.inf)
