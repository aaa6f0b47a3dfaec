"""What becomes of what a store says when a file is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.vendors.refusing import refusing_reads

from flyteagents import Forbidden, Unavailable
from flyteagents._kernel import stores


class AzureError(Exception):
    """As azure.core's HttpResponseError."""

    status_code = 403


@pytest.mark.parametrize(
    ("scheme", "raised", "kind", "says"),
    [
        ("s3", PermissionError("Access Denied"), Forbidden, "s3:GetObject and s3:ListBucket"),
        ("gs", OSError("Forbidden: b/run\nno"), Forbidden, "storage.objects.list"),
        ("abfs", AzureError("no"), Forbidden, "Storage Blob Data Reader"),
        ("odd", PermissionError("no"), Forbidden, "the right to read and to list"),
        ("s3", OSError("Slow Down"), Unavailable, "Slow Down"),
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
