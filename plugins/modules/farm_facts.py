#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: farm_facts
short_description: Gather the few facts that the roles of a build farm decide by
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Reports of a node whether Docker's engine is installed and from which packages, of a controller what it lacks, and
    of either its architecture, its distribution and its own name.
  - Takes a fraction of the time of M(ansible.builtin.setup), so that a farm with nothing to do is checked quickly.
  - Fails, naming them, where variables of this collection's roles cannot be meant, or hosts of group C(buildx_nodes)
    have names or addresses that no node can have. Warns of variables that begin with the name of one of its roles and
    that no role reads.
requirements:
  - Python 3.8 or later where it runs
  - A Unix host with Python's standard library
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options: {}
seealso:
  - module: ansible.builtin.setup
  - plugin: buildfarm.multiarch.farm_nodes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Gather the facts of every host of the farm
  buildfarm.multiarch.farm_facts:

- name: Refuse a node without an engine
  ansible.builtin.assert:
    that: ansible_facts.buildfarm.engine

- name: Show what a controller lacks
  ansible.builtin.debug:
    var: ansible_facts.buildfarm.missing_libraries
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: success
  type: dict
  contains:
    architecture:
      description: The machine's name of its architecture, as M(ansible.builtin.setup) has it.
      type: str
      sample: x86_64
    nodename:
      description: The host's own name, as M(ansible.builtin.setup) has it.
      type: str
      sample: arm1
    buildfarm:
      description: What else there is.
      type: dict
      contains:
        system:
          description: The kernel's name, as M(ansible.builtin.setup) has it.
          type: str
          sample: Linux
        systemd:
          description: Whether the host was booted with systemd.
          type: bool
          sample: true
        lineage:
          description: The distribution's id, followed by those that it derives from, as os-release(5) has them.
          type: list
          elements: str
          sample: [linuxmint, ubuntu, debian]
        release:
          description:
            - The code name by which the distribution's packages go; its version where it has no code name. Of a
              derivative of Ubuntu or Debian it is the parent's.
            - V(null) where the host does not state it.
          type: str
          sample: noble
        packages:
          description:
            - Upstream's version of each package, of a list of those that bring an engine or get into the way of one,
              that is installed.
          type: dict
          sample: {docker-ce: 28.5.2, containerd.io: 1.7.27}
        engine_package_version:
          description:
            - The version of the package that brought the engine, with all that the package manager knows it by. V(null)
              where no package did.
          type: str
          sample: 5:28.5.2-1~debian.13~trixie
        repository:
          description: The file that declares Docker's repository. V(null) where there is none.
          type: str
        engine:
          description: Whether a systemd unit C(docker.service) is installed.
          type: bool
          sample: true
        engine_architecture:
          description:
            - The architecture of the engine's program, as C(docker version) names it. On a 64-bit kernel it can be a
              32-bit one. V(null) where there is no engine, or where it is a script.
          type: str
          sample: arm64
        listener:
          description:
            - What the engine's listener has, C(ca), what it trusts, and C(certificate), both in PEM. Each is V(null)
              where there is none, and the certificate where its key is missing too.
          type: dict
          sample: {ca: "-----BEGIN CERTIFICATE-----\n...", certificate: "-----BEGIN CERTIFICATE-----\n..."}
        emulators:
          description: Whether the host's packages have QEMU handlers, by files in C(binfmt.d).
          type: bool
          sample: false
        python:
          description: The interpreter of this task, and the first two numbers of its version.
          type: dict
          sample: {executable: /usr/bin/python3, version: [3, 13]}
        docker:
          description: Path of the docker CLI. V(null) where there is none.
          type: str
          sample: /usr/bin/docker
        buildx:
          description: Path of the buildx that modules start and the docker CLI takes. V(null) where there is none.
          type: str
          sample: /usr/libexec/docker/cli-plugins/docker-buildx
        docker_config_transience:
          description:
            - Why what is written to docker's configuration of this user is lost later, as in a container. V(null) where
              it lasts.
          type: str
          sample: this is a container
        missing_libraries:
          description: Those of the collection's Python libraries that the interpreter of this task lacks.
          type: list
          elements: str
          sample: []
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._farm_facts import run

if __name__ == "__main__":
    main({}, run)
