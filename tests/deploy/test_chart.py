"""What the chart makes of its values, and which it refuses."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.charts import CHART, NEWEST, OLDEST, Document, Helm, Refused

VALUES = Path(__file__).parent / "values"
ONE: dict[str, Any] = {"services": {"production": {"plugins": ["bigquery"]}}}


def read(name: str) -> dict[str, Any]:
    """Values from a file; `default` are those of the chart alone."""
    return {} if name == "default" else yaml.safe_load((VALUES / f"{name}.yaml").read_text())


def one(**own: object) -> dict[str, Any]:
    """Values for one service that has BigQuery."""
    return {"services": {"production": {"plugins": ["bigquery"], **own}}}


def test_helm_lint_finds_nothing_but_that_there_is_no_icon(helm: Helm) -> None:
    assert [each["error"] for each in helm.lint()] == ["icon is recommended"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", ["default", "smallest", "largest"])
def test_kubernetes_takes_every_object_strictly(helm: Helm, values: str, version: str) -> None:
    rendered = helm.render(read(values))
    assert bool(rendered.documents) == (values != "default")
    assert helm.validate(rendered.documents, version) == []


def test_the_strict_validation_finds_a_misspelt_field(helm: Helm) -> None:
    rendered = helm.render(ONE)
    rendered.pod()["containers"][0]["imagePullPolicyy"] = "Always"
    [error] = helm.validate(rendered.documents, NEWEST)
    assert "imagePullPolicyy" in error


def test_the_largest_values_set_every_value(helm: Helm) -> None:
    assert paths(read("largest")["defaults"]) >= paths(defaults())


def test_no_two_objects_have_one_name(helm: Helm) -> None:
    documents = helm.render(read("largest")).documents
    names = [
        (doc["kind"], doc["metadata"].get("namespace"), doc["metadata"]["name"])
        for doc in documents
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("values", ["smallest", "largest"])
def test_pods_keep_the_pod_security_standard_restricted(helm: Helm, values: str) -> None:
    deployments = helm.render(read(values)).all("Deployment")
    assert deployments
    for deployment in deployments.values():
        assert breaches(deployment["spec"]["template"]["spec"]) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"hostNetwork": True},
        {"securityContext": {}},
        {"containers": [{"name": "x", "securityContext": {"privileged": True}}]},
        {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]},
    ],
)
def test_the_policy_check_finds_what_is_not_restricted(helm: Helm, broken: Document) -> None:
    assert breaches({**helm.render(ONE).pod(), **broken}) != []


def test_the_container_may_write_to_its_volumes_and_nowhere_else(helm: Helm) -> None:
    rendered = helm.render(read("largest"))
    pod = rendered.pod("flyteagents-production")
    [container] = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {mount["mountPath"] for mount in container["volumeMounts"] if "readOnly" not in mount}
    assert mounts == {"/tmp", "/var/lib/flyteagents/duckdb"}
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


def test_service_links_and_the_token_of_kubernetes_stay_away(helm: Helm) -> None:
    pod = helm.render(ONE).pod()
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("delay", "limit", "grace"), [(4, 60, 134), (0.5, 30, 71), (0, 1.5, 14)])
def test_the_grace_period_covers_the_drain(
    helm: Helm, delay: float, limit: float, grace: int
) -> None:
    rendered = helm.render(one(drain={"delay": delay, "limit": limit}))
    assert rendered.pod()["terminationGracePeriodSeconds"] == grace
    assert rendered.env()["FLYTEAGENTS_DRAIN_DELAY"] == str(delay)
    assert rendered.env()["FLYTEAGENTS_DRAIN_LIMIT"] == str(limit)


def test_probes_ask_over_grpc_and_with_tls_by_the_servers_own_command(helm: Helm) -> None:
    [plain] = helm.render(ONE).pod()["containers"]
    [secure] = helm.render(one(tls={"secret": "agents-tls"})).pod()["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert plain[probe]["grpc"] == {"port": 8000}
        assert secure[probe]["exec"] == {"command": ["flyteagents", "probe"]}
        assert "grpc" not in secure[probe]


def test_what_is_said_for_a_service_wins_and_maps_are_merged(helm: Helm) -> None:
    values = {
        "defaults": {"env": {"A": "1", "B": "1"}, "allow": ["a/a"], "replicas": 3},
        "services": {
            "one": {"plugins": ["bigquery"], "env": {"B": "2"}, "allow": ["b/b"]},
            "two": {"plugins": ["snowflake"], "replicas": 0},
        },
    }
    rendered = helm.render(values)
    assert rendered.env("flyteagents-one").items() >= {"A": "1", "B": "2"}.items()
    assert rendered.env("flyteagents-one")["FLYTEAGENTS_ALLOW"] == "b/b"
    assert rendered.env("flyteagents-two")["FLYTEAGENTS_ALLOW"] == "a/a"
    replicas = {name: doc["spec"]["replicas"] for name, doc in rendered.all("Deployment").items()}
    assert replicas == {"flyteagents-one": 3, "flyteagents-two": 0}


def test_whole_numbers_stay_whole_in_variables(helm: Helm) -> None:
    env = helm.render(one(env={"A": 2592000, "B": 0.5, "C": True, "D": "x: y"})).env()
    assert {name: env[name] for name in "ABCD"} == {
        "A": "2592000", "B": "0.5", "C": "true", "D": "x: y"
    }  # fmt: skip


def test_credentials_keep_the_order_in_which_they_are_looked_at(helm: Helm) -> None:
    entries = [
        {"tenants": "sales/*", "use": "sales_key"},
        {"tenants": "*/*", "use": "other"},
        {"tenants": "a/b", "use": "last"},
    ]
    env = helm.render(one(credentials={"bigquery": entries})).env()
    read_back = json.loads(env["FLYTEAGENTS_BIGQUERY_CREDENTIALS"])
    assert list(read_back.items()) == [(each["tenants"], each["use"]) for each in entries]


def test_secrets_are_files_by_the_names_that_agents_ask_for(helm: Helm) -> None:
    rendered = helm.render(
        one(secrets=[{"name": "keys"}, {"name": "sales", "items": {"key.json": "sales_key"}}])
    )
    [volume] = [each for each in rendered.pod()["volumes"] if each["name"] == "secrets"]
    assert [each["secret"] for each in volume["projected"]["sources"]] == [
        {"name": "keys"},
        {"name": "sales", "items": [{"key": "key.json", "path": "sales_key"}]},
    ]
    assert volume["projected"]["defaultMode"] == 0o440
    [container] = rendered.pod()["containers"]
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "secrets"]
    assert rendered.env()["FLYTEAGENTS_SECRETS_DIR"] == mount["mountPath"]


def test_the_service_is_headless_and_finds_the_pods_of_its_own_service_only(helm: Helm) -> None:
    rendered = helm.render(read("largest"))
    services, deployments = rendered.all("Service"), rendered.all("Deployment")
    assert services.keys() == deployments.keys()
    for name, service in services.items():
        selector = service["spec"]["selector"]
        assert service["spec"]["clusterIP"] == "None"
        finds = [
            each
            for each, deployment in deployments.items()
            if selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert finds == [name]


def test_only_callers_reach_the_port_and_only_scrapers_the_metrics(helm: Helm) -> None:
    rules = helm.render(ONE).one("NetworkPolicy")["spec"]["ingress"]
    by_port = {rule["ports"][0]["port"]: rule["from"] for rule in rules}
    assert by_port.keys() == {"grpc", "metrics"}
    for peers in by_port.values():
        for peer in peers:
            assert peer["namespaceSelector"]["matchLabels"]
            assert peer["podSelector"]


def test_secrets_of_namespaces_are_read_where_asked_for_and_by_name(helm: Helm) -> None:
    assert not helm.render(ONE).all("ClusterRole")
    everywhere = helm.render(one(namespaceSecrets={"enabled": True}))
    [rule] = everywhere.one("ClusterRole")["rules"]
    assert rule == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["databricks-token"],
        "verbs": ["get"],
    }
    assert everywhere.pod()["automountServiceAccountToken"] is True
    [subject] = everywhere.one("ClusterRoleBinding")["subjects"]
    assert subject["name"] == everywhere.one("ServiceAccount")["metadata"]["name"]

    there = helm.render(one(namespaceSecrets={"enabled": True, "namespaces": ["a", "b"]}))
    assert not there.all("ClusterRole")
    roles = [doc for doc in there.documents if doc["kind"] == "Role"]
    assert {doc["metadata"]["namespace"] for doc in roles} == {"a", "b"}


@pytest.mark.parametrize(("replicas", "budgets"), [(1, 0), (2, 1)])
def test_a_budget_is_only_there_where_a_pod_can_be_spared(
    helm: Helm, replicas: int, budgets: int
) -> None:
    rendered = helm.render(one(replicas=replicas))
    assert len(rendered.all("PodDisruptionBudget")) == budgets
    strategy = rendered.one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_autoscaler_takes_polls_in_flight_and_else_the_cpu(helm: Helm) -> None:
    by_cpu = helm.render(one(autoscaling={"enabled": True}))
    by_polls = helm.render(one(autoscaling={"enabled": True, "polls": 100, "cpu": 0}))
    assert "replicas" not in by_cpu.one("Deployment")["spec"]
    [cpu] = by_cpu.one("HorizontalPodAutoscaler")["spec"]["metrics"]
    [polls] = by_polls.one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert cpu["resource"]["target"]["averageUtilization"] == 70
    assert polls["pods"]["metric"]["name"] == "flyteagents_in_flight"
    assert polls["pods"]["target"]["averageValue"] == "100"


def test_the_certificate_names_what_flyte_dials(helm: Helm) -> None:
    rendered = helm.render(one(tls={"issuer": {"name": "internal"}}))
    spec = rendered.one("Certificate")["spec"]
    # With a k8s:// endpoint Flyte expects `service.namespace`.
    assert spec["dnsNames"][0] == "flyteagents-production.agents.svc.cluster.local"
    assert "flyteagents-production.agents" in spec["dnsNames"]
    [volume] = [each for each in rendered.pod()["volumes"] if each["name"] == "tls"]
    assert volume["secret"]["secretName"] == spec["secretName"]


def test_the_monitor_scrapes_the_metrics_port_of_its_service(helm: Helm) -> None:
    rendered = helm.render(one(serviceMonitor={"enabled": True, "labels": {"release": "p"}}))
    monitor, service = rendered.one("ServiceMonitor"), rendered.one("Service")
    assert monitor["metadata"]["labels"]["release"] == "p"
    selected = monitor["spec"]["selector"]["matchLabels"].items()
    assert selected <= service["metadata"]["labels"].items()
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_spans_say_which_pod_sent_them(helm: Helm) -> None:
    env = helm.render(one(otlp={"endpoint": "http://collector:4317"})).env()
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4317"
    assert env["OTEL_SERVICE_NAME"] == "flyteagents-production"
    assert "k8s.pod.name=$(POD_NAME)" in env["OTEL_RESOURCE_ATTRIBUTES"]


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
        {"services": {"a": {"plugins": ["bigquery"]}, "b": {"plugins": ["snowflake"]}},
         "defaults": {"serviceAccount": {"name": "one"}}},
        "services.b.serviceAccount: one is made for a already",
    ),
    (one(podLabels={"a": 1}), "at '/services/production/podLabels/a'"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "named"), WRONG)
def test_a_wrong_value_is_refused_with_its_path(
    helm: Helm, values: dict[str, Any], named: str
) -> None:
    with pytest.raises(Refused, match=re.escape(named)):
        helm.render(values)


def test_every_part_of_the_schema_refuses_what_it_does_not_know(helm: Helm) -> None:
    # Of objects that are passed on as Kubernetes has them, Kubernetes itself is the judge.
    passed_on = {"affinity", "resources.requests", "resources.limits"}
    texts = {"nodeSelector", "podLabels", "podAnnotations", "serviceAccount.annotations",
             "serviceMonitor.labels", "env", "credentials"}  # fmt: skip
    for path in sorted(objects(defaults())):
        if path in passed_on | texts:
            continue
        service = copy.deepcopy(ONE["services"]["production"])
        place = service
        for name in path.split("."):
            place = place.setdefault(name, {})
        place["misspelt"] = True
        with pytest.raises(Refused, match="misspelt"):
            helm.render({"services": {"production": service}})


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


def breaches(pod: Document) -> list[str]:
    """Where a pod breaks the Pod Security Standard "restricted", rule by rule as
    https://kubernetes.io/docs/concepts/security/pod-security-standards/ has them."""
    found = [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
    found += sorted(
        kinds
        - {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
           "projected", "secret"}
    )  # fmt: skip
    outer = pod.get("securityContext", {})
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        inner = container.get("securityContext", {})
        both = {**outer, **inner}
        if inner.get("privileged") or inner.get("procMount", "Default") != "Default":
            found.append("privileged")
        if inner.get("allowPrivilegeEscalation") is not False:
            found.append("allowPrivilegeEscalation")
        if inner.get("capabilities", {}).get("drop") != ["ALL"]:
            found.append("capabilities.drop")
        if set(inner.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
            found.append("capabilities.add")
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            found.append("runAsNonRoot")
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            found.append("seccompProfile")
        if any(port.get("hostPort") for port in container.get("ports", [])):
            found.append("hostPort")
    return found
