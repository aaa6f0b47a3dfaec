"""What the tests of the deployment share: one image, and what renders the chart."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.deploy import charts, images

PodSecurity = Callable[[Sequence[charts.Document]], list[str]]
SECRET = "index-password-of-the-build"


@dataclass(frozen=True)
class Image:
    name: str
    printed: str


@pytest.fixture(scope="session")
def helm() -> Iterator[charts.Helm]:
    if not charts.PYTHON.exists():
        pytest.skip("no Helm here; make deploy-check installs it")
    worker = charts.Helm()
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def pod_security() -> PodSecurity:
    """Kubernetes' own judge of pods: what "restricted" forbids in each; "" for nothing."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go here, so Kubernetes' own judge of pods cannot be built")
    binary = images.ROOT / ".cache" / "podsecurity"
    images.run(
        [go, "build", "-o", str(binary), "."],
        {"GOFLAGS": "-p=2 -buildvcs=false"},
        images.ROOT / "tests" / "deploy" / "podsecurity",
    )

    def judge(pods: Sequence[charts.Document]) -> list[str]:
        done = subprocess.run(
            [binary], input=json.dumps(pods), capture_output=True, text=True, check=True
        )
        return done.stdout.split("\n")[:-1]

    return judge


@pytest.fixture(scope="session")
def vendors_image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """All vendors' plugins in one image, built with an index's password as a secret."""
    if why := images.missing():
        pytest.skip(why)
    pip = tmp_path_factory.mktemp("secret") / "pip.conf"
    pip.write_text(f"[global]\n# {SECRET}\ntimeout = 60\n")
    printed = images.build(" ".join(vendors()), "vendors", pip)
    return Image("localhost/flyteagents:vendors", printed)


def vendors() -> list[str]:
    """The plugins of vendors: all but the embedded engine."""
    names = {path.parent.name for path in (images.ROOT / "plugins").glob("*/pyproject.toml")}
    return sorted(names - {"duckdb"})


@pytest.fixture
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a Kubernetes TLS secret is mounted."""
    folder = tmp_path_factory.mktemp("tls")
    images.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=agents",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(folder / "tls.key"),
            "-out",
            str(folder / "tls.crt"),
        ]
    )
    (folder / "tls.key").chmod(0o644)
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)  # the pod's user reads it
    return folder
