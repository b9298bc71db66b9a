# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds on all nodes, and tags that move only to what is complete and verified, whatever happens meanwhile.

`BUILDFARM_CASES` is the number of interruptions, `BUILDFARM_SEED` repeats those of an earlier run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import seed
from ansible_runs import CHECKOUT, LiveFarm, shell, task
from building import AMD, ARM, BUILDER, CONTROLLERS, PLATFORMS, BuildFarm, build_farm

CASES = int(os.environ.get("BUILDFARM_CASES", "12"))
SEED = int(os.environ.get("BUILDFARM_SEED", random.SystemRandom().randrange(10**6)))
#: What both platforms get without running anything, so that nothing is emulated.
COPIED = "FROM busybox\nARG SALT\nLABEL salt=$SALT\nCOPY note /note\n"
#: Nodes of a large farm, with half as many images more than that: all thirty in long runs.
MANY = 30 if CASES >= 30 else 8
#: The builder of two nodes that both build for amd64, on the controller with the newer buildx.
TWO, ON = "images-two", "ctlnew"


def build(**options: Any) -> dict[str, Any]:
    """A task of the module."""
    return task("buildx_build", **options)


class Stored:
    """What the farm's registry has on disk, read without asking it."""

    def __init__(self, images: BuildFarm) -> None:
        self.root = images.farm.farm.directory / "registry/farm/store/docker/registry/v2"

    def digest(self, name: str) -> str | None:
        """What a name stands for."""
        repository, tag = name.partition("/")[2].rsplit(":", 1)
        link = self.root / f"repositories/{repository}/_manifests/tags/{tag}/current/link"
        return link.read_text() if link.exists() else None

    def document(self, digest: str) -> Any:
        """A manifest, an index or a config."""
        algorithm, value = digest.split(":")
        return json.loads((self.root / f"blobs/{algorithm}/{value[:2]}/{value}/data").read_text())

    def images(self, name: str) -> dict[str, tuple[str, list[str], dict[str, str]]]:
        """The config's digest, the layers and the labels of each platform of a name; all of them are there."""
        digest = self.digest(name)
        assert digest, f"{name}: nothing there"
        found = {}
        index = self.document(digest)
        manifests = index.get("manifests") or [{"digest": digest}]
        for entry in manifests:
            manifest = self.document(entry["digest"])
            config = self.document(manifest["config"]["digest"])
            if config.get("os", "unknown") == "unknown":
                continue
            layers = [layer["digest"] for layer in manifest["layers"]]
            for layer in layers:
                algorithm, value = layer.split(":")
                assert (self.root / f"blobs/{algorithm}/{value[:2]}/{value}/data").exists()
            labels = config["config"].get("Labels") or {}
            found[f"{config['os']}/{config['architecture']}"] = (manifest["config"]["digest"], layers, labels)
        return found


@pytest.fixture(scope="module")
def images(farm: LiveFarm) -> Iterator[BuildFarm]:
    """Both controllers with their builders; what is built runs no steps for arm64."""
    with build_farm(farm, emulating=False) as made:
        yield made


@pytest.fixture
def stored(images: BuildFarm) -> Stored:
    """The registry's disk."""
    return Stored(images)


@pytest.fixture(scope="module")
def two(images: BuildFarm) -> Iterator[str]:
    """A builder of two nodes for one platform."""
    opts = {"image": f"{images.registry}/{seed.BUILDKIT}", "network": "host"}
    nodes = [
        {
            "name": f"two-{host}",
            "endpoint": f"tcp://{host}:2375",
            "platforms": ["linux/amd64"],
            "driver_opts": opts,
            "buildkitd_config": f'[registry."{images.registry}"]\n  http = true\n',
        }
        for host in (AMD, ARM)
    ]
    images.farm.module(ON, "buildx_builder", name=TWO, nodes=nodes)
    yield TWO
    images.farm.module(ON, "buildx_builder", name=TWO, state="absent")


@pytest.mark.parametrize("provenance", ["false", "mode=min"])
@pytest.mark.parametrize("on", CONTROLLERS)
def test_the_image_is_the_one_that_buildx_pushes(images: BuildFarm, stored: Stored, on: str, provenance: str) -> None:
    context = images.context(on, "same", COPIED, note="text")
    name = f"{images.repository}/same-{on}"
    by_hand = (
        f"docker buildx build --builder {BUILDER} --platform {','.join(PLATFORMS)} --push --provenance={provenance} "
        f"--build-arg SALT=1 -t {name}:hand {context}"
    )
    common = {"builder": BUILDER, "context": context, "platforms": PLATFORMS, "build_args": {"SALT": 1}, "push": True}
    tags = [f"{name}:1", f"{name}-other:2"]
    images.farm.tasks(on, build(tags=tags, provenance=provenance, **common), shell(by_hand))
    assert set(stored.images(tags[0])) == set(PLATFORMS)
    assert stored.images(tags[0]) == stored.images(tags[1]) == stored.images(f"{name}:hand")
    kinds = [
        [entry["platform"]["architecture"] for entry in stored.document(str(stored.digest(tag)))["manifests"]]
        for tag in (tags[0], f"{name}:hand")
    ]
    assert sorted(kinds[0]) == sorted(kinds[1]), "attestations too"
    # A single platform without attestations has no index, as with buildx.
    images.farm.tasks(on, build(tags=[f"{name}:one"], **{**common, "platforms": PLATFORMS[:1]}))
    assert "manifests" not in stored.document(str(stored.digest(f"{name}:one")))


@pytest.mark.parametrize("on", CONTROLLERS)
def test_tags_stay_where_they_are_until_the_checks_pass(images: BuildFarm, stored: Stored, on: str) -> None:
    context = images.context(on, "checked", 'FROM busybox\nARG SALT\nLABEL salt=$SALT\nCMD ["echo", "hello"]\n')
    tags = [f"{images.repository}/checked-{on}:1", f"{images.repository}/checked-{on}:latest"]
    common = {"builder": BUILDER, "context": context, "platforms": PLATFORMS[:1], "tags": tags, "push": True}
    first, failed, again = images.farm.tasks(
        on,
        build(build_args={"SALT": 1}, run={"expected": "hello"}, **common),
        build(fails=True, build_args={"SALT": 2}, run={"expected": "good bye"}, **common),
        build(check=True, build_args={"SALT": 1}, run={"expected": "hello"}, **common),
    )
    assert first["changed"] and not again["changed"]
    assert f"linux/amd64 on node '{on}-amd'" in failed["msg"]
    assert "printed 'hello', wanted 'good bye'" in failed["msg"]
    assert "its tags stand for what they stood for before" in failed["msg"]
    assert [stored.digest(tag) for tag in tags] == [first["image"]["digest"]] * 2


def test_an_image_of_the_list_is_the_base_of_another(images: BuildFarm, stored: Stored) -> None:
    base, app = f"{images.repository}/list-base:1", f"{images.repository}/list-app:1"
    listed = [
        {"context": images.context("ctl", "app", f"FROM {base}\nCOPY note /app\n", note="app"), "tags": [app]},
        {"context": images.context("ctl", "base", COPIED, note="base"), "tags": [base]},
        {"context": images.context("ctl", "broken", "FROM busybox\nRUN exit 3\n"), "tags": [f"{base}-broken"]},
    ]
    for salt in ("one", "two"):
        whole = [{**one, "platforms": PLATFORMS, "push": True, "build_args": {"SALT": salt}} for one in listed]
        failed = images.build("ctl", fails=True, builder=BUILDER, images=whole)
        assert failed["msg"].startswith(f"1 of 3 images failed: image {base}-broken: building ")
        for platform, (_config, layers, labels) in stored.images(app).items():
            of_base = stored.images(base)[platform]
            assert labels == of_base[2] == {"salt": salt}, "it is built from this run's base"
            assert layers[:-1] == of_base[1]
    outcomes = [(one["name"], bool(one["error"]), one["changed"]) for one in failed["images"]]
    assert outcomes == [(app, False, True), (base, False, True), (f"{base}-broken", True, False)]


def test_a_node_that_is_switched_off_costs_its_share_only(images: BuildFarm, two: str) -> None:
    context = images.context(ON, "slow", "FROM busybox\nARG SALT\nRUN echo $SALT; sleep 6\n")
    salt = random.SystemRandom().randrange(10**9)
    listed = [
        {
            "context": context,
            "platforms": PLATFORMS[:1],
            "tags": [f"{images.repository}/slow{number}:1"],
            "push": True,
            "build_args": {"SALT": f"{salt}-{number}"},
        }
        for number in range(4)
    ]
    planned = images.build(ON, check=True, builder=two, images=listed)
    nodes = [image["platforms"][0]["node"] for image in planned["images"]]
    assert sorted(nodes) == [f"two-{AMD}", f"two-{AMD}", f"two-{ARM}", f"two-{ARM}"], "every node has its share"

    def switch_off() -> None:
        images.farm.ssh(ARM, "timeout 60 sh -c \"until pgrep -xf 'sleep 6'; do sleep 0.2; done\"")
        images.farm.farm.power_off(ARM)

    try:
        with ThreadPoolExecutor() as pool:
            ending = pool.submit(switch_off)
            done = images.build(ON, builder=two, images=listed)
            ending.result()
    finally:
        images.farm.farm.power_on(ARM)
    assert [image["platforms"][0]["node"] for image in done["images"]] == [f"two-{AMD}"] * 4
    lost = [(attempt["node"], attempt["platforms"]) for image in done["images"] for attempt in image["retries"]]
    assert lost == [(f"two-{ARM}", PLATFORMS[:1])] * 2
    assert all(image["digest"] for image in done["images"])


@pytest.fixture
def many(images: BuildFarm) -> Iterator[str]:
    """A builder of many nodes for one platform, each a BuildKit of its own; two engines have all of them."""
    name, first = "images-many", 3000
    # buildx takes an address once only.
    ports = f"PREROUTING -p tcp --dport {first}:{first + MANY} -j REDIRECT --to-ports 2375"
    opts = {"image": f"{images.registry}/{seed.BUILDKIT}", "network": "host"}
    nodes = [
        {
            "name": f"many{number}",
            "endpoint": f"tcp://{(AMD, ARM)[number % 2]}:{first + number}",
            "platforms": ["linux/amd64"],
            "driver_opts": opts,
            "buildkitd_config": f'[registry."{images.registry}"]\n  http = true\n',
        }
        for number in range(MANY)
    ]
    for host in (AMD, ARM):
        images.farm.ssh(host, f"iptables -t nat -I {ports}")
    try:
        images.farm.module(ON, "buildx_builder", name=name, nodes=nodes)
        yield name
        images.farm.module(ON, "buildx_builder", name=name, state="absent")
    finally:
        for host in (AMD, ARM):
            images.farm.ssh(host, f"iptables -t nat -D {ports}")


def test_a_large_farm_builds_on_all_its_nodes(
    images: BuildFarm, many: str, record_property: Callable[[str, object], None]
) -> None:
    context = images.context(ON, "many", "FROM busybox\nARG SALT\nRUN echo $SALT > /salt\n")
    listed = [
        {
            "context": context,
            "platforms": PLATFORMS[:1],
            "tags": [f"{images.repository}/many{number}:1"],
            "push": True,
            "build_args": {"SALT": str(number)},
        }
        for number in range(2 * MANY)
    ]
    began = time.monotonic()
    done = images.build(ON, builder=many, images=listed)
    record_property("seconds", round(time.monotonic() - began, 1))
    loads = Counter(image["platforms"][0]["node"] for image in done["images"])
    record_property("builds_by_node", sorted(loads.values()))
    assert len(loads) == MANY and max(loads.values()) <= 3 * 2
    assert all(image["digest"] for image in done["images"])


def interruptions(images: BuildFarm) -> dict[str, Callable[[subprocess.Popen[bytes]], object]]:
    """What may happen while an image is built and published."""
    ssh, address = images.farm.ssh, images.registry.partition(":")[0]
    cut = f"iptables -I OUTPUT -d {address} -p tcp -j REJECT --reject-with tcp-reset"
    return {
        "module killed": lambda _play: ssh("ctl", "kill -KILL $(ps -o ppid= -C docker-buildx)", check=False),
        "buildx killed": lambda _play: ssh("ctl", "pkill -KILL docker-buildx", check=False),
        "BuildKit killed": lambda _play: ssh(AMD, "docker kill buildx_buildkit_ctl-amd", check=False),
        # systemd gives up on a unit that ended three times in a minute.
        "engine killed": lambda _play: ssh(
            AMD, "systemctl reset-failed docker; systemctl kill -s KILL docker", check=False
        ),
        "registry out of reach": lambda _play: ssh("ctl", f"{cut}; sleep 1; {cut.replace('-I', '-D')}"),
        "Ansible interrupted": lambda play: play.send_signal(2),
        "Ansible killed": lambda play: os.killpg(play.pid, 9),
    }


def test_tags_stand_for_something_whole_whatever_happens(
    images: BuildFarm, stored: Stored, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("BUILDFARM_CASES", CASES)
    record_property("BUILDFARM_SEED", SEED)
    chance = random.Random(SEED)
    context = images.context("ctl", "interrupted", COPIED, note="text")
    tags = [f"{images.repository}/interrupted:1", f"{images.repository}/interrupted:latest"]
    common = {"builder": BUILDER, "context": context, "platforms": PLATFORMS, "tags": tags, "push": True}
    images.farm.module("ctl", "buildx_build", build_args={"SALT": "0"}, **common)
    kinds = interruptions(images)
    play, inventory = tmp_path / "play.json", tmp_path / "inventory.json"
    inventory.write_text(json.dumps(images.farm.inventory()))
    environment = {**os.environ, **images.farm.environment()}
    known = {"0"}
    for number in range(1, CASES + 1):
        salt, kind = str(number), chance.choice(sorted(kinds))
        known.add(salt)
        play.write_text(
            json.dumps([{"hosts": "ctl", "gather_facts": False, "tasks": [build(build_args={"SALT": salt}, **common)]}])
        )
        with (tmp_path / "output").open("wb") as output:
            process = subprocess.Popen(
                [CHECKOUT / ".venv/bin/ansible-playbook", "-i", inventory, play],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            time.sleep(chance.uniform(0.8, 4.0))
            kinds[kind](process)
            process.wait(120)
        for tag in tags:
            found = stored.images(tag)
            assert set(found) == set(PLATFORMS), (number, kind, tag)
            assert len({labels["salt"] for _config, _layers, labels in found.values()}) == 1, (number, kind, tag)
            assert next(iter(found.values()))[2]["salt"] in known
    images.farm.ssh(AMD, "systemctl start docker")
    done = images.build("ctl", build_args={"SALT": "end"}, **common)
    assert {stored.digest(tag) for tag in tags} == {done["image"]["digest"]}
    waiting = "for _try in $(seq 40); do pgrep -f '[b]uildx build' >/dev/null || exit 0; sleep 0.5; done"
    images.farm.ssh("ctl", f"{waiting}; pgrep -af '[b]uildx'; exit 1")


def test_of_two_controllers_that_publish_at_once_one_wins(images: BuildFarm, stored: Stored) -> None:
    name = f"{images.repository}/both:1"
    contexts = {on: images.context(on, "both", COPIED, note=on) for on in CONTROLLERS}

    def publish(on: str) -> str:
        options = {"builder": BUILDER, "context": contexts[on], "platforms": PLATFORMS, "build_args": {"SALT": on}}
        return str(images.build(on, tags=[name], push=True, **options)["image"]["digest"])

    with ThreadPoolExecutor() as pool:
        found = [pool.submit(publish, on) for on in CONTROLLERS]
        outcomes = [future.exception() or future.result() for future in found]
    labels = {labels["salt"] for _config, _layers, labels in stored.images(name).values()}
    assert len(labels) == 1 and labels < set(CONTROLLERS)
    assert stored.digest(name) in outcomes
