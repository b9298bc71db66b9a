#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_drain
short_description: Have nodes take no new builds, finish those that run, and keep their caches
version_added: 1.0.0
description:
  - Marks nodes as drained, waits until no build runs on them, and lets them take builds again.
  - M(buildfarm.multiarch.buildx_build) treats a drained node as one that does not answer. It builds on the others with
    a warning, and fails, saying so, where no other node serves a platform. What runs on the node goes on; of a task
    that runs, what has not begun yet goes elsewhere within seconds.
  - A drained node stays in its builders. BuildKit's container and its cache stay, so it takes up where it was.
  - The mark is a volume on the node's engine, C(buildfarm_drained), with the label
    C(com.github.buildfarm.multiarch.drained), which holds the reason. So builds from every controller see it, also from
    one that is thrown away after each job, and it outlives restarts and reboots; an engine that takes the place of
    another one has none. C(docker volume prune) of Docker before 23.0, and that with C(--all) of later ones, removes
    volumes that no container uses, and this one with them; not so with
    C(--filter label!=com.github.buildfarm.multiarch.drained), as C(pruneFilters) in docker's C(config.json) can always
    have it.
  - Plain C(docker buildx build) does not know of it.
author:
  - The buildfarm.multiarch authors (@buildfarm)
extends_documentation_fragment:
  - buildfarm.multiarch.controller
requirements:
  - Python 3.8 or later where it runs
  - Python's standard library. It runs on a node or on a controller.
attributes:
  check_mode:
    support: full
    description: Predicts what is marked, and waits for nothing.
  diff_mode:
    support: full
    description: Shows for each node whether it is drained, and the reason.
  idempotent:
    support: full
    description: A second run changes nothing. It waits for builds that still run.
options:
  endpoints:
    description:
      - The nodes' engines as this host reaches them. Names of docker contexts, as M(buildfarm.multiarch.docker_context)
        and the role C(farm) make them, or URLs C(tcp://HOST:PORT), C(ssh://[USER@]HOST[:PORT][/SOCKET]) or
        C(unix:///PATH).
      - By default the engine of the host that the task runs on.
      - If one of them does not answer, nothing is changed.
    type: list
    elements: str
    default: ["unix:///var/run/docker.sock"]
  ca:
    description:
      - File on this host with the CA's certificate, for the C(tcp) URLs among O(endpoints). Contexts have their own.
    type: path
  cert:
    description:
      - File on this host with the client's certificate, for the C(tcp) URLs.
    type: path
  key:
    description:
      - File on this host with the key of O(cert).
    type: path
  state:
    description:
      - V(drained) nodes take no new builds.
      - V(active) nodes do.
    type: str
    choices: [drained, active]
    default: drained
  reason:
    description:
      - Why, for those who read the warning of a build. If unset, that of a node which is drained already is kept.
      - With O(state=active) it has no effect.
    type: str
  timeout:
    description:
      - Seconds to wait, with O(state=drained), for the builds that run. If some run even then, the task fails and the
        nodes stay drained; the builds go on.
      - With V(0) it does not wait, and RV(nodes[].builds) says how many run.
    type: float
    default: 600
notes:
  - What counts as a build is a client that is connected to a BuildKit container of the node through its engine, as
    buildx of every version is for as long as it builds, from whatever controller. So C(docker buildx du) and C(prune)
    are waited for too. Builds of the engine's own BuildKit, as of C(docker build), are not seen.
  - After a node was marked, nothing must build on it for four seconds, as another controller may just be beginning.
  - Nodes of the drivers C(remote) and C(kubernetes) have no engine that could be marked.
seealso:
  - module: buildfarm.multiarch.buildx_build
  - module: buildfarm.multiarch.docker_endpoint_info
"""

EXAMPLES = r"""
- name: Have this node take no more builds, and wait for those that run
  buildfarm.multiarch.buildx_drain:
    reason: kernel update

- name: Drain two nodes from a controller, and do not wait for what runs
  buildfarm.multiarch.buildx_drain:
    endpoints: [farm-amd1, farm-arm1]
    timeout: 0
  register: drained

- name: Let them take builds again
  buildfarm.multiarch.buildx_drain:
    endpoints: [farm-amd1, farm-arm1]
    state: active
"""

RETURN = r"""
nodes:
  description: The nodes, in the order of O(endpoints).
  returned: success, and when builds run for longer than O(timeout)
  type: list
  elements: dict
  contains:
    endpoint:
      description: The endpoint, normalised.
      type: str
      sample: farm-arm1
    drained:
      description: Whether it takes no builds.
      type: bool
      sample: true
    reason:
      description: Why, empty where no reason was given. V(null) of a node that takes builds.
      type: str
      sample: kernel update
    since:
      description: When it was drained. V(null) of a node that takes builds, and in check mode of one that does yet.
      type: str
      sample: "2026-03-01T10:20:30Z"
    builds:
      description: How many clients, each a build or several of one C(docker buildx), are connected to BuildKit there.
      type: int
      sample: 0
    containers:
      description: The BuildKit containers that they are connected to.
      type: list
      elements: str
      sample: []
actions:
  description: What was, or in check mode would be, done, in order.
  returned: success
  type: list
  elements: list
  sample: [[drain, farm-arm1]]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._drain.apply import run

ARGUMENT_SPEC = {
    "docker_config": {"type": "path"},
    "endpoints": {"type": "list", "elements": "str", "default": ["unix:///var/run/docker.sock"]},
    "ca": {"type": "path"},
    "cert": {"type": "path"},
    "key": {"type": "path", "no_log": False},
    "state": {"type": "str", "choices": ["drained", "active"], "default": "drained"},
    "reason": {"type": "str"},
    "timeout": {"type": "float", "default": 600},
}

if __name__ == "__main__":
    main(ARGUMENT_SPEC, run, required_together=[("cert", "key")])
