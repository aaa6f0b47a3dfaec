"""Tests see nothing of the settings of who runs them."""

from __future__ import annotations

import os

import pytest


def forget_settings(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, *theirs: str
) -> None:
    """Take our variables out of the environment, and those whose names begin with one of `theirs`;
    from all tests but those of a real account."""
    if request.node.get_closest_marker("live"):
        return
    for name in list(os.environ):
        if name == "FLYTEAGENTS_TEST_SPARK":  # which Spark the tests themselves use
            continue
        if name.startswith(("FLYTEAGENTS_", "_FSEC_", *theirs)):
            monkeypatch.delenv(name)
