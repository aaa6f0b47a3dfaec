"""What a store's error means: that it does not accept our credentials, that they lack a right, or
that it is away.

Each of fsspec's packages raises errors of its own. None is imported here, since an operator
installs those of his stores only, so they are told by their names and attributes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flyteagents._errors import AgentError, Forbidden, Unauthenticated, Unavailable
from flyteagents._redact import redact

PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "adlfs"),
}
_RIGHTS = {
    # Without the second one S3 answers 403 for an object that is not there
    # (docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html).
    "s3fs": "s3:GetObject and s3:ListBucket",
    "gcsfs": "storage.objects.get and storage.objects.list",
    "adlfs": "the role Storage Blob Data Reader",
}
_CREDENTIALS = {
    "s3fs": "its role, or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
    "gcsfs": "its service account, or the key at GOOGLE_APPLICATION_CREDENTIALS",
    "adlfs": "its managed identity, or AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_SAS_TOKEN",
}
# S3 and Azure tell these with 400 or 403, as they tell much else:
# docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html,
# learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes.
_NOT_ACCEPTED = frozenset(
    """
    AuthenticationFailed ExpiredToken InvalidAccessKeyId InvalidAuthenticationInfo InvalidToken
    RequestExpired RequestTimeTooSkewed SignatureDoesNotMatch TokenRefreshRequired
    """.split()  # noqa: SIM905 # read at a glance
)
# Raised before anything is asked for, by botocore, google-auth and azure-core.
_NONE_TO_SEND = frozenset(
    """
    ClientAuthenticationError DefaultCredentialsError LoginError NoCredentialsError
    PartialCredentialsError RefreshError SSOError TokenRetrievalError
    """.split()  # noqa: SIM905 # read at a glance
)
_EXPIRED = re.compile(r"expired|not valid in the specified time frame", re.I)
_LETTERS = 300


def meaning(error: Exception, scheme: str, url: str) -> AgentError:
    """What `error` of the package for `scheme` is told as: Unauthenticated, Forbidden or
    Unavailable."""
    package, text = PACKAGES.get(scheme, ""), _text(error)
    if _not_accepted(error):
        state = "have expired" if _EXPIRED.search(text) else "are missing or wrong"
        ours = _CREDENTIALS.get(package, "them")
        return Unauthenticated(
            f"{url} cannot be read: this server's credentials for it {state}; renew {ours}: {text}"
        )
    if _refused(error):
        rights = _RIGHTS.get(package, "the right to read and to list")
        return Forbidden(f"{url} may not be read: this server needs {rights} there: {text}")
    return Unavailable(f"{url} cannot be read: {type(error).__name__}: {text}")


def _not_accepted(error: Exception) -> bool:
    if getattr(error, "retryable", False):  # google-auth's, for its own endpoint that is away
        return False
    kinds = {kind.__name__ for kind in type(error).__mro__}
    # gcsfs' HttpError has its status as `code`, azure-core's as `status_code`.
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return bool(kinds & _NONE_TO_SEND) or str(status) == "401" or _code(error) in _NOT_ACCEPTED


def _refused(error: Exception) -> bool:
    """Whether the store said 403: s3fs' error for it, gcsfs' (gcsfs/retry.py), or Azure's own."""
    status = getattr(error, "status_code", None)
    return isinstance(error, PermissionError) or status == 403 or str(error)[:10] == "Forbidden:"


def _code(error: Exception) -> str:
    """The store's own: in botocore's error, which s3fs' has as its cause, or in Azure's."""
    response = getattr(error.__cause__, "response", None)
    if isinstance(response, Mapping):
        return str((response.get("Error") or {}).get("Code"))
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code))


def _text(error: Exception) -> str:
    # Azure's has lines of ids, and then the whole reply. Redacted before it is cut: half a secret
    # would not be known for one.
    return " ".join(redact(str(error)).split())[:_LETTERS]
