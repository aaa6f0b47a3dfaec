"""The last run's job, which `logs` and `cancel` are about where none is named."""

from __future__ import annotations

import os

import pytest

from flyteagents._cli.known_jobs import last_prefix, named, remember


def test_a_user_without_a_home_has_no_last_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    remember(b"a job", "/somewhere")
    assert last_prefix(b"a job") == ""
    with pytest.raises(SystemExit):
        named(None)
    assert "there was no run yet; name a job" in capsys.readouterr().err
