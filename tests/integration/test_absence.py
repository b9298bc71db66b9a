# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes that a run does not know of, and nodes that are to go: slices, --limit, dead and renamed hosts, teardown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm, Run

CONTROLLER = "ctl"
NODES = ("mid1", "mid2", "new1")
#: Where nobody answers.
NOWHERE = "198.18.255.254"
RENAMED = "renamed-node"


class Site:
    """A farm of the controller and some nodes, and what is there of it."""

    def __init__(self, farm: LiveFarm, variables: dict[str, Any]) -> None:
        self.farm, self.variables = farm, variables

    def play(self, playbook: str, *nodes: str, limit: str | None = None, check: bool = False, **variables: Any) -> Run:
        """Run one of the collection's playbooks with an inventory of these nodes; `NAME@ADDRESS` is elsewhere."""
        parts = (node.partition("@") for node in nodes)
        declared = {name: {"ansible_host": address} if address else None for name, _at, address in parts}
        return self.farm.playbook(
            f"buildfarm.multiarch.{playbook}",
            variables={**self.variables, **variables},
            inventory={"buildx_controllers": {CONTROLLER: None}, "buildx_nodes": declared},
            limit=limit,
            check=check,
        )

    def pins(self) -> dict[str, list[str]]:
        """The builder's nodes in order, with their pins."""
        text = self.farm.ssh(CONTROLLER, "cat ~/.docker/buildx/instances/farm 2>/dev/null || echo '{\"Nodes\": []}'")
        return {
            node["Name"]: [f"{pin['os']}/{pin['architecture']}" for pin in node["Platforms"] or []]
            for node in json.loads(text)["Nodes"]
        }

    def contexts(self) -> list[str]:
        """The contexts on the controller."""
        return self.farm.ssh(CONTROLLER, "docker context ls --format '{{.Name}}'").split()[1:]

    def left(self, host: str) -> list[str]:
        """The BuildKit containers and the caches on an engine."""
        listed = "docker ps -a --format '{{.Names}}'; docker volume ls -q"
        return [name for name in self.farm.ssh(host, listed).split() if name.startswith("buildx_buildkit_farm")]


def kept(node: str) -> list[str]:
    """The container and the cache of a node."""
    return [f"buildx_buildkit_farm-{node}", f"buildx_buildkit_farm-{node}_state"]


def warnings_of(run: Run) -> str:
    """What was warned of."""
    return " ".join(" ".join(task.result.get("warnings") or []) for task in run.tasks)


@pytest.fixture(scope="module")
def site(farm: LiveFarm) -> Iterator[Site]:
    """A whole farm, every node of which emulates. All is taken away in the end."""
    whole = Site(farm, farm.variables("unused"))
    whole.play("site", *NODES).expect_success()
    assert whole.play("site", *NODES).expect_success().changed == []
    yield whole
    whole.play("teardown", *NODES).expect_success()
    for node in NODES:
        farm.ssh(node, "docker volume ls -q | grep '^build[xf].*_farm-' | xargs -r docker volume rm")
        farm.restart_engine(node, "rm -rf /etc/docker")
    farm.ssh(CONTROLLER, "rm -rf ~/.config/buildfarm ~/.docker")


BOTH = ["linux/amd64", "linux/arm64"]
WHOLE = {"farm-mid1": BOTH, "farm-mid2": BOTH, "farm-new1": BOTH}


def test_slices_of_the_inventory_run_in_turns(site: Site) -> None:
    assert site.pins() == WHOLE
    for nodes in (("mid1", "mid2"), ("new1",)) * 2:
        run = site.play("site", *nodes).expect_success()
        assert site.pins() == WHOLE
        assert site.contexts() == ["farm-mid1", "farm-mid2", "farm-new1"]
        missing = [node for node in NODES if node not in nodes]
        assert all(f"'farm-{node}'" in warnings_of(run) for node in missing)
        assert "farm_absent_nodes" in warnings_of(run)
        assert run.changed == []
    assert site.play("site", *NODES).expect_success().changed == []


def test_a_limit_of_one_node(site: Site) -> None:
    for node in NODES:
        run = site.play("site", *NODES, limit=f"{node},{CONTROLLER}").expect_success()
        assert run.changed == []
        assert site.pins() == WHOLE


@pytest.mark.parametrize("dead", ["mid1", "new1"])
def test_a_node_that_is_down_stays_in_the_builder(site: Site, dead: str) -> None:
    alive = [node for node in NODES if node != dead]
    run = site.play("site", *alive, f"{dead}@{NOWHERE}")
    assert run.rc != 0
    assert [task.host for task in run.tasks if task.outcome in ("failed", "unreachable")] == [dead]
    assert site.pins() == WHOLE
    # Nor is it purged.
    site.play("site", *alive, f"{dead}@{NOWHERE}", farm_purge_nodes=True)
    assert site.pins() == WHOLE
    assert site.left(dead) == kept(dead)
    site.play("site", *NODES).expect_success()


def test_a_renamed_node_has_its_pins_beside_the_old_one_until_that_leaves(site: Site) -> None:
    nodes = (f"{RENAMED}@{site.farm.address('mid1')}", "mid2", "new1")
    renamed = site.play("site", *nodes).expect_success()
    assert site.pins() == {**WHOLE, f"farm-{RENAMED}": BOTH}
    assert "node 'farm-mid1' (linux/amd64, linux/arm64) is not declared" in warnings_of(renamed)
    assert site.play("site", *nodes).expect_success().changed == []

    site.play("site", *nodes, farm_absent_nodes=["mid1"]).expect_success()
    assert site.pins() == {f"farm-{RENAMED}": BOTH, "farm-mid2": BOTH, "farm-new1": BOTH}
    assert f"farm-{RENAMED}" in site.contexts() and "farm-mid1" not in site.contexts()
    # Its cache stays.
    assert sorted(site.left("mid1")) == sorted([*kept(RENAMED), kept("mid1")[1]])
    assert site.play("site", *nodes, farm_absent_nodes=["mid1"]).expect_success().changed == []


def test_a_node_leaves_with_its_cache_where_that_is_asked_for(site: Site) -> None:
    # By the name that the warning gives; it is in the inventory no more.
    asked: dict[str, Any] = {"farm_absent_nodes": [f"farm-{RENAMED}"], "farm_keep_cache": False}
    predicted = site.play("site", *NODES, check=True, **asked).expect_success()
    done = site.play("site", *NODES, **asked).expect_success()
    assert sorted(done.changed) == sorted(predicted.changed)
    assert site.pins() == WHOLE
    assert site.left("mid1") == kept("mid1")
    assert site.play("site", *NODES, **asked).expect_success().changed == []


def test_nodes_that_are_not_in_the_inventory_are_purged_where_that_is_asked_for(site: Site) -> None:
    site.play("site", "mid1", "new1", farm_purge_nodes=True).expect_success()
    assert list(site.pins()) == ["farm-mid1", "farm-new1"]
    assert site.left("mid2") == kept("mid2")[1:]
    site.play("site", *NODES).expect_success()


def test_teardown_of_some_nodes(site: Site) -> None:
    predicted = site.play("teardown", *NODES, limit="mid2", check=True).expect_success()
    run = site.play("teardown", *NODES, limit="mid2").expect_success()
    assert run.changed == predicted.changed
    assert len(run.changed) == 2  # out of the builder, listener
    assert site.pins() == {"farm-mid1": BOTH, "farm-new1": BOTH}
    assert site.contexts() == ["farm-mid1", "farm-new1"]
    assert site.left("mid2") == kept("mid2")[1:]
    assert "2376" not in site.farm.ssh("mid2", "ss -ltn")
    assert site.play("teardown", *NODES, limit="mid2").expect_success().changed == []
    # One that is gone for good leaves too.
    dead = ("mid1", "mid2", f"new1@{NOWHERE}")
    run = site.play("teardown", *dead, limit="new1", farm_keep_cache=False)
    outcomes = [task.outcome for task in run.tasks if task.host == "new1" and task.outcome != "skipped"]
    assert outcomes == ["ok", "ok", "unreachable"]
    assert list(site.pins()) == ["farm-mid1"]
    assert site.left("mid1") == kept("mid1")
