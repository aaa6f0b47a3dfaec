"""The server as its operator meets it: ports, health, TLS, drain."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from flyteidl.admin import agent_pb2
from flyteidl.service import agent_pb2_grpc
from flyteidl2.connector import connector_pb2, service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.vendors.certificates import self_signed

from flyteagents._client import process
from flyteagents._wire.grpc_threads import NICE
from flyteagents.testing import RealServer, free_port

AGENTS = Path(__file__).with_name("agents")
JOBS = Path(__file__).parents[1] / "agents"
SERVICES = (
    "flyteidl.service.AsyncAgentService",
    "flyteidl.service.SyncAgentService",
    "flyteidl.service.AgentMetadataService",
    "flyteidl2.connector.AsyncConnectorService",
    "flyteidl2.connector.ConnectorMetadataService",
)


def test_health_tells_of_the_whole_of_each_service_and_of_each_plugin() -> None:
    with RealServer(["raising"], python_path=[AGENTS]) as server:
        for service in ("", *SERVICES, "flyteagents.plugin.raising"):
            assert server.serving(service), service
        with grpc.insecure_channel(server.endpoint) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            with pytest.raises(grpc.RpcError) as unknown:
                health.Check(health_pb2.HealthCheckRequest(service="not.there"), timeout=30)
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(("plugin", "asks"), [("jobs", True), ("raising", False)])
def test_the_http_client_is_there_before_the_first_request_that_needs_it(
    plugin: str, asks: bool
) -> None:
    env = {"FLYTEAGENTS_JOBS_URL": "http://127.0.0.1:1", "FLYTEAGENTS_JOBS_OTHER_URL": ""}
    with RealServer([plugin], env if asks else {}, [AGENTS, JOBS]) as server:
        end = time.monotonic() + (30 if asks else 0.5)
        while "aiohttp" not in (loaded := Path(f"/proc/{server.pid}/maps").read_text()):
            if time.monotonic() > end:
                break
            time.sleep(0.02)
    assert ("aiohttp" in loaded) == asks


def test_a_plugin_that_was_skipped_is_not_serving() -> None:
    skip = {"FLYTEAGENTS_ON_BROKEN_PLUGIN": "skip"}
    with RealServer(["raising", "missing"], skip, [AGENTS]) as server:
        assert server.serving("flyteagents.plugin.raising")
        with grpc.insecure_channel(server.endpoint) as channel:
            request = health_pb2.HealthCheckRequest(service="flyteagents.plugin.missing")
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
        assert reply.status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_reflection_names_all_services() -> None:
    with RealServer([]) as server, grpc.insecure_channel(server.endpoint) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        (reply,) = stub.ServerReflectionInfo(iter([ask]), timeout=30)
        names = {service.name for service in reply.list_services_response.service}
        assert names >= {*SERVICES, "grpc.health.v1.Health"}
        ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICES[3])
        (reply,) = stub.ServerReflectionInfo(iter([ask]), timeout=30)
        assert reply.file_descriptor_response.file_descriptor_proto


def test_both_generations_list_the_same_agents_in_old_and_new_fields() -> None:
    with (
        RealServer(["raising"], python_path=[AGENTS]) as server,
        grpc.insecure_channel(server.endpoint) as channel,
    ):
        metadata = agent_pb2_grpc.AgentMetadataServiceStub(channel)
        agents = metadata.ListAgents(agent_pb2.ListAgentsRequest(), timeout=30).agents
        assert [(a.name, list(a.supported_task_types), a.is_sync) for a in agents] == [
            ("raising", ["raising"], False),
            ("raising_sync", ["raising_sync"], True),
        ]
        assert [c.name for a in agents for c in a.supported_task_categories] == [
            "raising",
            "raising_sync",
        ]
        one = metadata.GetAgent(agent_pb2.GetAgentRequest(name="raising"), timeout=30)
        assert one.agent == agents[0]
        connectors = service_pb2_grpc.ConnectorMetadataServiceStub(channel)
        listed = connectors.ListConnectors(connector_pb2.ListConnectorsRequest(), timeout=30)
        assert [c.name for c in listed.connectors] == ["raising", "raising_sync"]
        with pytest.raises(grpc.RpcError) as unknown:
            connectors.GetConnector(connector_pb2.GetConnectorRequest(name="x"), timeout=30)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        assert "raising" in str(unknown.value.details())


@pytest.mark.parametrize("variable", ["FLYTEAGENTS_PORT", "FLYTEAGENTS_METRICS_PORT"])
def test_a_taken_port_is_one_line_that_names_its_variable(variable: str) -> None:
    with RealServer([], {"FLYTEAGENTS_METRICS_HOST": "127.0.0.1"}) as first:
        second = subprocess.run(
            [sys.executable, "-m", "flyteagents", "serve"],
            env={**first.env, "FLYTEAGENTS_PORT": "0", variable: str(first.port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 69
        (line,) = second.stderr.splitlines()
        assert line.startswith("flyteagents: cannot ")
        assert f"127.0.0.1:{first.port}" in line
        assert f"set {variable}" in line
        assert first.serving()


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["check"]])
def test_a_tls_key_that_is_none_stops_the_start_and_the_check(
    command: list[str], tmp_path: Path
) -> None:
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    cert.write_bytes(_certificate()[0])
    key.write_text("garbage")
    done = subprocess.run(
        [sys.executable, "-m", "flyteagents", *command],
        env={
            "FLYTEAGENTS_PLUGINS": "",
            "FLYTEAGENTS_METRICS_PORT": "0",
            "FLYTEAGENTS_TLS_CERT": str(cert),
            "FLYTEAGENTS_TLS_KEY": str(key),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr == f"flyteagents: FLYTEAGENTS_TLS_KEY: {key} is no PEM private key\n"


def test_after_sigterm_health_turns_and_calls_are_taken_until_the_delay_is_over() -> None:
    env = {"FLYTEAGENTS_DRAIN_DELAY": "4.0"}
    with (
        RealServer([], env) as server,
        grpc.insecure_channel(server.endpoint) as channel,
    ):
        metadata = agent_pb2_grpc.AgentMetadataServiceStub(channel)
        metadata.ListAgents(agent_pb2.ListAgentsRequest(), timeout=30)
        assert server.process is not None
        server.process.terminate()
        deadline = time.monotonic() + 3.0
        while server.serving() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not server.serving()
        metadata.ListAgents(agent_pb2.ListAgentsRequest(), timeout=30)
        assert server.process.wait(30) == 0


@pytest.mark.parametrize("operation", ["block", "catch"])
def test_neither_a_thread_that_is_held_nor_a_cancel_that_is_caught_holds_up_the_exit(
    operation: str,
) -> None:
    env = {"FLYTEAGENTS_DRAIN_DELAY": "0", "FLYTEAGENTS_DRAIN_LIMIT": "0.5"}
    with (
        RealServer(["raising"], env, python_path=[AGENTS]) as server,
        grpc.insecure_channel(server.endpoint) as channel,
    ):
        stub = agent_pb2_grpc.AsyncAgentServiceStub(channel)
        task = agent_pb2.CreateTaskRequest(output_prefix="s3://b/block/data/0")
        task.template.type = "raising"
        task.template.custom.update({"operation": operation, "error": ""})
        meta = stub.CreateTask(task, timeout=30).resource_meta
        asked = stub.GetTask.future(agent_pb2.GetTaskRequest(resource_meta=meta), timeout=2)
        asked.code()  # when it is answered, or given up, the thread is held
        assert server.process is not None
        server.process.terminate()
        assert server.process.wait(20) == 0


def test_the_metrics_page_has_the_names_of_flytekits_service() -> None:
    port = free_port()
    env = {"FLYTEAGENTS_METRICS_PORT": str(port), "FLYTEAGENTS_METRICS_HOST": "127.0.0.1"}
    with (
        RealServer(["raising"], env, [AGENTS]) as server,
        grpc.insecure_channel(server.endpoint) as channel,
    ):
        request = agent_pb2.CreateTaskRequest(output_prefix="s3://b/m/data/0")
        request.template.type = "raising"
        request.template.custom.update({"operation": "", "error": ""})
        agent_pb2_grpc.AsyncAgentServiceStub(channel).CreateTask(request, timeout=30)
        page = (
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
        )
    assert (
        'flyte_connector_requests_success_total{operation="create",task_type="raising"} 1.0' in page
    )
    assert "flyte_connector_request_latency_seconds_sum" in page
    assert "flyte_connector_input_literal_bytes_count" in page


def test_certificates_are_read_again_when_their_files_change(tmp_path: Path) -> None:
    first, second = _certificate(), _certificate()
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"

    def install(pair: tuple[bytes, bytes]) -> None:
        cert.write_bytes(pair[0])
        key.write_bytes(pair[1])

    install(first)
    env = {"FLYTEAGENTS_TLS_CERT": str(cert), "FLYTEAGENTS_TLS_KEY": str(key)}
    server = RealServer([], env, ready_within=60)
    starter = threading.Thread(target=_start_anyway, args=(server,))
    starter.start()
    try:
        assert _answers_with(server.endpoint, first[0])
        install(second)
        assert _answers_with(server.endpoint, second[0])
        assert not _answers_with(server.endpoint, first[0], soon=False)
    finally:
        server.kill()  # else it would be waited for
        starter.join()
        server.__exit__(None, None, None)


def test_a_stop_waits_for_calls_and_not_for_who_watches_the_health() -> None:
    env = {"FLYTEAGENTS_DRAIN_DELAY": "0", "FLYTEAGENTS_DRAIN_LIMIT": "300"}
    with (
        RealServer(["raising"], env, python_path=[AGENTS]) as server,
        grpc.insecure_channel(server.endpoint) as channel,
    ):
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        assert server.terminate(60) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority")
def test_the_threads_that_read_and_write_connections_give_way_to_the_event_loop() -> None:
    with RealServer(["raising"], python_path=[AGENTS]) as server:
        assert server.serving("")
        end = time.monotonic() + 10
        while True:
            nice = priorities(server.pid)
            (usual,) = nice["the loop"]
            given = {min(usual + NICE, 19)}
            # They are known by names that they give themselves, on a busy machine a moment later.
            if nice.get("event_engine") == nice.get("lifeguard") == given or time.monotonic() > end:
                break
            time.sleep(0.05)
    assert nice["event_engine"] == nice["lifeguard"] == given


def priorities(pid: int) -> dict[str, set[int]]:
    """Those of a process's threads, by their names."""
    nice: dict[str, set[int]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            name = "the loop" if int(task.name) == pid else (task / "comm").read_text()
            priority = os.getpriority(os.PRIO_PROCESS, int(task.name))
            nice.setdefault(name.strip(), set()).add(priority)
    return nice


@pytest.mark.alone
def test_a_server_without_plugins_is_ready_fast_and_small() -> None:
    with RealServer([]) as server:
        # Seconds of CPU: what else the machine does must not matter.
        ticks = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        seconds = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        status = Path(f"/proc/{server.pid}/status").read_text()
        megabytes = int(status.split("VmRSS:")[1].split()[0]) / 1024
    print(f"ready after {seconds:.2f} s of CPU with {megabytes:.0f} MB")
    assert megabytes < 90
    assert seconds < 0.8  # twice what it takes: cores differ


def _start_anyway(server: RealServer) -> None:
    try:
        server.start()  # its health cannot be asked without the certificate
    except Exception:  # noqa: BLE001
        return


def _answers_with(endpoint: str, root: bytes, *, soon: bool = True) -> bool:
    """Whether the server has the certificate; `soon`: also one that is still starting."""
    end = time.monotonic() + 60
    while True:
        credentials = grpc.ssl_channel_credentials(root)
        options = [
            ("grpc.ssl_target_name_override", "agents.test"),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        with grpc.secure_channel(endpoint, credentials, options) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            try:
                health.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.RpcError:
                if not soon or time.monotonic() > end:
                    return False
                time.sleep(0.05)
            else:
                return True


def _certificate() -> tuple[bytes, bytes]:
    certificate, key = self_signed(x509.DNSName("agents.test"))
    return certificate.encode(), key.encode()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a bound port cannot be listened on")
def test_a_servers_port_is_given_to_nobody_while_it_starts_or_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else another server answers in its place, until that one ends."""
    port = free_port()
    monkeypatch.setattr(process, "_PORTS", range(port, port + 1))
    server = RealServer(plugins=["duckdb"])
    assert server.port == port
    with pytest.raises(OSError, match="is free"):
        free_port()

    with server:
        server.kill()
        with pytest.raises(OSError, match="is free"):
            free_port()
        server.restart()
        assert server.serving()
        assert server.running
    assert free_port() == port
