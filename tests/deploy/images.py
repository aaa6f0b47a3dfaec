"""Builds images as `make image` does, and runs the pods that the chart renders, with podman."""

from __future__ import annotations

import copy
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
# What podman takes from Kubernetes' defaults inside a container.
CONTAINERS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
seccomp_profile = "unconfined"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
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


class Pod:
    """The pod of a Deployment that the chart has rendered, run by podman. A context manager.

    secrets: folders that stand for Kubernetes secrets by name, since there is no Kubernetes.
    """

    def __init__(
        self, deployment: Mapping[str, Any], folder: Path, secrets: Mapping[str, Path] | None = None
    ) -> None:
        self._folder = folder
        played = copy.deepcopy(dict(deployment))
        played["spec"]["replicas"] = 1
        spec = played["spec"]["template"]["spec"]
        for container in spec["containers"]:
            # The pod has the host's network, where podman maps no ports.
            del container["ports"]
            # This podman knows no probes over gRPC; a probe by a command is tried by hand.
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                container.pop(probe)
        for volume in spec["volumes"]:
            if "secret" in volume:
                path = (secrets or {})[volume.pop("secret")["secretName"]]
                volume["hostPath"] = {"path": str(path), "type": "Directory"}
        (folder / "pod.json").write_text(json.dumps(played))
        (folder / "containers.conf").write_text(CONTAINERS)
        self._env = {"CONTAINERS_CONF": str(folder / "containers.conf")}
        self.name = f"{deployment['metadata']['name']}-pod-0"

    def __enter__(self) -> Pod:
        self._podman("kube", "play", "--network=host", str(self._folder / "pod.json"))
        return self

    def __exit__(self, *_: object) -> None:
        self._podman("pod", "rm", "--force", "--time=0", self.name)

    def stop(self, grace: int) -> int:
        """SIGTERM, and SIGKILL after `grace` seconds. The exit code."""
        self._podman("pod", "stop", f"--time={grace}", self.name)
        return int(self._podman("inspect", "--format={{.State.ExitCode}}", self._container))

    def exec(self, *command: str) -> tuple[int, str]:
        """As an exec probe runs. The exit code, and what was printed."""
        done = subprocess.run(
            ["podman", "exec", self._container, *command],
            env={**os.environ, **self._env},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    @property
    def log(self) -> str:
        return self._podman("logs", self._container)

    @property
    def _container(self) -> str:
        return f"{self.name}-flyteagents"

    def _podman(self, *arguments: str) -> str:
        return run(["podman", *arguments], self._env)


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
