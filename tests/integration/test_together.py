# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two controllers that know nothing of each other work on the same nodes at the same time.

Afterwards all is as one of them declares it, and neither has failed because of the other. `BUILDFARM_CASES` is the
number of pairs of playbooks, `BUILDFARM_SEED` repeats those of an earlier run.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import kills
import seed
from ansible_runs import LiveFarm, Run, task
from building import AMD, ARM, CONTROLLERS, BuildFarm, listen, unlisten
from test_gate import Stored

CASES = int(os.environ.get("BUILDFARM_CASES", "3"))
SEED = int(os.environ.get("BUILDFARM_SEED") or (23 if CASES < 10 else random.SystemRandom().randrange(10**6)))
#: With an engine of 2020.
OLD = "old1"
PLATFORMS = {AMD: "linux/amd64", ARM: "linux/arm64"}
#: What each declares of BuildKit's containers where they declare different things.
MARKS = {controller: f"of-{controller}" for controller in CONTROLLERS}
_EMPTY = "docker ps -aq | xargs -r docker rm -f; docker volume ls -q | xargs -r docker volume rm"
_LIST = "docker inspect --format '{{.Name}} {{.State.Running}} {{json .Config.Env}}' $(docker ps -aq)"


class Together:
    """The hosts, and what two controllers do to them."""

    def __init__(self, farm: LiveFarm) -> None:
        self.farm, self.images = farm, BuildFarm(farm)
        self.stored = Stored(self.images)
        self.tag = f"{self.images.repository}/together:latest"
        dockerfile = "FROM busybox\nARG SALT\nLABEL salt=$SALT\nCOPY note /note\n"
        for controller in CONTROLLERS:
            self.images.context(controller, "together", dockerfile, note="text")

    def variables(self, mark: str, salt: str, label: str) -> dict[str, Any]:
        """What is declared, on one controller.

        :param mark: of BuildKit's containers; likewise the engines' label, which restarts them, and the image's salt.
        """
        image = {"name": self.tag, "context": "/srv/images/together", "build_args": {"SALT": salt}}
        declared = self.farm.variables("unused")
        options = {**declared["farm_driver_opts"], "env.DECLARED": mark}
        engine = {**declared["engine_daemon_config"], **({"labels": [f"declared={label}"]} if label else {})}
        return {
            **declared,
            "engine_daemon_config": engine,
            "farm_driver_opts": options,
            "listener_insecure": True,
            "listener_address": "0.0.0.0",
            "emulators_platforms": [],
            "images_list": [{**image, "platforms": sorted(PLATFORMS.values())}],
        }

    def run(self, controller: str, name: str, mark: str, salt: str = "", label: str = "") -> Run:
        """Run a playbook of the collection for one controller."""
        nodes = {host: {"farm_node_platforms": [platform]} for host, platform in PLATFORMS.items()}
        groups = {"buildx_controllers": {controller: None}, "buildx_nodes": nodes}
        variables = self.variables(mark, salt, label)
        return self.farm.playbook(f"buildfarm.multiarch.{name}", inventory=groups, variables=variables)

    def run_later(self, wait: float, *options: str) -> Run:
        """Run a playbook after some seconds."""
        time.sleep(wait)
        return self.run(*options)

    def containers(self) -> dict[str, list[str]]:
        """By node, each container with whether it runs and what is declared of it."""
        return {host: self.farm.ssh(host, _LIST, check=False).splitlines() for host in PLATFORMS}

    def declared(self) -> set[str]:
        """What the nodes' containers were made for; each node has one, which runs."""
        found = set()
        for host, containers in self.containers().items():
            (container,) = containers
            name, running, env = container.split(" ", 2)
            assert (name, running) == (f"/buildx_buildkit_farm-{host}", "true"), containers
            found |= {text.partition("=")[2] for text in json.loads(env) if text.startswith("DECLARED=")}
        return found

    def make(self, before: str) -> None:
        """Bring the nodes into a state."""
        for host in PLATFORMS:
            if before == "nothing is there":
                self.farm.ssh(
                    host, "docker ps -aq | xargs -r docker rm -f; docker volume ls -q | xargs -r docker volume rm"
                )
            elif before == "the containers are stopped":
                self.farm.ssh(host, "docker ps -q | xargs -r docker stop -t 1")


@pytest.fixture(scope="module")
def together(farm: LiveFarm) -> Iterator[Together]:
    """Two controllers with a builder each, of the same nodes; everything is taken away at the end."""
    for node in PLATFORMS:
        farm.ssh(node, _EMPTY)
    made = Together(farm)
    for controller in CONTROLLERS:
        made.run(controller, "site", "both").expect_success()
    yield made
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: unlisten(farm, host), PLATFORMS))
    for controller in CONTROLLERS:
        farm.ssh(controller, "rm -rf ~/.docker ~/.config/buildfarm /srv/images")


def test_a_lock_ends_with_its_holder_and_says_who_that_is(farm: LiveFarm) -> None:
    """On the oldest engine. A run is stopped while it holds it, and killed after another has waited in vain."""
    listen(farm, OLD)
    node = {"name": "locked", "endpoint": f"tcp://{OLD}:2375"}
    node["driver_opts"] = {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"}
    wanted = {"name": "locked", "nodes": [node], "docker_config": "/srv/locked"}
    held = "docker ps --quiet --filter name=buildfarm_lock"
    environment = kills.killed_at("subprocess.Popen bootstrap", by="SIGSTOP")
    first = {
        "hosts": "ctl",
        "gather_facts": False,
        "tasks": [task("buildx_builder", **wanted, environment=environment)],
    }
    try:
        with kills.prepared(farm, "ctl"), ThreadPoolExecutor() as pool:
            holder = pool.submit(farm.play, [first])
            try:
                farm.ssh(OLD, f'timeout 120 sh -c "until {held} | grep -q .; do sleep 0.2; done"')
                refused = farm.module("ctlnew", "buildx_builder", **wanted, lock_timeout=1, fails=True)
            finally:
                stopped = "ps -e -o pid= -o stat= -o comm= | awk '$2 ~ /^T/ && $3 ~ /^python3/ {print $1}'"
                farm.ssh("ctl", f"{stopped} | xargs -r kill -KILL", check=False)
            assert holder.result().rc != 0
        assert (
            "works on its containers, module buildx_builder for builder 'locked' by root on ctl, since 20"
            in (refused["msg"])
        )
        assert farm.ssh("ctlnew", "ls /srv/locked/buildx/instances", check=False) == ""
        farm.ssh(OLD, f'timeout 60 sh -c "while {held} --all | grep -q .; do sleep 0.2; done"')
        assert farm.module("ctlnew", "buildx_builder", **wanted)["changed"]
        assert farm.ssh(OLD, "docker ps --all --format '{{.Names}}'").split() == ["buildx_buildkit_locked"]
    finally:
        unlisten(farm, OLD)
        for controller in CONTROLLERS:
            farm.ssh(controller, "rm -rf /srv/locked")


STATES = ["nothing is there", "the containers are stopped", "all is as declared"]
#: What the two do, whether they declare the same, and whether their declarations restart the engines.
PAIRS = [
    ("site", "site", False, False),
    ("site", "build", False, False),
    ("build", "build", True, False),
    ("site", "site", True, False),
    ("site", "site", False, True),
    ("site", "build", False, True),
]


def test_neither_fails_because_of_the_other(together: Together, record_property: Callable[[str, object], None]) -> None:
    record_property("BUILDFARM_CASES", CASES)
    record_property("BUILDFARM_SEED", SEED)
    chance = random.Random(SEED)
    troubles = []
    for number in range(CASES):
        first, second, same, restarts = PAIRS[number % len(PAIRS)]
        before, delay = chance.choice(STATES), chance.uniform(0, 3)
        salts = {controller: f"{number}-{controller}" for controller in CONTROLLERS}
        marks = dict.fromkeys(CONTROLLERS, f"both-{number}") if same else MARKS
        labels = {controller: f"{number}-{controller}" if restarts else "" for controller in CONTROLLERS}
        case = f"{number + 1}: {first}, {delay:.1f} s later {second}; {before}; same: {same}, restarts: {restarts}"
        print(case, flush=True)
        together.make(before)

        order = list(zip(CONTROLLERS, (first, second), (0, delay)))
        with ThreadPoolExecutor() as pool:
            started = [
                pool.submit(together.run_later, wait, one, name, marks[one], salts[one], labels[one])
                for one, name, wait in order
            ]
            runs = [run.result() for run in started]
        try:
            for (controller, name, _delay), run in zip(order, runs):
                assert run.rc == 0, (controller, name, run.failures)
            found = together.declared()
            if "site" in (first, second):
                assert len(found) == 1, found
                assert found <= {marks[controller] for controller, name, _delay in order if name == "site"}, found
            if "build" in (first, second):
                stored = together.stored.images(together.tag)
                salts_found = {found["salt"] for _config, _layers, found in stored.values()}
                assert set(stored) == set(PLATFORMS.values()), stored
                assert len(salts_found) == 1, salts_found
        except (AssertionError, ValueError) as exc:
            troubles.append(f"{case}: {exc}")
            print(troubles[-1][:3000], flush=True)
    assert not troubles, "\n".join(trouble[:1500] for trouble in troubles)
