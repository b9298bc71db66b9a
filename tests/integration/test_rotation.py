# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates over a farm's life: its authority is replaced while builds go on, and a node is added."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

import seed
from ansible_runs import LiveFarm, Run

CONTROLLERS = ("ctl", "ctlnew")
#: Each serves one of two platforms, without emulation.
NODES = {"mid1": {"farm_node_platforms": ["linux/amd64"]}, "new1": {"farm_node_platforms": ["linux/386"]}}
ADDED = {"mid2": {"farm_node_platforms": []}}
DIRECTORY = "/root/certificates-of-rotation"
BUILDER = "rotation"
_FOLDERS = "/etc/docker /etc/systemd/system/docker.service.d /run/buildfarm-listener"
_BREAKING = "/etc/systemd/system/docker.service.d/zzz-breaks-the-listener.conf"


def groups(nodes: dict[str, Any], controllers: dict[str, Any] | None = None) -> dict[str, Any]:
    """The inventory with these nodes."""
    return {"buildx_controllers": controllers or dict.fromkeys(CONTROLLERS), "buildx_nodes": nodes}


def variables(farm: LiveFarm) -> dict[str, Any]:
    """What the user of this farm declares."""
    own = {"farm_builder": BUILDER, "farm_platforms": ["linux/amd64", "linux/386"], "listener_directory": DIRECTORY}
    return {**farm.variables("rotation"), **own}


def provision(
    farm: LiveFarm,
    nodes: dict[str, Any],
    controllers: dict[str, Any] | None = None,
    check: bool = False,
    absent: Sequence[str] = (),
) -> Run:
    """Do what site does on hosts that have everything installed."""

    def play(hosts: str, *entries: tuple[str, str]) -> dict[str, Any]:
        tasks = [{"ansible.builtin.import_role": {"name": f"buildfarm.multiarch.{role}", "tasks_from": entry}}
                 for role, entry in entries]  # fmt: skip
        return {"hosts": hosts, "gather_facts": False, "tasks": tasks}

    look = {"hosts": "all", "gather_facts": False, "tasks": [{"buildfarm.multiarch.farm_facts": {}}]}
    plays = [
        look,
        play("buildx_controllers", ("listener", "certificates")),
        play("buildx_nodes", ("listener", "main")),
        play("buildx_controllers", ("farm", "contexts"), ("farm", "main")),
    ]
    declared = {**variables(farm), "farm_absent_nodes": list(absent)}
    run = farm.play(plays, variables=declared, inventory=groups(nodes, controllers), check=check)
    return run.expect_success()


def rotate(farm: LiveFarm, **options: Any) -> Run:
    """Run the playbook."""
    name = "buildfarm.multiarch.rotate_certificates"
    return farm.playbook(name, variables=variables(farm), inventory=groups(NODES), **options)


def fingerprints(farm: LiveFarm, host: str, path: str) -> list[str]:
    """The fingerprints of all certificates in a file on a host."""
    split = f"csplit -s -z -f /tmp/split- {path} '/BEGIN CERTIFICATE/' '{{*}}'"
    shown = "for part in /tmp/split-*; do openssl x509 -noout -fingerprint -sha256 -in $part; rm $part; done"
    return [line.partition("=")[2] for line in farm.ssh(host, f"{split}; {shown}").splitlines()]


def reached(farm: LiveFarm, controller: str) -> list[str]:
    """The nodes that answer a controller through its contexts."""
    endpoints = [f"{BUILDER}-{node}" for node in NODES]
    found = farm.module(controller, "docker_endpoint_info", endpoints=endpoints)["endpoints"]
    return [entry["endpoint"] for entry in found if entry["reachable"]]


@pytest.fixture(scope="module")
def rotating(farm: LiveFarm) -> Iterator[LiveFarm]:
    """A farm of two nodes with certificates, and everything as it was at the end."""
    try:
        provision(farm, NODES)
        yield farm
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: farm.ssh(host, f"rm -rf ~/.docker {DIRECTORY}* /srv/rotation"), CONTROLLERS))
            list(pool.map(lambda host: leave(farm, host), [*NODES, *ADDED]))


def leave(farm: LiveFarm, host: str) -> None:
    """Make a node what it was."""
    farm.ssh(host, f"rm -f {_BREAKING}; systemctl daemon-reload")
    farm.module(host, "docker_listener", state="absent")
    quiet = "docker ps -aq | xargs -r docker rm -f; docker system prune -af --volumes; rm -f /etc/docker/daemon.json"
    farm.restart_engine(host, quiet)


def pauses(farm: LiveFarm, host: str, since: float) -> list[tuple[float, float]]:
    """When a node's engine did not run, by systemd's account: from the beginning of each stop to the next start."""
    journal = f"journalctl -u docker -o json --output-fields=MESSAGE_ID --since @{since:.0f}"
    entries = [json.loads(line) for line in farm.ssh(host, journal).splitlines()]
    ids = {"de5b426a63be47a7b6ac3eaac82e2f6f": "stop", "39f53479d3a045ac8e11786248231fbf": "start"}
    steps = [
        (ids[entry["MESSAGE_ID"]], int(entry["__REALTIME_TIMESTAMP"]) / 1e6)
        for entry in entries
        if entry.get("MESSAGE_ID") in ids
    ]
    assert [step for step, _time in steps] == ["stop", "start"] * (len(steps) // 2), steps
    return [(begin, end) for (_stop, begin), (_start, end) in zip(steps[::2], steps[1::2])]


def one_at_a_time(nodes: list[list[tuple[float, float]]]) -> bool:
    """Whether no two nodes paused at the same time, and all did."""
    spans = sorted(span for pauses in nodes for span in pauses)
    return all(nodes) and all(end < begin for (_begin, end), (begin, _end) in pairwise(spans))


@dataclass
class Load:
    """Builds one after another on a controller, for two platforms on two nodes, each tried until it succeeds."""

    farm: LiveFarm
    attempts: int = 5
    built: int = 0
    retried: int = 0
    #: What failed attempts said, and the builds that were given up.
    said: list[str] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)

    def __enter__(self) -> Load:
        dockerfile = (
            f"FROM --platform=linux/amd64 {self.farm.registry}/{seed.BUSYBOX} AS work\n"
            "ARG NUMBER\nRUN sleep 3 && echo $NUMBER > /number\nFROM scratch\nCOPY --from=work /number /\n"
        )
        self.farm.ssh("ctl", "mkdir -p /srv/rotation; cat > /srv/rotation/Dockerfile", stdin=dockerfile)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._build_all)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ending.set()
        self._thread.join()

    def _build_all(self) -> None:
        number = 0
        while not self._ending.is_set():
            number += 1
            failures = self._build(number)
            self.retried += bool(failures)
            self.said += failures
            if len(failures) == self.attempts:
                self.given_up.append(number)
            else:
                self.built += 1

    def _build(self, number: int) -> list[str]:
        """Build once; returns what its failed attempts said."""
        command = (
            f"docker buildx --builder {BUILDER} build --push --provenance=false --platform linux/amd64,linux/386"
            f" --build-arg NUMBER={time.time_ns()} -t {self.farm.registry}/rotation:{number} /srv/rotation"
        )
        failures: list[str] = []
        while len(failures) < self.attempts:
            argv = self.farm.farm.ssh("ctl", f"timeout 60 {command}")
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                break
            failures.append(done.stderr)
            time.sleep(3)
        return failures


def test_builds_go_on_while_the_authority_is_replaced(rotating: LiveFarm) -> None:
    farm = rotating
    (before,) = fingerprints(farm, "mid1", "/etc/docker/tls/ca.pem")
    since = time.time()
    with Load(farm) as load:
        while load.built < 2:
            time.sleep(1)
        run = rotate(farm).expect_success()
        after_rotation = load.built
        while load.built < after_rotation + 2:
            time.sleep(1)
    restarts = [task.host for task in run.tasks if task.result.get("restarted")]
    print(f"{load.built} builds, {load.retried} of them tried again, {len(restarts)} restarts of engines")
    assert load.given_up == [], load.said
    # A build in whose course an engine restarts fails; no build fails for want of trust.
    assert not [text for text in load.said if "x509" in text or "certificate" in text or "tls:" in text], load.said
    assert load.retried <= len(restarts)
    assert sorted(restarts) == sorted([*NODES, *NODES])
    assert one_at_a_time([pauses(farm, node, since) for node in NODES])
    trust = {host: fingerprints(farm, host, "/etc/docker/tls/ca.pem") for host in NODES}
    trust["ctl"] = fingerprints(farm, "ctl", f"{DIRECTORY}/ca.pem")
    (after,) = trust["mid1"]
    assert set(map(tuple, trust.values())) == {(after,)}
    assert after != before
    for controller in CONTROLLERS:
        assert len(reached(farm, controller)) == len(NODES)
    assert provision(farm, NODES).changed == []


def test_an_interrupted_rotation_is_continued(rotating: LiveFarm) -> None:
    farm = rotating
    (before,) = fingerprints(farm, "mid1", "/etc/docker/tls/ca.pem")
    farm.ssh("new1", f"printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/dockerd -H fd://\\n' > {_BREAKING}")
    failed = rotate(farm)
    assert failed.rc != 0
    assert any(_BREAKING in message for message in failed.failures)
    # One node has both authorities and a new certificate, the other the old ones: all trust one another.
    assert len(fingerprints(farm, "mid1", "/etc/docker/tls/ca.pem")) == 2
    assert fingerprints(farm, "new1", "/etc/docker/tls/ca.pem") == [before]
    farm.ssh("new1", f"rm {_BREAKING}; systemctl daemon-reload")
    for controller in CONTROLLERS:
        assert len(reached(farm, controller)) == len(NODES)
    begun = fingerprints(farm, "ctl", f"{DIRECTORY}/ca.pem")
    rotate(farm).expect_success()
    # The authority that had begun, not a third one, is the one that all trust now.
    assert begun == [*fingerprints(farm, "ctl", f"{DIRECTORY}/ca.pem"), before]
    for controller in CONTROLLERS:
        assert len(reached(farm, controller)) == len(NODES)


def test_no_host_is_left_behind(rotating: LiveFarm) -> None:
    refused = rotate(rotating, limit="ctl,mid1")
    assert refused.rc != 0
    assert "without --limit" in refused.failures[0]
    assert refused.changed == []


def test_another_node_concerns_itself_and_the_controllers(rotating: LiveFarm) -> None:
    farm = rotating
    done = provision(farm, {**NODES, **ADDED})
    assert {entry.split(":")[0] for entry in done.changed} == {*ADDED, *CONTROLLERS}
    assert provision(farm, {**NODES, **ADDED}).changed == []


def listen(farm: LiveFarm, node: dict[str, Any], **declared: Any) -> Run:
    """Apply the role listener to one node of them."""
    plays = [
        {"hosts": hosts, "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]}
        for hosts, role in (
            ("buildx_controllers", {"name": "buildfarm.multiarch.listener", "tasks_from": "certificates"}),
            ("mid1", {"name": "buildfarm.multiarch.listener"}),
        )
    ]
    inventory = groups({**NODES, "mid1": {**NODES["mid1"], **node}})
    return farm.play(plays, variables={**variables(farm), **declared}, inventory=inventory)


def whole(farm: LiveFarm) -> str:
    """The files of a node's engine with their times, what leads back from a change, and the containers that run."""
    files = f"find {_FOLDERS} ! -type d -printf '%p %m %T@\\n' -exec sha256sum {{}} + 2>/dev/null | sort"
    return farm.ssh("mid1", f"{files}; docker ps --format '{{{{.Names}}}}' | sort")


def test_an_engine_that_the_controller_does_not_reach_is_taken_back(rotating: LiveFarm) -> None:
    farm = rotating
    before = whole(farm)
    assert f"buildx_buildkit_{BUILDER}-mid1" in before
    rule = f"INPUT -s {farm.address('ctl')} -p tcp --dport 2376 -j REJECT"
    declared = {"engine_daemon_config": {**variables(farm)["engine_daemon_config"], "labels": ["farm=yes"]}}
    farm.ssh("mid1", f"iptables -I {rule}")
    try:
        # A run that changes nothing asks nobody.
        assert listen(farm, {}).expect_success().changed == []
        (failure,) = listen(farm, {}, **declared).failures
        endpoint = f"engine tcp://{farm.address('mid1')}:2376"
        assert failure.startswith(
            f"ctl does not reach the engine of mid1, which listens there: {endpoint}: connection re"
        )
        assert "; every file was put back and the engine runs as before; correct" in failure
        assert whole(farm) == before
        assert len(listen(farm, {}, **declared, listener_probe=False).expect_success().changed) == 1
    finally:
        farm.ssh("mid1", f"iptables -D {rule}")
    assert listen(farm, {}, **declared).expect_success().changed == []

    # What the node itself cannot know: by which name it is looked for.
    others = f"{DIRECTORY}-others"
    farm.module("ctl", "docker_certificates", directory=others, servers=[{"name": "another-name"}])
    options = {"listener_ca": "ca", "listener_certificate": "cert", "listener_key": "key"}
    given = {
        option: farm.ssh("ctl", f"cat {others}/servers/another-name/{name}.pem") for option, name in options.items()
    }
    client = {f"{name}_path": f"{others}/clients/client/{name}.pem" for name in ("ca", "cert", "key")}
    before = whole(farm)
    (failure,) = listen(farm, given, **declared, farm_certificate=client).failures
    assert f"{endpoint}: its certificate is not valid for '{farm.address('mid1')}'" in failure
    assert "the engine logged" not in failure
    assert whole(farm) == before
    assert len(reached(farm, "ctl")) == len(NODES)


def test_a_node_that_leaves_takes_its_context_along(rotating: LiveFarm) -> None:
    farm = rotating
    names = "docker context ls --format '{{.Name}}'"
    for controller in CONTROLLERS:
        farm.ssh(controller, "docker context create ours --docker host=ssh://nowhere")
        assert f"{BUILDER}-mid2" in farm.ssh(controller, names)
    assert provision(farm, NODES).changed == []  # As it is only not in the inventory.
    predicted = provision(farm, NODES, check=True, absent=["mid2"])
    done = provision(farm, NODES, absent=["mid2"])
    assert sorted(predicted.changed) == sorted(done.changed)
    assert {entry.partition(":")[0] for entry in done.changed} == set(CONTROLLERS)
    for controller in CONTROLLERS:
        wanted = {"default", "ours", *(f"{BUILDER}-{node}" for node in NODES)}
        assert set(farm.ssh(controller, names).split()) == wanted
        assert "mid2" not in farm.ssh(controller, f"docker buildx inspect {BUILDER}")


def test_certificates_from_elsewhere(rotating: LiveFarm) -> None:
    """Nodes and controllers that bring their own get none, and replacing the authority does not concern them."""
    farm = rotating
    elsewhere = f"{DIRECTORY}-elsewhere"
    servers = [{"name": node, "sans": [farm.address(node)]} for node in NODES]
    farm.module("ctl", "docker_certificates", directory=elsewhere, servers=servers)
    options = {"listener_ca": "ca", "listener_certificate": "cert", "listener_key": "key"}

    def given(node: str) -> dict[str, str]:
        path = f"{elsewhere}/servers/{node}"
        return {option: farm.ssh("ctl", f"cat {path}/{name}.pem") for option, name in options.items()}

    nodes = {node: {**own, **given(node)} for node, own in NODES.items()}
    client = {f"{name}_path": f"{elsewhere}/clients/client/{name}.pem" for name in ("ca", "cert", "key")}
    controllers = {"ctl": {"farm_certificate": client}}
    issued = farm.ssh("ctl", f"find {DIRECTORY}/ -type f | xargs sha256sum")
    done = provision(farm, nodes, controllers)
    assert {task.host for task in done.tasks if task.result.get("restarted")} == set(NODES)
    assert not [entry for entry in done.changed if "former nodes" in entry]
    assert len(reached(farm, "ctl")) == len(NODES)
    assert provision(farm, nodes, controllers).changed == []
    name = "buildfarm.multiarch.rotate_certificates"
    rotated = farm.playbook(name, variables=variables(farm), inventory=groups(nodes, controllers)).expect_success()
    assert rotated.changed == []
    assert farm.ssh("ctl", f"find {DIRECTORY}/ -type f | xargs sha256sum") == issued
    assert "PRIVATE KEY" not in rotated.stdout + done.stdout
