"""docker_listener on real engines: 20.10, 26.1 and 28.5 under systemd 252, 257 and 262."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509

import certificates
import kills
from ansible_runs import LiveFarm, installing, shell, task

ENGINES = ["old1", "mid1", "new1"]
#: The one for what does not depend on the engine's version.
NODE = "mid1"
#: Gives a program another clock: https://github.com/wolfcw/libfaketime
CLOCK = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
DROP_IN = "/etc/systemd/system/docker.service.d/zz-buildfarm-listener.conf"
CONFIG = "/etc/docker/daemon.json"
FILES = f"{DROP_IN} {CONFIG} /etc/docker/tls/*"
RESTART = "systemctl daemon-reload; systemctl reset-failed docker; systemctl restart docker"
#: What a change keeps until it is final, and all else that it could leave.
FOLDERS = "/etc/docker /etc/systemd/system/docker.service.d /run/buildfarm-listener"
#: Contents, modes and times.
STATE = f"cat {FILES} 2>&1 | sha256sum; stat -c '%n %a %Y' {FILES} 2>&1; find {FOLDERS} ! -type d 2>&1 | sort; true"
#: Runs a container of nothing but a program of the host.
IDLE = (
    "tar -C / -ch usr/bin/sleep lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6 | docker import - idle; "
    "docker run -d {} --stop-signal KILL --name idle idle sleep 1d"
)
PREDICTED = ("changed", "actions", "diff", "listener", "restarted")


def issue(name: str, issuer: tuple[str, str] | None = None, **options: Any) -> tuple[str, str]:
    """Return a certificate and its key as PEM; without an issuer an authority's."""
    signer = (issuer[0].encode(), issuer[1].encode()) if issuer else None
    certificate, key = certificates.issue(name, signer, **options)
    return certificate.decode(), key.decode()


@pytest.fixture(scope="module")
def authority() -> tuple[str, str]:
    """A certificate authority of the test's own."""
    return issue("test CA")


@pytest.fixture(scope="module")
def tls(authority: tuple[str, str]) -> dict[str, str]:
    """The module's TLS options."""
    certificate, key = issue("engine", authority, usage=x509.ExtendedKeyUsageOID.SERVER_AUTH)
    return {"ca": authority[0], "certificate": certificate, "key": key}


@pytest.fixture(scope="module", autouse=True)
def nodes(farm: LiveFarm, authority: tuple[str, str]) -> Iterator[None]:
    """Engines without a listener at the beginning, and afterwards as they were found."""
    kept = "/etc/docker /etc/systemd/system/docker.service.d /etc/systemd/system/docker.service"
    certificate, key = issue("client", authority, usage=x509.ExtendedKeyUsageOID.CLIENT_AUTH)
    for host in ENGINES:
        farm.ssh(
            host,
            f"rm -rf /root/kept /root/client; mkdir -m 700 /root/kept /root/client; "
            f"tar -cf /root/kept/all.tar {kept} 2>/dev/null || true",
        )
        for name, text in (("ca", authority[0]), ("cert", certificate), ("key", key)):
            farm.ssh(host, f"umask 77; cat > /root/client/{name}.pem", stdin=text)
        farm.restart_engine(host, f"rm -rf {kept}")
    yield
    for host in ENGINES:
        farm.restart_engine(host, f"rm -rf {kept}; tar -C / -xf /root/kept/all.tar; rm -rf /root/kept /root/client")


@pytest.fixture
def listening(farm: LiveFarm, tls: dict[str, str]) -> str:
    """A node that listens over TLS; returns the process id of its engine."""
    farm.module(NODE, "docker_listener", **tls)
    return engine(farm)


def engine(farm: LiveFarm, host: str = NODE) -> str:
    """Return the process id of a host's engine."""
    return farm.ssh(host, "systemctl show --property=MainPID --value docker").strip()


def client(farm: LiveFarm, host: str, port: int = 2376, certificate: bool = True) -> str:
    """Ask a host's engine for its version through TCP, as a client of another host would."""
    options = (
        "--tlsverify --tlscacert /root/client/ca.pem --tlscert /root/client/cert.pem --tlskey /root/client/key.pem"
    )
    options = options if certificate else ""
    command = f"docker -H tcp://127.0.0.1:{port} {options} version --format '{{{{.Server.Version}}}}' 2>&1"
    return farm.ssh(host, command, check=False).strip()


def the_same(predicted: dict[str, Any], real: dict[str, Any]) -> bool:
    """Whether check mode said what the real run did."""
    return all(predicted[key] == real[key] for key in PREDICTED)


@pytest.mark.parametrize("host", ENGINES)
def test_a_bare_engine_listens_over_mutual_tls(farm: LiveFarm, tls: dict[str, str], host: str) -> None:
    predicted = farm.module(host, "docker_listener", check=True, **tls)
    assert farm.ssh(host, f"ls {DROP_IN} /etc/docker/tls", check=False) == ""
    real = farm.module(host, "docker_listener", **tls)
    assert real["changed"]
    assert real["restarted"]
    assert the_same(predicted, real)
    assert "PRIVATE KEY" not in json.dumps([predicted, real])

    assert client(farm, host)[:2] in ("20", "26", "28")
    refused = client(farm, host, certificate=False)
    assert "HTTP request to an HTTPS server" in refused
    modes = farm.ssh(host, "stat -c '%a %U' /etc/docker/tls /etc/docker/tls/*.pem").splitlines()
    assert modes == ["700 root", "444 root", "444 root", "400 root"]

    before = engine(farm, host)
    again = farm.module(host, "docker_listener", **tls)
    assert (again["changed"], again["actions"]) == (False, [])
    assert engine(farm, host) == before


def test_settings_of_daemon_json_are_merged_and_take_effect(farm: LiveFarm, tls: dict[str, str]) -> None:
    given = '{"log-opts": {"max-size": "1m"}, "debug": true}'
    farm.restart_engine(NODE, f"mkdir -p /etc/docker; cat > {CONFIG}", stdin=given)
    config = {"log-opts": {"max-file": "3"}, "labels": ["farm=yes"], "debug": None}
    predicted = farm.module(NODE, "docker_listener", check=True, daemon_config=config, **tls)
    real = farm.module(NODE, "docker_listener", daemon_config=config, **tls)
    assert the_same(predicted, real)
    written = json.loads(farm.ssh(NODE, f"cat {CONFIG}"))
    assert written == {"log-opts": {"max-size": "1m", "max-file": "3"}, "labels": ["farm=yes"]}
    assert farm.ssh(NODE, "docker info --format '{{.Labels}} {{.Debug}}'").strip() == "[farm=yes] false"
    assert not farm.module(NODE, "docker_listener", daemon_config=config, **tls)["changed"]
    # What is not mentioned stays.
    assert not farm.module(NODE, "docker_listener", **tls)["changed"]
    farm.restart_engine(NODE, f"rm {CONFIG}")


@pytest.mark.parametrize("host", ENGINES)
def test_settings_that_the_engine_refuses_are_taken_back(farm: LiveFarm, tls: dict[str, str], host: str) -> None:
    farm.module(host, "docker_listener", **tls)
    before = farm.ssh(host, STATE)
    failed = farm.module(host, "docker_listener", fails=True, daemon_config={"log-level": "loud"}, **tls)
    assert "loud" in failed["msg"]
    # 20.10 has no --validate: it has to fail to start.
    ending = "the engine runs as before" if host == "old1" else "the engine was not touched"
    assert ending in failed["msg"]
    assert host == "old1" or "refuses the declared configuration: " in failed["msg"]
    assert farm.ssh(host, STATE) == before
    assert client(farm, host)[:2] in ("20", "26", "28")
    assert not farm.module(host, "docker_listener", **tls)["changed"]


def test_a_port_that_is_taken_and_a_disk_that_fills_up(farm: LiveFarm, tls: dict[str, str], listening: str) -> None:
    """Nothing half is left by a disk that is full at once, or only when everything has to be put back."""
    drop_in = f"{DROP_IN.rpartition('/')[0]}/00-fills-the-disk.conf"
    farm.ssh(
        NODE,
        f"set -e; {IDLE.format('--restart always')}; echo '{{}}' > {CONFIG}; {RESTART}; cp -a /etc/docker /root/aside;"
        "mount -t tmpfs -o size=256k,mode=755 tmpfs /etc/docker; cp -a /root/aside/. /etc/docker;"
        "! cat /dev/zero > /etc/docker/tls/zeros 2>/dev/null;"
        "setsid python3 -m http.server 2377 >/dev/null 2>&1 </dev/null & echo $! > /run/server.pid",
    )
    try:
        before, running = farm.ssh(NODE, STATE), engine(farm)
        change: dict[str, Any] = {"port": 2377, "daemon_config": {"labels": ["farm=yes"]}, **tls}
        failed = farm.module(NODE, "docker_listener", fails=True, **change)
        assert "No space left on device: '/etc/docker/" in failed["msg"]
        assert "; every file was put back, the engine was not" in failed["msg"]
        assert (farm.ssh(NODE, STATE), engine(farm)) == (before, running)

        # The engine's start fills it, after the files were written.
        farm.ssh(NODE, "rm /etc/docker/tls/zeros")
        before = farm.ssh(NODE, STATE)
        fill = "/bin/sh -c '! cat /dev/zero >/etc/docker/zeros'"
        farm.ssh(NODE, f"cat > {drop_in}", stdin=f"[Service]\nExecStartPre={fill}\n")
        failed = farm.module(NODE, "docker_listener", fails=True, **change)
        assert "0.0.0.0:2377: bind: address already in use; every file was put back and the engine" in failed["msg"]
        assert "runs as before" in failed["msg"]
        assert failed["journal"]
        assert "100%" in farm.ssh(NODE, "df /etc/docker")
        farm.ssh(NODE, f"rm {drop_in} /etc/docker/zeros; systemctl daemon-reload")
        assert farm.ssh(NODE, STATE) == before
        assert client(farm, NODE).startswith("26")
        assert farm.ssh(NODE, "docker ps --format '{{.Names}}'").split() == ["idle"]
        assert not farm.module(NODE, "docker_listener", **tls)["changed"]
    finally:
        farm.ssh(
            NODE,
            f"rm -f {drop_in}; umount /etc/docker; rm -rf {CONFIG} /root/aside; kill $(cat /run/server.pid);"
            "docker rm -f idle; docker rmi idle; systemctl daemon-reload",
            check=False,
        )


def test_certificates_that_no_client_would_take_are_refused(
    farm: LiveFarm, authority: tuple[str, str], tls: dict[str, str], listening: str
) -> None:
    before = farm.ssh(NODE, STATE)
    reasons = {
        "unable to get local issuer certificate": issue("engine", issue("another CA")),
        "certificate is not yet valid": issue("engine", authority, since=1, days=2),
        "certificate has expired": issue("engine", authority, days=-1),
        "it has no subject alternative name": issue("engine", authority, named=False),
        "unsuitable certificate purpose": issue("engine", authority, usage=x509.ExtendedKeyUsageOID.CLIENT_AUTH),
    }
    tasks = [
        task("docker_listener", fails=True, ca=tls["ca"], certificate=certificate, key=key)
        for certificate, key in reasons.values()
    ]
    for reason, failed in zip(reasons, farm.tasks(NODE, *tasks), strict=True):
        assert re.search(f"would take it: {reason}.*; by this host's clock it is 20", failed["msg"])
    assert (farm.ssh(NODE, STATE), engine(farm)) == (before, listening)


def test_a_host_whose_clock_is_wrong(farm: LiveFarm, tls: dict[str, str], listening: str) -> None:
    """An engine that is as declared is left alone, and is not restarted for what no client would take."""
    before = farm.ssh(NODE, STATE)
    farm.ssh(NODE, f"test -e {CLOCK} || {installing('libfaketime')}")
    for days, reason in ((-1000, "is not yet valid"), (1000, "has expired")):
        clock = {"LD_PRELOAD": CLOCK, "FAKETIME": f"{days:+}d", "NO_FAKE_STAT": "1", "DONT_FAKE_MONOTONIC": "1"}
        same, failed = farm.tasks(
            NODE,
            task("docker_listener", environment=clock, **tls),
            task("docker_listener", environment=clock, fails=True, **tls, port=2377),
        )
        assert not same["changed"]
        date = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days)
        assert f"certificate {reason}; by this host's clock it is {date:%Y-%m-%d}T" in failed["msg"]
    assert (farm.ssh(NODE, STATE), engine(farm)) == (before, listening)


def test_an_engine_that_does_not_answer_is_taken_back(farm: LiveFarm, tls: dict[str, str], listening: str) -> None:
    """With live-restore containers go on as if nothing had been."""
    process = "docker inspect --format '{{.State.Running}} {{.State.Pid}}' idle"
    farm.ssh(NODE, f"echo '{{\"live-restore\": true}}' > {CONFIG}; {RESTART}; {IDLE.format('')}")
    before, running = farm.ssh(NODE, STATE), farm.ssh(NODE, process)
    rule = "INPUT -i lo -p tcp --dport 2377 -j REJECT"
    farm.ssh(NODE, f"iptables -I {rule}")
    failed = farm.module(NODE, "docker_listener", fails=True, probe_timeout=1, port=2377, **tls)
    farm.ssh(NODE, f"iptables -D {rule}")
    assert "started, and after 1 seconds tcp://0.0.0.0:2377: Connection refused; every file was put" in failed["msg"]
    assert farm.ssh(NODE, STATE) == before
    assert farm.ssh(NODE, process) == running
    assert running.startswith("true")
    assert client(farm, NODE).startswith("26")
    farm.ssh(NODE, f"docker rm -f idle; docker rmi idle; rm {CONFIG}; {RESTART}")


def test_a_renewed_certificate_is_served(
    farm: LiveFarm, authority: tuple[str, str], tls: dict[str, str], listening: str
) -> None:
    certificate, key = issue("engine", authority, usage=x509.ExtendedKeyUsageOID.SERVER_AUTH)
    renewed = farm.module(NODE, "docker_listener", ca=authority[0], certificate=certificate, key=key)
    assert renewed["restarted"]
    assert renewed["actions"][0] == ["write", "/etc/docker/tls/cert.pem"]
    # The node holds the key now, so it need not be sent again.
    again = farm.module(NODE, "docker_listener", ca=authority[0], certificate=certificate)
    assert not again["changed"]
    failed = farm.module(NODE, "docker_listener", fails=True, ca=tls["ca"], certificate=tls["certificate"])
    assert "is not the private key of the certificate given" in failed["msg"]
    predicted = farm.module(NODE, "docker_listener", check=True, ca=tls["ca"], certificate=tls["certificate"])
    assert ["write", "/etc/docker/tls/key.pem"] in predicted["actions"]


def test_a_missing_key_is_a_failure_or_a_result(farm: LiveFarm, authority: tuple[str, str], listening: str) -> None:
    certificate, key = issue("engine", authority, usage=x509.ExtendedKeyUsageOID.SERVER_AUTH)
    public = {"ca": authority[0], "certificate": certificate}
    before = farm.ssh(NODE, STATE)
    failure, predicted, reported = farm.tasks(
        NODE,
        task("docker_listener", fails=True, **public),
        task("docker_listener", check=True, missing_key="report", **public),
        task("docker_listener", missing_key="report", **public),
    )
    assert "give the key once" in failure["msg"]
    assert (reported["key_needed"], reported["changed"], reported["listener"]) == (True, False, None)
    assert the_same(predicted, reported)
    assert (farm.ssh(NODE, STATE), engine(farm)) == (before, listening)
    given, held = farm.tasks(
        NODE,
        task("docker_listener", key=key, **public),
        task("docker_listener", missing_key="report", **public),
    )
    assert (given["changed"], given["key_needed"]) == (True, False)
    assert (held["changed"], held["key_needed"], held["listener"]) == (False, False, given["listener"])


def test_runs_that_were_killed_are_finished_or_taken_back(farm: LiveFarm, tls: dict[str, str], listening: str) -> None:
    def killed_at(steps: str, **options: Any) -> None:
        listen = task("docker_listener", environment=kills.killed_at(steps), **{**tls, **options})
        run = farm.play([{"hosts": NODE, "gather_facts": False, "tasks": [listen]}])
        assert (run.tasks[0].outcome, run.tasks[0].result["rc"]) == ("failed", 137), run.tasks[0]

    with kills.prepared(farm, NODE):
        wanted: dict[str, Any] = {"port": 2377, "daemon_config": {"labels": ["farm=yes"]}}
        # One of two files is written.
        killed_at(f"os.rename {CONFIG}", **wanted)
        assert farm.ssh(NODE, f"grep -c 2377 {DROP_IN}; ls {CONFIG} 2>&1", check=False).count("\n") == 2
        # Both are, and systemd knows.
        killed_at("subprocess.Popen 'restart'", **wanted)
        assert engine(farm) == listening
        predicted = farm.module(NODE, "docker_listener", check=True, **wanted, **tls)
        assert "another command line" in predicted["diff"]["before"]["engine"]
        assert [action[1] for action in predicted["actions"]] == ["daemon-reload", "reset-failed", "restart"]
        # The engine runs with them, and was not asked yet.
        killed_at("socket.connect docker.sock", **wanted)
        assert engine(farm) != listening
        assert client(farm, NODE, 2377).startswith("26")
        assert not farm.module(NODE, "docker_listener", **wanted, **tls)["changed"]
        # But for what leads back to the file as it was.
        assert farm.ssh(NODE, f"find {FOLDERS} -name '.*' ! -name .daemon.json.former") == ""

        # What could not be finished leads back to what was there before the run that was killed.
        before = farm.ssh(NODE, STATE)
        killed_at("subprocess.Popen 'restart'", address="192.0.2.77")
        failed = farm.module(NODE, "docker_listener", fails=True, address="192.0.2.77", **tls)
        assert "192.0.2.77:2376: bind: cannot assign requested address; every file was put back" in failed["msg"]
        assert farm.ssh(NODE, STATE) == before
        assert client(farm, NODE, 2377).startswith("26")
    farm.ssh(NODE, f"rm {CONFIG}")


def test_a_changed_daemon_json_is_brought_into_effect(farm: LiveFarm, tls: dict[str, str], listening: str) -> None:
    farm.ssh(NODE, f'echo \'{{"labels": ["hand=made"]}}\' > {CONFIG}')
    changed = farm.module(NODE, "docker_listener", **tls)
    assert changed["restarted"]
    assert f"before {CONFIG} was changed" in changed["diff"]["before"]["engine"]
    assert farm.ssh(NODE, "docker info --format '{{.Labels}}'").strip() == "[hand=made]"
    farm.restart_engine(NODE, f"rm {CONFIG}")


def test_an_engine_that_does_not_run_is_started(farm: LiveFarm, tls: dict[str, str], listening: str) -> None:
    farm.ssh(NODE, "systemctl stop docker.socket docker.service")
    assert farm.module(NODE, "docker_listener", **tls)["actions"] == [["systemctl", "start", "docker.service"]]
    assert client(farm, NODE).startswith("26")


def test_a_new_command_of_the_package_and_of_other_drop_ins_is_taken_up(
    farm: LiveFarm, tls: dict[str, str], listening: str
) -> None:
    unit = farm.ssh(NODE, "cat /usr/lib/systemd/system/docker.service").replace(
        "$DOCKER_OPTS", "$DOCKER_OPTS --label a=1"
    )
    farm.ssh(NODE, "cat > /etc/systemd/system/docker.service", stdin=unit)
    assert farm.module(NODE, "docker_listener", **tls)["restarted"]
    assert farm.ssh(NODE, "docker info --format '{{.Labels}}'").strip().endswith("a=1]")
    farm.ssh(NODE, "rm /etc/systemd/system/docker.service")

    other = "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock"
    drop_in = "/etc/systemd/system/docker.service.d/override.conf"
    farm.ssh(NODE, f"cat > {drop_in}", stdin=other + " --label b=2\n")
    assert farm.module(NODE, "docker_listener", **tls)["restarted"]
    assert farm.ssh(NODE, "docker info --format '{{.Labels}}'").strip().endswith("b=2]")

    farm.ssh(NODE, f"mv {drop_in} /etc/systemd/system/docker.service.d/zzz-other.conf")
    failed = farm.module(NODE, "docker_listener", check=True, fails=True, **tls)
    assert "sorts before zz-buildfarm-listener.conf" in failed["msg"]
    farm.ssh(NODE, "rm /etc/systemd/system/docker.service.d/zzz-other.conf; systemctl daemon-reload")


VENDOR, EDITED = "/usr/lib/systemd/system/docker.service", "/etc/systemd/system/docker.service"
DROP_INS = f"{EDITED}.d"
#: What others have left, by the commands that make it.
STARTS = {
    "the articles' unit": f"sed 's|-H fd://|-H fd:// -H tcp://0.0.0.0:2375|' {VENDOR} > {EDITED}",
    "hosts in daemon.json": "printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/dockerd\\n' "
    f"> {DROP_INS}/override.conf",
    # docker_daemon_options and docker_service_start_command of the role geerlingguy.docker, which edits the package's
    # own file, and a proxy as its users have it.
    "geerlingguy.docker": f"cp {VENDOR} /root/vendor.service; sed -i 's|^ExecStart=.*|ExecStart=/usr/sbin/dockerd "
    f"--containerd=/run/containerd/containerd.sock|' {VENDOR}; "
    f"printf '[Service]\\nEnvironment=NO_PROXY=a.example.com\\n' > {DROP_INS}/http-proxy.conf",
}


@pytest.mark.parametrize(
    ("start", "host"),
    [
        ("the articles' unit", "new1"),
        ("hosts in daemon.json", "old1"),
        ("hosts in daemon.json", "new1"),
        ("geerlingguy.docker", "mid1"),
    ],
)
def test_from_what_others_have_left(farm: LiveFarm, tls: dict[str, str], host: str, start: str) -> None:
    """Units edited to listen to everyone, or daemon.json with `hosts` and a command without it."""
    farm.module(host, "docker_listener", state="absent")
    in_json = start != "the articles' unit"
    kept = {"labels": ["kept=yes"], "log-opts": {"max-size": "10m", "max-file": "3"}}
    hosts = {"hosts": ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2375"], "tls": False, **kept}
    farm.ssh(host, f"mkdir -p /etc/docker {DROP_INS}; cat > {CONFIG}", stdin=json.dumps(hosts if in_json else kept))
    try:
        farm.ssh(
            host, f"{STARTS[start]}; systemctl daemon-reload; systemctl reset-failed docker; systemctl restart docker"
        )
        assert ":2375" in farm.ssh(host, "ss -tln")
        predicted = farm.module(host, "docker_listener", check=True, **tls)
        real = farm.module(host, "docker_listener", **tls)
        assert the_same(predicted, real)
        listening = farm.ssh(host, "ss -tln")
        assert (":2375" in listening, ":2376" in listening) == (False, True)
        assert client(farm, host)[:2] in ("20", "26", "28")
        said = farm.ssh(host, "docker info --format '{{.ServerVersion}} {{.Labels}} {{.NoProxy}}'").split()
        assert said[1:] == ["[kept=yes]", *(["a.example.com"] if start == "geerlingguy.docker" else [])]
        assert not farm.module(host, "docker_listener", **tls)["changed"]
        assert in_json or f"-H tcp://0.0.0.0:2375 in {EDITED} is left out" in " ".join(real["warnings"])
        assert json.loads(farm.ssh(host, f"cat {CONFIG}")) == kept
    finally:
        farm.ssh(
            host,
            f"if [ -e /root/vendor.service ]; then mv /root/vendor.service {VENDOR}; fi; rm -f {EDITED} {CONFIG} "
            f"{DROP_INS}/override.conf {DROP_INS}/http-proxy.conf; systemctl daemon-reload",
        )
    # Back to the package's own unit, whose socket systemd opens: an engine that opened one itself has removed that.
    real = farm.module(host, "docker_listener", **tls)
    assert farm.ssh(host, "docker version --format '{{.Server.Version}}'").strip()
    assert (["systemctl", "restart", "docker.socket"] in real["actions"]) == in_json
    assert not farm.module(host, "docker_listener", **tls)["changed"]


@pytest.mark.parametrize("host", ENGINES)
def test_tls_settings_in_daemon_json_give_way(farm: LiveFarm, tls: dict[str, str], host: str) -> None:
    """All of TLS in daemon.json, and a command without a word of it; the engine runs so."""
    farm.module(host, "docker_listener", state="absent")
    kept = {"labels": ["kept=yes"], "tlscacert": "/root/former/ca.pem", "tlscert": "/root/former/cert.pem"}
    hosts = {"hosts": ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2376"], "tls": True, "tlsverify": True}
    former = {**hosts, **kept, "tlskey": "/root/former/key.pem"}
    override = "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd\n"
    farm.ssh(host, f"mkdir -p /etc/docker {DROP_INS} /root/former; cat > {CONFIG}", stdin=json.dumps(former))
    for name, text in zip(("ca", "cert", "key"), tls.values(), strict=True):
        farm.ssh(host, f"cat > /root/former/{name}.pem", stdin=text)
    try:
        farm.ssh(host, f"cat > {DROP_INS}/override.conf", stdin=override)
        farm.ssh(host, RESTART)
        assert client(farm, host)[:2] in ("20", "26", "28")
        # The journal is asked by whole seconds: the start before is to lie in an earlier one.
        begun = farm.ssh(host, "sleep 1; date +%s").strip()
        predicted = farm.module(host, "docker_listener", check=True, **tls)
        real = farm.module(host, "docker_listener", **tls)
        assert the_same(predicted, real)
        (warning,) = real["warnings"]
        assert f"{CONFIG} gives up hosts, tls, tlsverify, tlscacert, tlscert, tlskey in favour" in warning
        assert json.loads(farm.ssh(host, f"cat {CONFIG}")) == {"labels": ["kept=yes"]}
        starts = farm.ssh(host, f"journalctl --since=@{begun} --unit docker --output=cat | grep -c ^Starting")
        assert (starts.strip(), client(farm, host)[:2] in ("20", "26", "28")) == ("1", True)
        again = farm.module(host, "docker_listener", **tls)
        assert (again["changed"], again.get("warnings", [])) == (False, [])
    finally:
        farm.ssh(host, f"rm -rf {CONFIG} {DROP_INS}/override.conf /root/former; {RESTART}")


@pytest.mark.parametrize("host", ENGINES)
def test_a_listener_of_an_environment_file_is_refused_on_every_run(
    farm: LiveFarm, tls: dict[str, str], host: str
) -> None:
    """Debian's unit passes $DOCKER_OPTS of /etc/default/docker on."""
    farm.module(host, "docker_listener", state="absent")
    path = "/etc/default/docker"
    farm.ssh(
        host,
        f"cp -a {path} /root/default-docker; systemctl stop docker.socket docker.service; cat >> {path}",
        stdin='DOCKER_OPTS="-H tcp://0.0.0.0:2375 -H unix:///run/other.sock"\n',
    )
    try:
        refused = task("docker_listener", fails=True, **tls)
        stopped = [task("docker_listener", check=True, fails=True, **tls), refused, refused]
        runs = [
            run["msg"] for run in farm.tasks(host, *stopped, shell("systemctl start docker"), refused) if "msg" in run
        ]
        message = f"already has -H tcp://0.0.0.0:2375, from the variable DOCKER_OPTS in {path}; remove it there"
        assert [message in said for said in runs if said] == [True] * 4, runs
        assert farm.ssh(host, f"ls {DROP_IN}", check=False) == ""
        # Corrected; that the engine still runs with the former text is no reason to refuse.
        farm.ssh(host, f"sed -i 's|-H tcp://0.0.0.0:2375 ||' {path}")
        farm.module(host, "docker_listener", **tls)
        listening = farm.ssh(host, "ss -tln")
        assert (":2375" in listening, ":2376" in listening) == (False, True)
        assert farm.ssh(host, "docker -H unix:///run/other.sock version --format '{{.Server.Version}}'")
        assert not farm.module(host, "docker_listener", **tls)["changed"]
    finally:
        farm.ssh(host, f"mv /root/default-docker {path}; {RESTART}")


@pytest.mark.parametrize("host", ["old1", "new1"])
def test_settings_that_are_flags_already_are_refused_before_a_restart(
    farm: LiveFarm, tls: dict[str, str], host: str
) -> None:
    farm.module(host, "docker_listener", **tls)
    before = farm.ssh(host, STATE), engine(farm, host)
    failed = farm.module(host, "docker_listener", fails=True, daemon_config={"containerd": "/run/c.sock"}, **tls)
    assert (
        f"{CONFIG}: containerd would stand there beside --containerd in the command of docker.service" in failed["msg"]
    )
    assert (farm.ssh(host, STATE), engine(farm, host)) == before


def test_hosts_as_a_text_in_daemon_json(farm: LiveFarm, tls: dict[str, str], listening: str) -> None:
    """No engine starts with it."""
    farm.ssh(NODE, f"cat > {CONFIG}", stdin='{"hosts": "unix:///srv/d.sock,tcp://a:1", "labels": ["kept=yes"]}')
    failed = farm.module(NODE, "docker_listener", fails=True, **tls)
    assert "'hosts' is \"unix:///srv/d.sock,tcp://a:1\", wanted a list of addresses" in failed["msg"]
    assert engine(farm) == listening
    farm.ssh(NODE, f"cat > {CONFIG}; systemctl stop docker.socket docker", stdin='{"hosts": "tcp://192.0.2.3:2376"}')
    assert farm.module(NODE, "docker_listener", **tls)["restarted"]
    assert json.loads(farm.ssh(NODE, f"cat {CONFIG}")) == {}
    assert client(farm, NODE).startswith("26")
    farm.ssh(NODE, f"rm {CONFIG}; {RESTART}")


def test_hosts_in_daemon_json_that_would_be_lost(farm: LiveFarm, tls: dict[str, str], listening: str) -> None:
    farm.ssh(NODE, f"cat > {CONFIG}", stdin='{"hosts": ["unix:///run/another.sock"], "labels": ["kept=yes"]}')
    failed = farm.module(NODE, "docker_listener", fails=True, **tls)
    assert "unix:///run/another.sock would be lost" in failed["msg"]
    farm.module(NODE, "docker_listener", daemon_config={"hosts": None}, **tls)
    assert json.loads(farm.ssh(NODE, f"cat {CONFIG}")) == {"labels": ["kept=yes"]}
    assert client(farm, NODE).startswith("26")
    farm.restart_engine(NODE, f"rm {CONFIG}")


def test_on_the_address_of_an_interface(farm: LiveFarm, tls: dict[str, str]) -> None:
    (name,) = farm.ssh(NODE, "ip -o route get 198.18.255.1 | grep -o 'dev [^ ]*' | cut -d' ' -f2").split()
    listener = farm.module(NODE, "docker_listener", interface="lo", **tls)["listener"]
    assert listener["url"] == "tcp://127.0.0.1:2376"
    certificate, key = tls["certificate"], tls["key"]
    bound = farm.module(NODE, "docker_listener", interface=name, ca=tls["ca"], certificate=certificate, key=key)
    assert bound["listener"]["address"] == farm.address(NODE)
    assert f"{farm.address(NODE)}:2376" in farm.ssh(NODE, "ss -tln")
    failed = farm.module(NODE, "docker_listener", check=True, fails=True, interface="nowhere0", **tls)
    assert "interface 'nowhere0': found none of this name" in failed["msg"]


def test_other_kinds_of_engines_are_told(farm: LiveFarm, tls: dict[str, str]) -> None:
    farm.ssh("pristine", "mkdir -p /var/snap/docker")
    failed = farm.module("pristine", "docker_listener", check=True, fails=True, **tls)
    farm.ssh("pristine", "rm -r /var/snap")
    assert "found Docker from a snap, and wanted an engine that systemd runs for the whole system" in failed["msg"]


def test_a_broken_daemon_json_is_not_overwritten(farm: LiveFarm, tls: dict[str, str], listening: str) -> None:
    farm.ssh(NODE, f"cat > {CONFIG}", stdin='{\n  "debug": true\n  "ip": "::"\n}\n')
    failed = farm.module(NODE, "docker_listener", fails=True, daemon_config={"debug": False}, **tls)
    assert f"{CONFIG}, line 3, column 3: not JSON" in failed["msg"]
    assert farm.ssh(NODE, f"cat {CONFIG}") == '{\n  "debug": true\n  "ip": "::"\n}\n'

    farm.ssh(NODE, f"cat > {CONFIG}", stdin='{"log-level": "loud"}')
    failed = farm.module(NODE, "docker_listener", fails=True, daemon_config={"debug": False}, **tls)
    assert f"refuses {CONFIG} as it was before this task, correct that file: " in failed["msg"]
    assert "loud" in failed["msg"]
    assert farm.ssh(NODE, f"cat {CONFIG}") == '{"log-level": "loud"}'
    assert engine(farm) == listening
    farm.ssh(NODE, f"rm {CONFIG}")


@pytest.mark.parametrize("host", ENGINES)
def test_plain_tcp_only_where_asked_for(farm: LiveFarm, host: str) -> None:
    predicted = farm.module(host, "docker_listener", check=True, insecure=True)
    real = farm.module(host, "docker_listener", insecure=True)
    assert the_same(predicted, real)
    assert "without TLS" in " ".join(real["warnings"])
    assert real["listener"]["url"] == "tcp://127.0.0.1:2375"
    assert client(farm, host, 2375, certificate=False)[:2] in ("20", "26", "28")
    # Without --tls=false, 26 and later wait for 16 seconds.
    took = farm.ssh(
        host, "s=$(date +%s); systemctl reset-failed docker; systemctl restart docker; echo $(($(date +%s) - s))"
    )
    assert int(took) < 10
    again = farm.module(host, "docker_listener", insecure=True)
    assert not again["changed"]
    assert again["warnings"]


def test_listening_on_ipv6(farm: LiveFarm, tls: dict[str, str]) -> None:
    assert (
        farm.module(NODE, "docker_listener", address="::1", port=2400, **tls)["listener"]["url"] == "tcp://[::1]:2400"
    )
    assert "[::1]:2400" in farm.ssh(NODE, "ss -tln")


def test_settings_without_a_listener(farm: LiveFarm) -> None:
    farm.module(NODE, "docker_listener", state="absent")
    settings = {"daemon_config": {"labels": ["rack=1"]}}
    predicted = farm.module(NODE, "docker_daemon_config", check=True, **settings)
    real = farm.module(NODE, "docker_daemon_config", **settings)
    same = ("changed", "actions", "diff", "path", "restarted")
    assert [predicted[name] for name in same] == [real[name] for name in same]
    assert (real["path"], real["restarted"]) == (CONFIG, True)
    assert farm.ssh(NODE, "docker info --format '{{.Labels}}'").strip() == "[rack=1]"
    assert not farm.module(NODE, "docker_daemon_config", **settings)["changed"]
    before = farm.ssh(NODE, STATE)
    failed = farm.module(NODE, "docker_daemon_config", fails=True, daemon_config={"log-level": "loud"})
    assert "every file was put back" in failed["msg"]
    assert farm.ssh(NODE, STATE) == before
    assert farm.module(NODE, "docker_daemon_config", daemon_config={"labels": None})["restarted"]
    assert json.loads(farm.ssh(NODE, f"cat {CONFIG}")) == {}


def test_a_provisional_listener_is_reverted_or_confirmed(farm: LiveFarm, tls: dict[str, str]) -> None:
    farm.module(NODE, "docker_listener", **tls)
    before = farm.ssh(NODE, STATE)
    assert farm.module(NODE, "docker_listener", port=2377, provisional=True, **tls)["provisional"]
    predicted = farm.module(NODE, "docker_listener", check=True, state="reverted")
    real = farm.module(NODE, "docker_listener", state="reverted")
    assert the_same(predicted, real)
    assert real["msg"] == "every file was put back and the engine runs as before"
    assert farm.ssh(NODE, STATE) == before
    assert "0:2376 " in farm.ssh(NODE, "ss -tln").replace("*:", "0:")
    farm.module(NODE, "docker_listener", port=2377, provisional=True, **tls)
    running = engine(farm)
    assert not farm.module(NODE, "docker_listener", state="confirmed")["changed"]
    assert not farm.module(NODE, "docker_listener", state="reverted")["changed"]
    assert engine(farm) == running
    assert ".previous" not in farm.ssh(NODE, STATE)
    assert not farm.module(NODE, "docker_listener", port=2377, **tls)["changed"]


def test_absent_removes_what_present_made(farm: LiveFarm, tls: dict[str, str]) -> None:
    farm.module(NODE, "docker_listener", **tls)
    predicted = farm.module(NODE, "docker_listener", check=True, state="absent")
    real = farm.module(NODE, "docker_listener", state="absent")
    assert the_same(predicted, real)
    assert real["listener"] is None
    left = farm.ssh(NODE, "ls -d /etc/docker/tls /etc/systemd/system/docker.service.d; ss -tln", check=False)
    assert "/etc" not in left
    assert ":23" not in left
    assert farm.ssh(NODE, "docker version --format '{{.Server.Version}}'").strip()
    assert not farm.module(NODE, "docker_listener", state="absent")["changed"]


def test_before_the_engine_is_installed(farm: LiveFarm, tls: dict[str, str]) -> None:
    predicted = farm.module("pristine", "docker_listener", check=True, **tls)
    assert predicted["changed"]
    assert "is not installed on pristine yet" in " ".join(predicted["warnings"])
    # Not even the certificates exist before the first run.
    assert farm.module("pristine", "docker_listener", check=True)["actions"] == predicted["actions"]
    failed = farm.module("pristine", "docker_listener", fails=True, **tls)
    assert (
        "docker.service is not installed on pristine; apply the role buildfarm.multiarch.engine first" in failed["msg"]
    )
    assert not farm.module("pristine", "docker_listener", state="absent")["changed"]
    assert farm.ssh("pristine", "ls -d /etc/docker /etc/systemd/system/docker.service.d", check=False) == ""
