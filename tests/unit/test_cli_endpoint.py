"""The server that a command is told to call."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flyteagents._cli.endpoint import BadEndpoint, Remote, port_of, remote_options


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("localhost:8000", 8000),
        ("localhost", None),
        ("10.0.0.1:1", 1),
        ("[::1]:8000", 8000),
        ("[::1]", None),
        ("dns:///flyteagents.flyte.svc:8000", 8000),
        ("dns:///flyteagents.flyte.svc", None),
        ("dns://8.8.8.8/host:70", 70),
        ("dns:host", None),
        ("ipv4:10.0.0.1:8000,10.0.0.2:8000", 0),
        ("unix:/run/agents.sock", 0),
    ],
)
def test_a_target_is_read_as_grpc_does(endpoint: str, port: int | None) -> None:
    assert port_of(endpoint) == port


@pytest.mark.parametrize(
    "endpoint", ["", ":8000", "host:", "host:http", "host:0", "host:65536", "::1", "http://host:80"]
)
def test_what_is_no_target_is_told(endpoint: str) -> None:
    with pytest.raises(BadEndpoint, match=r"host:port|65535"):
        port_of(endpoint)


def test_a_file_without_certificates_is_no_authority(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----")

    @click.command()
    @remote_options
    def command(remote: Remote | None) -> None:
        click.echo(f"called with {remote}")

    given = ["--endpoint", "here:8000", "--tls", "--ca", str(key)]
    done = CliRunner().invoke(command, given)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"Invalid value for --ca: {key} has no certificate in PEM" in done.stderr
