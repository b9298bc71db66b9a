# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test C(native_platform): whether a processor runs a platform without QEMU."""

from __future__ import annotations

DOCUMENTATION = r"""
name: native_platform
short_description: Whether a processor runs a platform without QEMU
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - True for a platform that a machine runs by itself, as this collection decides it when it chooses nodes. amd64 runs
    C(linux/386) too, and variants of one architecture count as native. arm64 is not taken to run C(linux/arm), as many
    arm64 server processors cannot.
  - False for a machine of which nothing is known, as of one that did not answer, and for one for which no images are
    made.
  - A text that is no platform is an error.
options:
  _input:
    description: A platform, as in C(linux/arm64).
    type: str
    required: true
  machine:
    description:
      - The machine's platform, or what Ansible, C(uname -m), Docker or a distribution call its processor.
      - None, or a blank text, stands for one of which nothing is known.
    type: str
    required: true
seealso:
  - plugin: buildfarm.multiarch.platform_of_architecture
    plugin_type: filter
  - plugin: buildfarm.multiarch.buildx
    plugin_type: inventory
  - plugin: buildfarm.multiarch.platform
    plugin_type: test
"""

EXAMPLES = r"""
- name: Show which platforms this host would have to emulate
  ansible.builtin.debug:
    msg: "{{ wanted | reject('buildfarm.multiarch.native_platform', ansible_facts.architecture) }}"
  vars:
    wanted: [linux/amd64, linux/386, linux/arm64]

- name: Run something where that takes no QEMU
  ansible.builtin.command: /opt/selftest
  changed_when: false
  when: "'linux/arm64' is buildfarm.multiarch.native_platform(ansible_facts.architecture)"
"""

RETURN = r"""
_value:
  description: Whether the machine's processor runs it.
  type: bool
"""

from typing import Any, Callable, Dict, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import (
    Platform,
    platform_of_host,
    runs_natively,
)


def _native(machine: str) -> Optional[Platform]:
    """Return what a machine runs, None where that is not known or nothing that images are made for."""
    text = machine.strip().lower()
    return Platform.parse(text) if "/" in text else platform_of_host(text)


def native_platform(value: Any, machine: Any) -> bool:
    """Say whether a machine runs a platform by itself; see DOCUMENTATION."""
    try:
        native = _native(str(machine or ""))
        return runs_natively(Platform.parse(str(value)), native) if native else False
    except FarmError as exc:
        raise AnsibleFilterError(exc.message) from exc


class TestModule:
    """Ansible's entry point."""

    def tests(self) -> Dict[str, Callable[..., Any]]:
        """Return the tests by name."""
        return {"native_platform": native_platform}
