"""TLS files are looked at before the server listens, and what is wrong names file and variable."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flyteagents._kernel.settings import BadSettings, KernelSettings
from flyteagents._kernel.tls import check_tls


def pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encrypted = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted
    )


def certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
CUT = b"-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"


def settings_for(folder: Path, cert: bytes | None, key: bytes | None) -> KernelSettings:
    for name, content in (("tls.crt", cert), ("tls.key", key)):
        if content is not None:
            (folder / name).write_bytes(content)
    return KernelSettings(tls_cert=folder / "tls.crt", tls_key=folder / "tls.key")


def test_a_pair_that_fits_is_taken(tmp_path: Path) -> None:
    check_tls(settings_for(tmp_path, certificate(KEY), pem(KEY)))


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        (None, pem(KEY), "FLYTEAGENTS_TLS_CERT: .*tls.crt: No such file"),
        (certificate(KEY), None, "FLYTEAGENTS_TLS_KEY: .*tls.key: No such file"),
        (b"garbage", pem(KEY), "FLYTEAGENTS_TLS_CERT: .*tls.crt is no PEM certificate"),
        (certificate(KEY), b"\x00\xff", "FLYTEAGENTS_TLS_KEY: .*tls.key is no PEM private key"),
        (certificate(KEY), CUT, "FLYTEAGENTS_TLS_KEY: .*tls.key holds no private key"),
        (certificate(KEY), pem(OTHER), "tls.key is not that of the first certificate in"),
        (certificate(KEY), pem(KEY, b"canary"), "FLYTEAGENTS_TLS_KEY: .* is encrypted"),
    ],
    ids=["no cert", "no key", "bad cert", "bad key", "cut key", "other key", "encrypted key"],
)
def test_files_that_cannot_be_served_with_are_told_with_their_variable(
    cert: bytes | None, key: bytes | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadSettings, match=said):
        check_tls(settings_for(tmp_path, cert, key))
