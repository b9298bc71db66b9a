# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(farm_daemon_config): a node's options for its engine, with the mirrors of Docker Hub."""

from __future__ import annotations

DOCUMENTATION = r"""
name: farm_daemon_config
short_description: Add the mirrors of Docker Hub to an engine's options
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Returns options for C(daemon.json) with C(registry-mirrors) where the node has any, C(engine_registry_mirrors) or
    the mirrors of the inventory. Options that have C(registry-mirrors) themselves stay as they are.
positional: _input
options:
  _input:
    description: The options, by the engine's own names.
    type: dict
    required: true
  hostvars:
    description:
      - The variable C(hostvars). Read are C(engine_registry_mirrors) of the node, and C(farm_address),
        C(ansible_host) and C(mirror_port) of the mirrors.
    type: dict
    required: true
  host:
    description: The node, as in the inventory.
    type: str
    required: true
  mirrors:
    description: Hosts of the inventory that are mirrors.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Give the engine its options
  buildfarm.multiarch.docker_daemon_config:
    daemon_config: >-
      {{ {'live-restore': true}
          | buildfarm.multiarch.farm_daemon_config(hostvars, inventory_hostname, ['mirror1']) }}
"""

RETURN = r"""
_value:
  description: The options.
  type: dict
"""

from typing import Any, Callable, Dict, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.inventory import mirrors_of

_KEY = "registry-mirrors"


def farm_daemon_config(
    config: Mapping[str, Any], hostvars: Mapping[str, Mapping[str, Any]], host: str, mirrors: Sequence[str] = ()
) -> Dict[str, Any]:
    """Return an engine's options with its mirrors; see DOCUMENTATION."""
    try:
        # A host is looked at only where that may matter.
        urls = mirrors_of(hostvars[host], mirrors, hostvars)
    except FarmError as exc:
        raise AnsibleFilterError(exc.message) from exc
    # Docker's own way to write none is to have no such key.
    return {**({} if urls is None else {_KEY: urls or None}), **config}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_daemon_config": farm_daemon_config}
