#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_prune
short_description: Prune the build caches of nodes, and what builders have left behind
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Lets the BuildKit of each node prune its cache, by age, size and filters, all nodes side by side. What would go is
    worked out from BuildKit's own list by BuildKit's own rules. So check mode tells it, and a node of whose cache
    nothing would go is left alone.
  - A node that does not answer is named in a warning and in RV(nodes), and the others are pruned.
  - Names what is left on the engines and on the controller of builders and nodes that no longer exist, and removes it
    if that is asked for (O(orphans)).
  - Bounds what buildx notes of every build on the controller (O(keep_records)).
  - Limits that BuildKit keeps by itself are set with O(buildfarm.multiarch.buildx_builder#module:nodes[].cache).
extends_documentation_fragment:
  - buildfarm.multiarch.controller
requirements:
  - Python 3.8 or later where it runs
  - BuildKit 0.12 or later on the nodes, in an image with C(buildctl), as C(moby/buildkit) is
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status, diff and actions without modifying anything.
    details:
      - RV(nodes[].predicted) is what BuildKit's list says. Builds that run meanwhile change it.
  diff_mode:
    support: full
    description: Returns the bytes of each cache, the orphans and the number of buildx's notes before and after.
  idempotent:
    support: full
    description: A second run has nothing left to prune, unless something was built meanwhile, or has become old enough.
options:
  builder:
    description:
      - The builder whose nodes are pruned. Unset prunes those of all builders of the controller.
      - Only nodes of the driver C(docker-container) can be pruned. Of all builders, those of other drivers are left out
        with a warning.
    type: str
  nodes:
    description: Names of the nodes that are pruned, as the builder has them. Unset means all.
    type: list
    elements: str
  cache:
    description: Whether caches are pruned. V(false) is for O(orphans) and O(keep_records) alone; O(older_than),
      O(keep), O(filters) and O(all) have no effect then.
    type: bool
    default: true
  older_than:
    description:
      - Prune only records that were not used for this long, by the node's clock. As in V(90m), V(48h), V(7d) or V(2w).
      - Without this, O(keep) and O(filters), everything goes that no build uses at the moment.
    type: str
  keep:
    description:
      - Prune until each node's cache is smaller than this, and no further. Records go first that were used rarely and
        longest ago. As in V(20g), where a C(g) is 1024 to the third.
    type: str
  filters:
    description:
      - Prune only records that one of these filters matches. A filter is BuildKit's, V(type==exec.cachemount) or
        V(description~=golang) for example; conditions with commas between them have to hold together.
    type: list
    elements: str
  all:
    description: Prune what BuildKit keeps for itself too, frontends among it.
    type: bool
    default: false
  orphans:
    description:
      - What to do about BuildKit containers and caches on the engines of the nodes, and of all docker contexts of the
        controller, that no builder of this controller has, and about docker contexts that
        M(buildfarm.multiarch.buildx_builder) or M(buildfarm.multiarch.docker_context) made for a builder that no longer
        exists.
      - V(ignore) does not look, V(report) names them in RV(orphans), V(remove) removes those that this controller has
        marked and no other has.
      - M(buildfarm.multiarch.buildx_builder) leaves a mark for its controller on the engine of every node that it
        declares, an empty volume C(buildfarm_mark_NODE_HASH) with labels. What carries the mark of another controller
        is that one's too, and stays. The own mark goes then, so that the last one removes it. What carries no mark was
        made by hand, by other tools, or by an older version of this collection, and is only reported.
      - Marks do not outlive C(docker volume prune) before Docker 23.0, and that with C(--all) of later ones, unless it
        has C(--filter label!=io.github.buildfarm.multiarch.node), as C(pruneFilters) in docker's C(config.json) can
        always have it. So what is more than half an hour older than its first mark is only reported as well, be it that
        marks were pruned, or that it was made by hand and declared later.
      - With O(builder) or O(nodes), only the engines of these nodes are looked at.
    type: str
    choices: [ignore, report, remove]
    default: report
  controller:
    description:
      - What this controller calls itself on the engines. Has to be the same here and in
        O(buildfarm.multiarch.buildx_builder#module:controller), and to differ between controllers.
      - By default its host name.
    type: str
  keep_records:
    description:
      - How many files stay below C(refs) in buildx's directory, of which buildx writes one for each build and removes
        none; the newest do. Notes on builders that there are no more go in any case.
      - C(docker buildx history) names older builds without their local paths then.
      - Unset leaves all.
    type: int
  timeout:
    description: Seconds that an engine may take to answer.
    type: float
    default: 10
  prune_timeout:
    description: Seconds for which a node may be silent while it counts or prunes.
    type: float
    default: 600
notes:
  - Marks are volumes that no container uses. C(docker volume prune --all) removes them, and so does
    C(docker volume prune) before Docker 23.0. The next run of M(buildfarm.multiarch.buildx_builder) that starts a node
    or changes a builder makes them again.
  - The volumes of orphans are counted by their engines, which takes time where they are large.
seealso:
  - module: buildfarm.multiarch.buildx_builder
  - name: Docker's manual on garbage collection
    description: What BuildKit removes by itself.
    link: https://docs.docker.com/build/cache/garbage-collection/
"""

EXAMPLES = r"""
- name: Prune what was not used for a week, on all nodes of all builders
  buildfarm.multiarch.buildx_prune:
    older_than: 7d
    keep_records: 1000

- name: See what a limit of 20 GB would remove
  buildfarm.multiarch.buildx_prune:
    builder: farm
    keep: 20g
  check_mode: true
  register: pruned

- name: Show it by node
  ansible.builtin.debug:
    msg: "{{ pruned.nodes | items2dict(key_name='name', value_name='predicted') }}"

- name: Forget the caches of package managers
  buildfarm.multiarch.buildx_prune:
    filters: [type==exec.cachemount]

- name: Remove what builders of this controller have left behind, and leave caches alone
  buildfarm.multiarch.buildx_prune:
    cache: false
    orphans: remove
"""

RETURN = r"""
nodes:
  description: The nodes whose caches were looked at.
  returned: success
  type: list
  elements: dict
  contains:
    builder:
      description: The builder that has it, the first of several.
      type: str
      sample: farm
    name:
      description: Its name.
      type: str
      sample: farm-arm1
    endpoint:
      description: How its engine is reached.
      type: str
      sample: farm-arm1
    running:
      description: Whether its BuildKit runs; if not, nothing is pruned.
      type: bool
      sample: true
    error:
      description: Why it could not be looked at, V(null) where it could.
      type: str
      sample: null
    bytes:
      description: The size of its cache before.
      type: int
      sample: 5368709120
    records:
      description: The number of records in it before.
      type: int
      sample: 214
    predicted:
      description: The bytes that were to go.
      type: int
      sample: 3221225472
    freed:
      description: The bytes that went, as BuildKit reports them. In check mode those that would.
      type: int
      sample: 3221225472
    freed_records:
      description: The number of records that went, or would.
      type: int
      sample: 120
freed:
  description: The bytes that went from all nodes together, or would.
  returned: success
  type: int
  sample: 3221225472
orphans:
  description: What no builder of this controller has any more, before it was removed.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: V(container), V(volume), V(network), V(context), or V(mark) for the mark of this controller.
      type: str
      sample: volume
    name:
      description: Its name, for a mark that of the node.
      type: str
      sample: buildx_buildkit_farm-arm1_state
    endpoint:
      description: How its engine is reached, V(null) for a context.
      type: str
      sample: tcp://arm1.example.com:2375
    owner:
      description: The node that had it, for a context the builder.
      type: str
      sample: farm-arm1
    controllers:
      description: The controllers that have marked it.
      type: list
      elements: str
      sample: [builder.example.com]
    bytes:
      description: The size of a volume, V(null) where it is not known.
      type: int
      sample: 62000000000
    kept:
      description: Why it is not removed even with O(orphans=remove), V(null) where it is.
      type: str
      sample: null
actions:
  description: What was, or in check mode would be, pruned and removed, in order, each with where that is.
  returned: success
  type: list
  elements: list
  sample:
    - [prune-cache, "tcp://arm1.example.com:2376", buildx_buildkit_farm-arm10, buildctl, prune, --format,
       "{{json .}}", --keep-duration, 604800s]
    - [remove-volume, "tcp://arm1.example.com:2376", buildx_buildkit_old0_state]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.apply import run

SPEC = {
    "builder": {"type": "str"},
    "nodes": {"type": "list", "elements": "str"},
    "cache": {"type": "bool", "default": True},
    "older_than": {"type": "str"},
    "keep": {"type": "str"},
    "filters": {"type": "list", "elements": "str"},
    "all": {"type": "bool", "default": False},
    "orphans": {"type": "str", "choices": ["ignore", "report", "remove"], "default": "report"},
    "controller": {"type": "str"},
    "keep_records": {"type": "int"},
    "timeout": {"type": "float", "default": 10},
    "prune_timeout": {"type": "float", "default": 600},
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run)
