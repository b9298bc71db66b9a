# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test C(platform): whether a text is a platform that images are made for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: platform
short_description: Whether a text is a platform that BuildKit knows
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - True for C(os/arch) and C(os/arch/variant) of operating systems, architectures and forms of variants that BuildKit
    knows, however they are spelt. False for everything else, V(all) and V(arm64) for example.
options:
  _input:
    description: What may be a platform.
    type: raw
    required: true
seealso:
  - plugin: buildfarm.multiarch.platform_normalize
    plugin_type: filter
  - plugin: buildfarm.multiarch.native_platform
    plugin_type: test
"""

EXAMPLES = r"""
- name: Refuse what cannot be built for
  ansible.builtin.assert:
    that: wanted | reject('buildfarm.multiarch.platform') | length == 0
  vars:
    wanted: [linux/amd64, linux/arm64/v8]
"""

RETURN = r"""
_value:
  description: Whether it is one.
  type: bool
"""

from typing import Any, Callable, Dict

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform


def platform(value: Any) -> bool:
    """Say whether a value is a platform; see DOCUMENTATION."""
    try:
        return isinstance(value, str) and bool(Platform.parse(value))
    except FarmError:
        return False


class TestModule:
    """Ansible's entry point."""

    def tests(self) -> Dict[str, Callable[..., Any]]:
        """Return the tests by name."""
        return {"platform": platform}
