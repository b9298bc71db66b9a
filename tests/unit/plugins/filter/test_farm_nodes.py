# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How controllers reach the nodes of an inventory."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.filter.farm_nodes import FilterModule

FACTS = {"ansible_facts": {"architecture": "x86_64"}}


@pytest.mark.parametrize(
    ("variables", "endpoint", "context"),
    [
        ({}, "farm-n", "tcp://n:2376"),
        ({"ansible_host": "192.0.2.7", "listener_port": 2400}, "farm-n", "tcp://192.0.2.7:2400"),
        ({"ansible_host": "192.0.2.7", "farm_address": "2001:db8::7"}, "farm-n", "tcp://[2001:db8::7]:2376"),
        ({"listener_insecure": True}, "tcp://n:2375", None),
        ({"listener_ssh": True}, "ssh://n", None),
        ({"listener_ssh": True, "ansible_user": "root", "ansible_port": 2222}, "ssh://root@n:2222", None),
        ({"listener_ssh": True, "ansible_user": "root", "listener_ssh_user": "b"}, "ssh://b@n", None),
        ({"listener_ssh": True, "ansible_host": "2001:db8::7"}, "ssh://[2001:db8::7]", None),
        ({"farm_endpoint": "unix:///a.sock", "listener_ssh": True}, "unix:///a.sock", None),
    ],
)
def test_endpoints(variables, endpoint, context):
    (found,) = FilterModule().filters()["farm_nodes"](["n"], {"n": {**FACTS, **variables}})
    assert found["node"]["endpoint"] == endpoint
    assert (found.get("context") or {}).get("host") == context
    assert found["context"] == (context and {"name": "farm-n", **found["node"]["context"]})
    assert context or "context" not in found["node"]


def test_nodes_without_facts_are_left_out():
    nodes = FilterModule().filters()["farm_nodes"](["down", "n"], {"down": {}, "n": FACTS})
    assert [node["name"] for node in nodes] == ["n"]
    with pytest.raises(AnsibleFilterError, match=r"the facts of no node are known \(down\)"):
        FilterModule().filters()["farm_nodes"](["down"], {"down": {}})
