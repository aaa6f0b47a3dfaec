"""The image: what is in it, and how it runs and ends where nothing may be written."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
from pathlib import Path

import grpc
import pytest
from tests.deploy import images
from tests.deploy.charts import Document, Helm, one
from tests.deploy.conftest import SECRET, Image, vendors

from flyteagents.testing import Attempt, Caller, free_port, task_template

HADOLINT = images.ROOT / ".cache/venvs/deploy/bin/hadolint"
MOST_MEGABYTES = 180
NOT_NEEDED = {
    "sh",
    "bash",
    "dash",
    "busybox",
    "pip",
    "pip3",
    "apt",
    "apt-get",
    "dpkg",
    "gcc",
    "cc",
    "ld",
    "make",
    "perl",
    "curl",
    "wget",
}


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    if not HADOLINT.exists():
        pytest.skip("no hadolint here; make deploy-check installs it")
    found = subprocess.run(
        [HADOLINT, "deploy/Dockerfile"], cwd=images.ROOT, capture_output=True, check=False
    )
    assert found.stdout + found.stderr == b""
    assert found.returncode == 0


def test_the_build_ends_with_the_name_of_the_image_and_what_it_weighs(
    vendors_image: Image,
) -> None:
    name, size, unit = vendors_image.printed.split()
    assert name == vendors_image.name
    assert unit == "MB"
    assert int(size) <= MOST_MEGABYTES


def test_the_image_holds_the_chosen_plugins_and_no_others(vendors_image: Image) -> None:
    listed = json.loads(
        images.run(
            [*images.PODMAN, "run", "--rm", *images.HARDENED, vendors_image.name, "list", "--json"]
        )
    )
    assert sorted(plugin["name"] for plugin in listed["plugins"]) == vendors()
    assert listed["broken"] == []


def test_no_shell_no_package_manager_and_no_compiler_is_in_the_image(
    vendors_image: Image,
) -> None:
    programs, modules = set(), set()
    for file in images.files(vendors_image.name):
        path = Path(file.name)
        if path.parent.name in ("bin", "sbin"):
            programs.add(path.name)
        if path.parent.name in ("app", "dist-packages", "site-packages"):
            modules.add(path.name)
        assert not file.mode & (stat.S_ISUID | stat.S_ISGID), file.name
    assert "flyteagents" in programs
    assert "grpc" in modules
    assert programs & NOT_NEEDED == set()
    assert modules & {"pip", "setuptools", "wheel"} == set()


def test_the_image_says_what_it_is_and_runs_as_nobody_in_particular(vendors_image: Image) -> None:
    config = images.inspect(vendors_image.name)["Config"]
    labels = config["Labels"]
    assert config["User"] == "10001:10001"
    assert config["Cmd"] == ["serve"]
    assert labels["org.opencontainers.image.title"] == "flyteagents"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    for name in ("version", "created", "description", "revision"):
        assert labels[f"org.opencontainers.image.{name}"], name


def test_the_password_of_the_index_is_in_no_layer(vendors_image: Image, tmp_path: Path) -> None:
    layers = images.save(vendors_image.name, tmp_path)
    assert layers
    for layer in layers:
        # zcat -f passes on what is not packed.
        found = subprocess.run(
            f"zcat -f {layer} | grep -c -a {SECRET}",
            shell=True,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.stdout.strip() == "0"


def test_a_plugin_that_does_not_exist_stops_the_build_in_words(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            "python3",
            "deploy/install_plugins.py",
            "--into",
            tmp_path / "app",
            "--launcher",
            tmp_path / "launcher",
        ],
        cwd=images.ROOT,
        env={"PLUGINS": "bigqery", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("PLUGINS: there is no plugin 'bigqery' in this checkout")
    assert "bigquery" in done.stderr


def deployment(helm: Helm, image: Image, port: int, **own: object) -> Document:
    """What the chart makes for a service, on a port that is free here."""
    name, _, tag = image.name.partition(":")
    values = one(
        plugins=vendors(), image={"repository": name, "tag": tag}, drain={"delay": 2}, **own
    )
    found = helm.render(values).one("Deployment")
    [container] = found["spec"]["template"]["spec"]["containers"]
    container["env"] += [
        {"name": "FLYTEAGENTS_PORT", "value": str(port)},
        {"name": "FLYTEAGENTS_METRICS_PORT", "value": str(free_port())},
    ]
    return found


async def test_the_charts_pod_serves_and_drains_under_load(
    helm: Helm, vendors_image: Image, tmp_path: Path
) -> None:
    port = free_port()
    with images.Pod(deployment(helm, vendors_image, port), tmp_path) as pod:
        async with Caller(f"127.0.0.1:{port}", deadline=5.0, wait_for_ready=True) as calls:
            work = Attempt(
                task_template("bigquery_query_job_task", custom={"Project": "p"}, sql="SELECT 1")
            )
            created = await calls.create(work, deadline=60.0)
            assert created.ok, created
            codes: list[str] = []

            async def poll() -> None:
                while not stopping.done() and "UNAVAILABLE" not in codes:
                    codes.append((await calls.get(work, created.meta, deadline=1.0)).code)
                    await asyncio.sleep(0.01)

            stopping = asyncio.ensure_future(asyncio.to_thread(pod.stop, 70))
            # Callers that hear of it move to other replicas; until then every call is answered.
            await asyncio.gather(*(poll() for _ in range(8)))
            assert await stopping == 0, pod.log
    assert codes.count("OK") > 200
    # gRPC cancels what comes in the moment of the stop; docs/deploy.md has the figures.
    assert codes.count("CANCELLED") <= 8
    assert set(codes) <= {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}


def test_the_pod_may_write_to_its_volume_only_and_has_no_shell_to_ask(
    helm: Helm, vendors_image: Image, tmp_path: Path
) -> None:
    with images.Pod(deployment(helm, vendors_image, free_port()), tmp_path) as pod:
        code, said = pod.exec("sh", "-c", "true")
        assert code != 0
        assert "not found" in said or "no such file" in said.lower()
        write = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('x')"
        refused = [
            place
            for place in ("/x", "/app/x", "/etc/x", "/tmp/x")
            if pod.exec("python3", "-c", write, place)[0]
        ]
    assert refused == ["/x", "/app/x", "/etc/x"]


async def test_with_tls_the_probes_command_asks_the_server_of_its_own_pod(
    helm: Helm, vendors_image: Image, tmp_path: Path, tls: Path
) -> None:
    port = free_port()
    made = deployment(helm, vendors_image, port, tls={"secret": "agents-tls"})
    [container] = made["spec"]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]["exec"]["command"]
    trusted = grpc.ssl_channel_credentials((tls / "tls.crt").read_bytes())
    with images.Pod(made, tmp_path, {"agents-tls": tls}) as pod:
        async with Caller(f"localhost:{port}", tls=trusted) as calls:
            for _ in range(300):
                if (listed := await calls.list_agents()).ok:
                    break
                await asyncio.sleep(0.1)
            assert listed.ok, pod.log
        code, said = pod.exec(*probe)
    assert code == 0, said
