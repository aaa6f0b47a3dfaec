"""What the interop tests share: the built client, the vendor, servers and their settings."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.interop.propeller import Propeller, build
from tests.interop.vendor import VendorService

from flyteagents.testing import RealServer

MakePropeller = Callable[..., Propeller]

_HERE = Path(__file__).parent
_names = itertools.count(1)


@pytest.fixture(scope="session")
def interop_binary() -> Path:
    if shutil.which("go") is None:
        pytest.skip("no Go here, so FlytePropeller's own code cannot be built")
    return build(_HERE, _HERE.parents[1] / ".cache" / "interop")


def _installed() -> set[str]:
    return {point.name for point in entry_points(group="flyteagents")}


def _need(plugin: str) -> None:
    if plugin not in _installed():
        reason = f"the plugin {plugin} is not installed here; make interop installs it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def duckdb_plugin() -> None:
    _need("duckdb")


@pytest.fixture
def acme_plugin() -> None:
    _need("acme")


@pytest.fixture(scope="session")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VendorService]:
    service = VendorService(tmp_path_factory.mktemp("vendor") / "log.txt")
    yield service
    service.close()


@pytest.fixture(scope="session")
def interop_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that makes agents.py an installed plugin for a process that has it on its path."""
    folder = tmp_path_factory.mktemp("plugin")
    metadata = folder / "flyteagents_interop-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: flyteagents-interop\nVersion: 1\n"
    )
    (metadata / "entry_points.txt").write_text("[flyteagents]\ninterop = interop_agents\n")
    shutil.copy(_HERE / "agents.py", folder / "interop_agents.py")
    return folder


@pytest.fixture
def server(tmp_path: Path, interop_plugin: Path, vendor: VendorService) -> Iterator[RealServer]:
    """A server with the interop plugin, and with DuckDB and acme where they are installed."""
    optional = {
        "duckdb": {"FLYTEAGENTS_DUCKDB_DATA_DIR": str(tmp_path / "duckdb")},
        "acme": {"FLYTEAGENTS_ACME_URL": vendor.url, "FLYTEAGENTS_SECRET_ACME_TOKEN": "any"},
    }
    plugins, env = ["interop"], {"FLYTEAGENTS_INTEROP_VENDOR": vendor.url}
    for name in sorted(_installed() & set(optional)):
        plugins.append(name)
        env |= optional[name]
    with RealServer(plugins, env, [interop_plugin]) as server:
        yield server


@pytest.fixture
def make_propeller(tmp_path: Path, interop_binary: Path) -> Iterator[MakePropeller]:
    """Makes Propellers with a configuration: the shipped one, or another."""
    made: list[Propeller] = []

    def make(port: int, config: dict[str, Any] | None = None) -> Propeller:
        number = next(_names)
        file = tmp_path / f"propeller-{number}.yaml"
        file.write_text(yaml.safe_dump(aimed(config or as_shipped(), port)))
        propeller = Propeller(interop_binary, tmp_path / f"run-{number}", file)
        made.append(propeller)
        return propeller

    yield make
    for propeller in made:
        propeller.kill()


def as_shipped() -> dict[str, Any]:
    """What a team has that only says where its agent service is."""
    return {
        "tasks": {"task-plugins": {"enabled-plugins": ["connector-service"]}},
        "plugins": {"connector-service": {"defaultConnector": {"insecure": True}}},
    }


def patient() -> dict[str, Any]:
    """Calls wait for a server instead of failing at once."""
    config = as_shipped()
    service = {"name": [{"service": "flyteidl.service.AsyncAgentService"}], "waitForReady": True}
    settings = {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [service]}
    default = config["plugins"]["connector-service"]["defaultConnector"]
    default["defaultServiceConfig"] = json.dumps(settings)
    return config


def aimed(config: dict[str, Any], port: int) -> dict[str, Any]:
    """The same for a server on this machine, polled as often as the plugin allows."""
    section = config["plugins"]["connector-service"]
    section["defaultConnector"]["endpoint"] = f"dns:///127.0.0.1:{port}"
    section.setdefault("webApi", {}).setdefault("caching", {})["resyncInterval"] = "5s"
    return config
