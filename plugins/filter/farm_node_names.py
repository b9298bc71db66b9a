# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(farm_node_names): from hosts of an inventory to the names of a builder's nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: farm_node_names
short_description: Name a builder's nodes as the inventory's hosts
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Returns the names that nodes, their containers and their docker contexts have, in the order of the hosts. A node is
    called after the builder and the host, C(farm-arm1). The colons of an IPv6 address become hyphens, and a name of
    more than 200 characters ends in a checksum.
  - Refuses names that cannot be nodes', those that are no host name (letters, digits, C(-), C(.), C(_)) and no IP
    address, and those that differ in case only.
positional: _input
options:
  _input:
    description: Names of the hosts, as in the inventory. They need not be there any more.
    type: list
    elements: str
    required: true
  builder:
    description: The builder's name.
    type: str
    default: farm
"""

EXAMPLES = r"""
- name: Show the containers of the nodes
  ansible.builtin.debug:
    msg: "buildx_buildkit_{{ item }}"
  loop: "{{ groups['buildx_nodes'] | buildfarm.multiarch.farm_node_names }}"
"""

RETURN = r"""
_value:
  description: The names.
  type: list
  elements: str
"""

from typing import Any, Callable, Dict, List, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.inventory import node_names


def farm_node_names(hosts: Sequence[str], builder: str = "farm") -> List[str]:
    """Return the names of the hosts' nodes; see DOCUMENTATION."""
    try:
        return node_names(builder, hosts)
    except FarmError as exc:
        raise AnsibleFilterError(exc.message) from exc


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_node_names": farm_node_names}
