# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx_bake with buildx 0.13 and 0.29: the same targets as `bake --print`, the same images as `bake`."""

from __future__ import annotations

import io
import json
import os
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
#: Those that are built with each buildx in every run; the others with the newer one, or where BUILDFARM_CASES is set.
EACH = {"compose", "project", "links"}
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
def test_the_same_targets_and_images_as_bake(images: BuildFarm, on: str) -> None:
    """A check predicts it, and a second run changes nothing."""
    every = on == "ctlnew" or "BUILDFARM_CASES" in os.environ
    cases = {name: case for name, case in CASES.items() if every or name in EACH}
    tasks = []
    for name in cases:
        options = bake(images, name, f"{name}-{on}-ours")
        push = "" if name in OUTPUTS else "--push"
        tasks += [task("buildx_bake", check=True, **options), *[task("buildx_bake", **options)] * 2]
        tasks.append(shell(by_hand(images, name, f"{name}-{on}-ours", "--print").replace("2>&1", "2>/dev/null")))
        flags = f"--builder {ONE_NODE} --provenance=false {push}"
        tasks.append(shell(by_hand(images, name, f"{name}-{on}-theirs", flags)))
    results = iter(images.farm.tasks(on, *tasks))
    for (name, (_files, _targets, tags)), found in zip(cases.items(), zip(*[results] * 5)):
        predicted, done, again, printed, _baked = found
        wanted = json.loads(printed["stdout"])["target"]
        assert {image["name"] for image in done["images"]} == set(wanted), name
        for image in done["images"]:
            assert not image["digest"] or image["tags"] == wanted[image["name"]]["tags"], name
        assert (predicted["changed"], predicted["actions"]) == (True, done["actions"]), name
        assert not again["changed"], (name, again["diff"], [image["reasons"] for image in again["images"]])
        ours, theirs = (content(images, on, f"{name}-{on}-{whose}", tags) for whose in ("ours", "theirs"))
        if name == "links":
            # Another way to the same files, whose steps are run again.
            ours, theirs = without_times(ours), without_times(theirs)
        assert ours == theirs, name


def without_times(found: dict[str, Any]) -> Any:
    """Images without what depends on when their steps were run."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(one) for key, one in value.items() if key != "created"}
        return [strip(one) for one in value] if isinstance(value, list) else value

    return {
        tag: {arch: [layers, strip(config)] for arch, (_digest, layers, config) in parts.items()}
        for tag, parts in found.items()
    }


@pytest.mark.parametrize("on", CONTROLLERS)
def test_linked_targets_of_two_nodes(images: BuildFarm, on: str) -> None:
    """Each platform gets that of the linked target, whatever node built it; nothing is left on the controller."""
    options = bake(images, "links", f"two-{on}", builder=BUILDER)
    shown = "ls -d /tmp/buildx-* 2>/dev/null | wc -l"
    # Other tests kill modules.
    images.farm.ssh(on, "rm -rf /tmp/buildx-*")
    done, again, left = images.farm.tasks(
        on, task("buildx_bake", **options), task("buildx_bake", **options), shell(shown)
    )
    built = {image["name"]: image for image in done["images"]}
    assert list(built) == ["app", "plugin", "assets", "base"]
    assert built["base"]["reasons"] == ["app is built from it"] and built["base"]["digest"] is None
    assert {one["platform"] for one in built["app"]["platforms"]} == set(PLATFORMS)
    assert len({one["node"] for one in built["app"]["platforms"]}) == 2
    for tag, layers in (("app", 4), ("plugin", 5)):
        for arch, (_digest, found, config) in content(images, on, f"two-{on}", [tag])[tag].items():
            assert f"BUILT_FOR={arch}" in config["config"]["Env"] and config["config"]["Labels"] == {"is": tag}
            assert len(found) == layers
    assert not again["changed"] and not any(image["reasons"] for image in again["images"]), again["images"]
    assert left["stdout"] == "0"
    # What a target is made of that is in no registry is known of those that link to it.
    note = shell(f"echo other > {FOLDER}/links/base/note")
    _noted, changed = images.farm.tasks(on, note, task("buildx_bake", **options))
    reasons = {image["name"]: image["reasons"] for image in changed["images"]}
    assert "target:base: note changed" in reasons["app"] and changed["changed"], reasons
    assert reasons["plugin"][0] == "base image app is built in this run"


def test_what_a_definition_may_use_is_what_the_task_allows(images: BuildFarm) -> None:
    """With each version of buildx, and as it says itself what is missing."""
    definition = (
        'target "default" {\n context = "../outside"\n dockerfile-inline = "FROM scratch\\nCOPY f /"\n'
        ' output = ["/srv/images/result"]\n}\n'
        'target "net" {\n dockerfile-inline = "FROM scratch"\n entitlements = ["network.host"]\n}\n'
    )
    files = "mkdir -p /srv/images/outside /srv/images/inside; echo f > /srv/images/outside/f"
    for on in CONTROLLERS:
        images.farm.ssh(on, f"{files}; cat > /srv/images/inside/docker-bake.hcl", stdin=definition)
        want = {"chdir": "/srv/images/inside", "files": ["docker-bake.hcl"], "builder": ONE_NODE}
        refused, half, done = images.farm.tasks(
            on,
            task("buildx_bake", fails=True, **want),
            task("buildx_bake", fails=True, allow=["fs.read=../outside"], **want),
            task("buildx_bake", allow=["fs.read=../outside", "fs.write=/srv/images"], **want),
        )
        assert "add to allow: fs.write=/srv/images/result, fs.read=/srv/images/outside" in refused["msg"]
        assert half["msg"].endswith("add to allow: fs.write=/srv/images/result")
        assert done["changed"] and images.farm.ssh(on, "cat /srv/images/result/f") == "f\n"
    refused = images.farm.module("ctlnew", "buildx_bake", fails=True, targets=["net"], **want)
    assert "add to allow: network.host" in refused["msg"]


def test_calls_and_what_a_definition_cannot_be(images: BuildFarm) -> None:
    """A check of Dockerfiles builds nothing; errors name the target, and what buildx says of the definition."""
    called = bake(images, "groups", "called", set={"*.call": "check"}, push=False)
    checked = images.farm.module("ctlnew", "buildx_bake", **called)
    assert not checked["changed"] and checked["images"] == [] and set(checked["call"]) == {"api", "worker"}
    assert all(found["method"] == "check" for found in checked["call"].values())
    unknown = images.farm.module("ctl", "buildx_bake", fails=True, **bake(images, "groups", "x", targets=["nothing"]))
    assert "could not be evaluated" in unknown["msg"] and "nothing" in unknown["msg"]
    gone = {"chdir": "/srv/images/gone", "builder": ONE_NODE}
    missing, predicted = images.farm.tasks(
        "ctl", task("buildx_bake", fails=True, **gone), task("buildx_bake", check=True, **gone)
    )
    assert "no such directory" in missing["msg"] and not predicted["changed"] and predicted["warnings"]
