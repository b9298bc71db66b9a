# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(platform_normalize): platforms as BuildKit and this collection spell them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: platform_normalize
short_description: Spell platforms as BuildKit does
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Returns a platform in the one spelling that BuildKit, registries and this collection's return values have.
    C(linux/aarch64), C(linux/arm64/v8) and C(Linux/ARM64) are all C(linux/arm64), and C(linux/arm) is C(linux/arm/v7).
  - Of a list each platform is returned once, in the order in which they were given.
  - A text that is no platform is an error that says what is known.
positional: _input
options:
  _input:
    description: A platform, or a list of platforms, C(os/arch) or C(os/arch/variant).
    type: raw
    required: true
seealso:
  - plugin: buildfarm.multiarch.platform
    plugin_type: test
  - plugin: buildfarm.multiarch.platform_of_architecture
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Compare what an image has with what is wanted
  ansible.builtin.assert:
    that: found | buildfarm.multiarch.platform_normalize | sort == wanted | sort
  vars:
    found: [linux/arm64/v8, linux/x86_64, linux/arm64]
    wanted: [linux/amd64, linux/arm64]
"""

RETURN = r"""
_value:
  description: A platform for a platform, and a list for a list.
  type: raw
  sample: linux/arm64
"""

from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform, parse_all


def platform_normalize(value: Any) -> Any:
    """Return platforms in BuildKit's spelling; see DOCUMENTATION."""
    try:
        if isinstance(value, (list, tuple)):
            return [str(platform) for platform in parse_all(str(one) for one in value)]
        return str(Platform.parse(str(value)))
    except FarmError as exc:
        raise AnsibleFilterError(exc.message) from exc


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"platform_normalize": platform_normalize}
