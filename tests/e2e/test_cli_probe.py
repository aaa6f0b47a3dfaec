"""`flyteagents probe` asks a real server for its health, in plain text and with TLS."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.e2e.command import environment, flyteagents

from flyteagents.testing import free_port

PEM = serialization.Encoding.PEM


def certificate(folder: Path, *names: x509.GeneralName) -> dict[str, str]:
    """The settings of a server whose certificate an authority of its own has signed; the file has
    no more than that certificate, as most that come from outside."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "agents")])
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "cert.pem").write_bytes(signed.public_bytes(PEM))
    (folder / "key.pem").write_bytes(secret)
    return {
        "FLYTEAGENTS_TLS_CERT": str(folder / "cert.pem"),
        "FLYTEAGENTS_TLS_KEY": str(folder / "key.pem"),
    }


@contextmanager
def serving(**variables: str) -> Iterator[dict[str, str]]:
    """A server as a process; the environment that it and its probe share."""
    given = {"FLYTEAGENTS_PORT": str(free_port()), "FLYTEAGENTS_METRICS_PORT": "0", **variables}
    env = environment(**given)
    command = [sys.executable, "-m", "flyteagents", "serve"]
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as process:
        try:
            yield env
        finally:
            process.kill()


def healthy(env: dict[str, str], *arguments: str) -> bool:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        done = flyteagents("probe", *arguments, env=env)
        if done.returncode == 0:
            return done.stdout == "SERVING\n"
    pytest.fail(done.stderr)


def test_a_server_in_plain_text_is_healthy_and_so_is_each_plugin() -> None:
    with serving() as env:
        assert healthy(env)
        assert healthy(env, "--service", "flyteagents.plugin.clocked")
        missing = flyteagents("probe", "--service", "flyteagents.plugin.other", env=env)
        assert missing.returncode == 69
        assert "flyteagents.plugin.other" in missing.stderr


@pytest.mark.parametrize(
    "name",
    [x509.DNSName("agents.flyte.svc"), x509.DNSName("*.agents.example")],
    ids=["name", "wildcard"],
)
def test_a_server_with_tls_is_healthy_whatever_name_its_certificate_has(
    tmp_path: Path, name: x509.GeneralName
) -> None:
    with serving(**certificate(tmp_path, name)) as env:
        assert healthy(env)


def test_a_server_that_is_not_there_is_not_healthy() -> None:
    done = flyteagents("probe", "--port", str(free_port()), env=environment())
    assert done.returncode == 69
    assert done.stderr.startswith("flyteagents: the server on localhost")
    assert "cannot be reached" in done.stderr


def test_a_bad_setting_is_told() -> None:
    done = flyteagents("probe", env=environment(FLYTEAGENTS_PORT="many"))
    assert done.returncode == 78
    assert done.stderr.startswith("flyteagents: FLYTEAGENTS_PORT=many")
