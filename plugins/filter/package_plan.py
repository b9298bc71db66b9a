# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(package_plan): from options and facts to what a host's package manager has to do."""

from __future__ import annotations

DOCUMENTATION = r"""
name: package_plan
short_description: Plan which packages a host of a build farm gets
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Takes what is declared of the engine's packages and what was found on a host, and returns what the host lacks, which
    packages mend that by the names and in the words of its package manager, and why that is not possible where it
    is not. The roles C(engine), C(buildx) and C(emulators) decide by it.
  - It connects to nothing and changes nothing.
positional: _input
options:
  _input:
    description:
      - Variables of the role P(buildfarm.multiarch.engine#role) without C(engine_) before their names, C(source) and
        C(minimum_version) for example. What is left out, V(null) or empty has its default.
      - With another O(purpose) than V(engine), C(packages) are those that are to be installed for it, and versions are
        left out of account.
      - With O(purpose=controller), C(docker_cli) is that of the role P(buildfarm.multiarch.buildx#role), and C(plugin)
        says whether buildx is to come from packages.
    type: dict
    required: true
  facts:
    description: C(ansible_facts.buildfarm), as M(buildfarm.multiarch.farm_facts) gathers it.
    type: dict
    required: true
  purpose:
    description:
      - What the packages are for. V(engine) is the engine of a node, V(controller) are buildx and the Python libraries
        of a controller, and the docker CLI if it is wanted there, V(emulators) are a node's QEMU handlers.
    type: str
    choices: [engine, controller, emulators]
    default: engine
"""

EXAMPLES = r"""
- name: Gather the facts of the host
  buildfarm.multiarch.farm_facts:

- name: Show what would be installed from Docker's repository
  ansible.builtin.debug:
    msg: "{{ {'source': 'docker'} | buildfarm.multiarch.package_plan(ansible_facts['buildfarm']) }}"

# On Debian 13 without an engine, install is [docker-ce, docker-ce-cli, containerd.io], and problem is empty.
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    due:
      description: Whether there is anything to do or to refuse.
      type: bool
    lacks:
      description: What is not as declared, in words. Empty where there is nothing to do.
      type: list
      elements: str
      sample: ["Docker's engine"]
    problem:
      description: Why that cannot be mended, and what to do. Empty where it can.
      type: str
    family:
      description: V(Debian), V(RedHat) or V(Suse); empty where the distribution is not known.
      type: str
    manager:
      description: V(apt), V(dnf) or V(zypper); empty where the distribution is not known.
      type: str
    names:
      description: The packages.
      type: list
      elements: str
      sample: [docker-ce, docker-ce-cli, containerd.io]
    install:
      description: The packages as the package manager takes them, with their versions.
      type: list
      elements: str
      sample: ["docker-ce=5:28.5.2-*", "docker-ce-cli=5:28.5.2-*", containerd.io]
    remove:
      description: Installed packages that are in the way.
      type: list
      elements: str
      sample: []
    downgrade:
      description: Whether a newer version is to be replaced by an older one.
      type: bool
    zypper:
      description: What follows C(zypper install).
      type: list
      elements: str
    repository:
      description: Docker's repository, if it is to be declared; V(null) if not.
      type: dict
      contains:
        name:
          description: What dnf and zypper call it.
          type: str
        url:
          description: Its address.
          type: str
        path:
          description: The file that declares it.
          type: str
        text:
          description: The content of that file.
          type: str
        key:
          description: The file with the key that it is signed with.
          type: str
        key_url:
          description: Where that key comes from.
          type: str
        key_checksum:
          description: The key's checksum; empty for any.
          type: str
    starts_engine:
      description: Whether the packages start the engine.
      type: bool
    has_engine:
      description: Whether there is an engine that is not to be removed.
      type: bool
"""

from typing import Any, Callable, Dict, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._packages import plan as _package_plan


def package_plan(options: Mapping[str, Any], facts: Mapping[str, Any], purpose: str = "engine") -> Dict[str, Any]:
    """Return the plan; see DOCUMENTATION."""
    if purpose not in _package_plan.PURPOSES:
        raise AnsibleFilterError(f"package_plan: purpose {purpose!r}: wanted {', '.join(_package_plan.PURPOSES)}")
    return _package_plan.package_plan(options, facts, purpose).as_result()


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"package_plan": package_plan}
