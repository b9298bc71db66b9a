# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection says of build contexts, against what BuildKit is sent, keeps and takes from its cache.

`BUILDFARM_CASES` is the number of random contexts, `BUILDFARM_SEED` repeats those of an earlier run. A fifth as many
pairs of contexts are compared.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import seed
from ansible_runs import CHECKOUT, LiveFarm, task
from building import AMD, CONTROLLERS, listen, unlisten

CASES = int(os.environ.get("BUILDFARM_CASES", "300"))
SEED = int(os.environ.get("BUILDFARM_SEED", random.SystemRandom().randrange(10**6)))
BUILDER, PLACE, USER = "contexts", "/srv/contexts", "contexts"
_COLLECTION = "ansible_collections/buildfarm/multiarch"


@pytest.fixture(scope="module", autouse=True)
def contexts(farm: LiveFarm) -> Iterator[None]:
    """A builder of one node on each controller, and a user there who may not read everything, with the collection."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(CHECKOUT / "plugins/module_utils", f"{_COLLECTION}/plugins/module_utils")
        archive.add(Path(__file__).with_name("context_cases.py"), "context_cases.py")
    listen(farm, AMD)

    def prepare(on: str) -> None:
        node = {
            "name": f"{on}-contexts",
            "endpoint": f"tcp://{AMD}:2375",
            "platforms": ["linux/amd64"],
            "driver_opts": {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"},
        }
        farm.tasks(on, task("buildx_builder", name=BUILDER, nodes=[node]))
        made = f"useradd -m {USER}; cp -a ~/.docker ~{USER}/; mkdir -p {PLACE}; base64 -d | tar -x -C {PLACE}"
        owned = f"chown -R {USER} {PLACE} ~{USER}/.docker"
        farm.ssh(on, f"{made} && {owned}", stdin=base64.b64encode(packed.getvalue()).decode())

    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(prepare, CONTROLLERS))
        yield
    finally:
        for on in CONTROLLERS:
            farm.ssh(on, f"userdel -r {USER} 2>/dev/null; rm -rf ~/.docker {PLACE}")
        unlisten(farm, AMD)


def run(farm: LiveFarm, on: str, kind: str, cases: int) -> dict[str, Any]:
    """Run cases as that user; returns what was found."""
    command = f"cd {PLACE} && python3 context_cases.py {kind} {BUILDER} {SEED} {cases}"
    found: dict[str, Any] = json.loads(farm.ssh(on, f"su {USER} -c '{command}'"))
    return found


@pytest.mark.parametrize("on", CONTROLLERS)
def test_what_arrives_is_what_was_said(farm: LiveFarm, on: str, record_property: Callable[[str, object], None]) -> None:
    cases = CASES // len(CONTROLLERS)
    record_property("BUILDFARM_CASES", CASES)
    record_property("BUILDFARM_SEED", SEED)
    found = run(farm, on, f"ignore-{CONTROLLERS.index(on)}", cases)
    record_property("contexts", {name: value for name, value in found.items() if name != "wrong"})
    assert not found["wrong"], json.dumps(found["wrong"], indent=1)[:8000]
    assert found["same"] > cases * 0.7, "most of them are compared"


@pytest.mark.parametrize("on", CONTROLLERS)
def test_trees_that_share_a_digest_are_those_that_buildkit_has_in_its_cache(
    farm: LiveFarm, on: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("BUILDFARM_SEED", SEED)
    pairs = CASES // 5 // len(CONTROLLERS)
    found = run(farm, on, f"keys-{CONTROLLERS.index(on)}", pairs)
    record_property("pairs", {name: value for name, value in found.items() if name != "wrong"})
    assert not found["wrong"], found["wrong"]
    assert found["same"] + found["other"] == pairs


@pytest.mark.parametrize("on", CONTROLLERS)
def test_what_buildkit_takes_for_unchanged_is_sent_under_another_name(farm: LiveFarm, on: str) -> None:
    found = run(farm, on, "names", 1)
    # What the test would not need to show if BuildKit compared contents.
    assert found["by its own name"] == ["one", "one", "one"]
    assert found["by the name for it"] == ["one", "two", "ten"]
    assert found["named context"] == ["one", "two", "ten"]
    assert found["mode of the directory"] == ["0755", "0700", "1777"]
    assert found["another context of this name"] == "six"
    assert found["names"] == "one for each content, the same for the same content"
    assert found["under a new name"] == "every step cached, and the same image"


@pytest.mark.parametrize("on", CONTROLLERS)
def test_what_is_sent_without_its_content_is_refused(farm: LiveFarm, on: str) -> None:
    """Such contexts are refused as doubtful, as they would have the key of what does not arrive."""
    assert run(farm, on, "emptied", 1) == {"brought back and excluded": ["refused", ""], "unreadable": ["refused", ""]}
