# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From any state of a builder to any declaration, on engines in memory.

`BUILDFARM_MEMORY_CASES` is the number of declarations, `BUILDFARM_SEED` repeats those of an earlier run.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.drift import DEFAULT_IMAGE
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.tests.unit.builder_walk import Walk

CASES = int(os.environ.get("BUILDFARM_MEMORY_CASES", "200"))
SEED = int(os.environ.get("BUILDFARM_SEED", random.SystemRandom().randrange(10**6)))
#: How many walks those are: each begins with nothing.
WALKS = 8
HOSTS = ["mid1", "mid2", "new1", "old1"]


class Memory:
    """Engines in memory, each with a context of its name, as a walk uses them."""

    def __init__(self, world):
        self.world = world
        (world.config / "buildx").mkdir()
        for host in HOSTS:
            world.aliases[host] = address(host)
            meta = ContextStore(world.config).meta_dir(host)
            meta.mkdir(parents=True)
            docker = {"Host": address(host), "SkipTLSVerify": False}
            (meta / "meta.json").write_text(json.dumps({"Name": host, "Metadata": {}, "Endpoints": {"docker": docker}}))

    def run(self, nodes, **options):
        predicted, real, again = (self.world.call(*nodes, check=check, **options) for check in (True, False, False))
        for key in ("changed", "actions", "diff"):
            assert predicted[key] == real[key], key
        assert (again["changed"], again["actions"]) == (False, []), again["diff"]
        assert again["diff"]["before"] == again["diff"]["after"] == real["diff"]["after"]

    def instance(self):
        return self.world.store.read("farm")

    def containers(self):
        return {name: container.identifier for (_end, name), container in self.world.containers.items()}

    def running(self):
        return {
            name
            for (_end, name), container in self.world.containers.items()
            if container.running and not container.paused
        }

    def disturb(self, what, host):
        place = (address(host), f"buildx_buildkit_{host}")
        if what == "rm -f":
            self.world.containers.pop(place, None)
        elif place in self.world.containers:
            found = self.world.containers[place]
            paused = what == "pause" and found.running
            self.world.containers[place] = replace(found, running=paused, paused=paused)


def address(host):
    return f"tcp://{host}:2375"


@pytest.mark.parametrize("number", range(WALKS))
def test_from_any_state_to_any_declaration(builder_world, number, record_property):
    if number == 0:
        record_property("BUILDFARM_SEED", SEED)
    memory = Memory(builder_world)
    walk = Walk(HOSTS, address, DEFAULT_IMAGE, random.Random(f"{SEED} {number}"))
    changed = {walk.step(memory) for _case in range(CASES // WALKS)}
    assert len(changed) > 1
