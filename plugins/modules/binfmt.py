#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: binfmt
short_description: Register QEMU handlers for foreign platforms on a node
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Registers handlers in the kernel's binfmt_misc, so that containers of other platforms run under QEMU, or removes
    them.
  - A handler counts only if it is enabled, has flag C(F), without which containers cannot use it, and runs a program.
    The program is an executable of about 100 bytes, made by the module, that does nothing but exit. Handlers that do
    not count are replaced.
  - Handlers are judged by the kernel's own files before and after, never by what the emulator image says. That image
    exits with 0 whatever happens.
  - A good handler is left alone, whoever registered it, so the packages of a distribution do as well. Where nothing has
    to be done, no container is started and no engine is needed.
requirements:
  - A Linux host, and root on it
  - A running Docker engine and its CLI, where a handler has to be registered
  - Python's standard library
attributes:
  check_mode:
    support: partial
    description: Predicts exactly what a real run does, also before the engine is installed, with two exceptions.
    details:
      - Where binfmt_misc is not mounted, the handlers cannot be read and are predicted to be missing.
      - Whether the image has an emulator that works is known only once it has run.
      - The test programs are run in check mode too. They change nothing.
  diff_mode:
    support: full
    description: Shows each platform's state and what is registered at boot.
  idempotent:
    support: full
    description: A second run does not change anything.
options:
  state:
    description:
      - V(present) makes each of O(platforms) runnable.
      - V(absent) removes the handlers of O(platforms), and those of all platforms that this module knows if
        O(platforms) is unset. It removes those under QEMU's usual names, C(qemu-aarch64) for one, and no others.
    type: str
    choices: [present, absent]
    default: present
  platforms:
    description:
      - Platforms as V(linux/arm64), or just V(arm64). Known are 386, amd64, arm, arm64, loong64, mips64, mips64le,
        ppc64le, riscv64 and s390x; one handler serves all variants of arm.
      - A platform that the host runs natively needs no handler and gets none.
      - Required with O(state=present). Handlers of other platforms are left alone.
    type: list
    elements: str
  image:
    description:
      - The emulator image, one that understands C(--uninstall) and C(--install) as C(tonistiigi/binfmt) does. It is run
        privileged and without network.
      - The default is a fixed version of QEMU, as newer ones have crashed programs of some distributions more than
        once.
    type: str
    default: docker.io/tonistiigi/binfmt:qemu-v10.0.4
  qemu_version:
    description:
      - The version that each handler's QEMU has to have, as V(10.0.4), or V(10.0) for any of that series. A handler of
        another version is replaced.
      - If unset, handlers of any version are left alone, and a new O(image) only serves handlers that are missing.
    type: str
  smoke_test:
    description: Whether to run a program of each platform. V(false) trusts the registration.
    type: bool
    default: true
  persistent:
    description:
      - Whether the handlers are registered again after a reboot, by a systemd service C(buildfarm-binfmt.service) that
        runs O(image). It also follows C(systemd-binfmt.service), which removes all handlers when it is restarted.
      - Handlers that the host's own packages register at boot are left to them.
      - V(false) takes O(platforms) out of that service.
    type: bool
    default: true
notes:
  - The kernel has one set of handlers, or one for each user namespace since Linux 6.7. Containers share their host's.
  - A handler that is replaced is gone for some tenths of a second. Programs that run already keep their interpreter.
  - Pulling and running the image may take ten minutes.
seealso:
  - module: buildfarm.multiarch.binfmt_info
  - name: binfmt_misc
    description: The kernel's own page.
    link: https://docs.kernel.org/admin-guide/binfmt-misc.html
  - name: tonistiigi/binfmt
    description: The emulator image.
    link: https://github.com/tonistiigi/binfmt
"""

EXAMPLES = r"""
- name: The node builds and runs for arm64 and riscv64
  buildfarm.multiarch.binfmt:
    platforms: [linux/arm64, linux/riscv64]

- name: With one series of QEMU, from a registry of one's own
  buildfarm.multiarch.binfmt:
    platforms: [arm64, arm, s390x]
    image: registry.example.com/mirror/binfmt:qemu-v10.0.4
    qemu_version: "10.0"

- name: Until the next reboot only
  buildfarm.multiarch.binfmt:
    platforms: [linux/ppc64le]
    persistent: false

- name: No emulation on this node
  buildfarm.multiarch.binfmt:
    state: absent
"""

RETURN = r"""
emulated:
  description: Those of O(platforms) that run under QEMU after the task.
  returned: success
  type: list
  elements: str
  sample: [linux/arm64, linux/riscv64]
native:
  description: Those of O(platforms) that the host runs by itself, and that were left out.
  returned: success
  type: list
  elements: str
  sample: [linux/amd64]
actions:
  description: What was, or in check mode would be, done, in order.
  returned: success
  type: list
  elements: list
  sample:
    - - docker
      - run
      - --rm
      - --privileged
      - --network
      - none
      - docker.io/tonistiigi/binfmt:qemu-v10.0.4
      - --install
      - arm64,riscv64
    - [write, /etc/systemd/system/buildfarm-binfmt.service]
    - [systemctl, daemon-reload]
    - [systemctl, restart, buildfarm-binfmt.service]
    - [systemctl, enable, buildfarm-binfmt.service]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._ansible import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt_apply import logic

SPEC = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "platforms": {"type": "list", "elements": "str"},
    "image": {"type": "str", "default": "docker.io/tonistiigi/binfmt:qemu-v10.0.4"},
    "qemu_version": {"type": "str"},
    "smoke_test": {"type": "bool", "default": True},
    "persistent": {"type": "bool", "default": True},
}

if __name__ == "__main__":
    main(SPEC, logic, required_if=[("state", "present", ["platforms"])])
