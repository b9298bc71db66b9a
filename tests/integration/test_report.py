# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report on a farm, from a controller that built on it and from one that knows nothing."""

from __future__ import annotations

import secrets
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import seed
from ansible_runs import CHECKOUT, LiveFarm
from building import AMD, ARM, PLATFORMS, BuildFarm, listen, unlisten

ON, NEW, NAME = "ctl", "ctlnew", "report"
NODES = [f"{NAME}-{host}" for host in (AMD, ARM)]
#: As the guide has it.
METRICS = '[grpc]\n  debugAddress = "127.0.0.1:6060"\n'
#: Nothing listens there.
DEAD = f"tcp://{AMD}:9"


@pytest.fixture(scope="module")
def built(farm: LiveFarm) -> Iterator[BuildFarm]:
    """A farm of two nodes, each of which has built an image, and one of which is drained then."""
    made = BuildFarm(farm)
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: listen(farm, host), (AMD, ARM)))
        nodes = [
            {
                "name": name,
                "endpoint": f"tcp://{host}:2375",
                "platforms": PLATFORMS[:1],
                "driver_opts": {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"},
                "buildkitd_config": f'[registry."{farm.registry}"]\n  http = true\n{METRICS}',
            }
            for name, host in zip(NODES, (AMD, ARM))
        ]
        farm.module(ON, "buildx_builder", name=NAME, nodes=nodes)
        context = made.context(ON, NAME, "FROM busybox\nARG SALT\nRUN echo $SALT\n")
        images = [
            {
                "context": context,
                "platforms": PLATFORMS[:1],
                "tags": [f"{made.repository}/report{number}:1"],
                "push": True,
                "build_args": {"SALT": secrets.token_hex(8)},
            }
            for number in range(2)
        ]
        made.build(ON, builder=NAME, images=images, builds_per_node=1)
        farm.module(ARM, "buildx_drain", reason="new disk")
        yield made
    finally:
        farm.module(ARM, "buildx_drain", state="active", timeout=0)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: unlisten(farm, host), (AMD, ARM)))
            list(pool.map(lambda host: farm.ssh(host, "rm -rf ~/.docker /srv/images /srv/report"), (ON, NEW)))


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The nodes of a report."""
    return {node["name"]: node for node in report["nodes"]}


def test_a_controller_that_knows_nothing_reports_all(built: BuildFarm) -> None:
    farm, files = built.farm, {kind: f"/srv/report/farm.{kind}" for kind in ("html", "text", "json", "prometheus")}
    farm.ssh(NEW, "rm -rf /srv/report; mkdir -p /srv/report/empty")
    images = [f"{built.repository}/report{number}:1" for number in range(3)]
    endpoints = [*(f"tcp://{host}:2375" for host in (AMD, ARM)), DEAD]
    found = farm.converge(
        NEW, "farm_report", docker_config="/srv/report/empty", endpoints=endpoints, images=images, timeout=60, **files
    )
    report, nodes = found["report"], by_name(found["report"])
    # The engines may have containers of other tests' builders.
    assert {*NODES, DEAD} <= nodes.keys()
    first, drained = (nodes[name] for name in NODES)
    # Another test may have registered handlers meanwhile.
    assert {"platform": "linux/amd64", "state": "native"} in first["platforms"]
    assert {cell["state"] for cell in drained["platforms"]} == {"drained"}
    assert drained["drained"].endswith("(new disk)")
    assert nodes[DEAD]["status"] == "unreachable"
    assert "connection refused" in nodes[DEAD]["error"]
    assert {node["builders"][0] for node in (first, drained)} == {NAME}
    names = []
    for node in (first, drained):
        assert (node["history"], node["pins"], node["error"]) == (None, None, None)
        assert node["cache"]["records"] > 0
        (build,) = node["builds"]
        assert (build["status"], build["platforms"]) == ("succeeded", ["linux/amd64"])
        (ran,) = [step for step in build["timeline"] if "RUN" in step["name"]]
        # Not the value that BuildKit shows.
        assert (ran["name"], ran["cached"]) == ("[2/2] RUN echo $SALT", False)
        assert build["reasons"]
        names.append(build["name"])
    assert sorted(names) == [image.rpartition(":")[0] for image in images[:2]]
    # BuildKit's own configuration says how the registry is reached.
    there, gone = report["images"][0], report["images"][2]
    assert (there["error"], len(there["key"]), there["sources"][0]["name"].startswith("base image ")) == (
        None,
        64,
        True,
    )
    assert [one["platform"] for one in there["platforms"]] == ["linux/amd64"]
    assert (gone["digest"], gone["error"]) == (None, None)
    kinds = {(one["kind"], one["subject"]) for one in report["attention"]}
    assert {("unreachable", DEAD), ("drained", NODES[1]), ("image", images[2])} <= kinds
    page = farm.ssh(NEW, f"cat {files['html']}").replace("<wbr>", "")
    assert "<script" not in page
    assert all(name in page for name in (*NODES, DEAD, *images))
    # The last of the runs brought it up to date.
    assert farm.ssh(NEW, f"cat {files['text']}").splitlines()[-1] == report["fingerprint"]
    assert f'buildfarm_node_drained{{node="{NODES[1]}",engine="tcp://{ARM}:2375"}} 1' in farm.ssh(
        NEW, f"cat {files['prometheus']}"
    )


def test_the_playbook_asks_hosts_too(built: BuildFarm, tmp_path: Path) -> None:
    farm = built.farm
    away = {"ansible_host": farm.address(AMD), "ansible_port": 9}
    groups = {"buildx_controllers": {ON: None}, "buildx_nodes": {AMD: None, ARM: None, "away": away}}
    variables = {
        "farm_builder": NAME,
        "images_list": [{"name": f"{built.repository}/report0:1"}],
        "report_directory": "/srv/report",
        "report_fetch_to": str(tmp_path),
        # As a survey's blank fields are.
        "report_builds": "",
        "report_timeout": "",
    }
    name = "buildfarm.multiarch.report"
    first = farm.playbook(name, inventory=groups, variables=variables).expect_success()
    (result,) = [task.result for task in first.tasks if task.action.endswith("farm_report")]
    nodes = by_name(result["report"])
    assert list(nodes) == NODES
    for node in nodes.values():
        assert node["disk"]["bytes"] > node["disk"]["free"] > 0
        assert isinstance(node["handlers"], list)
        assert node["pins"] == ["linux/amd64"]
    assert result["report"]["images"][0]["digest"]
    assert NODES[0] in (tmp_path / "farm.html").read_text()
    assert "Build farm: builder report" in first.stdout


def test_the_playbook_from_a_new_controller_with_some_of_the_hosts(built: BuildFarm) -> None:
    farm = built.farm
    farm.ssh(NEW, "rm -rf ~/.docker")
    run = farm.playbook(
        "buildfarm.multiarch.report",
        inventory={"buildx_controllers": {NEW: None}, "buildx_nodes": {AMD: None, ARM: None}},
        variables={"farm_builder": NAME, "listener_insecure": True, "report_directory": "/srv/report"},
        limit=f"{NEW},{AMD}",
    ).expect_success()
    (result,) = [task.result for task in run.tasks if task.action.endswith("farm_report")]
    first, other = by_name(result["report"]).values()
    assert [first["name"], other["name"]] == NODES
    assert [len(node["builds"]) for node in (first, other)] == [1, 1]
    assert (first["handlers"] is None, other["handlers"]) == (False, None)
    assert not farm.ssh(NEW, "ls ~/.docker/buildx/instances /tmp | grep -e report -e buildfarm-job", check=False)


def test_buildkit_has_metrics_of_its_own_on_loopback_only(built: BuildFarm) -> None:
    guide = (CHECKOUT / "docs/docsite/rst/guide_report.rst").read_text()
    assert textwrap.indent(METRICS, "     ") in guide
    read = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=9).read().decode())"
    told = built.farm.ssh(AMD, f"python3 -c '{read}' http://127.0.0.1:6060/metrics")
    assert "process_resident_memory_bytes" in told
    assert not built.farm.ssh(AMD, f"python3 -c '{read}' http://{built.farm.address(AMD)}:6060/metrics", check=False)
