#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: binfmt_info
short_description: Tell which platforms a node can run, and by which handlers
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Lists the handlers of the kernel's binfmt_misc and the platforms that the host can run, natively or under QEMU.
  - Unless told otherwise it proves each of them by running a program of about 100 bytes that does nothing but exit.
  - Neither an engine nor root is needed.
requirements:
  - Python 3.8 or later where it runs
  - A Linux host
  - Python's standard library
attributes:
  check_mode:
    support: full
    description: The module never changes anything.
  diff_mode:
    support: none
    description: There is nothing to show.
  idempotent:
    support: full
    description: The module never changes anything.
options:
  verify:
    description: Whether to run a program of each platform. V(false) trusts the registration.
    type: bool
    default: true
notes:
  - Where binfmt_misc is not mounted only root sees the handlers. For others RV(handlers) is empty then, though the
    kernel may have some.
seealso:
  - module: buildfarm.multiarch.binfmt
"""

EXAMPLES = r"""
- name: Which platforms can this node run?
  buildfarm.multiarch.binfmt_info:
  register: found

- name: This node has to be able to run arm64
  ansible.builtin.assert:
    that: "'linux/arm64' in found.platforms"
    fail_msg: "{{ inventory_hostname }} has only {{ found.platforms | join(', ') }}"

- name: Without running anything
  buildfarm.multiarch.binfmt_info:
    verify: false
"""

RETURN = r"""
mounted:
  description: Whether binfmt_misc is mounted, so that everyone can read the handlers.
  returned: success
  type: bool
  sample: true
handlers:
  description: All entries of binfmt_misc, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The entry's name.
      type: str
      sample: qemu-aarch64
    platforms:
      description: The platforms that it runs; empty where it runs none that this collection knows.
      type: list
      elements: str
      sample: [linux/arm64]
    enabled:
      description: Whether it, and binfmt_misc as a whole, is enabled.
      type: bool
      sample: true
    interpreter:
      description: The program that it starts.
      type: str
      sample: /usr/bin/qemu-aarch64
    flags:
      description: Its flags. Containers can use it only with V(F) among them.
      type: str
      sample: POCF
    works:
      description: Whether a program of its platform ran; V(null) where none was run.
      type: bool
      sample: true
    problem:
      description: Why that program did not run; V(null) where it did or none was run.
      type: str
      sample: Exec format error
    qemu_version:
      description: The version that its QEMU prints; V(null) where no program was run, or it printed none.
      type: str
      sample: 10.0.4
native:
  description: The platforms that the host runs without a handler.
  returned: success
  type: list
  elements: str
  sample: [linux/386, linux/amd64]
platforms:
  description: The platforms that containers on this host can run, natively or by a handler that is enabled, has flag
    C(F) and works.
  returned: success
  type: list
  elements: str
  sample: [linux/386, linux/amd64, linux/arm64]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.info import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main

SPEC = {"verify": {"type": "bool", "default": True}}

if __name__ == "__main__":
    main(SPEC, run)
