# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx_bake with buildx 0.13 and 0.29: the same targets as `bake --print`, the same images as `bake`."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import seed
from ansible_runs import LiveFarm, shell, task
from building import BUILDER, CONTROLLERS, ONE_NODE, PLATFORMS, BuildFarm, build_farm

BAKES = Path(__file__).parent / "bakes"
FOLDER = "/srv/images/bakes"
#: The files and the targets of each definition, and the tags that it pushes.
CASES: dict[str, tuple[list[str], list[str], list[str]]] = {
    "groups": (["docker-bake.hcl"], [], ["api", "api-latest", "worker"]),
    "matrix": (["docker-bake.hcl"], [], ["3.1.4", "3.1-full", "3.2.0", "3.2.0-slim", "latest"]),
    "functions": (["docker-bake.hcl", "override.json"], [], ["one", "two"]),
    "compose": (["compose.yaml"], [], ["web", "jobs"]),
    "project": (["docker-bake.hcl"], ["release", "validate"], ["dev", "dev-debug"]),
    "links": (["docker-bake.hcl"], [], ["app", "plugin"]),
    "json": (["docker-bake.json"], [], ["one"]),
}
#: Its targets say themselves where their results go.
OUTPUTS = {"project"}
#: Prints what images consist of: the digests of config and layers by platform.
READ = """
import json, sys, urllib.request
def get(path):
    types = ["application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
             "application/vnd.docker.distribution.manifest.list.v2+json",
             "application/vnd.docker.distribution.manifest.v2+json"]
    request = urllib.request.Request(sys.argv[1] + path, headers={"Accept": ", ".join(types)})
    return json.load(urllib.request.urlopen(request))
found = {}
for name in sys.argv[2:]:
    repository, tag = name.split(":")
    top = get(f"/v2/{repository}/manifests/{tag}")
    parts = [entry["digest"] for entry in top.get("manifests", [])]
    for manifest in [get(f"/v2/{repository}/manifests/{digest}") for digest in parts] or [top]:
        config = get(f"/v2/{repository}/blobs/{manifest['config']['digest']}")
        layers = [layer["digest"] for layer in manifest["layers"]]
        found.setdefault(tag, {})[config.get("architecture", "")] = [manifest["config"]["digest"], layers, config]
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def images(farm: LiveFarm) -> Iterator[BuildFarm]:
    """Both controllers with their builders, and all definitions."""
    with build_farm(farm, emulating=False) as made:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: send(farm, host), CONTROLLERS))
        yield made


def send(farm: LiveFarm, host: str) -> None:
    """Copy the definitions to a host."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(BAKES, ".")
    command = f"rm -rf {FOLDER}; mkdir -p {FOLDER}; tar -xC {FOLDER}"
    subprocess.run(farm.farm.ssh(host, command), input=packed.getvalue(), check=True, timeout=60)


def variables(images: BuildFarm, repository: str) -> dict[str, str]:
    """The values of the variables that all definitions have."""
    return {"REPO": f"{images.repository}/{repository}", "BASE": f"{images.registry}/{seed.BUSYBOX}"}


def bake(images: BuildFarm, name: str, repository: str, **options: Any) -> dict[str, Any]:
    """The options that build a definition."""
    files, targets, _tags = CASES[name]
    given = {"chdir": f"{FOLDER}/{name}", "files": files, "targets": targets, "vars": variables(images, repository)}
    return {"builder": ONE_NODE, "push": name not in OUTPUTS, **given, **options}


def by_hand(images: BuildFarm, name: str, repository: str, flags: str) -> str:
    """The command that a person would give."""
    files, targets, _tags = CASES[name]
    environment = " ".join(f"{key}={value}" for key, value in variables(images, repository).items())
    chosen = " ".join([*(f"-f {file}" for file in files), *targets])
    return f"cd {FOLDER}/{name} && {environment} docker buildx bake {flags} {chosen} </dev/null 2>&1"


def content(images: BuildFarm, host: str, repository: str, tags: list[str]) -> dict[str, Any]:
    """What the tags of a repository consist of."""
    path = f"{images.repository}/{repository}".partition("/")[2]
    argv = ["python3", "-", f"http://{images.registry}", *(f"{path}:{tag}" for tag in tags)]
    found: dict[str, Any] = json.loads(images.farm.ssh(host, shlex.join(argv), stdin=READ))
    return found


@pytest.mark.parametrize("on", CONTROLLERS)
@pytest.mark.parametrize("name", CASES)
def test_the_same_targets_and_images_as_bake(images: BuildFarm, on: str, name: str) -> None:
    """Checked mode predicts it, and a second run builds what is in the cache only."""
    ours, theirs = f"{name}-{on}-ours", f"{name}-{on}-theirs"
    options = bake(images, name, ours)
    push = "" if name in OUTPUTS else "--push"
    predicted, done, again, printed, _baked = images.farm.tasks(
        on,
        task("buildx_bake", check=True, **options),
        task("buildx_bake", **options),
        task("buildx_bake", **options),
        shell(by_hand(images, name, ours, "--print").replace("2>&1", "2>/dev/null")),
        shell(by_hand(images, name, theirs, f"--builder {ONE_NODE} --provenance=false {push}")),
    )
    wanted = json.loads(printed["stdout"])["target"]
    assert {image["name"] for image in done["images"]} == set(wanted)
    assert (predicted["changed"], predicted["actions"]) == (True, done["actions"])
    assert not again["changed"], again["diff"]
    tags = CASES[name][2]
    assert content(images, on, ours, tags) == content(images, on, theirs, tags)
