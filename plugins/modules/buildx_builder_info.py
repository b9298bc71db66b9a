#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_builder_info
short_description: Describe buildx builders and their nodes
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Returns the builders of a controller with their nodes as they are defined and as they are found.
  - All nodes are queried in parallel, within O(timeout). One that does not answer is part of the answer, not a failure.
  - The builders that docker has for each of its contexts are not listed, as nothing defines them.
extends_documentation_fragment:
  - buildfarm.multiarch.controller
requirements:
  - Python 3.8 or later where it runs
  - buildx 0.7 or later, for what only a running BuildKit can tell
attributes:
  check_mode:
    support: full
    description: Changes nothing, and returns the same in check mode.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  name:
    description: Name of the one builder to describe. Unset describes all.
    type: str
  timeout:
    description: Seconds that a node may take to answer.
    type: float
    default: 10
notes:
  - The contents of configuration files are not returned, as keys may be among them, but their checksums are.
seealso:
  - module: buildfarm.multiarch.buildx_builder
  - module: buildfarm.multiarch.docker_endpoint_info
  - module: buildfarm.multiarch.farm_report
  - plugin: buildfarm.multiarch.buildx
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Describe all builders
  buildfarm.multiarch.buildx_builder_info:
  register: found

- name: Fail if a node of the farm is away
  buildfarm.multiarch.buildx_builder_info:
    name: farm
  register: farm
  failed_when: farm.builders | map(attribute='nodes') | flatten | rejectattr('error', 'none') | list | length > 0

- name: Name the node that builds for arm64
  ansible.builtin.debug:
    msg: "{{ (farm.builders[0].platforms | selectattr('platform', 'eq', 'linux/arm64') | first).node }}"
"""

RETURN = r"""
builders:
  description: The builders in the order of their names; empty where there is none of O(name).
  returned: success
  type: list
  elements: dict
  contains:
    current:
      description: Whether buildx uses it where none is named.
      type: bool
      sample: true
    error:
      description: Why its definition cannot be read, V(null) where it can.
      type: str
      sample: null
    name:
      description: Its name.
      type: str
      sample: farm
    driver:
      description: Its driver. V(null) where its definition cannot be read.
      type: str
      sample: docker-container
    nodes:
      description: Its nodes, in order.
      type: list
      elements: dict
      contains:
        name:
          description: The node's name.
          type: str
          sample: arm1
        endpoint:
          description: How its engine is reached.
          type: str
          sample: ssh://builder@arm1.example.com
        platforms:
          description: The pins.
          type: list
          elements: str
          sample: [linux/arm64]
        detected:
          description: What BuildKit reports, the pins first. V(null) where the node does not run.
          type: list
          elements: str
          sample: [linux/arm64, linux/arm/v7]
        native:
          description: The platform of the engine's own processor, V(null) where the engine was not queried.
          type: str
          sample: linux/arm64
        driver_opts:
          description: The driver's options, V(***) for variables whose names say that they are secret.
          type: dict
          sample: {network: host}
        buildkitd_flags:
          description: buildkitd's arguments.
          type: list
          elements: str
          sample: ["--allow-insecure-entitlement=network.host"]
        files:
          description: Checksums of the configuration and its companions, by path below C(/etc/buildkit).
          type: dict
          sample: {buildkitd.toml: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
        status:
          description: V(running), V(paused), V(stopped), V(missing), V(unreachable) or V(unknown).
          type: str
          sample: running
        version:
          description: BuildKit's version, V(null) where the node does not run.
          type: str
          sample: v0.16.0
        error:
          description: Why the node cannot be reached, V(null) where it can.
          type: str
          sample: null
    platforms:
      description:
        - The node to which C(docker buildx build) sends each pinned or detected platform, in a build for that platform
          alone. Of several with the same pin that is the first.
      type: list
      elements: dict
      contains:
        platform:
          description: The platform.
          type: str
          sample: linux/arm64
        node:
          description: The node that builds it.
          type: str
          sample: arm1
        source:
          description: V(pin) or V(detected).
          type: str
          sample: pin
        native:
          description: Whether the node's own processor runs it. V(null) where that is not known.
          type: bool
          sample: true
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.info import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main

SPEC = {
    "name": {"type": "str"},
    "timeout": {"type": "float", "default": 10},
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run)
