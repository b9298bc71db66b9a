#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: slurp_secrets
short_description: Read files that hold secrets, all in one task
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Reads files of a host for later tasks, as M(ansible.builtin.slurp) reads one.
  - What was read is hidden from output, logs and callbacks, as with C(no_log). Unlike with C(no_log), why a task failed
    or a host could not be reached is not.
  - One task for all files, delegated with C(run_once), makes one connection where a task of each host makes as many as
    there are hosts, of which an ssh server with many at once drops some.
requirements:
  - Python 3.8 or later where it runs
  - Python's standard library
attributes:
  check_mode:
    support: full
    description: Only reads. Files that are missing are left out then, as they may be still to come.
  diff_mode:
    support: N/A
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  paths:
    description: The files to read.
    type: list
    elements: path
    required: true
notes:
  - Who prints the registered variable shows what it holds.
seealso:
  - module: ansible.builtin.slurp
"""

EXAMPLES = r"""
- name: Read the keys of all nodes where they are stored
  buildfarm.multiarch.slurp_secrets:
    paths: "{{ groups['buildx_nodes'] | map('regex_replace', '(.+)', '/srv/keys/\\1.pem') }}"
  delegate_to: vault.example.com
  run_once: true
  register: keys

- name: Write this node's own
  ansible.builtin.copy:
    content: "{{ keys.contents['/srv/keys/' ~ inventory_hostname ~ '.pem'] | b64decode }}"
    dest: /etc/ssl/private/node.pem
    mode: "0600"
  diff: false
"""

RETURN = r"""
contents:
  description: The content of each file, Base64-encoded, by its path, in which C(~) and variables are expanded.
  returned: success
  type: dict
  sample: {/etc/hostname: YW1kMQo=}
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.secrets import run

ARGUMENT_SPEC = {"paths": {"type": "list", "elements": "path", "required": True}}

if __name__ == "__main__":
    main(ARGUMENT_SPEC, run)
