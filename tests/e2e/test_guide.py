"""What docs/write-an-agent.md says, done as a newcomer does it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.command import environment, wait_for

import flyteagents as fa
from flyteagents.testing import (
    AgentEnvironment,
    FakeVendor,
    JobService,
    Request,
    Response,
    SyncAgentEnvironment,
    free_port,
)

GUIDE = (Path(__file__).parents[2] / "docs" / "write-an-agent.md").read_text()


def blocks(language: str) -> list[str]:
    """What the page has in this language, before it comes to what need not be written."""
    told = GUIDE.partition("## What you do not write")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", told, re.S | re.M)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder that the page has its reader make."""
    source = tmp_path / "acme" / "src" / "acme_agent"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("\n".join(blocks("python")))
    (project,) = blocks("toml")
    (tmp_path / "acme" / "pyproject.toml").write_text(project)
    (task,) = blocks("yaml")
    (tmp_path / "acme" / "acme.yaml").write_text(task)
    return tmp_path / "acme"


def test_a_newcomer_has_an_agent_that_runs_with_what_the_page_shows(package: Path) -> None:
    *_, commands = re.findall(r"^```\n(.*?)^```$", GUIDE.partition("This prints")[0], re.S | re.M)
    install, vendor, settings, run = commands.splitlines()
    assert (install, run) == ("pip install .", "flyteagents run acme.yaml")

    # Beside this environment instead of in it, which has the example's own package.
    beside = package / "installed"
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", beside, package], check=True
    )
    port = str(free_port())
    assigned = dict(pair.split("=") for pair in settings.replace("9000", port).split()[1:])
    env = environment(FLYTEAGENTS_PLUGINS="acme", **assigned)
    env["PYTHONPATH"] = os.pathsep.join([str(beside), env["PYTHONPATH"]])

    words = vendor.replace("9000", port).removesuffix(" &").split()
    with subprocess.Popen(
        [sys.executable, *words[1:]], env=env, stdout=subprocess.PIPE, text=True
    ) as serving:
        try:
            wait_for(serving.stdout, "job service on")
            done = subprocess.run(
                [sys.executable, "-m", "flyteagents", *run.split()[1:]],
                cwd=package,
                env=env,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            serving.kill()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCEEDED" in done.stdout
    assert "rows = 3" in done.stdout
    listed = subprocess.run(
        [sys.executable, "-c", "import acme_agent; print(acme_agent.__file__)"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.startswith(str(beside)), "the page's own code ran"


def test_a_port_that_is_taken_is_told_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "flyteagents.testing.serve_jobs", "--port", port],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith(f"cannot listen on port {port}: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def shown() -> dict[str, Any]:
    """What all the page's code defines, also that of what is not in the example."""
    names: dict[str, Any] = {"__name__": "acme_agent"}
    # Without `from __future__ import annotations`, as on the page.
    source = "\n".join(re.findall(r"^```python\n(.*?)^```$", GUIDE, re.S | re.M))
    exec(compile(source, "docs/write-an-agent.md", "exec", dont_inherit=True), names)
    return names


async def test_the_pages_test_passes(shown: dict[str, Any]) -> None:
    await shown["test_a_script_becomes_a_job_that_runs"]()


async def test_the_pages_agent_fetches_its_token(shown: dict[str, Any]) -> None:
    async def answer(request: Request) -> Response:
        if request.path == "/oauth/token":
            assert request.headers["authorization"].startswith("Basic ")
            return Response(200, {"access_token": "fetched", "expires_in": 60})
        assert request.headers["authorization"] == "Bearer fetched"
        return Response(200, {"id": "job-1"})

    async with FakeVendor(answer) as vendor:
        settings = shown["AcmeSettings"](url=vendor.url)
        async with AgentEnvironment(
            shown["AcmeByOAuth"], settings=settings, secrets={"acme_client_secret": "x"}
        ) as env:
            job = await env.create(env.task(custom={"script": "sleep 1"}))
    assert job.id == "job-1"


async def test_the_pages_agent_for_a_vendor_that_can_only_search_finds_its_job(
    shown: dict[str, Any],
) -> None:
    async with (
        JobService() as vendor,
        AgentEnvironment(
            shown["AcmeByTag"],
            settings=shown["AcmeSettings"](url=vendor.url),
            secrets={"acme_token": "x"},
        ) as env,
    ):
        task = env.task(custom={"script": "sleep 60"})
        assert await env.find(task) is None
        job = await env.create(task)
        assert await env.find(task) == job
        assert await env.find(env.task(custom={"script": "forever"}, attempt=1)) is None
        with pytest.raises(fa.JobConflict, match="does other work"):
            await env.find(env.task(custom={"script": "forever"}))


async def test_the_pages_synchronous_agent_greets(shown: dict[str, Any]) -> None:
    async with SyncAgentEnvironment(shown["GreetAgent"]) as env:
        task = env.task(inputs={"name": "Ada"}, outputs={"o0": str})
        assert await env.run(task) == {"o0": "Hello, Ada"}
