"""What the chart prints for Flyte: the same as `flyteagents propeller-config`, and in the form that
Flyte reads, beside the files of Flyte's own charts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.charts import CHART, ROOT, Helm, Refused

LOADER = ROOT / ".cache/interop/interop"
TWO: dict[str, Any] = {
    "services": {
        "engine": {"plugins": ["duckdb"], "replicas": 1},
        "warehouse": {"plugins": ["bigquery", "snowflake"], "route": {"default": True}},
    }
}
# 001-plugins.yaml, as flyte-binary 1.16.8 and 2.0 render it.
FLYTE_1 = """
tasks:
  task-plugins:
    enabled-plugins: [container, sidecar, k8s-array, connector-service, echo]
    default-for-task-types: {container: container, sidecar: sidecar, container_array: k8s-array}
"""
FLYTE_2 = """
tasks:
  task-plugins:
    default-for-task-types: {container: container, sidecar: sidecar, container_array: k8s-array}
"""


def printed(helm: Helm, values: dict[str, Any], generation: int) -> dict[str, Any]:
    """The configuration for a generation of Flyte that `helm install` prints."""
    parts = re.split(r"^==== Flyte (\d) ====$", helm.render(values).notes, flags=re.MULTILINE)
    text = dict(zip(parts[1::2], parts[2::2], strict=True))[str(generation)]
    return dict(yaml.safe_load(text[text.index("\ntasks:") :]))


def command(*arguments: str, plugins: str) -> dict[str, Any]:
    """What `flyteagents propeller-config` prints where these plugins are installed."""
    done = subprocess.run(
        [sys.executable, "-m", "flyteagents", "propeller-config", *arguments],
        env={**os.environ, "FLYTEAGENTS_PLUGINS": plugins},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout))


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """The same with gRPC's settings as what they say."""
    text = json.dumps(config)
    return dict(json.loads(text, object_hook=_service_config))


def _service_config(found: dict[str, Any]) -> dict[str, Any]:
    if "defaultServiceConfig" in found:
        found["defaultServiceConfig"] = json.loads(found["defaultServiceConfig"])
    return found


def endpoint(service: str) -> str:
    return f"dns:///flyteagents-{service}.agents.svc.cluster.local:8000"


def test_the_charts_table_has_the_task_types_that_flyteagents_list_shows() -> None:
    text = (CHART / "templates" / "_task-types.tpl").read_text()
    table = yaml.safe_load(text.partition("-}}\n")[2].partition("{{-")[0])
    listed = json.loads(
        subprocess.run(
            [sys.executable, "-m", "flyteagents", "list", "--json"],
            capture_output=True,
            check=True,
        ).stdout
    )
    ours = {path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml")}
    found = {
        plugin["name"]: sorted(agent["task_type"] for agent in plugin["agents"])
        for plugin in listed["plugins"]
        if plugin["name"] in ours
    }
    assert found.keys() == ours
    assert {name: sorted(types) for name, types in table.items() if name in ours} == found


@pytest.mark.parametrize("generation", [1, 2])
def test_one_service_is_routed_as_the_command_says(helm: Helm, generation: int) -> None:
    values = {"services": {"production": {"plugins": ["duckdb"], "replicas": 1}}}
    said = command(
        *(["--flyte2"] if generation == 2 else []),
        "--endpoint",
        endpoint("production"),
        plugins="duckdb",
    )
    assert plain(said) == plain(printed(helm, values, generation))


@pytest.mark.parametrize("generation", [1, 2])
def test_several_services_are_routed_as_the_command_says(helm: Helm, generation: int) -> None:
    said = command(
        *(["--flyte2"] if generation == 2 else []),
        "--service",
        f"engine={endpoint('engine')}=duckdb_query",
        "--service",
        f"warehouse={endpoint('warehouse')}=bigquery_query_job_task,snowflake",
        plugins="duckdb,bigquery",
    )
    values = {
        "services": {
            "engine": TWO["services"]["engine"],
            "warehouse": {"plugins": ["bigquery", "snowflake"]},
        }
    }
    assert plain(said) == plain(printed(helm, values, generation))


def test_the_default_takes_its_types_unnamed_and_the_others_are_pinned(helm: Helm) -> None:
    section = printed(helm, TWO, 1)["plugins"]["connector-service"]
    assert section["defaultConnector"]["endpoint"] == endpoint("warehouse")
    assert section["connectors"]["engine"]["endpoint"] == endpoint("engine")
    assert section["connectorForTaskTypes"] == [{"duckdb_query": "engine"}]
    assert section["supportedTaskTypes"] == ["bigquery_query_job_task", "duckdb_query", "snowflake"]


def test_a_type_that_ends_within_the_call_is_pinned_in_flyte_2_only(helm: Helm) -> None:
    quick = {"plugins": ["acme"], "taskTypes": ["acme_job"], "syncTaskTypes": ["acme_quick"]}
    values = {"services": {**TWO["services"], "acme": quick}}
    pins = {
        generation: printed(helm, values, generation)["plugins"]["connector-service"][
            "connectorForTaskTypes"
        ]
        for generation in (1, 2)
    }
    assert {"acme_job": "acme"} in pins[1]
    assert {"acme_quick": "acme"} not in pins[1]
    assert {"acme_quick": "acme"} in pins[2]


def test_a_domains_own_service_is_an_entry_of_flyte_2_and_unknown_to_flyte_1(helm: Helm) -> None:
    values = {
        "services": {
            **TWO["services"],
            "development": {"plugins": ["bigquery"], "route": {"domain": "development"}},
        }
    }
    two = printed(helm, values, 2)["plugins"]["connector-service"]
    assert two["connectors"]["development"]["domain"] == "development"
    assert two["connectors"]["development"]["endpoint"] == endpoint("development")
    assert "domain" not in two["defaultConnector"]
    assert printed(helm, values, 1) == printed(helm, TWO, 1)
    assert "Flyte 1 cannot tell domains apart" in helm.render(values).notes


@pytest.mark.parametrize(("setting", "served"), [(True, True), ("false", False)])
def test_the_older_type_of_databricks_is_routed_where_the_agent_serves_it(
    helm: Helm, setting: object, served: bool
) -> None:
    own = {"plugins": ["databricks"], "env": {"FLYTEAGENTS_DATABRICKS_SERVE_SPARK": setting}}
    section = printed(helm, {"services": {"one": own}}, 1)["plugins"]["connector-service"]
    assert ("spark" in section["supportedTaskTypes"]) is served


def test_a_service_that_another_flyte_calls_is_not_routed(helm: Helm) -> None:
    aside = {"plugins": ["bigquery"], "route": {"enabled": False}}
    values = {"services": {**TWO["services"], "aside": aside}}
    assert printed(helm, values, 2) == printed(helm, TWO, 2)


def test_with_tls_flyte_is_told_to_use_it(helm: Helm) -> None:
    values = {"services": {"one": {"plugins": ["bigquery"], "tls": {"secret": "x"}}}}
    section = printed(helm, values, 1)["plugins"]["connector-service"]
    assert section["defaultConnector"]["insecure"] is False


@pytest.mark.parametrize(
    ("services", "named"),
    [
        (
            {"a": {"plugins": ["bigquery"]}, "b": {"plugins": ["bigquery"]}},
            "services.b.route: bigquery_query_job_task goes to a already; set route.domain",
        ),
        (
            {
                "a": {"plugins": ["bigquery"], "route": {"default": True}},
                "b": {"plugins": ["snowflake"], "route": {"default": True}},
            },
            "services.b.route.default: there is one default, and a is it already",
        ),
        (
            {"a": {"plugins": ["bigquery"], "route": {"default": True, "domain": "x"}}},
            "services.a.route: the default takes what no project and no domain takes",
        ),
    ],
)
def test_routes_that_contradict_each_other_are_refused(
    helm: Helm, services: dict[str, Any], named: str
) -> None:
    with pytest.raises(Refused, match=re.escape(named)):
        helm.render({"services": services})


@pytest.mark.parametrize("generation", [1, 2])
def test_the_config_maps_hold_what_is_printed(helm: Helm, generation: int) -> None:
    values = {**TWO, "flyte": {"configMaps": {"enabled": True, "namespace": "control"}}}
    held = helm.render(values).all("ConfigMap")[f"flyteagents-flyte{generation}"]
    assert held["metadata"]["namespace"] == "control"
    # flyte-binary reads *.yaml in the order of their names, after its own 000 to 100.
    [(name, text)] = held["data"].items()
    assert name == "200-flyteagents.yaml"
    assert yaml.safe_load(text) == printed(helm, values, generation)


def test_flytes_own_charts_take_the_text_for_no_template_of_theirs(helm: Helm) -> None:
    # They pass their values through `tpl`.
    for generation in (1, 2):
        assert "{{" not in yaml.safe_dump(printed(helm, TWO, generation), width=10000)


def loaded(*texts: str, folder: Path) -> dict[str, Any]:
    """What Flyte's own loader makes of several files, in their order."""
    if not LOADER.exists():
        pytest.skip("Flyte's own loader is not built here; make interop builds it")
    files = []
    for number, text in enumerate(texts):
        files.append(folder / f"{number}.yaml")
        files[-1].write_text(text)
    done = subprocess.run(
        [LOADER, f"-config={','.join(map(str, files))}", "-settings"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(("generation", "chart"), [(1, FLYTE_1), (2, FLYTE_2)])
def test_flytes_own_loader_reads_it_beside_the_files_of_flytes_own_chart(
    helm: Helm, generation: int, chart: str, tmp_path: Path
) -> None:
    settings = loaded(chart, yaml.safe_dump(printed(helm, TWO, generation)), folder=tmp_path)
    plugin = settings["connector_service"]
    assert plugin["defaultConnector"]["endpoint"] == endpoint("warehouse")
    assert plugin["defaultConnector"]["timeouts"]["CreateTask"] == "1m0s"
    assert plugin["connectors"]["engine"]["timeouts"]["GetTask"] == "10s"
    assert plugin["connectorForTaskTypes"] == {"duckdb_query": "engine"}
    assert plugin["webApi"]["caching"]["maxSystemFailures"] == 100000
    routes = settings["default_for_task_types"]
    assert routes["container_array"] == "k8s-array"
    if generation == 2:
        assert routes["snowflake"] == "connector-service"
    else:
        assert "connector-service" in settings["enabled_plugins"]


def test_flytes_loader_drops_a_list_where_another_file_has_a_map(tmp_path: Path) -> None:
    as_list = """
tasks:
  task-plugins:
    default-for-task-types: [{snowflake: connector-service}]
"""
    assert "snowflake" not in loaded(FLYTE_2, as_list, folder=tmp_path)["default_for_task_types"]
