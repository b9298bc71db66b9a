# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(farm_servers): from inventory to the names that server certificates must hold."""

from __future__ import annotations

DOCUMENTATION = r"""
name: farm_servers
short_description: List the nodes' names for their server certificates
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Returns, for each node, what O(buildfarm.multiarch.docker_certificates#module:servers) expects. A certificate
    holds the node's name in the inventory, its C(ansible_host), its C(farm_address) and its C(farm_names).
  - Leaves out nodes whose certificate was issued elsewhere, those with a C(listener_certificate).
positional: _input
options:
  _input:
    description: Names of the nodes, as in the inventory.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Issue the certificates of all nodes
  buildfarm.multiarch.docker_certificates:
    servers: "{{ groups['buildx_nodes'] | buildfarm.multiarch.farm_servers(hostvars) }}"
"""

RETURN = r"""
_value:
  description: A dictionary for each node, with C(name) and C(sans), its further names and addresses.
  type: list
  elements: dict
"""

from typing import Any, Callable, Dict, List, Mapping, Sequence


def farm_servers(names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return the servers to issue certificates for; see DOCUMENTATION."""
    servers = []
    for name in names:
        variables = hostvars[name]
        if variables.get("listener_certificate"):
            continue
        known = [variables.get("ansible_host"), variables.get("farm_address"), *(variables.get("farm_names") or [])]
        servers.append({"name": name, "sans": list(dict.fromkeys(other for other in known if other and other != name))})
    return servers


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_servers": farm_servers}
