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
  - The handlers come from an emulator image or from the host's own packages. Those of another origin, that are
    disabled, have other flags or another QEMU than is wanted, or that do not work are replaced.
  - With O(verify) a handler counts only if it runs a program. That is an executable of about 100 bytes, made by the
    module, that does nothing but exit.
  - Handlers are judged by the kernel's own files before and after, never by what the emulator image says. That image
    exits with 0 whatever happens.
  - Where nothing has to be done, no container is started and no engine is needed.
  - With O(endpoint) the task runs on a controller, for a host that has nothing but an engine.
extends_documentation_fragment:
  - buildfarm.multiarch.controller
requirements:
  - Python 3.8 or later where it runs
  - A Linux host, 4.8 or later, and root on it; none of that where O(endpoint) is set
  - With O(source=image) a running Docker engine, not a rootless one, where something has to be changed, and its CLI
    for the service of O(persistent)
  - Python's standard library; neither the docker CLI nor the docker SDK
attributes:
  check_mode:
    support: partial
    description: Predicts exactly what a real run does, also before the engine is installed, with these exceptions.
    details:
      - Whether the image has an emulator that works is known only once it has run.
      - An image that is not on the engine yet is taken to have all emulators where O(platforms) are V(all).
      - Packages that are missing are taken to be installed by then, and to register their handlers. A real run fails on
        them.
      - The test programs are run in check mode too, with O(endpoint) in containers of an image that is removed again.
        They change nothing.
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
      - V(exact) does the same, and removes all other handlers of QEMU. Handlers of other programs, as Java's or
        Python's, are never touched.
      - V(absent) removes QEMU's handlers of O(platforms), and those of all platforms that this module knows if
        O(platforms) is unset.
    type: str
    choices: [present, absent, exact]
    default: present
  platforms:
    description:
      - Platforms as V(linux/arm64), or just V(arm64). Known are 386, amd64, arm, arm64, loong64, mips64, mips64le,
        ppc64le, riscv64 and s390x; one handler serves all variants of arm.
      - V(all) stands for all of them that O(image) has, or with O(source=packages) for those that the host's packages
        have. What the image has is found out only where handlers are missing, by asking each emulator in C(/usr/bin)
        for its version. Platforms that are named beside V(all) have to be there.
      - A platform that the host runs natively needs no handler and gets none.
      - Required with O(state=present), and with O(state=exact), where an empty list removes all.
    type: list
    elements: str
  only_own:
    description:
      - With O(state=absent), whether only those of O(platforms) are removed that the service of O(persistent)
        registers, and the files with which this module has overridden those of packages. Handlers that anything else
        has registered stay.
      - Refused with another O(state), and with O(endpoint).
    type: bool
    default: false
  source:
    description:
      - V(image) takes the handlers from O(image). Those of the host's packages are replaced.
      - V(packages) takes them from the files that the host's packages have in C(binfmt.d), see binfmt.d(5). No
        engine is needed. The module installs no packages, the role P(buildfarm.multiarch.emulators#role) does.
    type: str
    choices: [image, packages]
    default: image
  image:
    description:
      - The emulator image, one that understands C(--uninstall) and C(--install) as C(tonistiigi/binfmt) does, by tag or
        digest. It is run privileged and without network.
      - The default is a fixed version of QEMU, as newer ones have crashed programs of some distributions more than
        once.
      - An image whose name ends in C(docker/binfmt) is run as old articles do, without arguments. It registers arm,
        arm64, ppc64le, riscv64 and s390x whatever O(platforms) are. It is refused with O(state=exact) and with
        O(preserve_argv0); with O(endpoint), also with O(state=absent) and with O(verify=false).
    type: str
    default: docker.io/tonistiigi/binfmt:qemu-v10.0.4
  endpoint:
    description:
      - The engine on whose host the handlers are to be, as the name of a docker context or a URL C(tcp://HOST:PORT),
        C(ssh://[USER@]HOST[:PORT]) or C(unix:///PATH). The task then runs on a controller.
        SSH takes the program C(ssh) there, and the docker CLI on the engine's host.
      - If unset, the handlers are those of the host that the task runs on.
      - From there a handler's interpreter and flags cannot be seen and are not compared, see RV(not_compared). Whether
        a platform runs, and under which version of QEMU, is found out by containers.
      - Nothing is registered at boot. O(source=packages) is refused, as packages are the host's own.
    type: str
  qemu_version:
    description:
      - The version that each handler's QEMU has to have, as V(10.0.4), or V(10.0) for any of that series. A handler of
        another version is replaced.
      - If unset, handlers of any version are left alone, and a new O(image) only serves handlers that are missing.
    type: str
  credentials:
    description:
      - Whether handlers have flag C(C). With it a program that is setuid root runs with root's rights under QEMU too,
        so C(sudo) and C(su) work in emulated containers. But then QEMU, a large program that is not written for that,
        runs with rights that its caller does not have, and whoever finds an error in it that a program can provoke gets
        them.
      - An emulator image always sets it. Only O(source=packages) can do without, which is what Debian's packages do.
      - If unset, either is fine. Ignored with O(endpoint).
    type: bool
  preserve_argv0:
    description:
      - Whether handlers have flag C(P), by which a program sees the name that it was called by, as busybox has to.
      - If unset, either is fine, and the source decides. Debian's packages cannot do without.
      - Ignored with O(endpoint) for handlers that are there.
    type: bool
  verify:
    description: Whether to run a program of each platform. V(false) trusts the registration.
    type: bool
    default: true
  persistent:
    description:
      - Whether the handlers are as declared after a reboot too.
      - With O(source=image) this takes a systemd service C(buildfarm-binfmt.service) that runs O(image). It follows
        C(docker.service), and C(systemd-binfmt.service), which removes all handlers when it is restarted.
      - With O(source=packages) C(systemd-binfmt.service) does it. If other flags than the packages' are wanted, or
        handlers of packages are to be absent, files in C(/etc/binfmt.d) override those of the packages.
      - All tasks share the service. Where one brings another O(image) or O(preserve_argv0), the service registers the
        platforms of earlier tasks so too, at once.
      - V(false) takes O(platforms) out of the service.
      - Otherwise it is V(true), but for tasks with O(endpoint), which can register nothing at boot.
    type: bool
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

- name: These and no others, with one series of QEMU, from a registry of one's own
  buildfarm.multiarch.binfmt:
    state: exact
    platforms: [arm64, arm, s390x]
    image: registry.example.com/mirror/binfmt:qemu-v10.0.4
    qemu_version: "10.0"

- name: All that the distribution's packages have
  buildfarm.multiarch.binfmt:
    source: packages
    platforms: all

- name: On a host that can be reached only through its engine
  buildfarm.multiarch.binfmt:
    platforms: [arm64]
    endpoint: amd1
  delegate_to: localhost

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
  description: Those of O(platforms) that the host runs by itself, or by another emulator than QEMU, and that were left
    out.
  returned: success
  type: list
  elements: str
  sample: [linux/amd64]
qemu_versions:
  description: Platforms among RV(emulated) to the version of QEMU that runs them; V(null) where it was not run, as
    with O(verify=false), or in check mode is yet to come.
  returned: success
  type: dict
  sample: {linux/arm64: 10.0.4, linux/riscv64: 10.0.4}
not_compared:
  description: What O(endpoint) keeps from being compared.
  returned: success
  type: list
  elements: str
  sample: [interpreter, flags]
actions:
  description: What was, or in check mode would be, done, in order. A container is shown as the docker command that runs
    it, and run through the engine's API.
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

from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main

SPEC = {
    "state": {"type": "str", "choices": ["present", "absent", "exact"], "default": "present"},
    "platforms": {"type": "list", "elements": "str"},
    "only_own": {"type": "bool", "default": False},
    "source": {"type": "str", "choices": ["image", "packages"], "default": "image"},
    "image": {"type": "str", "default": "docker.io/tonistiigi/binfmt:qemu-v10.0.4"},
    "endpoint": {"type": "str"},
    "docker_config": {"type": "path"},
    "qemu_version": {"type": "str"},
    "credentials": {"type": "bool"},
    "preserve_argv0": {"type": "bool"},
    "verify": {"type": "bool", "default": True},
    "persistent": {"type": "bool"},
}

if __name__ == "__main__":
    main(SPEC, run, required_if=[("state", "present", ["platforms"]), ("state", "exact", ["platforms"])])
