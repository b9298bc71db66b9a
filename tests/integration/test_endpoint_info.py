"""Probing engines: every way to reach one, and every way to fail, in parallel and in bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm
from listeners import PLAIN, TLS_ONLY, TLS_VERIFY, let_in_by_ssh, listening

DIRECTORY = "/root/certificates-of-a-test"
CONFIG = "/root/docker-of-a-test"
CLIENT = f"{DIRECTORY}/clients/client"
TLS = {"ca": f"{CLIENT}/ca.pem", "cert": f"{CLIENT}/cert.pem", "key": f"{CLIENT}/key.pem"}
NODES = {"old1": TLS_VERIFY, "mid1": TLS_VERIFY, "mid2": TLS_ONLY, "new1": PLAIN}
#: A server that accepts connections and is silent; it ends by itself.
SILENT = "import socket,time; s=socket.create_server(('', 4445)); s.settimeout(300); c=s.accept(); time.sleep(300)"


@pytest.fixture(scope="module", autouse=True)
def engines(farm: LiveFarm) -> Iterator[None]:
    servers = [{"name": node} for node in NODES]
    farm.module("ctl", "docker_certificates", directory=DIRECTORY, servers=servers)
    items = [{"name": node, "host": f"tcp://{node}:2376", **TLS} for node in NODES if node != "new1"]
    items += [
        {"name": "new1", "host": "tcp://new1:2375", "insecure": True},
        {"name": "by-address", "host": f"tcp://{farm.address('mid1')}:2376", **TLS},
    ]
    farm.module("ctl", "docker_context", docker_config=CONFIG, contexts=items)
    with listening(farm, "ctl", DIRECTORY, NODES):
        yield
    farm.ssh("ctl", f"rm -rf {DIRECTORY} {CONFIG}")


@pytest.fixture
def ssh_to_mid1(farm: LiveFarm) -> Iterator[None]:
    with let_in_by_ssh(farm, "ctl", "mid1"):
        yield


def info(farm: LiveFarm, *endpoints: str, **options: Any) -> list[dict[str, Any]]:
    arguments = {"docker_config": CONFIG, "endpoints": list(endpoints), **options}
    found: list[dict[str, Any]] = farm.module("ctl", "docker_endpoint_info", **arguments)["endpoints"]
    return found


def test_versions_platforms_and_tls(farm: LiveFarm) -> None:
    found = info(farm, *NODES)
    assert [engine["endpoint"] for engine in found] == list(NODES)
    assert [engine["version"][:5] for engine in found] == ["20.10", "26.1.", "26.1.", "28.5."]
    assert [engine["tls"] for engine in found] == ["mutual", "mutual", "server", "none"]
    assert {(engine["os"], engine["architecture"], engine["platform"]) for engine in found} == {
        ("linux", "amd64", "linux/amd64")
    }
    assert {engine["error"] for engine in found} == {None}
    certificates = farm.module(
        "ctl", "docker_certificates", directory=DIRECTORY, servers=[{"name": node} for node in NODES]
    )
    assert found[0]["certificate_expires"] == certificates["servers"]["old1"]["not_after"]
    assert found[3]["certificate_expires"] is None
    assert (found[0]["tls_verified"], found[0]["certificate_subject"]) == (True, "CN=old1")
    assert 363 <= found[0]["certificate_days_left"] <= 365


def test_direct_tcp_unix_and_ssh(farm: LiveFarm, ssh_to_mid1: None) -> None:
    over_tcp, over_ssh = info(farm, "tcp://mid1:2376", "ssh://root@mid1", **TLS)
    assert over_tcp["version"] == over_ssh["version"]
    assert (over_tcp["tls"], over_ssh["tls"]) == ("mutual", "none")
    local = farm.module("new1", "docker_endpoint_info", endpoints=["default", "unix:///var/run/docker.sock"])
    assert [engine["version"][:4] for engine in local["endpoints"]] == ["28.5", "28.5"]


def test_every_failure_is_told_in_bounded_time(farm: LiveFarm) -> None:
    farm.ssh("new1", "iptables -I INPUT -p tcp --dport 4444 -j DROP")
    farm.ssh("new1", f'setsid python3 -c "{SILENT}" >/dev/null 2>&1 </dev/null & echo $! > /run/silent.pid')
    try:
        wanted = {
            "by-address": (
                "name",
                f"engine by-address (tcp://{farm.address('mid1')}:2376): its certificate is not valid",
            ),
            "nosuch": ("context", f"no docker context 'nosuch' in {CONFIG}; there: by-address, mid1, mid2, new1, old1"),
            "tcp://mid1:2375": ("refused", "engine tcp://mid1:2375: connection refused"),
            "tcp://mid1:2376": ("tls", "it wants TLS"),
            "tcp://new1:4444": ("timeout", "no answer within 2 s"),
            "tcp://new1:4445": ("timeout", "no answer within 2 s"),
            "tcp://no-such-host:2375": ("unresolved", "'no-such-host' cannot be resolved"),
            f"tcp://{farm.registry}": ("answer", "is not a Docker engine's"),
            "ssh://nobody@mid1": ("ssh", "could not be run there over ssh"),
            "unix:///nowhere.sock": ("socket", "no such socket"),
        }
        arguments = {"docker_config": CONFIG, "endpoints": [*wanted, "old1"], "timeout": 2}
        task = {"buildfarm.multiarch.docker_endpoint_info": arguments}
        clock = {"ansible.builtin.command": "date +%s.%N"}
        run = farm.play([{"hosts": "ctl", "gather_facts": False, "tasks": [clock, task, clock]}]).expect_success()
        found = run.tasks[1].result["endpoints"]
        for engine, (endpoint, (kind, message)) in zip(found, wanted.items()):
            assert (engine["endpoint"], engine["error_kind"], engine["reachable"]) == (endpoint, kind, False), engine
            assert message in engine["error"]
        assert found[-1]["reachable"]
        assert float(run.tasks[2].result["stdout"]) - float(run.tasks[0].result["stdout"]) < 5
    finally:
        farm.ssh("new1", "iptables -D INPUT -p tcp --dport 4444 -j DROP; kill $(cat /run/silent.pid)", check=False)


def test_certificates_of_others_are_refused(farm: LiveFarm) -> None:
    (foreign_ca,) = info(farm, "tcp://mid1:2376", **{**TLS, "ca": "/etc/ssl/certs/ca-certificates.crt"})
    assert (foreign_ca["error_kind"], "not signed by the given CA" in foreign_ca["error"]) == ("untrusted", True)
    (nobody,) = info(farm, "tcp://mid1:2376", ca=TLS["ca"])
    assert (nobody["error_kind"], "wants a client certificate" in nobody["error"]) == ("client_certificate", True)
    farm.module("ctl", "docker_certificates", directory=f"{DIRECTORY}/other")
    foreign = {kind: path.replace(DIRECTORY, f"{DIRECTORY}/other") for kind, path in TLS.items()}
    (stranger,) = info(farm, "tcp://old1:2376", **{**foreign, "ca": TLS["ca"]})
    assert stranger["error_kind"] == "client_certificate"
    assert "refused this client's certificate" in stranger["error"]


def test_all_must_be_reachable(farm: LiveFarm) -> None:
    arguments: dict[str, Any] = {"docker_config": CONFIG, "require_reachable": True}
    failed = farm.module("ctl", "docker_endpoint_info", fails=True, endpoints=["old1", "nosuch"], **arguments)
    assert failed["msg"].startswith("1 of 2 engines cannot be reached: no docker context 'nosuch'")
    assert [engine["reachable"] for engine in failed["endpoints"]] == [True, False]
    assert farm.module("ctl", "docker_endpoint_info", endpoints=["old1"], **arguments)["changed"] is False
