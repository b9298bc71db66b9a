#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build_context
short_description: Keep a build context equal to a directory of the Ansible machine
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Sends a directory of the Ansible machine to a controller, so that what is built there is what
    C(docker build) of the directory itself gives.
  - Links stay links and are never followed, wherever they point. Permission bits are preserved, with setuid, setgid and
    sticky. Names may hold anything. Empty directories are sent too. What the source no longer has is removed.
  - What the ignore file leaves out of the context, C(.dockerignore) for one, is not sent. It is read as BuildKit reads
    it.
  - Only what differs is sent, in one piece. Where nothing does, only a digest is.
requirements:
  - Python 3.8 or later where it runs
attributes:
  check_mode:
    description: Can run in check mode and return what would change without changing it.
    support: full
  diff_mode:
    description: Returns the names that differ, each with what is there before and after.
    support: full
  idempotent:
    description: When run twice in a row with the same arguments, the second run changes nothing.
    support: full
options:
  src:
    description:
      - The source, a directory on the Ansible machine.
      - A relative one is searched in the working directory of C(ansible-playbook), beside the variables files that
        C(-e @FILE) names, beside the playbook, beside the inventory, and where Ansible looks for the files of a role.
        The first that has it counts.
    type: path
    required: true
  dest:
    description:
      - The build context, a directory on the host. It is made where it is missing, with the directories above it.
      - It is for these sources alone. It can be neither a home directory nor a link.
    type: path
    required: true
  force:
    description:
      - Whether what the source does not have is also removed from O(dest) where it was not sent there. If V(false),
        the task fails then.
    type: bool
    default: false
  dockerfiles:
    description:
      - The Dockerfiles that are built with O(dest), relative to O(src). The ignore file of C(NAME) is
        C(NAME.dockerignore) beside it, or else C(.dockerignore) in O(src). What one of them leaves in is sent, and so
        are these files themselves.
      - If it is empty, or for a Dockerfile that is not in O(src), C(.dockerignore) counts.
      - Two tasks with one O(dest) need the same value, as each removes what it does not send.
    type: list
    elements: str
    default: [Dockerfile]
  send_ignored:
    description:
      - Whether what the ignore files leave out is sent nevertheless. Directories in O(src) that are named contexts of a
        build need it, if the context itself leaves them out.
    type: bool
    default: false
  request:
    description:
      - What the module's part on the Ansible machine asks of its part on the host. The module sets it; a task that does
        fails.
    type: dict
notes:
  - Which names were sent is recorded in C(buildfarm/contexts) of the user's state directory, E(XDG_STATE_HOME) or
    C(~/.local/state), never in O(dest). A directory that was filled by other means,
    C(ansible.builtin.copy) for example, is taken over if the source has all names that are in it, otherwise O(force)
    is needed once.
  - File capabilities are preserved; other extended attributes are not sent, and neither are owners, which a build does
    not see.
  - Times are sent with content and are no difference by themselves. New content of a file that is there already gets a
    later time than the old one had, as BuildKit takes a file of the same size and time for unchanged.
  - Each name of a hard-linked file is sent as a file. A socket is sent as an empty file, which is what BuildKit makes
    of it. Devices and FIFOs are refused.
  - What was sent before, and is ignored now, is removed from O(dest). What is ignored and was never sent, but lies in
    O(dest), is of somebody else; see O(force).
  - An ignore file that BuildKit would refuse is refused. If it holds what BuildKit might understand in another way, as
    classes like C([[:alpha:]]) or escaped letters, everything is sent; the build obeys the file in any case.
  - Files that C(ansible-vault) encrypted stay encrypted.
  - If O(src) and O(dest) are one directory, nothing is done.
seealso:
  - module: buildfarm.multiarch.buildx_build
  - module: ansible.builtin.copy
"""

EXAMPLES = r"""
- name: Send the sources
  buildfarm.multiarch.build_context:
    src: ./hello
    dest: /srv/hello

- name: Build what was sent
  buildfarm.multiarch.buildx_build:
    builder: farm
    context: /srv/hello
    platforms: [linux/amd64, linux/arm64]
    tags: [registry.example.com/hello:latest]
    push: true

- name: Send the sources of two images that are built of one context
  buildfarm.multiarch.build_context:
    src: ./hello
    dest: /srv/hello
    dockerfiles: [Dockerfile, debug.Dockerfile]

- name: Take over a directory that holds files of an older version
  buildfarm.multiarch.build_context:
    src: ~/projects/hello
    dest: ~/contexts/hello
    force: true
"""

RETURN = r"""
context:
  description: The build context as it is now, or would be.
  returned: success
  type: dict
  contains:
    path:
      description: Its real path on the host.
      type: str
      sample: /srv/hello
    source:
      description: The directory on the Ansible machine that was found for O(src).
      type: str
      sample: /home/me/hello
    digest:
      description:
        - A digest of names, types, modes, contents and targets of links. Two contexts that share it are equal.
      type: str
      sample: sha256:6fd4a1d0c6f0f2b7b8b7f4b6c5d1f9f64ca4c1d7b6b1b8c7b0f7a3c3e2a1d0c9
    files:
      description: How many files it has.
      type: int
      sample: 2
    size:
      description: Bytes of all files together.
      type: int
      sample: 512
actions:
  description:
    - What was, or in check mode would be, done. Each entry is a list of what is done, V(create), V(remove), V(add) or
      V(change), and names. Of many names 200 are listed.
  returned: success
  type: list
  elements: list
  sample: [["remove", "old.txt"], ["add", "rootfs", "rootfs/cfg"], ["change", "Dockerfile"]]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.apply import build_context

ARGUMENT_SPEC = {
    "src": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    "force": {"type": "bool", "default": False},
    "dockerfiles": {"type": "list", "elements": "str", "default": ["Dockerfile"]},
    "send_ignored": {"type": "bool", "default": False},
    "request": {"type": "dict"},
}

if __name__ == "__main__":
    main(ARGUMENT_SPEC, build_context)
