# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names and addresses as inventories have them."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.filter.farm_node_names import farm_node_names
from ansible_collections.buildfarm.multiarch.plugins.filter.farm_nodes import farm_nodes
from ansible_collections.buildfarm.multiarch.plugins.filter.farm_servers import farm_servers
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import validate_name
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.model import sans
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import context_name

FACTS = {"ansible_facts": {"architecture": "x86_64", "nodename": "own"}}
LONG = ".".join(["a" * 60] * 4)


@pytest.mark.parametrize(
    ("host", "variables", "name", "endpoint", "names"),
    [
        ("n1", {}, "farm-n1", "tcp://n1:2376", ["own"]),
        ("Build_1.Example.COM", {}, "farm-Build_1.Example.COM", "tcp://Build_1.Example.COM:2376", ["own"]),
        ("1-2.example.com", {}, "farm-1-2.example.com", "tcp://1-2.example.com:2376", ["own"]),
        ("_n", {"ansible_host": "n.example.com"}, "farm-_n", "tcp://n.example.com:2376", ["own", "n.example.com"]),
        ("192.0.2.7", {}, "farm-192.0.2.7", "tcp://192.0.2.7:2376", ["own"]),
        ("2001:db8::5", {}, "farm-2001-db8--5", "tcp://[2001:db8::5]:2376", ["own"]),
        ("2001:DB8:0::5", {}, "farm-2001-DB8-0--5", "tcp://[2001:DB8:0::5]:2376", ["own"]),
        ("::ffff:192.0.2.1", {}, "farm---ffff-192.0.2.1", "tcp://[::ffff:192.0.2.1]:2376", ["own"]),
        ("n1", {"ansible_host": "[2001:db8::5]"}, "farm-n1", "tcp://[2001:db8::5]:2376", ["own", "2001:db8::5"]),
        ("n1", {"ansible_host": "2001:db8::5"}, "farm-n1", "tcp://[2001:db8::5]:2376", ["own", "2001:db8::5"]),
        ("n1", {"ansible_host": "n1.example.com."}, "farm-n1", "tcp://n1.example.com:2376", ["own", "n1.example.com"]),
        (
            "n1",
            {"ansible_host": "fe80::1%eth0", "farm_address": "[2001:db8::5]"},
            "farm-n1",
            "tcp://[2001:db8::5]:2376",
            ["own", "fe80::1", "2001:db8::5"],
        ),
        (LONG, {}, f"farm-{LONG}"[:187] + "-d35465fb8754", f"tcp://{LONG}:2376", ["own"]),
    ],
)
def test_hosts_that_can_be_nodes(
    host: str, variables: Dict[str, Any], name: str, endpoint: str, names: List[str]
) -> None:
    hostvars = {host: {**FACTS, **variables}}
    assert farm_node_names([host]) == [name]
    (found,) = farm_nodes([host], hostvars)
    assert (found["node"]["name"], found["context"]["name"], found["context"]["host"]) == (name, name, endpoint)
    assert context_name(name) == validate_name(name, "node") == name
    (server,) = farm_servers([host], hostvars)
    assert server == {"name": host, "sans": names}
    assert sans([host, *names])


@pytest.mark.parametrize(
    ("host", "variables", "message"),
    [
        ("build host", {}, "'build host' of the inventory: a node's name goes into its certificate"),
        ("rack/1", {}, "put what it is reached by into ansible_host"),
        ("[2001:db8::5]", {}, "an IP address without a zone"),
        ("fe80::1%eth0", {}, "an IP address without a zone"),
        ("n1.example.com.", {}, "rename the host"),
        ("", {}, "a host name"),
        ("n1", {"ansible_host": "fe80::1%eth0"}, "ansible_host is 'fe80::1%eth0'; wanted the host name or the IP"),
        ("n1", {"farm_address": "n1.example.com/docker"}, "farm_address is 'n1.example.com/docker'"),
        ("n1", {"ansible_host": "root@n1"}, "ansible_host is 'root@n1'"),
        ("n1", {"ansible_host": "n1:22"}, "put that into farm_address"),
        ("_n", {}, "its name is '_n'"),
    ],
)
def test_hosts_that_cannot_be_nodes(host: str, variables: Dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        farm_nodes([host], {host: {**FACTS, **variables}})
    assert message in str(caught.value)


@pytest.mark.parametrize("hosts", [("Arm1", "arm1"), ("2001:db8::5", "2001-db8--5")])
def test_two_hosts_that_would_be_one_node(hosts: List[str]) -> None:
    with pytest.raises(AnsibleFilterError, match="rename one of them"):
        farm_node_names(hosts)
    with pytest.raises(AnsibleFilterError, match="rename one of them"):
        farm_nodes(hosts, dict.fromkeys(hosts, FACTS))


def test_an_address_that_no_controller_uses_may_be_anything() -> None:
    variables = {**FACTS, "ansible_host": "a b", "farm_endpoint": "unix:///a.sock"}
    assert farm_nodes(["n1"], {"n1": variables})[0]["node"]["endpoint"] == "unix:///a.sock"


def test_a_builder_that_buildx_would_refuse() -> None:
    with pytest.raises(AnsibleFilterError, match="my farm"):
        farm_node_names(["n1"], builder="my farm")
