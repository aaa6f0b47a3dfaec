"""Builds images as `make image` does, and runs them as the chart does: with podman."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOOLS = ("buildah", "podman", "runc", "mmdebstrap")
BASES = {
    "BUILD_BASE": "localhost/flyteagents-build-base",
    "BASE": "localhost/flyteagents-base",
}
# A build inside a container has no namespaces of its own to give away.
BUILD = ("--isolation=chroot", "--pull-never", "--network=host")
PODMAN = ("podman", "--runtime=runc", "--cgroup-manager=cgroupfs")
HARDENED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--security-opt=seccomp=unconfined",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
    "--network=host",
)


def missing() -> str:
    """Why no image can be built here; empty if one can."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"no {', '.join(absent)} here, so no image can be built"
    return "" if os.geteuid() == 0 else "images of Debian packages are made by root only"


def build(plugins: str, tag: str, secret: Path | None = None) -> str:
    """Build an image on the stand-ins of the bases. What `make image` printed at its end."""
    run([str(Path(__file__).parent / "debian-bases")])
    flags = [*BUILD, f"--volume={certificates()}:/etc/ssl/certs/ca-certificates.crt:ro"]
    if secret is not None:
        flags.append(f"--secret=id=pip,src={secret}")
    env = {**BASES, "TAG": tag, "PLUGINS": plugins}
    done = run(["make", "-s", "image", f"IMAGE_FLAGS={' '.join(flags)}"], env, cwd=ROOT)
    return done.splitlines()[-1]


def certificates() -> str:
    """The authorities that this machine trusts, also those of its own proxy."""
    return os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")


def inspect(image: str) -> dict[str, Any]:
    [found] = json.loads(run(["podman", "image", "inspect", image]))
    return dict(found)


def save(image: str, into: Path) -> list[Path]:
    """The layers of an image, as they would be pushed, not packed."""
    run(["podman", "save", "--quiet", "--format=oci-archive", f"--output={into / 'image'}", image])
    with tarfile.open(into / "image") as archive:
        archive.extractall(into, filter="data")
    return [path for path in (into / "blobs" / "sha256").iterdir() if path.is_file()]


def files(image: str) -> list[tarfile.TarInfo]:
    """Every file of an image."""
    container = run(["podman", "create", image]).strip()
    try:
        exported = subprocess.Popen(["podman", "export", container], stdout=subprocess.PIPE)
        assert exported.stdout is not None
        with exported, tarfile.open(fileobj=exported.stdout, mode="r|") as archive:
            return list(archive)
    finally:
        run(["podman", "rm", container])


class Container:
    """A running container, as hardened as the chart's pod. A context manager."""

    def __init__(
        self, image: str, env: Mapping[str, str], flags: Sequence[str] = (), command: str = ""
    ) -> None:
        variables = [f"--env={name}={value}" for name, value in env.items()]
        start = [*PODMAN, "run", "--detach", *HARDENED, *flags, *variables, image]
        self.id = run([*start, *command.split()]).strip()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        run([*PODMAN, "rm", "--force", "--time=0", self.id])

    def stop(self, grace: int) -> int:
        """SIGTERM, and SIGKILL after `grace` seconds. The exit code."""
        run([*PODMAN, "stop", f"--time={grace}", self.id])
        return int(run([*PODMAN, "inspect", "--format={{.State.ExitCode}}", self.id]))

    def exec(self, *command: str) -> tuple[int, str]:
        """As an exec probe runs. The exit code, and what was printed."""
        done = subprocess.run(
            [*PODMAN, "exec", self.id, *command], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def log(self) -> str:
        return run([*PODMAN, "logs", self.id])


def run(command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """What a command printed, on both of its outputs; a failure shows it."""
    done = subprocess.run(
        command,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)} has failed:\n{done.stdout[-4000:]}"
    return done.stdout
