"""Plugins are found, checked and refused at start."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from importlib_metadata import Distribution, EntryPoint

from flyteagents._kernel.plugins import Found, discover

GOOD = """
    from flyteagents import Agent, Job, Settings, Status, hookimpl
    from pydantic import BaseModel

    API = 1

    class Config(BaseModel):
        pass

    class TheirSettings(Settings):
        url: str = "http://localhost"

    class TheirAgent(Agent[TheirSettings, Config, Job]):
        task_type = "{task_type}"
        idempotency = "none"

        async def create(self, task, call):
            return Job()

        async def get(self, job, call):
            return Status(None)

        async def cancel(self, job, call):
            pass

    @hookimpl
    def register_agents():
        return [TheirAgent]
"""
QUIET = {"FLYTEAGENTS_METRICS_PORT": "0", "FLYTEAGENTS_DRAIN_DELAY": "0"}
Install = Callable[..., EntryPoint]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with a plugin where Python finds it, as pip would."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name in list(os.environ):
        if name.startswith("FLYTEAGENTS_"):
            monkeypatch.delenv(name)

    def install(
        name: str, source: str = GOOD, *, package: str | None = None, task_type: str | None = None
    ) -> EntryPoint:
        package = package or f"{name}-agents"
        module = package.replace("-", "_")
        source = textwrap.dedent(source)
        if "{task_type}" in source:
            source = source.replace("{task_type}", task_type or f"{name}_job")
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[flyteagents]\n{name} = {module}\n")
        point: EntryPoint = next(iter(Distribution.at(info).entry_points))
        return point

    return install


def found(*points: EntryPoint, chosen: tuple[str, ...] | None = None) -> Found:
    return discover(chosen, lambda: points)


def cause(*points: EntryPoint) -> str:
    broken = found(*points).broken
    assert broken, "nothing was refused"
    return "; ".join(map(str, broken))


def test_a_plugin_is_known_with_its_package_and_version(install: Install) -> None:
    (plugin,) = found(install("ours")).plugins
    assert (plugin.name, plugin.package, plugin.version) == ("ours", "ours-agents", "1.2")
    assert [agent.task_types for agent in plugin.agents] == [("ours_job",)]


def test_a_plugins_settings_are_read_with_its_prefix(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTEAGENTS_READS_URL", "http://elsewhere")
    (plugin,) = found(install("reads")).plugins
    (settings,) = plugin.settings.values()
    assert settings.model_dump() == {"url": "http://elsewhere"}


@pytest.mark.parametrize(
    ("name", "before", "after", "says"),
    [
        (
            "b_import",
            "from pydantic",
            "import not_there\nfrom pydantic",
            "No module named 'not_there' (",
        ),
        ("b_enum", "API = 1", "API = 1\nint.x", "has no attribute 'x' ("),
        ("b_exit", "API = 1", "API = 1\nraise SystemExit(3)", "SystemExit"),
        ("b_api", "API = 1", "API = 2", "API 2, this kernel has API 1"),
        ("b_none", "API = 1", "", "put `API = 1` into it"),
        ("b_hook", "def register_agents()", "def register_agents(extra)", "wrong hook"),
        ("b_nohook", "@hookimpl", "", "no @hookimpl"),
        ("b_empty", "return [TheirAgent]", "return []", "no agents"),
        ("b_class", "return [TheirAgent]", "return [int]", "not an Agent"),
        ("b_raise", "return [TheirAgent]", "raise KeyError('x')", "KeyError"),
        ("b_sync", "async def get", "def get", "must be an async def"),
        ("b_get", "async def get", "async def fetch", "does not define get"),
        ("b_idem", '"none"', '"maybe"', "idempotency"),
        ("b_look", '"none"', '"lookup"', "no find"),
        ("b_type", 'task_type = "{task_type}"', "pass", "has no task_type"),
        ("b_models", "Agent[TheirSettings, Config, Job]", "Agent", "must name its models"),
        (
            "b_json",
            'url: str = "http://localhost"',
            "of: dict[str, str] = {}",
            "FLYTEAGENTS_B_JSON_",
        ),
        ("b_alone", "return [TheirAgent]", "return TheirAgent", "return a list"),
        ("b_text", "return [TheirAgent]", "return 'TheirAgent'", "return a list"),
        ("b_setting", 'url: str = "http://localhost"', "url: str", "FLYTEAGENTS_B_SETTING_URL"),
    ],
)
def test_a_mistake_is_refused_in_words_that_name_it(
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    before: str,
    after: str,
    says: str,
) -> None:
    assert before in GOOD
    monkeypatch.setenv("FLYTEAGENTS_B_JSON_OF", "{not json")
    text = cause(install(name, textwrap.dedent(GOOD).replace(before, after)))
    assert says in text
    assert f"{name}-agents 1.2" in text


def test_two_plugins_for_one_task_type_are_both_refused_by_package(install: Install) -> None:
    text = cause(install("one", task_type="same"), install("two", task_type="same"))
    assert "one-agents 1.2 and two-agents 1.2" in text
    assert "same" in text


def test_two_agents_of_one_name_are_refused(install: Install) -> None:
    named = textwrap.dedent(GOOD).replace("idempotency =", 'name = "shared"; idempotency =')
    text = cause(
        install("left", named.replace("{task_type}", "l")),
        install("right", named.replace("{task_type}", "r")),
    )
    assert "name shared" in text


def test_the_models_of_a_family_of_agents_may_be_split_over_its_classes(install: Install) -> None:
    split = textwrap.dedent(GOOD).replace(
        "class TheirAgent(Agent[TheirSettings, Config, Job]):",
        "from typing import TypeVar\nJobT = TypeVar('JobT', bound=Job)\n"
        "class Mine(Job): pass\n"
        "class Base(Agent[TheirSettings, Config, JobT]): pass\n"
        "class TheirAgent(Base[Mine]):",
    )
    (plugin,) = found(install("family", split)).plugins
    job = plugin.agents[0].models.job
    assert job is not None
    assert job.__name__ == "Mine"


def test_two_packages_with_one_plugin_name_are_refused_by_package(install: Install) -> None:
    text = cause(install("twin"), install("twin", package="other-agents"))
    assert "other-agents 1.2 and twin-agents 1.2" in text


def test_only_the_chosen_plugins_are_imported(install: Install) -> None:
    points = install("wanted"), install("unwanted", "raise RuntimeError")
    result = found(*points, chosen=("wanted",))
    assert [plugin.name for plugin in result.plugins] == ["wanted"]
    assert not result.broken


def test_a_name_that_nobody_offers_is_broken_and_the_offers_are_named(install: Install) -> None:
    result = found(install("there"), chosen=("their",))
    assert "there are: there" in str(result.broken[0])


def test_a_plugin_whose_settings_would_collide_with_the_kernels_is_refused(
    install: Install,
) -> None:
    assert "FLYTEAGENTS_METRICS_HOST" in cause(install("metrics"))


def test_an_import_that_fails_is_told_with_its_line(install: Install) -> None:
    assert cause(install("b_line", "API = 1\n\nint.x")).endswith("b_line_agents.py, line 3)")


def test_all_failures_are_collected(install: Install) -> None:
    points = install("bad_a", "raise RuntimeError"), install("bad_b", "API = 9"), install("good")
    result = found(*points)
    assert [broken.name for broken in result.broken] == ["bad_a", "bad_b"]
    assert [plugin.name for plugin in result.plugins] == ["good"]


def serve(**environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flyteagents", "serve", "--port", "0"],
        env={
            **os.environ,
            "FLYTEAGENTS_METRICS_PORT": "0",
            "FLYTEAGENTS_DRAIN_DELAY": "0",
            **environ,
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_server_with_broken_plugins_exits_with_78_and_says_why(install: Install) -> None:
    install("broken_a", "import not_there")
    install("broken_b", "API = 9")
    started = time.monotonic()
    with serve(FLYTEAGENTS_PLUGINS="broken_a,broken_b") as server:
        _, text = server.communicate(timeout=60)
    assert server.returncode == 78
    assert "broken_a-agents 1.2" in text
    assert "broken_b-agents 1.2" in text
    assert "FLYTEAGENTS_ON_BROKEN_PLUGIN=skip" in text
    assert "Traceback" not in text
    print(f"refused after {time.monotonic() - started:.2f} s")


def test_an_agent_that_cannot_open_stops_the_server_with_its_package(install: Install) -> None:
    opening = 'async def open(self):\n        raise OSError("no disk")\n\n    async def get'
    install("broken_d", textwrap.dedent(GOOD).replace("async def get", opening))
    with serve(FLYTEAGENTS_PLUGINS="broken_d") as server:
        _, text = server.communicate(timeout=60)
    assert server.returncode == 78
    assert "broken_d-agents 1.2" in text
    assert "its agent for broken_d_job cannot open: OSError: no disk" in text
    assert "Traceback" not in text


def test_a_server_told_to_skip_broken_plugins_starts_without_them(install: Install) -> None:
    install("broken_c", "import not_there")
    opening = 'async def open(self):\n        raise OSError("no disk")\n\n    async def get'
    install("broken_e", textwrap.dedent(GOOD).replace("async def get", opening))
    install("fine")
    chosen = "broken_c,broken_e,fine"
    with serve(FLYTEAGENTS_PLUGINS=chosen, FLYTEAGENTS_ON_BROKEN_PLUGIN="skip") as server:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if "serves" in line:
                break
        server.terminate()
        server.stderr.read()
        assert server.wait(60) == 0
    assert "broken_c-agents 1.2" in "".join(lines)
    assert "broken_e-agents 1.2" in "".join(lines)
    assert "serves fine_job" in lines[-1]
