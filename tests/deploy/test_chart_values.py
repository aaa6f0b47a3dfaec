"""Which values the chart refuses, and that its README has a line for each that it takes."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml
from tests.deploy.charts import CHART, Helm, Refused, one, read

# A value that is misspelt or wrong, and what the refusal names.
WRONG = [
    ({"service": {}}, "additional properties 'service' not allowed"),
    ({"services": {"Prod": {}}}, "at '/services': additional properties 'Prod' not allowed"),
    ({"flyte": {"generation": [1]}}, "at '/flyte': additional properties 'generation'"),
    ({"flyte": {"generations": [3]}}, "at '/flyte/generations/0'"),
    ({"flyte": {"resyncInterval": "often"}}, "at '/flyte/resyncInterval'"),
    ({"flyte": {"configMaps": {"enable": True}}}, "at '/flyte/configMaps'"),
    (one(replica=2), "at '/services/production': additional properties 'replica'"),
    (one(replicas="two"), "at '/services/production/replicas'"),
    (one(plugins="bigquery"), "at '/services/production/plugins'"),
    (one(plugins=["BigQuery"]), "at '/services/production/plugins/0'"),
    (one(plugins=[]), "services.production.plugins: name at least one plugin"),
    (one(plugins=["acme"]), "services.production.taskTypes: the chart does not know"),
    (one(taskTypes=["a b"]), "at '/services/production/taskTypes/0'"),
    (one(image="x"), "at '/services/production/image'"),
    (one(image={"tagg": "x"}), "at '/services/production/image': additional properties 'tagg'"),
    (one(image={"pullPolicy": "always"}), "at '/services/production/image/pullPolicy'"),
    (one(image={"digest": "sha256:1"}), "at '/services/production/image/digest'"),
    (one(allow=["sales"]), "at '/services/production/allow/0'"),
    (one(env={"A-B": 1}), "at '/services/production/env': additional properties 'A-B'"),
    (one(env={"A": {}}), "at '/services/production/env/A'"),
    (one(env={"FLYTEAGENTS_PORT": 1}), "services.production.env.FLYTEAGENTS_PORT"),
    (one(secrets=["keys"]), "at '/services/production/secrets/0'"),
    (one(secrets=[{"nam": "keys"}]), "at '/services/production/secrets/0'"),
    (one(credentials={"bigquery": [{"tenants": "sales"}]}), "/credentials/bigquery/0"),
    (one(tokens=[{"name": "x"}]), "/tokens/0': missing property 'audience'"),
    (one(tokens=[{"name": "x", "audience": "y", "expirationSeconds": 60}]), "/tokens/0/expiration"),
    (one(namespaceSecrets={"names": []}), "at '/services/production/namespaceSecrets/names'"),
    (
        one(namespaceSecrets={"enabled": True, "serviceAccounts": True}),
        "services.production.namespaceSecrets.namespaces: name the namespaces",
    ),
    (one(serviceAccount={"annotation": {}}), "at '/services/production/serviceAccount'"),
    (one(tls={"certificate": "x"}), "at '/services/production/tls'"),
    (one(tls={"issuer": {"kind": "Issuer"}}), "at '/services/production/tls/issuer'"),
    (one(tls={"secret": "a", "issuer": {"name": "b"}}), "services.production.tls: set secret, or"),
    (one(route={"domains": ["x"]}), "at '/services/production/route'"),
    (one(resources={"request": {}}), "at '/services/production/resources'"),
    (one(duckdb={"size": "much"}), "at '/services/production/duckdb/size'"),
    (one(plugins=["duckdb"]), "services.production.duckdb.claim: several replicas must share"),
    (one(volumes={"a": 1}), "at '/services/production/volumes'"),
    (one(drain={"delay": -1}), "at '/services/production/drain/delay'"),
    (one(drain={"limit": 0}), "at '/services/production/drain/limit'"),
    (one(probes={"liveness": {"period": 1}}), "at '/services/production/probes/liveness'"),
    (one(disruption={"maxUnavailable": "some"}), "/services/production/disruption/maxUnavailable"),
    (one(spread={"whenUnsatisfiable": "Never"}), "/services/production/spread/whenUnsatisfiable"),
    (one(autoscaling={"minReplicas": 0}), "at '/services/production/autoscaling/minReplicas'"),
    (one(autoscaling={"enabled": True, "maxReplicas": 1}), "services.production.autoscaling: max"),
    (one(networkPolicy={"callers": []}), "at '/services/production/networkPolicy/callers'"),
    (one(serviceMonitor={"interval": 30}), "at '/services/production/serviceMonitor/interval'"),
    (one(otlp={"endpoint": "collector:4317"}), "at '/services/production/otlp/endpoint'"),
    (one(otlp={"protocol": "http"}), "at '/services/production/otlp/protocol'"),
    (
        {
            "services": {"a": {"plugins": ["bigquery"]}, "b": {"plugins": ["snowflake"]}},
            "defaults": {"serviceAccount": {"name": "one"}},
        },
        "services.b.serviceAccount: one is made for a already",
    ),
    (one(podLabels={"a": 1}), "at '/services/production/podLabels/a'"),
]


@pytest.mark.parametrize(("values", "named"), WRONG)
def test_a_wrong_value_is_refused_with_its_path(
    helm: Helm, values: dict[str, Any], named: str
) -> None:
    with pytest.raises(Refused, match=re.escape(named)):
        helm.render(values)


def test_every_part_of_the_schema_refuses_what_it_does_not_know(helm: Helm) -> None:
    # Of objects that are passed on as Kubernetes has them, Kubernetes itself is the judge.
    passed_on = {"affinity", "resources.requests", "resources.limits"}
    texts = {
        "nodeSelector",
        "podLabels",
        "podAnnotations",
        "serviceAccount.annotations",
        "serviceMonitor.labels",
        "env",
        "credentials",
    }
    for path in sorted(objects(defaults())):
        if path in passed_on | texts:
            continue
        service = copy.deepcopy(one()["services"]["production"])
        place = service
        for name in path.split("."):
            place = place.setdefault(name, {})
        place["misspelt"] = True
        with pytest.raises(Refused, match="misspelt"):
            helm.render({"services": {"production": service}})


def test_the_largest_values_set_every_value(helm: Helm) -> None:
    assert paths(read("largest")["defaults"]) >= paths(defaults())


def test_every_value_has_its_line_in_the_readme() -> None:
    readme = (CHART / "README.md").read_text()
    told = set(re.findall(r"^\| `([\w.]+)` \|", readme, re.MULTILINE))
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    known = {f"defaults.{path}" for path in leaves(values.pop("defaults"))}
    known |= leaves(values)
    # Four numbers each, and what Kubernetes takes: one line.
    known = {re.sub(r"(probes\.\w+|resources)\..*", r"\1", path) for path in known}
    assert told == known


def test_the_readme_shows_the_default_of_every_value() -> None:
    readme = (CHART / "README.md").read_text()
    lines = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \|", readme, re.MULTILINE)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path, shown in lines:
        value: Any = values
        for name in path.split("."):
            value = value[name]
        if value != "":  # what follows from another value is told in words
            assert yaml.safe_load(shown) == value, path


def defaults() -> dict[str, Any]:
    return dict(yaml.safe_load((CHART / "values.yaml").read_text())["defaults"])


def paths(values: dict[str, Any], prefix: str = "") -> set[str]:
    """The paths of all values, of maps and of what is in them."""
    found = set()
    for name, value in values.items():
        found.add(prefix + name)
        if isinstance(value, dict):
            found |= paths(value, f"{prefix}{name}.")
    return found


def objects(values: dict[str, Any], prefix: str = "") -> set[str]:
    """The paths of all maps."""
    found = set()
    for name, value in values.items():
        if isinstance(value, dict):
            found |= {prefix + name} | objects(value, f"{prefix}{name}.")
    return found


def leaves(values: dict[str, Any], prefix: str = "") -> set[str]:
    """The paths of all values that are no maps, and of empty maps."""
    found = set()
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found
