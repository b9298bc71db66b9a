# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(platform_of_architecture): from a machine's name to the platform that it runs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: platform_of_architecture
short_description: The platform that a machine's processor runs
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Returns the platform of images that a Linux machine runs by itself, from what Ansible, C(uname -m), Docker or a
    distribution call its processor. C(x86_64) and C(amd64) are V(linux/amd64), C(aarch64) is V(linux/arm64), and
    C(armv6l) and C(armel) are V(linux/arm/v6).
  - A processor for which no images are made is an error.
positional: _input
options:
  _input:
    description: The name of a processor, the fact C(architecture) for example.
    type: str
    required: true
seealso:
  - plugin: buildfarm.multiarch.native_platform
    plugin_type: test
  - plugin: buildfarm.multiarch.platform_normalize
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Group hosts by the platform that they run
  ansible.builtin.group_by:
    key: runs_{{ ansible_facts.architecture | buildfarm.multiarch.platform_of_architecture | replace('/', '_') }}
"""

RETURN = r"""
_value:
  description: The platform.
  type: str
  sample: linux/arm64
"""

from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import native_platform


def platform_of_architecture(value: Any) -> str:
    """Return the platform of a processor; see DOCUMENTATION."""
    try:
        return str(native_platform(str(value).strip().lower()))
    except FarmError as exc:
        raise AnsibleFilterError(exc.message) from exc


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"platform_of_architecture": platform_of_architecture}
