"""s3fs, gcsfs and adlfs themselves, against a server that answers as their stores do."""

from __future__ import annotations

import asyncio
import json
import os
import sysconfig
from pathlib import Path

import pytest
from tests.databricks.cluster import HERE, ROOT, need_cluster

from flyteagents.testing import FakeVendor, Request, Response

pytestmark = pytest.mark.slow

SECRET = "c2VjcmV0LXNlY3JldA=="


def s3(status: int, code: str, message: str) -> Response:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(status, text.encode(), {"content-type": "application/xml"})


def gcs(status: int, message: str) -> Response:
    """https://cloud.google.com/storage/docs/json_api/v1/status-codes"""
    return Response(status, {"error": {"code": status, "message": message}})


def azure(status: int, code: str, message: str) -> Response:
    """https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes"""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    headers = {"content-type": "application/xml", "x-ms-error-code": code}
    return Response(status, text.encode(), headers)


# By the bucket, or Azure's container.
ANSWERS = {
    "s3-expired": s3(400, "ExpiredToken", "The provided token has expired."),
    "s3-wrong": s3(403, "InvalidAccessKeyId", "The AWS Access Key Id does not exist."),
    "s3-denied": s3(403, "AccessDenied", "Access Denied"),
    "gs-ended": gcs(401, "Request had invalid authentication credentials."),
    "gs-wrong": gcs(401, "Invalid Credentials"),
    "gs-away": gcs(503, "Backend Error"),
    "gs-denied": gcs(403, "x does not have storage.objects.get access."),
    "az-expired": azure(
        403, "AuthenticationFailed", "Signature not valid in the specified time frame"
    ),
    "az-denied": azure(403, "AuthorizationPermissionMismatch", "Not authorized to do this."),
}
EXPECTED = {
    "s3-expired": ("Unauthenticated", "have expired; renew its role"),
    "s3-wrong": ("Unauthenticated", "are missing or wrong; renew its role"),
    "s3-denied": ("Forbidden", "needs s3:GetObject and s3:ListBucket"),
    "gs-ended": ("Unauthenticated", "renew its service account"),
    "gs-wrong": ("Unauthenticated", "renew its service account"),
    "gs-away": ("Unavailable", "Backend Error"),
    "gs-denied": ("Forbidden", "needs storage.objects.get and storage.objects.list"),
    "az-expired": ("Unauthenticated", "have expired; renew its managed identity"),
    "az-denied": ("Forbidden", "needs the role Storage Blob Data Reader"),
}


async def answer(request: Request) -> Response:
    return next(reply for place, reply in ANSWERS.items() if place in request.path)


async def read(stores: FakeVendor, prefixes: list[str], **variables: str) -> list[dict[str, str]]:
    """What becomes of an `error.pb` below each prefix, in one process."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "core" / "src"),
        "AWS_ENDPOINT_URL": stores.url,
        "STORAGE_EMULATOR_HOST": stores.url,
        "AZURE_STORAGE_CONNECTION_STRING": (
            f"BlobEndpoint={stores.url}/account;SharedAccessSignature=sig={SECRET}"
        ),
        **variables,
    }
    # What ours needs and that environment has not comes from the tests' own, after all of its own.
    also = f"import runpy, sys; sys.path.append({sysconfig.get_path('purelib')!r}); "
    process = await asyncio.create_subprocess_exec(
        need_cluster(),
        *("-c", also + "runpy.run_path(sys.argv.pop(1), run_name='__main__')"),
        HERE / "read_stores.py",
        *prefixes,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    told = [json.loads(line) for line in out.decode().splitlines()]
    assert len(told) == len(prefixes), err.decode()[-2000:]
    return told


async def test_credentials_that_have_ended_are_told_from_a_right_that_is_missing() -> None:
    schemes = {"s3": "s3", "gs": "gs", "az": "abfs"}
    prefixes = [f"{schemes[place[:2]]}://{place}/run/0" for place in EXPECTED]
    keys = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SECRET,
    }
    async with FakeVendor(answer) as stores:
        found = await read(stores, prefixes, **keys)
    for (place, (kind, words)), told in zip(EXPECTED.items(), found, strict=True):
        assert told["kind"] == kind, (place, told)
        assert words in told["text"], (place, told)
        assert SECRET not in told["text"]


async def test_a_store_that_refuses_is_asked_once() -> None:
    """gcsfs by itself asks six times, and takes half a minute for it."""
    async with FakeVendor(answer) as stores:
        [told] = await read(stores, ["gs://gs-wrong/run/0"])
        assert told["kind"] == "Unauthenticated"
        assert len(stores.requests) == 1


async def test_credentials_that_were_renewed_count_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "credentials"

    def write(name: str) -> None:
        file.write_text(
            f"[default]\naws_access_key_id = {name}\naws_secret_access_key = {SECRET}\n"
        )

    async def answer(request: Request) -> Response:
        if "Credential=old/" in request.headers["authorization"]:
            write("new")
            return ANSWERS["s3-expired"]
        return Response(200, b"what the job wrote")

    write("old")
    async with FakeVendor(answer) as stores:
        prefixes = ["s3://bucket/run/0"] * 2
        found = await read(stores, prefixes, AWS_SHARED_CREDENTIALS_FILE=str(file))
    assert [told["kind"] for told in found] == ["Unauthenticated", "read"]
