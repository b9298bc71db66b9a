# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""image_verify: platforms run by their digests on engines 20.10, 26.1 and 28.5."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

import registry
from ansible_runs import LiveFarm, task
from building import AMD, ARM, BUILDER, CONTROLLERS, PLATFORMS, BuildFarm, listen, unlisten

HELLO = """FROM busybox
ARG TARGETPLATFORM
RUN echo "$TARGETPLATFORM" > /platform
CMD ["cat", "/platform"]
"""
FURTHER = ("old1", "new1")
ENGINES = (AMD, ARM, *FURTHER)


@pytest.fixture(scope="module", autouse=True)
def engines(farm: LiveFarm) -> Iterator[None]:
    """Two further engines that listen."""
    for host in FURTHER:
        listen(farm, host)
    yield
    for host in FURTHER:
        unlisten(farm, host)


@pytest.fixture(scope="module")
def name(images: BuildFarm) -> str:
    """An image of both platforms that prints its own."""
    context = images.context("ctl", "verified", HELLO)
    name = f"{images.repository}/verified:1"
    images.build("ctl", builder=BUILDER, context=context, platforms=PLATFORMS, tags=[name], push=True)
    return name


def leftovers(images: BuildFarm) -> dict[str, list[str]]:
    """The containers and images on each engine."""
    command = "docker ps -a --format '{{.Names}}'; docker images -a --digests --format '{{.ID}} {{.Digest}} {{.Tag}}'"
    return {host: sorted(images.farm.ssh(host, command).splitlines()) for host in ENGINES}


@pytest.mark.parametrize("on", CONTROLLERS)
def test_every_platform_runs_on_its_node_and_leaves_nothing(images: BuildFarm, name: str, on: str) -> None:
    before = leftovers(images)
    run = {"command": ["sh", "-c", "cat /platform; echo noise >&2"], "expected": "{platform}"}
    options = {"name": name, "builder": BUILDER, "platforms": [*PLATFORMS, "linux/arm64/v8"], "run": run}
    for result in images.farm.tasks(on, *(task("image_verify", check=check, **options) for check in (False, True))):
        assert not result["changed"]
        found = [
            (item["platform"], item["node"], item["endpoint"], item["native"], item["output"], item["rc"])
            for item in result["image"]["platforms"]
        ]
        assert found == [
            ("linux/amd64", f"{on}-amd", f"tcp://{AMD}:2375", True, "linux/amd64", 0),
            ("linux/arm64", f"{on}-arm", f"tcp://{ARM}:2375", False, "linux/arm64", 0),
        ]
    assert leftovers(images) == before


def test_every_engine_runs_either_platform(images: BuildFarm, name: str) -> None:
    """The image's own command; an image that was there before stays."""
    for engine in ENGINES:
        images.farm.ssh(engine, f"docker pull {name}")
    before = leftovers(images)
    options = {"name": name, "builder": BUILDER, "run": {"expected_regex": "^linux/a[mr]"}}
    wanted = [dict.fromkeys(PLATFORMS, f"tcp://{engine}:2375") for engine in ENGINES]
    for result in images.farm.tasks("ctl", *(task("image_verify", endpoints=one, **options) for one in wanted)):
        assert [item["output"] for item in result["image"]["platforms"]] == PLATFORMS
        assert [item["native"] for item in result["image"]["platforms"]] == [True, False]
    assert leftovers(images) == before
    for engine in ENGINES:
        images.farm.ssh(engine, f"docker rmi {name}")


def test_everything_that_is_wrong_is_said_at_once(images: BuildFarm, name: str) -> None:
    before = leftovers(images)
    base: dict[str, Any] = {"name": name, "builder": BUILDER, "platforms": PLATFORMS}
    digest = "sha256:" + "0" * 64
    arm = {"platforms": ["linux/arm64"], "exact": False}
    cases: list[tuple[dict[str, Any], list[str]]] = [
        (
            {"platforms": ["linux/amd64", "linux/s390x"], "digest": digest, "run": {"expected": "{arch}"}},
            [
                f"wanted {digest}",
                "missing linux/s390x, unexpected linux/arm64",
                "printed 'linux/amd64', wanted 'amd64'",
            ],
        ),
        (
            {**arm, "run": {"command": ["sh", "-c", "echo oops >&2; exit 3"]}},
            [f"'ctl-arm' (tcp://{ARM}:2375): exit status 3 (oops)"],
        ),
        ({**arm, "run": {"command": ["nosuchprogram"]}}, ['exec: "nosuchprogram": executable file not found']),
        ({**arm, "run": {"command": ["sleep", "60"], "timeout": 2}}, ["not finished after 2 s"]),
        (
            {**arm, "run": {}, "endpoints": {"linux/arm64": f"tcp://{ARM}:1"}},
            [f"engine tcp://{ARM}:1", "connection refused"],
        ),
        ({"name": f"{name}0"}, ["has none of this name"]),
    ]
    messages = images.refusals("ctl", "image_verify", [{**base, **change} for change, _words in cases])
    for message, (_change, words) in zip(messages, cases, strict=True):
        assert [part for part in words if part not in message] == [], message
    assert leftovers(images) == before


def test_of_a_platform_that_is_there_twice_the_first_is_run(images: BuildFarm, name: str) -> None:
    """As engines pull the first; nobody would notice otherwise."""
    context = images.context("ctl", "second", HELLO.replace("$TARGETPLATFORM", "second"))
    other = name.replace("verified:1", "verified:second")
    first, second = images.farm.tasks(
        "ctl",
        task("buildx_imagetools_info", name=name, builder=BUILDER),
        task("buildx_build", builder=BUILDER, context=context, platforms=PLATFORMS, tags=[other], push=True),
    )
    digests = [first["index"]["manifests"][0]["digest"], second["image"]["platforms"][0]["digest"]]
    repeating = push_index(images, name.replace(":1", ":repeating"), digests, first["index"]["manifests"][0])
    run = {"expected": "{platform}"}
    options = {"name": repeating, "builder": BUILDER, "platforms": PLATFORMS[:1], "run": run}
    failed = images.farm.module("ctl", "image_verify", fails=True, **options)
    expected = f"linux/amd64 is there 2 times, of which engines take the first: {digests[0]}, {digests[1]}"
    assert failed["msg"] == f"image {repeating}: {expected}"
    assert [item["output"] for item in failed["image"]["platforms"]] == ["linux/amd64", None]


def push_index(images: BuildFarm, name: str, digests: list[str], like: dict[str, Any]) -> str:
    """Push an index with several images for linux/amd64 by hand; returns its name."""
    platform = {"os": "linux", "architecture": "amd64"}
    entry = {"mediaType": like["media_type"], "size": like["size"], "platform": platform}
    media_type = "application/vnd.oci.image.index.v1+json"
    entries = [{**entry, "digest": digest} for digest in digests]
    index = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
    path, _colon, tag = name.partition("/")[2].rpartition(":")
    script = (
        "import sys, urllib.request; urllib.request.urlopen(urllib.request.Request("
        f"'http://{images.registry}/v2/{path}/manifests/{tag}', sys.stdin.buffer.read(), "
        f"{{'Content-Type': '{media_type}'}}, method='PUT'))"
    )
    images.farm.ssh("ctl", f'python3 -c "{script}"', stdin=json.dumps(index))
    return name


def test_engines_pull_with_the_controllers_credentials(images: BuildFarm, name: str) -> None:
    ssh, secure = images.farm.ssh, images.farm.secure_registry
    authority = (images.farm.farm.directory / "registry/farm/certificate.pem").read_text()
    certificate, folder = "/usr/local/share/ca-certificates/images.crt", f"/etc/docker/certs.d/{secure}"
    login = base64.b64encode(f"{registry.USER}:{registry.PASSWORD}".encode()).decode()
    private = name.replace(images.registry, secure)
    try:
        ssh("ctl", f"cat > {certificate} && update-ca-certificates", stdin=authority)
        ssh("ctl", "mkdir -p /srv/images/docker && cp -r ~/.docker/buildx /srv/images/docker/")
        ssh("ctl", "cat > /srv/images/docker/config.json", stdin=json.dumps({"auths": {secure: {"auth": login}}}))
        ssh(AMD, f"mkdir -p {folder} && cat > {folder}/ca.crt", stdin=authority)
        endpoints = dict.fromkeys(PLATFORMS, f"tcp://{AMD}:2375")
        options = {"name": private, "endpoints": endpoints, "run": {"expected": "{platform}"}}
        result = images.farm.module("ctl", "image_verify", docker_config="/srv/images/docker", **options)
        assert registry.PASSWORD not in json.dumps(result) and login not in json.dumps(result)
        refused = images.farm.module("ctl", "image_verify", fails=True, **options)
        assert refused["msg"].startswith(f"registry {secure} wants credentials")
    finally:
        ssh("ctl", f"rm -rf {certificate} /srv/images/docker && update-ca-certificates --fresh")
        ssh(AMD, f"rm -rf {folder}")
