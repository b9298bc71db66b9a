# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What image_verify says of images of all kinds in a real registry, and what the other modules make of the same."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image import info, verify
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.promote import copy_image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._imagetools import apply as imagetools
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.client import Registries
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.settings import Settings
from ansible_collections.buildfarm.multiarch.tests.unit.corpus import (
    BASE,
    BASE_DIGEST,
    BOTH,
    CASES,
    COSIGN,
    DOCKER_TYPES,
    NOTATION,
    PROGRAMS,
    Corpus,
    push_all,
    two,
    wanted_images,
    wrong_verdicts,
)

import registry
import seed
from ansible_runs import LiveFarm
from building import unlisten

ENGINE = "mid1"


def no_program(argv: Any, **_options: Any) -> Any:
    """In the place of what runs programs: looking at registries takes none."""
    raise AssertionError(argv)


class Here:
    """The modules' logic on this machine, which reaches the farm's registry as a builder's configuration says."""

    def __init__(self, farm: LiveFarm, folder: Path) -> None:
        self.farm = farm
        address = farm.address("registry")
        self.plain, self.secure = f"{address}:{registry.PLAIN}", f"{address}:{registry.SECURE}"
        config = f'[registry."{self.plain}"]\nhttp = true\n[registry."{self.secure}"]\ninsecure = true\n'
        pins = (Platform("linux", "amd64"),)
        node = Node("here", f"tcp://{farm.address(ENGINE)}:2375", pins, files={"buildkitd.toml": config.encode()})
        (folder / "buildx/instances").mkdir(parents=True)
        (folder / "buildx/instances/here").write_bytes(Instance("here", "docker-container", (node,)).to_json())
        (folder / "buildx/current").write_text(json.dumps({"Key": "", "Name": "here", "Global": True}))
        login = {"auths": {self.secure: {"username": registry.USER, "password": registry.PASSWORD}}}
        (folder / "config.json").write_text(json.dumps(login))
        self.config = str(folder)
        settings = {self.plain: Settings(http=True), self.secure: Settings(insecure=True)}
        self.registries = Registries(folder, settings)
        self.corpus = Corpus(self.registries, f"{self.plain}/corpus-{secrets.token_hex(4)}")

    def verify(self, **options: Any) -> dict[str, Any]:
        """Run image_verify; a failure's details with its message as `msg`."""
        try:
            return dict(verify.run({"docker_config": self.config, **options}, False, no_program))
        except FarmError as exc:
            return {**exc.details, "msg": exc.message}

    def info(self, tag: str, **options: Any) -> dict[str, Any]:
        """Run buildx_imagetools_info; returns the index."""
        params = {"docker_config": self.config, "name": self.corpus.name(tag), **options}
        found: dict[str, Any] = info.run(params, False, no_program)["index"]
        return found

    def tools(self, **options: Any) -> dict[str, Any]:
        """Predict buildx_imagetools, run it, and run it again, which changes nothing."""
        params = {"docker_config": self.config, **options}
        predicted, real, again = (
            imagetools.run(params, check, no_program).as_result() for check in (True, False, False)
        )
        assert predicted == real
        assert (again["changed"], again["diff"]["before"]) == (False, real["diff"]["after"])
        return real

    def exists(self, name: str) -> bool:
        return self.registries.digest(Reference.parse(name), to_push=True) is not None


@pytest.fixture(scope="module")
def here(farm: LiveFarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    kept = {name: os.environ.pop(name, None) for name in ("BUILDX_CONFIG", "BUILDX_BUILDER", "DOCKER_HOST")}
    yield Here(farm, tmp_path_factory.mktemp("docker"))
    os.environ.update({name: value for name, value in kept.items() if value is not None})


def drop_blob(here: Here, digest: str) -> None:
    """Let the registry lose a blob."""
    url = f"http://{here.plain}/v2/{here.corpus.repository.path}/blobs/{digest}"
    urllib.request.urlopen(urllib.request.Request(url, method="DELETE")).read()


@pytest.fixture(scope="module")
def corpus(here: Here) -> Corpus:
    """All images in the registry."""
    push_all(here.corpus, lambda digest: drop_blob(here, digest))
    return here.corpus


def test_every_image_gets_the_verdict_that_is_expected(here: Here, corpus: Corpus) -> None:
    """More than sixty in one task, and each line with what was found."""
    assert len(CASES) >= 60
    started = time.monotonic()
    found = here.verify(images=wanted_images(corpus))
    seconds = time.monotonic() - started
    assert wrong_verdicts(found["images"]) == {}
    lines = [expected for _make, _wanted, expected in CASES.values() if expected]
    said = found["msg"].splitlines()
    assert said[0] == f"{len(lines)} of {len(CASES)} images are not as wanted:"
    assert len(said) == 1 + sum(len(expected) for expected in lines)
    assert all(line.startswith(f"image {corpus.repository.repository}:") for line in said[1:])
    assert seconds < 10, seconds


def test_two_hundred_tags_in_one_task(here: Here, corpus: Corpus) -> None:
    two(corpus, "many")
    made = corpus.registries.manifest(Reference.parse(corpus.name("many")))
    assert made
    for number in range(200):
        corpus.registries.put(Reference.parse(corpus.name(f"many-{number}")), made.media_type, made.content)
    images = [{"name": corpus.name(f"many-{number}")} for number in range(200)]
    found = here.verify(images=images, platforms=BOTH, media_types="oci")
    assert "msg" not in found
    assert {image["digest"] for image in found["images"]} == {made.digest}
    assert [[one["platform"] for one in image["platforms"]] for image in found["images"]] == [BOTH] * 200


def test_an_image_that_comes_late_is_waited_for(here: Here, corpus: Corpus) -> None:
    name = corpus.name("late")
    missing = here.verify(name=name, wait=0)
    assert missing["msg"] == f"image {name}: the registry {here.plain} has none of this name; was it pushed?"
    pushing = threading.Timer(1, two, (corpus, "late"))
    pushing.start()
    try:
        assert "msg" not in here.verify(name=name, platforms=BOTH, wait=20)
    finally:
        pushing.join()
    first = here.info("late")["digest"]
    second = corpus.index("later", corpus.image("linux/arm64")).digest
    moving = threading.Timer(1, lambda: corpus.index("late", corpus.image("linux/arm64")))
    moving.start()
    try:
        found = here.verify(name=name, digest=second, wait=20)
    finally:
        moving.join()
    assert "msg" not in found and found["image"]["digest"] == second != first


def test_programs_are_what_their_platform_runs(here: Here, corpus: Corpus) -> None:
    """On an engine for amd64, in one task; nothing stays. What is run is heard though that engine keeps no logs."""
    for tag, (platform, files, entrypoint, _said) in PROGRAMS.items():
        corpus.index(tag, corpus.image(platform, tag, files=files, config={"Entrypoint": entrypoint}))
    images = [{"name": corpus.name(tag)} for tag in PROGRAMS]
    settings = {"insecure-registries": [here.plain], "log-driver": "none"}
    # Those of one second have no order of their own.
    shown = "{ docker ps -aq; docker images -aq; } | sort"
    before = here.farm.ssh(ENGINE, shown)
    try:
        here.farm.module(ENGINE, "docker_listener", insecure=True, address="0.0.0.0", daemon_config=settings)
        by_engine = here.verify(images=images, programs=True, builder="here")
        run = {"command": ["echo", "linux/amd64"], "expected": "{platform}", "timeout": 60}
        busybox = {"name": f"{here.plain}/{seed.BUSYBOX}", "platforms": BOTH[:1], "exact": False, "run": run}
        ran = here.verify(builder="here", **busybox)
        left = here.farm.ssh(ENGINE, shown)
    finally:
        unlisten(here.farm, ENGINE)
    assert "msg" not in ran, ran["msg"]
    assert [(one["output"], one["native"]) for one in ran["image"]["platforms"][:1]] == [("linux/amd64", True)]
    by_layers = here.verify(images=images, programs=True)
    for one, other in zip(by_engine["images"], by_layers["images"], strict=True):
        assert [part["programs"] for part in one["platforms"]] == [part["programs"] for part in other["platforms"]]
        assert [problem.rpartition("): ")[2] for problem in one["problems"]] == [
            problem.partition(": ")[2] for problem in other["problems"]
        ]
    for image, (tag, (_platform, _files, _entrypoint, said)) in zip(by_layers["images"], PROGRAMS.items(), strict=True):
        assert len(image["problems"]) == (1 if said else 0), (tag, image["problems"])
        assert said is None or said in image["problems"][0], tag
    assert left == before


KINDS = {
    "oci": "image",
    "docker": "image",
    "single-docker": "image",
    "attested": "image",
    "artifact": "artifact",
    "helm": "artifact",
    "notation": "signature",
    "cosign": "signature",
    "sbom": "sbom",
    "cache-index": "cache",
    "cache-manifest": "cache",
    "attestation": "attestation",
}


def test_whatever_stands_there_has_one_shape(here: Here, corpus: Corpus) -> None:
    found = {tag: here.info(tag, details=True) for tag in KINDS}
    assert {tag: index["kind"] for tag, index in found.items()} == KINDS
    assert len({frozenset(index) for index in found.values()}) == 1
    # As `docker manifest inspect` shows it.
    assert found["docker"]["document"]["manifests"][1]["platform"]["architecture"] == "arm64"
    assert found["single-docker"]["document"]["layers"][0]["mediaType"] == DOCKER_TYPES[3]
    assert found["notation"]["artifact_type"] == NOTATION
    (image, _arm64) = found["attested"]["manifests"]
    assert image["config"]["created"] and image["manifest"]["layers"] and image["compressed_size"] > 0
    assert image["provenance"] == {
        "builder": "https://ci.example.com/42",
        "source": "git@git.example.com:app",
        "revision": "c" * 40,
        "bases": {BASE: BASE_DIGEST},
    }
    assert [one["type"] for one in image["statements"]] == [
        "https://slsa.dev/provenance/v0.2",
        "https://spdx.dev/Document",
    ]


def test_what_refers_to_an_image_is_found_by_the_tag_that_registries_without_the_api_have(
    here: Here, corpus: Corpus
) -> None:
    (image, *_images) = two(corpus, "referred")
    signature = corpus.artifact("signature-of", NOTATION, "application/jose+json", subject=image)
    entry = {**signature.descriptor, "artifactType": NOTATION}
    corpus.index(image.digest.replace(":", "-"), entry)
    (found,) = here.info("referred", details=True)["referrers"]
    assert (found["digest"], found["artifact_type"]) == (signature.digest, NOTATION)
    assert here.info("signature-of")["subject"] == image.digest


def test_what_refers_to_an_image_is_copied_with_it(here: Here, corpus: Corpus) -> None:
    """To another repository and to another registry, neither of which has the API; signatures of both kinds."""
    images = [corpus.image(platform, f"signed {platform}") for platform in BOTH]
    index = corpus.index("signed", *images)
    flat = index.digest.replace(":", "-")
    notation = corpus.artifact("signed-by", NOTATION, "application/jose+json", subject=index)
    corpus.index(flat, {**notation.descriptor, "artifactType": NOTATION})
    cosign = f"{images[1].digest.replace(':', '-')}.sig"
    corpus.image("linux/amd64", tag=cosign, layer_type=COSIGN)
    source = [{"name": corpus.name("signed")}]
    for where in (here.plain, here.secure):
        target = f"{where}/signed-{secrets.token_hex(4)}"
        assert here.tools(sources=source, tags=[f"{target}:1"])["referrers"] is None
        copied = here.tools(sources=source, tags=[f"{target}:1"], referrers=True)
        assert [action[0] for action in copied["actions"]] == ["copy", "push"]
        there = Corpus(here.registries, target)
        params = {"docker_config": here.config, "name": there.name("1"), "details": True}
        (found,) = info.run(params, False, no_program)["index"]["referrers"]
        assert (found["digest"], found["artifact_type"]) == (notation.digest, NOTATION)
        wanted = [{"name": f"{target}@{notation.digest}"}, {"name": there.name(cosign)}]
        assert [one["kind"] for one in here.verify(images=wanted, blobs=True)["images"]] == ["signature", "image"]


def test_images_are_joined_annotated_copied_and_removed(here: Here, corpus: Corpus) -> None:
    """Within the registry and to another one, with attestations; predicted exactly, and once."""
    amd, arm = (corpus.image(platform, "joined") for platform in BOTH)
    corpus.index("only-amd", amd, corpus.attestation(amd))
    corpus.index("only-arm", arm, corpus.attestation(arm), corpus.image("linux/s390x"))
    sources = [
        {"name": corpus.name("only-amd")},
        {"name": corpus.name("only-arm"), "platforms": ["linux/arm64/v8"]},
    ]
    joined = here.tools(sources=sources, tags=[corpus.name("joined")], annotations={"a": "b"})
    index = here.info("joined")
    assert index["digest"] == joined["image"]["digest"] and index["annotations"] == {"a": "b"}
    assert [one["digest"] for one in index["manifests"]] == [amd.digest, arm.digest]
    assert [one["subject"] for one in index["attestations"]] == [amd.digest, arm.digest]

    changed = here.tools(
        sources=[{"name": corpus.name("joined")}],
        tags=[corpus.name("joined")],
        annotations={"c": "d"},
        platform_annotations={"linux/arm64": {"e": "f"}},
    )
    index = here.info("joined")
    assert index["annotations"] == {"a": "b", "c": "d"} and changed["changed"]
    assert [one["annotations"] for one in index["manifests"]] == [{}, {"e": "f"}]

    # To other repositories, one of them in another registry, under a tag each.
    other, far = (f"{where}/copied-{secrets.token_hex(4)}/app" for where in (here.plain, here.secure))
    tags = [f"{other}:1", f"{other}:latest", f"{far}:1"]
    copied = here.tools(sources=[{"name": corpus.name("joined")}], tags=tags)
    assert [action[0] for action in copied["actions"]] == ["copy"] * 8 + ["push"] * 3
    assert copied["image"]["digest"] == index["digest"]
    wanted = [{"name": tag, "digest": index["digest"], "blobs": True, "provenance": {}} for tag in tags]
    assert "msg" not in here.verify(images=wanted, builder="here")

    # A cache and a single manifest too.
    for tag in ("cache-index", "cache-manifest", "single-docker", "notation"):
        target = f"{far}:{tag}"
        moved = here.tools(sources=[{"name": corpus.name(tag)}], tags=[target])
        assert moved["image"]["digest"] == here.info(tag)["digest"] and here.exists(target)

    removed = here.tools(state="absent", tags=[f"{other}:latest", f"{other}:never"])
    assert removed["actions"] == [["remove", f"{other}:latest"]]
    assert not here.exists(f"{other}:latest") and here.exists(f"{other}:1")


def test_what_does_not_fit_is_refused_and_nothing_moves(here: Here, corpus: Corpus) -> None:
    cases = [
        ([{"name": corpus.name("nowhere")}], {}, "has none of this name"),
        ([{"name": corpus.name("oci"), "platforms": ["linux/s390x"]}], {}, "no image for linux/s390x"),
        (
            [{"name": corpus.name("oci")}, {"name": corpus.name("v8"), "platforms": ["linux/arm64"]}],
            {},
            "both have an image for linux/arm64",
        ),
        ([{"name": corpus.name("child-gone")}], {"annotations": {"a": "b"}}, "does not have"),
        ([{"name": corpus.name("cache-index")}], {"annotations": {"a": "b"}}, "it is for no platform"),
    ]
    for sources, options, words in cases:
        params = {"docker_config": here.config, "sources": sources, "tags": [corpus.name("refused")], **options}
        with pytest.raises(FarmError) as caught:
            imagetools.run(params, False, no_program)
        assert words in caught.value.message, words
    assert not here.exists(corpus.name("refused"))


def test_an_image_is_promoted_by_its_digest(here: Here, corpus: Corpus) -> None:
    digest = here.info("attested")["digest"]
    far = Reference.parse(f"{here.secure}/promoted-{secrets.token_hex(4)}:1")
    source = corpus.repository.at(digest)
    assert copy_image(here.registries, source, [far]).moved == (far,)
    assert copy_image(here.registries, source, [far]).moved == ()
    assert here.registries.digest(far) == digest
