"""What becomes of what a store says when a file is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.vendors.refusing import NoCredentialsError, refusing_reads

from flyteagents import Forbidden, Unauthenticated, Unavailable
from flyteagents._kernel import stores
from flyteagents._redact import remember

LOGIN = Unauthenticated


class AzureError(Exception):
    """As azure.core's HttpResponseError."""

    status_code = 403

    def __init__(self, text: str, error_code: str = "") -> None:
        super().__init__(text)
        self.error_code = error_code


class HttpError(Exception):
    """As gcsfs' own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message}, {code}")
        self.code = code


class RefreshError(Exception):
    """As google-auth's."""

    def __init__(self, text: str, retryable: bool = False) -> None:
        super().__init__(text)
        self.retryable = retryable


def of_s3(kind: type[OSError], code: str, text: str) -> Exception:
    """As s3fs makes it of botocore's error."""
    cause = Exception(text)
    cause.response = {"Error": {"Code": code}}  # type: ignore[attr-defined] # as botocore's has it
    error = kind(text)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("scheme", "raised", "kind", "says"),
    [
        ("s3", PermissionError("Access Denied"), Forbidden, "s3:GetObject and s3:ListBucket"),
        ("gs", OSError("Forbidden: b/run\nno"), Forbidden, "storage.objects.list"),
        ("abfs", AzureError("no"), Forbidden, "Storage Blob Data Reader"),
        ("odd", PermissionError("no"), Forbidden, "the right to read and to list"),
        ("s3", of_s3(PermissionError, "AccessDenied", "no"), Forbidden, "s3:GetObject"),
        ("s3", OSError("Slow Down"), Unavailable, "Slow Down"),
        ("gs", RefreshError("502", retryable=True), Unavailable, "502"),
        ("s3", of_s3(PermissionError, "ExpiredToken", "It has expired"), LOGIN, "have expired"),
        ("s3", of_s3(OSError, "InvalidToken", "malformed"), LOGIN, "missing or wrong; renew its"),
        ("s3", NoCredentialsError("Unable to locate"), LOGIN, "AWS_SESSION_TOKEN"),
        ("gs", HttpError(401, "Invalid Credentials"), LOGIN, "GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs", RefreshError("invalid_grant: Token has expired"), LOGIN, "have expired"),
        ("abfs", AzureError("Signature", "AuthenticationFailed"), LOGIN, "AZURE_STORAGE_SAS_TOKEN"),
        ("odd", HttpError(401, "no"), LOGIN, "renew them"),
    ],
)
def test_a_store_that_refuses_is_told_from_one_that_is_away(
    scheme: str, raised: Exception, kind: type[Exception], says: str
) -> None:
    with refusing_reads(raised), pytest.raises(kind, match=says):
        stores._remote(scheme, "memory://run/0/error.pb")


def test_a_file_on_this_machine_that_may_not_be_read_is_forbidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)  # root, who may run this, may read everything
    with pytest.raises(Forbidden, match="Permission denied"):
        stores.read_file(str(tmp_path), "error.pb")


def test_a_secret_at_the_end_of_a_long_error_is_masked_before_the_text_is_cut() -> None:
    secret = "canary-of-the-store-0123456789"
    remember(secret)
    error = OSError("x " * 140 + secret)
    with refusing_reads(error), pytest.raises(Unavailable) as raised:
        stores._remote("s3", "memory://run/0/error.pb")
    assert secret[:10] not in str(raised.value)
