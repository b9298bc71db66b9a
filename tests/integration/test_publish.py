# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that BuildKit pushes by digest, composed and published in a registry: plain, with a password, with tokens."""

from __future__ import annotations

import base64
import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.compose import Composed, Part, compose
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.index import read_index
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.publish import (
    publish,
    put_by_digest,
    read_parts,
    to_move,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.auth import RegistryRefused
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.client import Registries
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.settings import Settings

import registry
import seed
from ansible_runs import LiveFarm

NODE, BUILDER, CONTEXT = "mid1", "publish", "/srv/publish"
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
FRONT = Path(__file__).with_name("registry_front.py")


class Pusher:
    """Builds on one node of the farm, and the registries that it pushes to; this machine knows them by address only."""

    def __init__(self, farm: LiveFarm, docker_config: Path, front: str = "") -> None:
        self.farm, self.front = farm, front
        self.repository = f"publish-{secrets.token_hex(4)}"
        address = farm.address("registry")
        self.plain, self.secure = f"{address}:{registry.PLAIN}", f"{address}:{registry.SECURE}"
        settings = {self.plain: Settings(http=True), self.secure: Settings(insecure=True)}
        self.registries = Registries(docker_config, settings)

    def name(self, tag: str, where: str = "") -> Reference:
        return Reference.parse(f"{where or self.plain}/{self.repository}:{tag}")

    def build(self, platforms: str, *options: str, tag: str = "", oci: str = "true") -> str:
        """Build and push, under a tag or by digest only; returns the digest."""
        name = f"{self.farm.registry}/{self.repository}" + (f":{tag}" if tag else "")
        attributes = "" if tag else ",push-by-digest=true,name-canonical=true"
        output = f"type=image,name={name},push=true,oci-mediatypes={oci}{attributes}"
        self.farm.ssh(
            NODE,
            f"cd {CONTEXT} && SOURCE_DATE_EPOCH=0 docker buildx build -q --builder {BUILDER} --platform {platforms} "
            f"--output {output} --metadata-file metadata.json {' '.join(options)} .",
        )
        return str(json.loads(self.farm.ssh(NODE, f"cat {CONTEXT}/metadata.json"))["containerimage.digest"])

    def parts(self, *digests: str) -> tuple[Part, ...]:
        return read_parts(self.registries, self.name("any"), digests)

    def image(self, note: str = "first") -> Composed:
        """An image of two platforms, each built by itself."""
        self.farm.ssh(NODE, f"echo {note} > {CONTEXT}/note")
        digests = [self.build(str(platform)) for platform in (AMD64, ARM64)]
        return compose(self.parts(*digests), (AMD64, ARM64))

    def pull(self, tag: str) -> str:
        """What is in the image, as an engine pulls it."""
        name = f"{self.farm.registry}/{self.repository}:{tag}"
        made = f"$(docker create {name} x)"
        return self.farm.ssh(NODE, f"docker pull -q {name} >/dev/null && docker cp {made}:/note - | tar -xO").strip()


@pytest.fixture(scope="module")
def builder(farm: LiveFarm) -> Iterator[None]:
    """A builder on a node, and something to build, which needs no program of its platform."""
    image = f"{farm.registry}/{seed.BUILDKIT}"
    config = f'[registry."{farm.registry}"]\\n  http = true\\n'
    with farm.trusted_registry(NODE):
        farm.ssh(
            NODE,
            f"mkdir -p {CONTEXT}; cd {CONTEXT}; printf 'FROM scratch\\nCOPY note /\\n' > Dockerfile; echo x > note; "
            f"printf '{config}' > buildkitd.toml; docker buildx create --name {BUILDER} "
            f"--driver-opt image={image},network=host --config buildkitd.toml; rm buildkitd.toml",
        )
        yield
        farm.ssh(
            NODE,
            f"docker buildx rm {BUILDER}; docker ps -aq | xargs -r docker rm -f; docker system prune -af --volumes",
        )
    farm.ssh(NODE, f"rm -rf {CONTEXT} ~/.docker")


@pytest.fixture
def front(farm: LiveFarm) -> Iterator[str]:
    """The farm's registry behind one that wants tokens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, FRONT, str(port), f"{farm.address('registry')}:{registry.PLAIN}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    for _attempt in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.fixture
def pusher(farm: LiveFarm, builder: None, tmp_path: Path, front: str) -> Pusher:
    auth = base64.b64encode(f"{registry.USER}:{registry.PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {f"{farm.address('registry')}:{registry.SECURE}": {"auth": auth}}})
    )
    return Pusher(farm, tmp_path, front)


@pytest.mark.parametrize("oci", ["true", "false"])
def test_what_is_composed_is_what_one_build_pushes(pusher: Pusher, oci: str) -> None:
    """Without attestations, which hold the time: byte by byte."""
    options, docker = ("--provenance=false",), oci == "false"
    both = ",".join(map(str, (ARM64, AMD64)))
    whole = pusher.build(both, *options, tag="whole", oci=oci)
    digests = [pusher.build(str(platform), *options, oci=oci) for platform in (AMD64, ARM64)]
    composed = compose(pusher.parts(*digests), (ARM64, AMD64), docker_types=docker)
    assert composed.digest == whole
    single = pusher.build(str(AMD64), *options, tag="single", oci=oci)
    assert compose(pusher.parts(digests[0]), (AMD64,), docker_types=docker).digest == single


def test_an_image_with_attestations_is_published_and_pulled(pusher: Pusher) -> None:
    image = pusher.image()
    registries, tags = pusher.registries, (pusher.name("1"), pusher.name("latest"))
    assert to_move(registries, tags, image.digest) == tags
    assert read_index(registries, put_by_digest(registries, tags[0], image)).digest == image.digest
    assert to_move(registries, tags, image.digest) == tags
    assert publish(registries, tags, image).moved == tags
    assert publish(registries, tags, image).unchanged == tags
    index = read_index(registries, tags[0])
    assert (index.digest, index.platforms) == (image.digest, (AMD64, ARM64))
    assert [dict(one.annotations)["vnd.docker.reference.digest"] for one in index.attestations] == [
        one.digest for one in index.manifests
    ]
    assert pusher.pull("latest") == "first"
    shown = pusher.farm.ssh(
        NODE, f"docker buildx imagetools inspect --builder {BUILDER} {pusher.farm.registry}/{tags[0].path}:1"
    )
    assert image.digest in shown and shown.count("attestation-manifest") == 2


def test_registries_with_a_password_and_with_tokens(pusher: Pusher) -> None:
    """The store behind all of them is one."""
    image = pusher.image()
    tags = [pusher.name(f"tag{number}", where) for number, where in enumerate((pusher.secure, pusher.front))]
    assert to_move(pusher.registries, tags, image.digest) == tuple(tags)
    assert publish(pusher.registries, tags, image).moved == tuple(tags)
    assert publish(pusher.registries, tags, image).unchanged == tuple(tags)
    for tag in ("tag0", "tag1"):
        assert pusher.registries.digest(pusher.name(tag)) == image.digest
    stranger = Pusher(pusher.farm, Path("/nonexistent"), pusher.front)
    with pytest.raises(RegistryRefused, match="wants credentials, and the docker configuration has none"):
        publish(stranger.registries, tags[:1], image)


def test_an_image_whose_part_is_gone_moves_no_tag(pusher: Pusher) -> None:
    first = pusher.image()
    tags = (pusher.name("1"), pusher.name("2"))
    publish(pusher.registries, tags, first)
    second = pusher.image("second")
    lost = second.children[-1]
    store = f"{pusher.plain}/v2/{pusher.repository}/manifests/{lost}"
    subprocess.run(["curl", "-sf", "--noproxy", "*", "-X", "DELETE", f"http://{store}"], check=True)
    with pytest.raises(FarmError, match=f"{lost} any more.*no tag was moved"):
        publish(pusher.registries, tags, second)
    assert to_move(pusher.registries, tags, first.digest) == ()


def test_of_two_publishers_at_once_the_tag_is_ones_whole_image(pusher: Pusher) -> None:
    images = [pusher.image("one"), pusher.image("two")]
    tag = pusher.name("raced")

    def attempt(image: Composed) -> None:
        for _attempt in range(20):
            pusher.registries.put(tag, image.media_type, image.content)

    with ThreadPoolExecutor() as pool:
        list(pool.map(attempt, images))
    index = read_index(pusher.registries, tag)
    assert index.digest in [image.digest for image in images]
    assert index.platforms == (AMD64, ARM64)
    assert pusher.pull("raced") in ("one", "two")
