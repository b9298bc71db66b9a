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
import seed
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
    base: dict[str, Any] = {"name": name, "builder": BUILDER, "platforms": PLATFORMS, "wait": 0}
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
        (
            {**arm, "run": {"command": ["nosuchprogram"]}},
            ["'nosuchprogram' is missing in the image, searched in its"],
        ),
        (
            {**arm, "run": {"command": ["nosuchprogram"]}, "programs": False},
            ['exec: "nosuchprogram": executable file not found'],
        ),
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


#: Of each platform a shell; a program for amd64 alone, named in several ways.
FOREIGN = """FROM --platform=linux/amd64 {busybox} AS amd64
FROM busybox
COPY --from=amd64 /bin/busybox /opt/busybox-amd64
COPY --chmod=755 script direct env empty text /opt/
RUN ln -s /opt/busybox-amd64 /usr/bin/cp1 && ln -s l2 /opt/l1 && ln -s l1 /opt/l2 && ln -s ../no/where /opt/broken \\
 && cp /bin/busybox /opt/mode && chmod 644 /opt/mode
WORKDIR /opt
CMD ["cp1"]
"""
FILES = {
    "script": "#!/bin/sh\necho script\n",
    "direct": "#! /opt/busybox-amd64 sh\n",
    "env": "#!/usr/bin/env cp1\n",
    "empty": "",
    "text": "echo text\n",
}
#: Commands, and what is said of each on arm64; None where it is right.
COMMANDS = [
    (["/opt/busybox-amd64", "true"], "'/opt/busybox-amd64' is a program for amd64; wanted arm64: build or copy it"),
    (["busybox-amd64/x"], "'busybox-amd64/x' is missing in the image"),
    (["./busybox-amd64"], "'/opt/busybox-amd64' is a program for amd64"),
    (["cp1"], "'/opt/busybox-amd64' is a program for amd64"),
    (["/usr/bin/cp1"], "'/opt/busybox-amd64' (as '/usr/bin/cp1') is a program for amd64"),
    (["/opt/direct"], "'/opt/busybox-amd64', the interpreter of '/opt/direct' is a program for amd64"),
    (["/opt/env"], "'/opt/busybox-amd64', the interpreter of '/opt/env' is a program for amd64"),
    (["/opt/empty"], "'/opt/empty' is an empty file"),
    (["/opt/text"], "'/opt/text' is a text without the #! line"),
    (["/opt/mode"], "'/opt/mode' has mode 0644 and cannot be executed"),
    (["/opt"], "'/opt' is no file and cannot be executed"),
    (["/opt/l1"], "'/opt/l1' is no file and cannot be executed"),
    (["/opt/broken"], "'/opt/broken' is missing in the image"),
    (["/opt/script/no"], "'/opt/script/no' is missing in the image"),
    (["sh", "-c", "/opt/script"], None),
    (["/opt/script"], None),
]


@pytest.fixture(scope="module")
def foreign(images: BuildFarm) -> str:
    """An image whose own command is a program for amd64 on both platforms."""
    name = f"{images.repository}/foreign:1"
    context = images.context("ctl", "foreign", FOREIGN.format(busybox=f"{images.registry}/{seed.BUSYBOX}"), **FILES)
    images.build("ctl", builder=BUILDER, context=context, platforms=PLATFORMS, tags=[name], push=True)
    return name


def test_programs_of_another_architecture_are_named(images: BuildFarm, foreign: str) -> None:
    """The node of arm64 is an amd64 host, which runs them; with and without a run, and nothing stays."""
    before = leftovers(images)
    options: dict[str, Any] = {"name": foreign, "builder": BUILDER}
    said = (
        f"linux/arm64 on node 'ctl-arm' (tcp://{ARM}:2375): '/opt/busybox-amd64' is a program for amd64; wanted arm64"
    )
    ran, *failed, right, shown = images.farm.tasks(
        "ctl",
        task("image_verify", run={"command": ["/opt/busybox-amd64", "true"]}, programs=False, **options),
        task("image_verify", fails=True, run={"command": ["/opt/busybox-amd64", "true"]}, **options),
        task("image_verify", fails=True, programs=True, **options),
        task("image_verify", run={"command": ["/opt/script"]}, **options),
        task("image_verify", **options),
    )
    assert [one["rc"] for one in ran["image"]["platforms"]] == [0, 0], "this host does not run it by itself"
    for one in failed:
        assert said in one["msg"] and "linux/amd64 on" not in one["msg"]
        assert one["image"]["platforms"][1]["rc"] is None
        assert [platform["programs"] for platform in one["image"]["platforms"]] == [
            [{"path": "/opt/busybox-amd64", "architecture": "amd64"}]
        ] * 2
    assert failed[1]["image"]["platforms"][0]["endpoint"] == f"tcp://{AMD}:2375"
    found = [one["programs"] for one in right["image"]["platforms"]]
    assert [[one["path"].rpartition("/")[2] for one in platform] for platform in found] == [["script", "busybox"]] * 2
    assert [[one["architecture"] for one in platform] for platform in found] == [[None, "amd64"], [None, "arm64"]]
    assert [one["programs"] for one in shown["image"]["platforms"]] == [None, None]
    assert leftovers(images) == before


@pytest.mark.parametrize("engine", ["old1", AMD, "new1"])
def test_programs_are_found_as_they_are_executed(images: BuildFarm, foreign: str, engine: str) -> None:
    """On engines 20.10, 26.1 and 28.5."""
    before = leftovers(images)
    arm = {"name": foreign, "platforms": ["linux/arm64"], "exact": False, "builder": BUILDER}
    arm["endpoints"] = {"linux/arm64": f"tcp://{engine}:2375"}
    tasks = [
        task("image_verify", fails=said is not None, run={"command": command}, **arm) for command, said in COMMANDS
    ]
    for result, (command, said) in zip(images.farm.tasks("ctl", *tasks), COMMANDS, strict=True):
        assert said is None or said in result["msg"], command
    assert leftovers(images) == before


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
        assert f": registry {secure} wants credentials" in refused["msg"]
    finally:
        ssh("ctl", f"rm -rf {certificate} /srv/images/docker && update-ca-certificates --fresh")
        ssh(AMD, f"rm -rf {folder}")
