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
    holds the node's name in the inventory, its C(ansible_host), its C(farm_address) and its C(farm_names), and the name
    that the host itself has, the fact C(nodename).
  - Where that fact is not known, as of a host that a run is not about, the certificate keeps the names that it has.
  - The dot of DNS's root, the brackets that an IPv6 address has in a URL, and its zone are no part of a certificate and
    are left out of both addresses.
  - Leaves out nodes whose certificate was issued elsewhere, those with a C(listener_certificate), and those that are
    reached through ssh, with C(listener_ssh).
positional: _input
extends_documentation_fragment: [buildfarm.multiarch.inventory]
"""

EXAMPLES = r"""
- name: Issue the certificates of all nodes
  buildfarm.multiarch.docker_certificates:
    servers: "{{ groups['buildx_nodes'] | buildfarm.multiarch.farm_servers(hostvars) }}"
"""

RETURN = r"""
_value:
  description:
    - A dictionary for each node, with C(name) and C(sans), its further names and addresses.
    - There is no C(sans) where the fact C(nodename) is not known.
    - C(certificate) and C(ca) are what the engine's listener has, as far as M(buildfarm.multiarch.farm_facts) has found
      it.
  type: list
  elements: dict
"""

from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.model import is_name
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.inventory import bare
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.role_options import option


def farm_servers(names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """Return the servers to issue certificates for; see DOCUMENTATION."""
    servers: List[Dict[str, Any]] = []
    for name in names:
        variables = hostvars[name]
        if option("listener_certificate", variables) or option("listener_ssh", variables):
            continue
        facts = variables.get("ansible_facts", {})
        nodename, found = facts.get("nodename"), (facts.get("buildfarm") or {}).get("listener") or {}
        if nodename is None:
            servers.append({"name": name})
            continue
        held = {key: found[key] for key in ("certificate", "ca") if found.get(key)}
        own = nodename if is_name(nodename) and not nodename.startswith("localhost") else None
        reached = [bare(text) for text in (variables.get("ansible_host"), option("farm_address", variables)) if text]
        known = [own, *(text.partition("%")[0] for text in reached), *(option("farm_names", variables) or [])]
        servers.append(
            {"name": name, "sans": list(dict.fromkeys(other for other in known if other and other != name)), **held}
        )
    return servers


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_servers": farm_servers}
