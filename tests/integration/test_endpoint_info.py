"""Probing engines: every way to reach one, and every way to fail, in parallel and in bounded time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm
from listeners import TLS_ONLY, TLS_VERIFY, let_in_by_ssh, listening

DIRECTORY = "/root/certificates-of-a-test"
CONFIG = "/root/docker-of-a-test"
CLIENT = f"{DIRECTORY}/clients/client"
TLS = {"ca": f"{CLIENT}/ca.pem", "cert": f"{CLIENT}/cert.pem", "key": f"{CLIENT}/key.pem"}
#: Certificates that are good for nothing.
ODD = f"{DIRECTORY}/odd"
#: Engines of 20.10, 26.1 and 28.5 that let in nobody without a certificate, and one of 26.1 that lets in anybody.
MUTUAL = ("old1", "mid1", "new1")
NODES = {**dict.fromkeys(MUTUAL, TLS_VERIFY), "mid2": TLS_ONLY}
NAMED = "-addext subjectAltName=DNS:ctl"
#: A server that accepts connections and is silent; it ends by itself.
SILENT = "import socket,time; s=socket.create_server(('', 4445)); s.settimeout(300); c=s.accept(); time.sleep(300)"


@pytest.fixture(scope="module", autouse=True)
def engines(farm: LiveFarm) -> Iterator[None]:
    servers = [{"name": node} for node in NODES]
    farm.module("ctl", "docker_certificates", directory=DIRECTORY, servers=servers)
    items = [{"name": node, "host": f"tcp://{node}:2376", **TLS} for node in NODES]
    items += [
        {"name": "plain", "host": "tcp://mid2:2375", "insecure": True},
        {"name": "unverified", "host": "tcp://mid2:2375", "skip_tls_verify": True},
        {"name": "by-address", "host": f"tcp://{farm.address('mid1')}:2376", **TLS},
    ]
    farm.module("ctl", "docker_context", docker_config=CONFIG, contexts=items)
    # Another port of an engine, without TLS and without another restart.
    plain = "--unit=plain-of-a-test --socket-property=ListenStream=2375"
    with listening(farm, "ctl", DIRECTORY, NODES):
        farm.ssh("mid2", f"systemd-run -q {plain} /usr/lib/systemd/systemd-socket-proxyd /run/docker.sock")
        yield
        farm.ssh("mid2", "systemctl stop 'plain-of-a-test.*'")
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
    found = info(farm, *NODES, "plain")
    assert [engine["endpoint"] for engine in found] == [*NODES, "plain"]
    assert [engine["version"][:5] for engine in found] == ["20.10", "26.1.", "28.5.", "26.1.", "26.1."]
    assert [engine["tls"] for engine in found] == ["mutual", "mutual", "mutual", "server", "none"]
    assert {(engine["os"], engine["architecture"], engine["platform"]) for engine in found} == {
        ("linux", "amd64", "linux/amd64")
    }
    assert {engine["error"] for engine in found} == {None}
    certificates = farm.module(
        "ctl", "docker_certificates", directory=DIRECTORY, servers=[{"name": node} for node in NODES]
    )
    assert found[0]["certificate_expires"] == certificates["servers"]["old1"]["not_after"]
    assert found[-1]["certificate_expires"] is None
    assert (found[0]["tls_verified"], found[0]["certificate_subject"]) == (True, "CN=old1")
    assert 363 <= found[0]["certificate_days_left"] <= 365


def test_direct_tcp_unix_and_ssh(farm: LiveFarm, ssh_to_mid1: None) -> None:
    over_tcp, over_ssh = info(farm, "tcp://mid1:2376", "ssh://root@mid1", **TLS)
    assert over_tcp["version"] == over_ssh["version"]
    assert (over_tcp["tls"], over_ssh["tls"]) == ("mutual", "none")
    local = farm.module("new1", "docker_endpoint_info", endpoints=["default", "unix:///var/run/docker.sock"])
    assert [engine["version"][:4] for engine in local["endpoints"]] == ["28.5", "28.5"]


def test_every_failure_is_told_in_bounded_time(farm: LiveFarm) -> None:
    rules = (
        "INPUT -p tcp --dport 4444 -j DROP",
        # What a router says that has no route.
        "INPUT -p tcp --dport 4446 -j REJECT --reject-with icmp-host-unreachable",
    )
    farm.ssh("new1", "; ".join(f"iptables -I {rule}" for rule in rules))
    farm.ssh("new1", f'setsid python3 -c "{SILENT}" >/dev/null 2>&1 </dev/null & echo $! > /run/silent.pid')
    try:
        wanted = {
            "by-address": (
                "name",
                f"engine by-address (tcp://{farm.address('mid1')}:2376): its certificate is not valid",
            ),
            "nosuch": (
                "context",
                f"no docker context 'nosuch' in {CONFIG}; there: by-address, mid1, mid2, new1, old1, plain, unverified",
            ),
            # Leaving out the verification does not make it plain TCP, for docker neither.
            "unverified": ("tls", "engine unverified (tcp://mid2:2375): it does not speak TLS as this client does"),
            "tcp://mid1:2375": ("refused", "engine tcp://mid1:2375: connection refused"),
            "tcp://mid1:2376": ("tls", "it wants TLS"),
            "tcp://new1:4444": ("timeout", "no answer within 2 s"),
            "tcp://new1:4445": ("timeout", "no answer within 2 s"),
            "tcp://new1:4446": ("unreachable", "no way to the host (No route to host)"),
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
        closed = "; ".join(f"iptables -D {rule}" for rule in rules)
        farm.ssh("new1", f"{closed}; kill $(cat /run/silent.pid)", check=False)


def make_odd_certificates(farm: LiveFarm) -> None:
    """Put certificates that are good for nothing into a directory each, `ODD/NAME/{cert,key}.pem`."""
    signed = f"-CA {DIRECTORY}/ca.pem -CAkey {DIRECTORY}/ca-key.pem"
    past = f"{signed} -not_before 20200101000000Z -not_after 20200201000000Z"
    future = f"{signed} -not_before 20990101000000Z -not_after 20990201000000Z"
    made = {
        "expired-client": f"{past} -addext extendedKeyUsage=clientAuth",
        "expired-server": f"{past} -addext extendedKeyUsage=serverAuth",
        "early-client": f"{future} -addext extendedKeyUsage=clientAuth",
        "early-server": f"{future} -addext extendedKeyUsage=serverAuth",
        "self-signed": "",
    }
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    lines = [f"set -e; cd {ODD}"]
    for name, options in made.items():
        lines += [f"mkdir {name}", f"{new} -addext subjectAltName=DNS:localhost {options} -out {name}/cert.pem"]
        lines[-1] += f" -keyout {name}/key.pem"
    lines += [
        "ln -s other/clients/client other-client; ln -s other/servers/localhost other-server",
        f"ln -s {CLIENT} a-client; ln -s {DIRECTORY}/servers/mid1 a-server",
    ]
    farm.ssh("ctl", "\n".join(lines))
    farm.module("ctl", "docker_certificates", directory=f"{ODD}/other", servers=[{"name": "localhost"}])


@pytest.fixture
def odd_certificates(farm: LiveFarm) -> Iterator[None]:
    farm.ssh("ctl", f"mkdir -p {ODD}")
    try:
        make_odd_certificates(farm)
        yield
    finally:
        farm.ssh("ctl", f"rm -rf {ODD} {CONFIG}-odd")


def test_clients_are_refused_and_told_why(farm: LiveFarm, odd_certificates: None) -> None:
    """Every engine refuses every client but the right one."""
    wanted = {
        "nobody": "it wants a client certificate and none is given (",
        "self-signed": "/cert.pem is self-signed",
        "other-client": f"/cert.pem is not signed by {CONFIG}-odd/",
        "expired-client": "/cert.pem has expired",
        "early-client": "/cert.pem is not valid yet; do the clocks agree?",
        "a-server": "/cert.pem is not for clients, its extended key usage lacks clientAuth",
        "a-client": None,
    }
    contexts = [
        {"name": f"{client}-{node}", "host": f"tcp://{node}:2376", "ca": TLS["ca"]}
        | ({} if client == "nobody" else {kind: f"{ODD}/{client}/{kind}.pem" for kind in ("cert", "key")})
        for client in wanted
        for node in MUTUAL
    ]
    farm.module("ctl", "docker_context", docker_config=f"{CONFIG}-odd", contexts=contexts)
    found = info(farm, *(context["name"] for context in contexts), docker_config=f"{CONFIG}-odd")
    for engine, message in zip(found, [message for message in wanted.values() for _node in MUTUAL]):
        if message is None:
            assert (engine["reachable"], engine["tls"]) == (True, "mutual"), engine
        else:
            assert (engine["reachable"], engine["error_kind"]) == (False, "client_certificate"), engine
            assert message in engine["error"]
    for node in MUTUAL:
        assert re.findall(r":(237[56]) ", farm.ssh(node, "ss -tln")) == ["2376"]


def test_servers_are_refused_and_told_why(farm: LiveFarm, odd_certificates: None) -> None:
    """This side refuses a certificate before it knows whether an engine is behind it: OpenSSL's server shows them."""
    wanted = {
        "expired-server": ("expired", "its certificate, or its CA's, has expired; renew it"),
        "early-server": ("not_yet_valid", "its certificate is not valid yet; do the clocks agree?"),
        "self-signed": ("untrusted", "its certificate is self-signed, not signed by the given CA"),
        "other-server": ("untrusted", "its certificate is not signed by the given CA"),
        "a-client": ("untrusted", "its certificate is not for servers"),
    }
    ports = {name: 4451 + number for number, name in enumerate(wanted)}
    servers = [
        f"timeout 60 openssl s_server -quiet -accept {port} -cert {ODD}/{name}/cert.pem -key {ODD}/{name}/key.pem"
        " </dev/null >/dev/null 2>&1 & echo $! >> /run/servers.pid"
        for name, port in ports.items()
    ]
    farm.ssh("ctl", "\n".join(servers))
    try:
        found = info(farm, *(f"tcp://localhost:{port}" for port in ports.values()), **TLS)
    finally:
        farm.ssh("ctl", "kill $(cat /run/servers.pid); rm /run/servers.pid")
    for engine, (kind, message) in zip(found, wanted.values()):
        assert (engine["reachable"], engine["error_kind"]) == (False, kind), engine
        assert message in engine["error"]


#: Certificates that OpenSSL would take: options that make them, and what is said of them.
GO_REFUSES = {
    "nameless": ("", "name", "not valid for 'ctl': it has no subject alternative name"),
    "address": ("-addext subjectAltName=DNS:192.0.2.1", "name", "are neither host names nor addresses of type IP"),
    "sha1": (f"{NAMED} -sha1", "untrusted", "it is signed with SHA-1"),
    "negative": (f"{NAMED} -set_serial -5", "untrusted", "its serial number is negative"),
    "small": (f"{NAMED} -newkey rsa:1000", "untrusted", "its RSA key has 1000 bits"),
    # No engine is behind it: the connection ends after the handshake.
    "good": (NAMED, "client_certificate", "connection closed"),
}
#: Those that Debian's docker refuses, of whatever version; it is built with the settings of Go 1.20 (GODEBUG).
DOCKER_REFUSES = ("nameless", "address", "sha1")


def test_servers_that_docker_refuses_are_refused(farm: LiveFarm) -> None:
    """Docker's own clients, of three versions, judge the same certificates."""
    ports = {name: 4461 + number for number, name in enumerate(GO_REFUSES)}
    lines = [f"set -e; mkdir -p {ODD}; cd {ODD}; printf '[req]\\ndistinguished_name=name\\n[name]\\n' > openssl.cnf"]
    issue = f"openssl req -x509 -config openssl.cnf -CA {DIRECTORY}/ca.pem -CAkey {DIRECTORY}/ca-key.pem -nodes -days 9"
    issue += " -subj /CN=ctl -addext basicConstraints=CA:FALSE"
    serve = "timeout 120 openssl s_server -quiet -cipher DEFAULT:@SECLEVEL=0 </dev/null >/dev/null 2>&1"
    for name, (options, _kind, _message) in GO_REFUSES.items():
        new = options if "-newkey" in options else f"{options} -newkey ec -pkeyopt ec_paramgen_curve:P-256"
        lines += [f"mkdir {name}; {issue} {new} -out {name}/cert.pem -keyout {name}/key.pem"]
        lines += [
            f"{serve} -accept {ports[name]} -cert {name}/cert.pem -key {name}/key.pem & echo $! >> /run/servers.pid"
        ]
    client = farm.ssh("ctl", f"tar -C {CLIENT} -c . | base64")
    asked = (
        "docker --tlsverify --tlscacert {0}/ca.pem --tlscert {0}/cert.pem --tlskey {0}/key.pem -H tcp://ctl:{1} version"
    )
    try:
        farm.ssh("ctl", "\n".join(lines))
        found = info(farm, *(f"tcp://ctl:{port}" for port in ports.values()), **TLS)
        for engine, (name, (_options, kind, message)) in zip(found, GO_REFUSES.items(), strict=True):
            assert (name, engine["reachable"], engine["error_kind"]) == (name, False, kind), engine
            assert message in engine["error"]
        for node in MUTUAL:
            farm.ssh(
                node, "mkdir -m 700 /root/client-of-a-test; base64 -d | tar -C /root/client-of-a-test -x", stdin=client
            )
            for name, port in ports.items():
                said = farm.ssh(node, f"timeout 5 {asked.format('/root/client-of-a-test', port)} 2>&1", check=False)
                assert ("x509: " in said or "tls: " in said) == (name in DOCKER_REFUSES), (node, name, said)
    finally:
        farm.ssh("ctl", f"kill $(cat /run/servers.pid); rm -rf /run/servers.pid {ODD}", check=False)
        for node in MUTUAL:
            farm.ssh(node, "rm -rf /root/client-of-a-test")


def test_all_must_be_reachable(farm: LiveFarm) -> None:
    arguments: dict[str, Any] = {"docker_config": CONFIG, "require_reachable": True}
    failed = farm.module("ctl", "docker_endpoint_info", fails=True, endpoints=["old1", "nosuch"], **arguments)
    assert failed["msg"].startswith("1 of 2 engines cannot be reached: no docker context 'nosuch'")
    assert [engine["reachable"] for engine in failed["endpoints"]] == [True, False]
    assert farm.module("ctl", "docker_endpoint_info", endpoints=["old1"], **arguments)["changed"] is False
