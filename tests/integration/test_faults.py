# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One thing goes wrong at a random moment of a playbook; one more run, and all is as declared.

Whatever happens, tags stand for something whole, no output holds a key, and nothing is left behind.
`BUILDFARM_CASES` is the number of faults, `BUILDFARM_SEED` repeats those of an earlier run.
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

CASES = int(os.environ.get("BUILDFARM_CASES", "3"))
#: In each run of all tests the same ones; `make test-long` and BUILDFARM_SEED take others.
SEED = int(os.environ.get("BUILDFARM_SEED") or (77 if CASES < 20 else random.SystemRandom().randrange(10**6)))
CONTROLLER, AMD, ARM = "ctl", "mid1", "mid2"
PLATFORMS = {AMD: "linux/amd64", ARM: "linux/arm64"}
#: Gives a program another clock: https://github.com/wolfcw/libfaketime
CLOCK = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
#: For about how many seconds each playbook runs, with what goes wrong in the last of them too.
LASTS = {"site": 14.0, "build": 5.0, "rotate_certificates": 25.0, "teardown": 9.0, "prune": 4.0}
#: What other playbooks than site do not mend: what nodes have been given by hand, and a BuildKit that Docker does not
#: start again, as its engine was killed while it ended; a build starts it.
_BY_HAND = {"certificate is no server's", "daemon.json edited"}
OF_SITE = {
    "build": _BY_HAND,
    "prune": _BY_HAND,
    "rotate_certificates": {"BuildKit killed", "engine killed", "node switched off"},
}
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
        return {**self.farm.variables("unused"), "images_list": listed, "emulators_platforms": []}

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


def faults(farm: Farm, chance: random.Random) -> dict[str, Callable[[subprocess.Popen[bytes]], Undo]]:
    """What may go wrong; each returns what ends it."""
    ssh, power = farm.ssh, farm.farm.farm
    hosts, registry = (CONTROLLER, *PLATFORMS), farm.farm.registry.partition(":")[0]

    def nothing() -> None:
        pass

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

    def full(host: str) -> Undo:
        # A file system of its own, that has no room left.
        folder = "/root/.docker" if host == CONTROLLER else "/etc/docker"
        make = (
            f"mkdir -p {folder} /run/full; mount -t tmpfs -o size=512k none /run/full; cp -a {folder}/. /run/full/;"
            f" mount --bind /run/full {folder}; cat /dev/zero > /run/full/.filler 2>/dev/null; true"
        )
        back = (
            f"rm -f /run/full/.filler; umount -l {folder}; find {folder} -mindepth 1 -delete;"
            f" cp -a /run/full/. {folder}/; umount -l /run/full"
        )
        return between(host, make, back)

    node = chance.choice(sorted(PLATFORMS))
    drop = "-p tcp --dport 2376 -j DROP"
    lossy = "-m statistic --mode random --probability 0.2"
    by_hand = json.dumps({"debug": True, "insecure-registries": ["by.hand.example.com"]})
    edited = f"mkdir -p /etc/docker; echo '{by_hand}' > /etc/docker/daemon.json"
    certificate = "f=/etc/docker/tls; test -e $f/cert.pem && cp $f/ca.pem $f/cert.pem"
    return {
        "module killed": lambda _play: once(chance.choice(hosts), "pkill -KILL -xf '/usr/bin/python3[.0-9]*'"),
        "buildx killed": lambda _play: once(CONTROLLER, "pkill -KILL docker-buildx"),
        "Ansible interrupted": lambda play: signalled(play, signal.SIGINT),
        "Ansible killed": lambda play: signalled(play, signal.SIGKILL),
        "controller rebooted": lambda _play: power_off(CONTROLLER),
        "engine killed": lambda _play: once(node, "systemctl kill -s KILL docker"),
        "BuildKit killed": lambda _play: once(node, "docker kill $(docker ps -q)"),
        "node switched off": lambda _play: power_off(node),
        "network cut": lambda _play: firewall(node, f"INPUT {drop}"),
        # Slow by what has to be sent again; the kernel that tests run on may have no netem.
        "network slow": lambda _play: firewall(node, f"INPUT {lossy} {drop}"),
        "registry out of reach": lambda _play: firewall(
            CONTROLLER, f"OUTPUT -d {registry} -p tcp -j REJECT --reject-with tcp-reset"
        ),
        "disk full": lambda _play: full(chance.choice([CONTROLLER, node])),
        "certificate is no server's": lambda _play: once(node, certificate),
        "daemon.json edited": lambda _play: once(node, edited),
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
        farm.ssh(node, "docker volume ls -q | xargs -r docker volume rm")
    farm.ssh(
        CONTROLLER,
        "cat > /srv/ahead; chmod +x /srv/ahead",
        stdin=f'#!/bin/sh\nexec env {clock} /usr/bin/python3 "$@"\n',
    )
    yield made
    made.run("teardown")
    for node in PLATFORMS:
        farm.ssh(node, "docker ps -aq | xargs -r docker rm -f; docker volume prune -af; rm -rf /etc/docker")
        farm.ssh(node, "systemctl reset-failed docker; systemctl restart docker")
    farm.ssh(CONTROLLER, "rm -rf ~/.docker ~/.config/buildfarm /srv/images /srv/ahead")


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
            assert (
                farm.ssh(node, f"docker ps -aq; docker volume ls -q; ss -ltnH 'sport = 2376'; ls {drop_in}", False)
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
        kind, moment = chance.choice(sorted(kinds)), chance.uniform(0.5, LASTS[phase])
        pause = chance.uniform(0.5, 4.0)
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
