# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One thing goes wrong at a random moment of a playbook; one more run, and all is as declared.

Whatever happens, tags stand for something whole, no output holds a key, and nothing is left behind.
`BUILDFARM_CASES` is the number of faults, `BUILDFARM_SEED` repeats those of an earlier run, and `BUILDFARM_FAULTS` is
the kinds that are drawn, with commas between them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_runs import CHECKOUT, LiveFarm, Run, installing
from building import BuildFarm
from test_gate import Stored
from traces import texts_of

CASES = int(os.environ.get("BUILDFARM_CASES", "20"))
#: Handlers are the machine's: other tests at the same time would change them, and these theirs.
HANDLER = "handler removed"
KINDS = {kind.strip() for kind in os.environ.get("BUILDFARM_FAULTS", "").split(",") if kind.strip()}
EMULATED = ["linux/mips64le"] if HANDLER in KINDS or (CASES > 20 and not KINDS) else []
ENTRY = "/proc/sys/fs/binfmt_misc/qemu-mips64el"
#: In each run of all tests the same ones; `make test-long` and BUILDFARM_SEED take others.
SEED = int(os.environ.get("BUILDFARM_SEED") or (59773 if CASES <= 20 else random.SystemRandom().randrange(10**6)))
CONTROLLER, AMD, ARM = "ctl", "mid1", "mid2"
PLATFORMS = {AMD: "linux/amd64", ARM: "linux/arm64"}
#: Gives a program another clock: https://github.com/wolfcw/libfaketime
CLOCK = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
#: For about how many seconds each playbook runs, with what goes wrong in the last of them too.
LASTS = {"site": 14.0, "build": 5.0, "rotate_certificates": 25.0, "teardown": 9.0, "prune": 4.0}
#: What other playbooks than site do not mend: what nodes have been given by hand, and a BuildKit that Docker does not
#: start again, as its engine was killed while it ended; a build starts it.
_BY_HAND = {"certificate is no server's", "certificate expired", "daemon.json edited", HANDLER}
OF_SITE = {
    "build": _BY_HAND,
    # It leaves nodes alone whose BuildKit does not run.
    "prune": {*_BY_HAND, "BuildKit killed"},
    "rotate_certificates": {HANDLER},
    # It takes nothing from an engine that it cannot reach.
    "teardown": {"certificate expired"},
}
#: Issues a server's certificate as its authority could have two years ago, and prints it: `python3 - NODE`.
_EXPIRED = """
import datetime, pathlib, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
top = pathlib.Path.home() / ".config/buildfarm"
(path,) = top.rglob(f"servers/{sys.argv[1]}/cert.pem")
folder = path.parent.parent.parent
key = serialization.load_pem_private_key((folder / "ca-key.pem").read_bytes(), None)
now, held = datetime.datetime.now(datetime.timezone.utc), x509.load_pem_x509_certificate(path.read_bytes())
made = x509.CertificateBuilder(held.issuer, held.subject, held.public_key(), held.serial_number + 1)
made = made.not_valid_before(now - datetime.timedelta(730)).not_valid_after(now - datetime.timedelta(1))
for one in held.extensions:
    made = made.add_extension(one.value, one.critical)
pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
path.write_bytes(pem)
print(pem.decode())
"""
#: Answers whatever is asked with an error of the server.
_FAILING = """
import http.server
class Failing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer
http.server.ThreadingHTTPServer(("", 8129), Failing).serve_forever()
"""
#: What is left of runs that were ended, on any host.
_LEFT = """
ls -A /run/buildfarm-listener 2>/dev/null
find /etc/docker /etc/systemd/system /root/.docker /root/.config -name '*.previous' -o -name '*.new' 2>/dev/null
find /tmp /var/tmp -maxdepth 1 -name 'buildx-*'
pgrep -af '[b]uildx build'
"""


class Farm:
    """The hosts, the playbooks, and what becomes of both."""

    def __init__(self, farm: LiveFarm, folder: Path) -> None:
        self.farm, self.folder, self.ssh = farm, folder, farm.ssh
        images = BuildFarm(farm)
        self.tag = f"{images.repository}/faults:latest"
        images.context(CONTROLLER, "faults", "FROM busybox\nARG SALT\nLABEL salt=$SALT\nCOPY note /note\n", note="text")
        self.stored = Stored(images)
        self.salt = 0
        self.texts: set[str] = set()

    def inventory(self) -> dict[str, Any]:
        """Each node for one platform."""
        nodes = {host: {"farm_node_platforms": [platform]} for host, platform in PLATFORMS.items()}
        return {"buildx_controllers": {CONTROLLER: None}, "buildx_nodes": nodes}

    def variables(self) -> dict[str, Any]:
        """What is declared; nothing is emulated."""
        image = {"name": self.tag, "context": "/srv/images/faults", "build_args": {"SALT": str(self.salt)}}
        listed = [{**image, "platforms": sorted(PLATFORMS.values())}]
        return {**self.farm.variables("unused"), "images_list": listed, "emulators_platforms": EMULATED}

    def run(self, name: str, check: bool = False) -> Run:
        """Run a playbook of the collection to its end."""
        return self.farm.playbook(
            f"buildfarm.multiarch.{name}", variables=self.variables(), inventory=self.inventory(), check=check
        )

    @contextlib.contextmanager
    def started(self, name: str, python: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a playbook of the collection.

        :param python: that runs the modules of the controller.
        """
        files = {"inventory": self.farm.inventory(self.inventory()), "variables": self.variables()}
        if python:
            children = files["inventory"]["all"]["children"]
            children["buildx_controllers"]["hosts"][CONTROLLER]["ansible_python_interpreter"] = python
        for file, content in files.items():
            (self.folder / f"{file}.json").write_text(json.dumps(content))
        argv = [str(CHECKOUT / ".venv/bin/ansible-playbook"), "--diff", f"buildfarm.multiarch.{name}"]
        argv += ["-i", str(self.folder / "inventory.json"), "-e", f"@{self.folder}/variables.json"]
        settings = {"ANSIBLE_CONFIG": str(CHECKOUT / "tests/integration/ansible.cfg"), "BUILDFARM_RECORDS": "/dev/null"}
        with (self.folder / "output").open("wb") as output:
            process = subprocess.Popen(
                argv,
                env={**os.environ, **self.farm.environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                yield process
                process.wait(240)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def secrets(self) -> set[str]:
        """What of the private keys that there are betrays them."""
        keys = self.ssh(CONTROLLER, "find ~/.config/buildfarm -name '*key.pem' 2>/dev/null | xargs -r cat")
        self.texts |= set(texts_of(keys)) - {"PRIVATE KEY"}
        return self.texts

    def settled(self) -> None:
        """Wait until the engines that were ended run again."""
        for host in PLATFORMS:
            self.ssh(
                host, "systemctl reset-failed docker 2>/dev/null; systemctl start docker; docker version >/dev/null"
            )

    def left(self) -> dict[str, str]:
        """What runs that were ended have left on each host."""
        found = {host: self.ssh(host, _LEFT, check=False) for host in (CONTROLLER, *PLATFORMS)}
        return {host: text for host, text in found.items() if text}


Undo = Callable[[], object]


def nothing() -> None:
    """End what is over already."""


def full(farm: Farm, host: str) -> Undo:
    """Have a host write to a file system that has no room left."""
    folder = "/root/.docker" if host == CONTROLLER else "/etc/docker"
    farm.ssh(
        host,
        f"mkdir -p {folder} /run/full; mount -t tmpfs -o size=512k none /run/full; cp -a {folder}/. /run/full/;"
        f" mount --bind /run/full {folder}; cat /dev/zero > /run/full/.filler 2>/dev/null; true",
    )
    back = (
        f"rm -f /run/full/.filler; umount -l {folder}; find {folder} -mindepth 1 -delete;"
        f" cp -a /run/full/. {folder}/; umount -l /run/full"
    )
    return lambda: farm.ssh(host, back)


def failing(farm: Farm) -> Undo:
    """Have the registry answer nothing but errors, BuildKit too: it is in the network of its host."""
    registry, hosts = farm.farm.registry.partition(":")[0], (CONTROLLER, *PLATFORMS)
    rule = f"-t nat {{}} OUTPUT -d {registry} -p tcp -j DNAT --to-destination {farm.farm.address(CONTROLLER)}:8129"
    farm.ssh(CONTROLLER, "nohup python3 /srv/failing >/dev/null 2>&1 & echo $! > /run/failing")
    for host in hosts:
        farm.ssh(host, f"iptables -w {rule.format('-I')}")

    def undo() -> None:
        for host in hosts:
            farm.ssh(host, f"iptables -w {rule.format('-D')}")
        farm.ssh(CONTROLLER, "kill $(cat /run/failing); rm /run/failing")

    return undo


def slow(farm: Farm, host: str) -> Undo:
    """Let a host be 300 ms away, and one packet of 20 be lost on the way."""
    hosts = farm.farm.farm.hosts
    lossy = "-p tcp -m statistic --mode random --probability 0.05 -j DROP"
    with contextlib.ExitStack() as stack:
        farm.ssh(host, f"iptables -w -I INPUT {lossy}")
        stack.callback(farm.ssh, host, f"iptables -w -D INPUT {lossy}")
        stack.enter_context(farm.farm.farm.network.far(1 + [one.name for one in hosts].index(host), 0.3))
        return stack.pop_all().close


def expired(farm: Farm, host: str) -> Undo:
    """Have a node's certificate be one that is over, where there is one."""
    pem = farm.ssh(CONTROLLER, f"python3 - {host}", check=False, stdin=_EXPIRED)
    if pem:
        read = "systemctl reset-failed docker; systemctl --no-block restart docker"
        farm.ssh(host, f"f=/etc/docker/tls/cert.pem; test -e $f || exit 0; cat > $f; {read}", stdin=f"{pem}\n")
    return nothing


def faults(farm: Farm, chance: random.Random) -> dict[str, Callable[[subprocess.Popen[bytes]], Undo]]:
    """What may go wrong; each returns what ends it."""
    ssh, power = farm.ssh, farm.farm.farm
    hosts, registry = (CONTROLLER, *PLATFORMS), farm.farm.registry.partition(":")[0]

    def once(host: str, command: str) -> Undo:
        ssh(host, command, check=False)
        return nothing

    def between(host: str, command: str, back: str) -> Undo:
        ssh(host, command)
        return lambda: ssh(host, back)

    def firewall(host: str, rule: str) -> Undo:
        return between(host, f"iptables -I {rule}", f"iptables -D {rule}")

    def power_off(host: str) -> Undo:
        power.power_off(host)
        return lambda: power.power_on(host)

    def signalled(process: subprocess.Popen[bytes], number: int) -> Undo:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        return nothing

    def interrupted(process: subprocess.Popen[bytes]) -> Undo:
        signalled(process, signal.SIGINT)

        def insist() -> None:
            # Ansible may miss it, and wait for workers that are gone: whoever sits there ends it then.
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                signalled(process, signal.SIGKILL)

        return insist

    node = chance.choice(sorted(PLATFORMS))
    drop = "-p tcp --dport 2376 -j DROP"
    by_hand = json.dumps({"debug": True, "insecure-registries": ["by.hand.example.com"]})
    edited = f"mkdir -p /etc/docker; echo '{by_hand}' > /etc/docker/daemon.json"
    certificate = "f=/etc/docker/tls; test -e $f/cert.pem && cp $f/ca.pem $f/cert.pem"
    return {
        "module killed": lambda _play: once(chance.choice(hosts), "pkill -KILL -xf '/usr/bin/python3[.0-9]*'"),
        "buildx killed": lambda _play: once(CONTROLLER, "pkill -KILL docker-buildx"),
        "Ansible interrupted": interrupted,
        "Ansible killed": lambda play: signalled(play, signal.SIGKILL),
        "controller rebooted": lambda _play: power_off(CONTROLLER),
        "engine killed": lambda _play: once(node, "systemctl kill -s KILL docker"),
        "BuildKit killed": lambda _play: once(node, "docker kill $(docker ps -q)"),
        "node switched off": lambda _play: power_off(node),
        "network cut": lambda _play: firewall(node, f"INPUT {drop}"),
        "network slow and lossy": lambda _play: slow(farm, node),
        "registry out of reach": lambda _play: firewall(
            CONTROLLER, f"OUTPUT -d {registry} -p tcp -j REJECT --reject-with tcp-reset"
        ),
        "registry answers 500": lambda _play: failing(farm),
        "disk full": lambda _play: full(farm, chance.choice([CONTROLLER, node])),
        "certificate is no server's": lambda _play: once(node, certificate),
        "certificate expired": lambda _play: expired(farm, node),
        "daemon.json edited": lambda _play: once(node, edited),
        **({HANDLER: lambda _play: once(node, f"echo -1 > {ENTRY}")} if EMULATED else {}),
        # It is so from the start, see below.
        "a year ahead": lambda _play: nothing,
    }


@pytest.fixture(scope="module")
def hosts(farm: LiveFarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """The farm; all is taken away at the end."""
    made = Farm(farm, tmp_path_factory.mktemp("faults"))
    clock = f"LD_PRELOAD={CLOCK} FAKETIME=+366d NO_FAKE_STAT=1 DONT_FAKE_MONOTONIC=1"
    farm.ssh(CONTROLLER, f"test -e {CLOCK} || {installing('libfaketime')}")
    for node in PLATFORMS:
        farm.ssh(node, "docker ps -aq | xargs -r docker rm -f; docker volume ls -q | xargs -r docker volume rm")
    farm.ssh(
        CONTROLLER,
        "cat > /srv/ahead; chmod +x /srv/ahead",
        stdin=f'#!/bin/sh\nexec env {clock} /usr/bin/python3 "$@"\n',
    )
    farm.ssh(CONTROLLER, "cat > /srv/failing", stdin=_FAILING)
    yield made
    made.run("teardown")
    for node in PLATFORMS:
        farm.ssh(node, "docker ps -aq | xargs -r docker rm -f; docker volume prune -af; rm -rf /etc/docker")
        farm.ssh(node, "systemctl reset-failed docker; systemctl restart docker")
    farm.ssh(CONTROLLER, "rm -rf ~/.docker ~/.config/buildfarm /srv/images /srv/ahead /srv/failing")


def whole(farm: Farm, case: str) -> None:
    """A tag stands for both platforms, of one build."""
    if farm.stored.digest(farm.tag):
        found = farm.stored.images(farm.tag)
        assert set(found) == set(PLATFORMS.values()), case
        assert len({labels["salt"] for _config, _layers, labels in found.values()}) == 1, case


def as_declared(farm: Farm, phase: str, case: str) -> None:
    """After one more run."""
    if phase == "teardown":
        for node in PLATFORMS:
            drop_in = "/etc/systemd/system/docker.service.d/zz-buildfarm-listener.conf"
            own = ENTRY if EMULATED else ""
            assert (
                farm.ssh(
                    node, f"docker ps -aq; docker volume ls -q; ss -ltnH 'sport = 2376'; ls {drop_in} {own}", False
                )
                == ""
            )
        assert "farm" not in farm.ssh(CONTROLLER, "docker buildx ls; docker context ls -q"), case
    else:
        predicted = farm.run("site", check=True).expect_success()
        todo = [(one.host, one.task, one.result.get("actions")) for one in predicted.tasks if one.result.get("changed")]
        assert not todo, (case, todo)
    if phase == "build":
        assert farm.stored.images(farm.tag)["linux/arm64"][2]["salt"] == str(farm.salt), case
    left = farm.left()
    assert not left, (case, left)


def test_one_more_run_mends_it(hosts: Farm, record_property: Callable[[str, object], None]) -> None:
    record_property("BUILDFARM_CASES", CASES)
    record_property("BUILDFARM_SEED", SEED)
    chance = random.Random(SEED)
    phases = [name for name in LASTS if (CHECKOUT / f"playbooks/{name}.yml").exists()]
    stands, troubles = False, []
    for number in range(1, CASES + 1):
        phase = chance.choice(phases) if stands else "site"
        kinds = faults(hosts, chance)
        kind = chance.choice(sorted(KINDS.intersection(kinds) or kinds))
        moment = chance.uniform(0.5, LASTS[phase])
        pause = chance.uniform(0.5, 20.0 if "slow" in kind else 4.0)
        case = f"{number}: {phase}, {kind} after {moment:.1f} s, for {pause:.1f} s"
        print(case, flush=True)
        hosts.salt = number
        with hosts.started(phase, "/srv/ahead" if kind == "a year ahead" else "") as play:
            with contextlib.suppress(subprocess.TimeoutExpired):
                play.wait(moment)
            undo = kinds[kind](play)
            time.sleep(pause)
            undo()
        try:
            hosts.settled()
            whole(hosts, case)
            if kind in OF_SITE.get(phase, ()):
                hosts.run("site").expect_success()
            hosts.run(phase).expect_success()
            as_declared(hosts, phase, case)
            whole(hosts, case)
            output = (hosts.folder / "output").read_text(errors="replace")
            assert not [text for text in hosts.secrets() if text in output], case
        except AssertionError as exc:
            # The others are of use all the same.
            troubles.append(f"{case}: {exc}")
            print(troubles[-1][:3000], flush=True)
            hosts.run("site")
            phase = "site"
        stands = phase != "teardown"
    assert not troubles, "\n".join(trouble[:1500] for trouble in troubles)
