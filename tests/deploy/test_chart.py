"""What the chart makes of its values: every object, and whether Kubernetes takes it."""

from __future__ import annotations

import json

import pytest
from tests.deploy.charts import NEWEST, OLDEST, Document, Helm, one, read
from tests.deploy.conftest import PodSecurity


def test_helm_lint_finds_nothing_but_that_there_is_no_icon(helm: Helm) -> None:
    assert [each["error"] for each in helm.lint()] == ["icon is recommended"]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", ["default", "smallest", "largest"])
def test_kubernetes_takes_every_object_strictly(helm: Helm, values: str, version: str) -> None:
    rendered = helm.render(read(values))
    assert bool(rendered.documents) == (values != "default")
    assert helm.validate(rendered.documents, version) == []


def test_the_strict_validation_finds_a_misspelt_field(helm: Helm) -> None:
    rendered = helm.render(one())
    rendered.pod()["containers"][0]["imagePullPolicyy"] = "Always"
    [error] = helm.validate(rendered.documents, NEWEST)
    assert "imagePullPolicyy" in error


def test_no_two_objects_have_one_name(helm: Helm) -> None:
    documents = helm.render(read("largest")).documents
    names = [
        (doc["kind"], doc["metadata"].get("namespace"), doc["metadata"]["name"])
        for doc in documents
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("values", ["smallest", "largest"])
def test_pods_keep_the_pod_security_standard_restricted(
    helm: Helm, pod_security: PodSecurity, values: str
) -> None:
    deployments = helm.render(read(values)).all("Deployment").values()
    pods = [each["spec"]["template"]["spec"] for each in deployments]
    assert pods
    assert pod_security(pods) == [""] * len(pods)


@pytest.mark.parametrize(
    "broken",
    [
        {"hostNetwork": True},
        {"securityContext": {}},
        {"containers": [{"name": "x", "securityContext": {"privileged": True}}]},
        {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]},
    ],
)
def test_kubernetes_own_judge_finds_what_is_not_restricted(
    helm: Helm, pod_security: PodSecurity, broken: Document
) -> None:
    assert pod_security([{**helm.render(one()).pod(), **broken}]) != [""]


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
    pod = helm.render(one()).pod()
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
    [plain] = helm.render(one()).pod()["containers"]
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
        "A": "2592000",
        "B": "0.5",
        "C": "true",
        "D": "x: y",
    }


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
    rules = helm.render(one()).one("NetworkPolicy")["spec"]["ingress"]
    by_port = {rule["ports"][0]["port"]: rule["from"] for rule in rules}
    assert by_port.keys() == {"grpc", "metrics"}
    for peers in by_port.values():
        for peer in peers:
            assert peer["namespaceSelector"]["matchLabels"]
            assert peer["podSelector"]


def test_secrets_of_namespaces_are_read_where_asked_for_and_by_name(helm: Helm) -> None:
    assert not helm.render(one()).all("ClusterRole")
    everywhere = helm.render(one(namespaceSecrets={"enabled": True}))
    [rule] = everywhere.one("ClusterRole")["rules"]
    assert rule == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["databricks-token", "databricks-oauth"],
        "verbs": ["get"],
    }
    assert everywhere.pod()["automountServiceAccountToken"] is True
    [subject] = everywhere.one("ClusterRoleBinding")["subjects"]
    assert subject["name"] == everywhere.one("ServiceAccount")["metadata"]["name"]

    there = helm.render(one(namespaceSecrets={"enabled": True, "namespaces": ["a", "b"]}))
    assert not there.all("ClusterRole")
    roles = [doc for doc in there.documents if doc["kind"] == "Role"]
    assert {doc["metadata"]["namespace"] for doc in roles} == {"a", "b"}


def test_a_pod_is_known_to_callers_before_another_one_ends(helm: Helm) -> None:
    # grpc-go and gRPC's C core resolve a name again after 30 s; cluster DNS keeps answers for 5.
    assert helm.render(one()).one("Deployment")["spec"]["minReadySeconds"] > 30 + 5


@pytest.mark.parametrize("asked", [True, False])
def test_databricks_looks_into_namespaces_where_it_has_the_right_and_nowhere_else(
    helm: Helm, asked: bool
) -> None:
    rendered = helm.render(one(plugins=["databricks"], namespaceSecrets={"enabled": asked}))
    assert bool(rendered.all("ClusterRole")) is asked
    assert rendered.env()["FLYTEAGENTS_DATABRICKS_NAMESPACE_SECRETS"] == str(asked).lower()


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
