# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventories of examples/inventories make farms, and the inventory plugin finds what they have made."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

import guides
from ansible_runs import CHECKOUT, LiveFarm, Run
from guides import Block
from reader import Book, Reader

EXAMPLES = CHECKOUT / "examples/inventories"
#: The farm's hosts that stand for those of the examples.
CONTROLLERS = {"builder.example.com": "ctl", "release.example.com": "ctlnew"}
NODES = {"amd1.example.com": "mid1", "amd2.example.com": "mid2", "arm1.example.com": "new1"}
#: Takes away what site has made on a node, without asking site's own teardown, which other tests are about.
CLEAN = """rm -rf /etc/docker /etc/systemd/system/docker.service.d/zz-buildfarm-listener.conf
systemctl daemon-reload; systemctl reset-failed docker; systemctl restart docker || exit 1
for name in commits releases nightly; do
  docker ps -aqf name=buildx_buildkit_$name | xargs -r docker rm -f
  docker volume ls -qf name=buildx_buildkit_$name | xargs -r docker volume rm
  docker volume ls -qf label=io.github.buildfarm.multiarch.builder=$name | xargs -r docker volume rm
done"""


def site(
    farm: LiveFarm,
    example: str,
    stand_ins: dict[str, str],
    check: bool = False,
    limit: str | None = None,
    variables: dict[str, Any] | None = None,
    **own: Any,
) -> Run:
    """Run site with an inventory of the examples, and nothing beside it but where this farm's hosts are.

    :param variables: as with -e.
    :param own: variables of each host.
    """
    hosts = {name: {"ansible_host": farm.address(host), **own} for name, host in stand_ins.items()}
    # Of two inventories the last has the last word.
    more = ["-i", str(EXAMPLES / example)]
    playbook = "buildfarm.multiarch.site"
    inventory = {"here": hosts}
    run = farm.playbook(playbook, check=check, inventory=inventory, limit=limit, variables=variables, more=more)
    return run.expect_success()


def really(farm: LiveFarm, **options: Any) -> Run:
    """Make the two builders, with what the farm's hosts need put to where the example has nothing."""
    own = farm.variables("unused")
    return site(
        farm,
        "several_builders.yml",
        CONTROLLERS | NODES,
        farm_node_driver_opts=own["farm_driver_opts"],
        farm_node_buildkitd_config=own["farm_buildkitd_config"],
        engine_daemon_config=own["engine_daemon_config"],
        **options,
    )


def declared(run: Run) -> dict[str, dict[str, list[str]]]:
    """The builders' nodes with their pins, by controller."""
    found = {one.host: one.result["builder"] for one in run.tasks if one.action == "buildfarm.multiarch.buildx_builder"}
    return {
        host: {"builder": builder["name"], **{node["name"]: node["platforms"] for node in builder["nodes"]}}
        for host, builder in found.items()
    }


def test_two_farms_have_nothing_in_common(farm: LiveFarm) -> None:
    """First, as a machine that listens already belongs to one farm."""
    red, blue = "builder.red.example.com", "builder.blue.example.com"
    machines = {"amd1.red.example.com": "mid1", "arm1.red.example.com": "mid2", "amd1.blue.example.com": "new1"}
    stand_ins = {red: "ctl", blue: "ctlnew", **machines}
    both = ["linux/amd64", "linux/arm64"]
    wanted = {
        "red": {red: {"builder": "red", "red-amd1.red.example.com": both, "red-arm1.red.example.com": both}},
        "blue": {blue: {"builder": "blue", "blue-amd1.blue.example.com": both[:1]}},
    }
    for name, builders in wanted.items():
        # No handler is to be registered for a host that only stands in for an arm64 one.
        run = site(farm, "several_farms.yml", stand_ins, check=True, limit=name, emulators_platforms=[])
        assert declared(run) == builders
        (issued,) = (one for one in run.tasks if one.action == "buildfarm.multiarch.docker_certificates")
        names = {*issued.result["clients"], *issued.result["servers"]}
        assert names == {one for one in stand_ins if f".{name}." in one}


@pytest.fixture(scope="module")
def two_builders(farm: LiveFarm) -> Iterator[Run]:
    """Two builders of two controllers over the same machines."""
    yield really(farm)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: farm.ssh(host, "rm -rf ~/.docker ~/.config/buildfarm"), CONTROLLERS.values()))
        list(pool.map(lambda host: farm.ssh(host, CLEAN), NODES.values()))


def test_two_builders_have_what_the_inventory_says(farm: LiveFarm, two_builders: Run) -> None:
    own = ["linux/amd64"]
    assert declared(two_builders) == {
        "builder.example.com": {"builder": "commits", **{f"commits-{name}": own for name in NODES}},
        "release.example.com": {
            "builder": "releases",
            "releases-amd1.example.com": own,
            "releases-arm1.example.com": own,
        },
    }
    assert really(farm).changed == []


@pytest.mark.parametrize(
    ("example", "stand_ins", "wanted"),
    [
        (
            "existing_groups.yml",
            {"builder.example.com": "ctl", **NODES},
            {"builder.example.com": {"builder": "farm", **{f"farm-{name}": ["linux/amd64"] for name in NODES}}},
        ),
        (
            "labels",
            {"builder.example.com": "ctl", "amd1.example.com": "mid1", "arm1.example.com": "new1"},
            {
                "builder.example.com": {
                    "builder": "farm",
                    "farm-amd1.example.com": ["linux/amd64"],
                    "farm-arm1.example.com": ["linux/amd64"],
                }
            },
        ),
    ],
)
def test_groups_are_all_that_a_farm_needs(
    farm: LiveFarm, two_builders: Run, example: str, stand_ins: dict[str, str], wanted: Any
) -> None:
    assert declared(site(farm, example, stand_ins, check=True)) == wanted


def test_nodes_differ(farm: LiveFarm, two_builders: Run) -> None:
    machines = {"strong1.example.com": "mid1", "old1.example.com": "mid2", "far1.example.com": "new1"}
    run = site(farm, "node_options.yml", {"builder.example.com": "ctl", **machines}, check=True)
    (builder,) = (one.result for one in run.tasks if one.action == "buildfarm.multiarch.buildx_builder")
    nodes = builder["builder"]["nodes"]
    assert {node["name"]: (node["platforms"], node["driver_opts"]["memory"]) for node in nodes} == {
        "farm-strong1.example.com": (["linux/amd64", "linux/386"], "16g"),
        "farm-old1.example.com": (["linux/386"], "4g"),
        "farm-far1.example.com": (["linux/amd64", "linux/386"], "4g"),
    }
    assert {context["name"]: context["host"] for context in builder["contexts"]} == {
        "farm-strong1.example.com": f"tcp://{farm.address('mid1')}:2376",
        "farm-old1.example.com": f"tcp://{farm.address('mid2')}:2376",
        "farm-far1.example.com": "tcp://far1.vpn.example.com:2376",
    }


@pytest.fixture(scope="module")
def docker_config(farm: LiveFarm, two_builders: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The controller's docker configuration, here, where Ansible runs."""
    return copied(farm, tmp_path_factory.mktemp("controller"))


def copied(farm: LiveFarm, folder: Path) -> Path:
    """Copy the controller's docker configuration to a directory here, and return that."""
    command = farm.farm.ssh("ctl", "tar -C ~/.docker -c contexts buildx")
    packed = subprocess.run(command, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed, check=True)
    return folder


@pytest.fixture
def inventory(docker_config: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ansible-inventory on a file of the plugin with some options."""

    def look(*arguments: str, empty: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "farm.buildx.yml"
        config = tmp_path / "nothing" if empty else docker_config
        text = {"plugin": "buildfarm.multiarch.buildx", "docker_config": str(config), "timeout": 30, **options}
        file.write_text(yaml.safe_dump(text))
        tools = Path(sys.executable).parent
        environment = {
            "HOME": str(tmp_path),
            # No docker is needed.
            "PATH": "/nowhere",
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build/collections"),
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
            "ANSIBLE_NOCOLOR": "1",
        }
        argv = [str(tools / "python"), str(tools / "ansible-inventory"), "-i", str(file), "--list", *arguments]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    return look


def plain(value: Any) -> Any:
    """What ansible-inventory printed, without its marks of what is no template."""
    if isinstance(value, dict):
        return value.get("__ansible_unsafe") or {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def listed(done: subprocess.CompletedProcess[str]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The variables of hosts, and the hosts of groups."""
    assert done.returncode == 0, done.stderr
    whole = plain(json.loads(done.stdout))
    groups = {name: sorted(group.get("hosts", [])) for name, group in whole.items() if name != "_meta"}
    return whole["_meta"]["hostvars"], groups


#: What the inventory of the examples calls a host, from the context that was made for its node.
BY_CONTEXT = ["(buildfarm_contexts | first) is regex('^commits-') | ternary(buildfarm_contexts[0][8:], '')"]


def test_the_controller_knows_all(farm: LiveFarm, two_builders: Run, inventory: Any) -> None:
    hosts, groups = listed(inventory(hostnames=BY_CONTEXT))
    names = sorted(NODES)
    assert groups["buildx_builder_commits"] == groups["buildx_platform_linux_amd64"] == names
    assert groups["buildx_driver_docker_container"] == groups["buildx_status_running"] == names
    for name, host in NODES.items():
        assert hosts[name]["ansible_host"] == farm.address(host)
        assert hosts[name]["buildfarm_endpoint"] == f"tcp://{farm.address(host)}:2376"
        (node,) = hosts[name]["buildfarm_nodes"]
        assert (node["builder"], node["name"], node["current"]) == ("commits", f"commits-{name}", True)
        assert (node["status"], node["platforms"], node["error"]) == ("running", ["linux/amd64"], None)
        assert "linux/amd64" in node["detected"]
        assert node["version"]


def test_engines_tell_of_the_builders_of_all_controllers(
    farm: LiveFarm, two_builders: Run, docker_config: Path, inventory: Any
) -> None:
    (tls, *_others) = sorted((docker_config / "contexts/tls").glob("*/docker"))
    paths = {kind: str(tls / f"{kind}.pem") for kind in ("ca", "cert", "key")}
    endpoints = [f"tcp://{farm.address(host)}:2376" for host in NODES.values()]
    hosts, groups = listed(inventory(empty=True, endpoints=endpoints, **paths))
    both = sorted(farm.address(NODES[name]) for name in ("amd1.example.com", "arm1.example.com"))
    assert groups["buildx_builder_commits"] == sorted(farm.address(host) for host in NODES.values())
    assert groups["buildx_builder_releases"] == both
    found = {node["name"]: node for node in hosts[both[0]]["buildfarm_nodes"]}
    for node in found.values():
        assert (node["builder_from"], node["status"], node["platforms"]) == ("mark", "running", None)
        # The certificate is for what runs in containers, too.
        assert (node["error"], "linux/amd64" in node["detected"]) == (None, True)
    assert found["releases-amd1.example.com"]["controllers"] == ["ctlnew"]


def test_a_node_that_died_is_a_host_that_says_so(
    farm: LiveFarm, two_builders: Run, inventory: Any, tmp_path: Path
) -> None:
    dead = farm.address(NODES["amd2.example.com"])
    cached = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "found")}

    def status(*arguments: str) -> str:
        return str(listed(inventory(*arguments, **cached))[0][dead]["buildfarm_status"])

    assert status() == "running"
    farm.ssh(NODES["amd2.example.com"], "systemctl stop docker.socket docker")
    try:
        assert status() == "running"
        assert status("--flush-cache") == "unreachable"
        hosts, groups = listed(inventory())
        assert groups["buildx_status_unreachable"] == [dead]
        assert hosts[dead]["ansible_host"] == dead
        assert "refused" in hosts[dead]["buildfarm_error"]
        assert hosts[dead]["buildfarm_platforms"] == ["linux/amd64"]
        strict = inventory(strict=True)
        assert strict.returncode != 0
        assert f"{dead}: engine commits-amd2.example.com (tcp://{dead}:2376): connection refused" in strict.stderr
    finally:
        farm.ssh(NODES["amd2.example.com"], "systemctl reset-failed docker; systemctl start docker")


def test_the_guide_shows_what_comes_out(farm: LiveFarm, two_builders: Run, tmp_path: Path) -> None:
    """Last, as it makes a third builder."""
    (guide,) = (page for page in guides.GUIDES if page.stem == "guide_inventories")
    book = Book(guide)

    def block(part: str) -> Block:
        return book.block(guide.stem, part)

    (command, _output), *_none = block("-e farm_builder=nightly").commands
    assert "farm_use=false" in command
    limit = command.split()[-1]
    really(farm, limit=limit, variables={"farm_builder": "nightly", "farm_use": False})
    addresses = {f"198.18.1.{13 + number}": farm.address(host) for number, host in enumerate(NODES.values())}
    own = Reader(farm, tmp_path, CONTROLLERS | NODES, "builder.example.com", addresses)
    (tmp_path / ".docker").mkdir()
    (tls, *_others) = sorted((copied(farm, tmp_path / ".docker") / "contexts/tls").glob("*/docker"))
    shutil.copytree(tls, tmp_path / "certificates")
    own.write("farm.buildx.yml", block("# The machines behind"))
    own.write("endpoints.buildx.yml", block("group_by: [builder, status]"))
    own.write("names.buildx.yml", block("hostnames:"))
    for part in ("-i endpoints.buildx.yml", "-i names.buildx.yml"):
        own.do(block(part))
    stopped = NODES["amd2.example.com"]
    farm.ssh(stopped, "systemctl stop docker.socket docker")
    try:
        for part in ("-i farm.buildx.yml --graph", "-m ansible.builtin.debug"):
            own.do(block(part))
    finally:
        farm.ssh(stopped, "systemctl reset-failed docker; systemctl start docker")
    # To an engine, what another farm's controller has is what any other authority has issued.
    farm.module("ctl", "docker_certificates", directory="/srv/app", clients=["other"])
    try:
        farm.ssh("ctl", "cp /srv/app/clients/other/*.pem /srv/app")
        own.do(block("docker --tlsverify"))
    finally:
        farm.ssh("ctl", "rm -r /srv/app")
    # The others are the files of the examples, what site does with them, and, in tests/quality, how they are read.
    examples = {path.read_text().removeprefix("---\n") for path in EXAMPLES.rglob("*.yml")}
    site = re.compile(rf"\$ ansible-playbook -i ({'|'.join(path.name for path in EXAMPLES.iterdir())}) buildfarm")
    left = [one for one in book.unread if one.text not in examples and not site.match(one.text)]
    assert [one.commands[0][0].split()[2] for one in left] == ["existing_groups.yml", "labels"]
