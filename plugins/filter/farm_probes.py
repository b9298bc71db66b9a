# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(farm_probes): the listeners that a controller has to probe before they are made final."""

from __future__ import annotations

DOCUMENTATION = r"""
name: farm_probes
short_description: List the listeners that a controller has to try
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Returns what M(buildfarm.multiarch.docker_endpoint_info) has to probe so that the listeners of all nodes whose
    change is provisional are tried in one task. Those with TLS and those without are apart, as the former need the
    controller's certificate.
  - Reads these variables of a node. C(_listener_state) is what M(buildfarm.multiarch.docker_listener) returned, other
    nodes are left out. C(farm_address) is its name or address as the controllers see it, by default C(ansible_host),
    else its name in the inventory.
  - With O(declared=true) it returns how all nodes are reached as declared, see
    P(buildfarm.multiarch.farm_nodes#filter).
positional: _input
extends_documentation_fragment: [buildfarm.multiarch.inventory]
options:
  declared:
    description: Whether all nodes are wanted, whatever was done to their listeners.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Try the listeners that this play has changed
  buildfarm.multiarch.docker_endpoint_info:
    endpoints: "{{ item.endpoints }}"
    ca: "{{ '~/.docker/ca.pem' if item.tls else omit }}"
    cert: "{{ '~/.docker/cert.pem' if item.tls else omit }}"
    key: "{{ '~/.docker/key.pem' if item.tls else omit }}"
  loop: "{{ ansible_play_batch | buildfarm.multiarch.farm_probes(hostvars) }}"
  delegate_to: builder.example.com
  run_once: true
"""

RETURN = r"""
_value:
  description: At most two dictionaries, one with C(tls) and one without.
  type: list
  elements: dict
  contains:
    tls:
      description: Whether the listeners want a certificate.
      type: bool
    names:
      description: The nodes.
      type: list
      elements: str
    endpoints:
      description: Their endpoints, in the same order.
      type: list
      elements: str
"""

from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.inventory import (
    endpoint_of,
    tcp_endpoint,
)


def farm_probes(
    names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]], declared: bool = False
) -> List[Dict[str, Any]]:
    """Return the listeners to try; see DOCUMENTATION."""
    found: Dict[bool, Dict[str, str]] = {True: {}, False: {}}
    for name in names:
        variables = hostvars[name]
        if declared:
            endpoint, tls = endpoint_of(name, variables)
            found[tls][name] = endpoint
            continue
        state = variables.get("_listener_state") or {}
        if state.get("provisional"):
            found[state["listener"]["tls"]][name] = tcp_endpoint(name, variables, state["listener"]["port"])
    return [
        {"tls": tls, "names": list(endpoints), "endpoints": list(endpoints.values())}
        for tls, endpoints in found.items()
        if endpoints
    ]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_probes": farm_probes}
