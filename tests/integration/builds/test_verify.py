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
        assert refused["msg"].startswith(f"registry {secure} refused the credentials")
    finally:
        ssh("ctl", f"rm -rf {certificate} /srv/images/docker && update-ca-certificates --fresh")
        ssh(AMD, f"rm -rf {folder}")
