#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: farm_job
short_description: Make a docker configuration for one job
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - For controllers that keep nothing, as the containers of AWX, and for accounts whose home directory cannot be
    written. Makes a temporary directory, mode C(0700), to be used as E(DOCKER_CONFIG) by all tasks of a play, and takes
    it away at the end.
  - It has the user's registry logins, those of E(DOCKER_AUTH_CONFIG) too, credential helpers, proxies, plugins and
    contexts, and neither the current context nor builders.
  - Makes none where the user's configuration will do, see O(force).
  - What runs that were killed have left is removed after a day.
requirements:
  - Python 3.8 or later where it runs
extends_documentation_fragment:
  - buildfarm.multiarch.controller
attributes:
  check_mode:
    support: full
    description: The directory is made in check mode too, as tasks that predict what they do need it. It is nothing
      that stays, so the module never reports a change.
  diff_mode:
    support: none
    description: Nothing that stays is changed.
  idempotent:
    support: full
    description: Never reports a change.
options:
  state:
    description: V(present) makes the directory, V(absent) takes it away.
    type: str
    choices: [present, absent]
    default: present
  builder:
    description: The builder of the job.
    type: str
    default: farm
  force:
    description:
      - Whether the job has a directory of its own.
      - If unset, it has one where O(certificate) is given, where the user has no home directory, or where the user's
        configuration has no O(builder). With O(lasting=true) that last reason holds only in a container of podman,
        Docker or Kubernetes, or where the configuration cannot be written.
      - V(false) is refused with O(certificate), which is kept in such a directory only.
    type: bool
  lasting:
    description: Whether the play makes the builder, so that a controller which keeps it may have none yet.
    type: bool
    default: false
  certificate:
    description:
      - The client's certificate of the job, as texts in PEM.
    type: dict
    suboptions:
      ca:
        description: The certificate of the CA that signed the engines'.
        type: str
        required: true
      cert:
        description: The client's certificate.
        type: str
        required: true
      key:
        description: The key of O(certificate.cert), without a passphrase.
        type: str
        required: true
  directory:
    description: What to take away with O(state=absent). Nothing happens if it is empty or gone.
    type: path
seealso:
  - module: buildfarm.multiarch.buildx_builder
"""

EXAMPLES = r"""
- name: Use a builder from a controller that keeps nothing
  block:
    - name: Make a docker configuration for this job
      buildfarm.multiarch.farm_job:
        force: true
      register: job

    - name: Define the builder, which finds again what the nodes have
      buildfarm.multiarch.buildx_builder:
        name: farm
        state: defined
        nodes:
          - name: amd1
            endpoint: unix:///var/run/docker.sock
      environment: "{{ job.environment }}"
      changed_when: false

    - name: Look at it
      buildfarm.multiarch.buildx_builder_info:
        name: farm
      environment: "{{ job.environment }}"
  always:
    - name: Take it away
      buildfarm.multiarch.farm_job:
        state: absent
        directory: "{{ job.directory }}"
"""

RETURN = r"""
directory:
  description: The directory. V(null) where the user's configuration is used.
  returned: success
  type: str
  sample: /tmp/buildfarm-job-x2k4b1
environment:
  description:
    - The environment for the tasks of the job, C(DOCKER_CONFIG) and C(BUILDX_CONFIG), and C(XDG_STATE_HOME) where the
      user's cannot be written. Empty without a directory.
  returned: success
  type: dict
  sample: {DOCKER_CONFIG: /tmp/buildfarm-job-x2k4b1, BUILDX_CONFIG: /tmp/buildfarm-job-x2k4b1/buildx}
certificate:
  description: The files of O(certificate), as C(ca_path), C(cert_path) and C(key_path). Empty without one.
  returned: success
  type: dict
  sample: {}
reason:
  description: Why the job has a directory of its own. V(null) if it has none.
  returned: success
  type: str
  sample: there is no builder 'farm' here
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._farm_job import run

ARGUMENT_SPEC = {
    "docker_config": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "builder": {"type": "str", "default": "farm"},
    "force": {"type": "bool"},
    "lasting": {"type": "bool", "default": False},
    "certificate": {
        "type": "dict",
        "options": {
            "ca": {"type": "str", "required": True},
            "cert": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": True},
        },
    },
    "directory": {"type": "path"},
}

if __name__ == "__main__":
    main(ARGUMENT_SPEC, run)
