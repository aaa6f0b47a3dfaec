"""The TLS files, looked at before the server listens.

gRPC takes whatever bytes it is given, and then says of a key that is none that the port cannot be
had. So each file is read here first, and what is wrong is told with its variable.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from flyteagents._kernel.settings import BadSettings, KernelSettings

CERT, KEY = "FLYTEAGENTS_TLS_CERT", "FLYTEAGENTS_TLS_KEY"


def check_tls(settings: KernelSettings) -> None:
    """Raises BadSettings for files that cannot be served with."""
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None or key is None:
        return
    _must_hold(CERT, cert, "CERTIFICATE-----", "PEM certificate chain")
    _must_hold(KEY, key, "PRIVATE KEY-----", "PEM private key")

    try:
        # By itself first: `load_cert_chain` does not say which of the two files it could not read.
        ssl.create_default_context(cafile=str(cert))
    except ssl.SSLError:
        raise BadSettings(f"{CERT}: {cert} holds no certificate that can be read") from None
    try:
        # A password would be asked for on the terminal, where there may be none.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except _Encrypted:
        raise BadSettings(
            f"{KEY}: {key} is encrypted; give the key without a password, for example by "
            "`openssl pkey`"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadSettings(
                f"{CERT} and {KEY}: the key in {key} is not that of the first certificate in {cert}"
            ) from None
        raise BadSettings(f"{KEY}: {key} holds no private key that can be read") from None


def _must_hold(variable: str, path: Path, mark: str, what: str) -> None:
    try:
        text = path.read_text("ascii", "replace")
    except OSError as error:
        raise BadSettings(f"{variable}: {path}: {error.strerror}") from None
    if mark not in text:
        raise BadSettings(f"{variable}: {path} is no {what}")


class _Encrypted(Exception):
    """The key asks for a password."""


def _no_password() -> str:
    raise _Encrypted
