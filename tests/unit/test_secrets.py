from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyteagents import InvalidTask, Unauthenticated
from flyteagents._redact import redact
from flyteagents._vendor.secrets import Secrets


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    (tmp_path / "ours").mkdir()
    return tmp_path / "ours"


@pytest.fixture
def flytekits(tmp_path: Path) -> Path:
    (tmp_path / "flytekit").mkdir()
    return tmp_path / "flytekit"


@pytest.fixture
def secrets(ours: Path, flytekits: Path) -> Secrets:
    return Secrets(ours, flytekits)


def test_places_are_looked_at_in_their_order(
    secrets: Secrets, ours: Path, flytekits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secrets.find("acme-token", {}) is None
    (flytekits / "acme-token").write_text("from flytekit's file\n")
    assert secrets.find("acme-token", {}) == "from flytekit's file"
    monkeypatch.setenv("_FSEC_ACME-TOKEN", "from flytekit's variable")
    assert secrets.find("acme-token", {}) == "from flytekit's variable"
    (ours / "acme-token").write_text("from our file\n")
    assert secrets.find("acme-token", {}) == "from our file"
    monkeypatch.setenv("FLYTEAGENTS_SECRET_ACME_TOKEN", "from our variable")
    assert secrets.find("acme-token", {}) == "from our variable"
    assert secrets.find("acme-token", {"ACME-token": "sent"}) == "sent"
    assert secrets.find("acme-token", {"ACME-token": "no", "acme-token": "exact"}) == "exact"


def test_what_a_request_sends_can_be_told_from_what_the_service_has(
    secrets: Secrets, ours: Path
) -> None:
    (ours / "acme").write_text("the service's")
    assert secrets.sent("acme", {}) is None
    assert secrets.sent("acme", {"ACME": "sent-by-the-task"}) == "sent-by-the-task"


def test_an_empty_secret_is_none(secrets: Secrets, ours: Path) -> None:
    (ours / "acme").write_text("\n")
    assert secrets.find("acme", {"acme": ""}) is None


@pytest.mark.parametrize("spelling", ["acme_Token", "acme_token", "ACME_TOKEN"])
def test_files_may_be_spelled_in_one_case(secrets: Secrets, ours: Path, spelling: str) -> None:
    (ours / spelling).write_text("x")
    assert secrets.find("acme_Token", {}) == "x"


def test_only_line_breaks_are_cut_from_the_end(secrets: Secrets, ours: Path) -> None:
    (ours / "key").write_bytes(b" -----BEGIN\r\nabc \r\n\n")
    assert secrets.find("key", {}) == " -----BEGIN\r\nabc "


def test_a_file_is_read_again_when_it_changes(secrets: Secrets, ours: Path) -> None:
    """Kubernetes mounts a secret as a link into a directory, and swaps that by a rename."""
    for number in (1, 2):
        (ours / f"data{number}").mkdir()
        (ours / f"data{number}" / "token").write_text(f"value {number}")
        os.utime(ours / f"data{number}" / "token", ns=(1, 1))  # the same size, the same time
    (ours / "..data").symlink_to("data1")
    (ours / "token").symlink_to("..data/token")
    assert secrets.find("token", {}) == "value 1"
    (ours / "new").symlink_to("data2")
    (ours / "new").replace(ours / "..data")
    assert secrets.find("token", {}) == "value 2"
    (ours / "token").unlink()
    assert secrets.find("token", {}) is None


def test_an_unchanged_file_is_not_read_again(secrets: Secrets, ours: Path) -> None:
    (ours / "token").write_text("value 1")
    os.utime(ours / "token", ns=(1, 1))
    assert secrets.find("token", {}) == "value 1"
    with (ours / "token").open("r+") as file:
        file.write("value 2")
    os.utime(ours / "token", ns=(1, 1))
    assert secrets.find("token", {}) == "value 1"


def test_flytekits_own_variables_say_where_it_looks(
    ours: Path, flytekits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTE_SECRETS_DEFAULT_DIR", str(flytekits))
    monkeypatch.setenv("FLYTE_SECRETS_ENV_PREFIX", "SEC_")
    monkeypatch.setenv("FLYTE_SECRETS_FILE_PREFIX", "f-")
    (flytekits / "f-filed").write_text("filed")
    monkeypatch.setenv("SEC_SET", "set")
    secrets = Secrets(ours)
    assert (secrets.find("Filed", {}), secrets.find("set", {})) == ("filed", "set")


@pytest.mark.parametrize("name", ["../passwd", "a/b", "..", ".", "", "a\\b", "a\0b", "a\n"])
def test_a_name_cannot_lead_out_of_the_directory(secrets: Secrets, name: str) -> None:
    with pytest.raises(InvalidTask):
        secrets.find(name, {name: "x"})


def test_a_missing_secret_names_all_places_and_no_value(
    secrets: Secrets, ours: Path, flytekits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_SECRET_OTHER", "v4lue-of-other")
    with pytest.raises(Unauthenticated) as raised:
        secrets.require("acme", {"other": "v4lue-sent"})
    for place in (
        "FLYTEAGENTS_SECRET_ACME",
        "_FSEC_ACME",
        str(ours / "acme"),
        str(flytekits / "acme"),
    ):
        assert place in str(raised.value)
    assert "v4lue" not in str(raised.value)


def test_a_huge_file_is_refused(secrets: Secrets, ours: Path) -> None:
    (ours / "core").write_bytes(b"x" * (2 << 20))
    with pytest.raises(Unauthenticated, match="1 MiB"):
        secrets.find("core", {})


def test_what_was_found_is_masked_from_then_on(secrets: Secrets) -> None:
    secrets.require("acme", {"acme": "plain words that look like no secret"})
    assert redact("it said plain words that look like no secret") == "it said [redacted]"


def test_of_a_secret_that_holds_another_one_nothing_is_left(secrets: Secrets) -> None:
    secrets.require("acme", {"acme": "correct"})
    secrets.require("acme", {"acme": "correct horse battery"})
    secrets.require("acme", {"acme": "battery"})
    assert redact("it is correct horse battery") == "it is [redacted]"
