"""The server that a command is told to call."""

from __future__ import annotations

import pytest

from flyteagents._cli.endpoint import BadEndpoint, port_of


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
