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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image import info, verify
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.promote import copy_image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._imagetools import apply as imagetools
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.elf import program
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.client import Registries
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.settings import Settings

import registry
import seed
from ansible_runs import LiveFarm
from building import unlisten
from corpus import BASE, BASE_DIGEST, DOCKER_TYPES, OCI, OCI_TYPES, PROVENANCE_1, Corpus, Made

BOTH = ["linux/amd64", "linux/arm64"]
ENGINE = "mid1"
GONE = "sha256:" + "0" * 64


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


def two(corpus: Corpus, tag: str, types: Any = OCI_TYPES, **options: Any) -> list[Made]:
    """An index of two platforms; returns the index and its images."""
    images = [corpus.image(platform, types=types, **options) for platform in BOTH]
    return [corpus.index(tag, *images, types=types), *images]


def attested(corpus: Corpus, tag: str, **options: Any) -> list[Made]:
    """The same with attestations."""
    images = [corpus.image(platform, "attested") for platform in BOTH]
    about = [corpus.attestation(image, **options) for image in images]
    return [corpus.index(tag, *images, *about), *images, *about]


def losing(corpus: Corpus, tag: str, lose: Callable[[Corpus, list[Made]], None], **options: Any) -> None:
    """An image that something is lost of."""
    images = [corpus.image(platform, f"{tag} {platform}", **options) for platform in BOTH]
    lose(corpus, [corpus.index(tag, *images), *images])


def drop_blob(here: Here, digest: str) -> None:
    """Let the registry lose a blob."""
    url = f"http://{here.plain}/v2/{here.corpus.repository.path}/blobs/{digest}"
    urllib.request.urlopen(urllib.request.Request(url, method="DELETE")).read()


Make = Callable[[Corpus, str], Any]
#: By tag: what is pushed, what is wanted of it, and the end of each line that is said of it, none for what is right.
Case = tuple[Make, dict[str, Any], list[str]]
V8 = {"os": "linux", "architecture": "arm64", "variant": "v8"}
WINDOWS = [{"os": "windows", "architecture": "amd64", "os.version": f"10.0.{number}"} for number in (1, 2)]
NOTATION, COSIGN = "application/vnd.cncf.notary.signature", "application/vnd.dev.cosign.simplesigning.v1+json"
EXACT: dict[str, Any] = {"platforms": BOTH}
ONE = {"platforms": BOTH[1:]}
PROVEN = {"builder": "^https://ci[.]", "source": "app$", "revision": "c" * 40, "bases": {"debian:trixie": BASE_DIGEST}}


def unlike(corpus: Corpus, tag: str, *platforms: str, **options: Any) -> None:
    corpus.index(tag, *(corpus.image(platform, f"{tag} {platform}", **options) for platform in platforms))


CASES: dict[str, Case] = {
    # Types.
    "oci": (two, {**EXACT, "media_types": "oci"}, []),
    "docker": (lambda c, t: two(c, t, DOCKER_TYPES), {**EXACT, "media_types": "docker"}, []),
    "oci-wanted": (lambda c, t: two(c, t, DOCKER_TYPES), {"media_types": "oci"}, ["wanted application/vnd.oci.*"] * 7),
    "docker-wanted": (two, {"media_types": "docker"}, ["wanted application/vnd.docker.*"] * 7),
    "docker-in-oci": (
        lambda c, t: c.index(t, *(c.image(platform, types=DOCKER_TYPES) for platform in BOTH)),
        {**EXACT, "media_types": "oci"},
        ["wanted application/vnd.oci.*"] * 6,
    ),
    "single-oci": (lambda c, t: c.image("linux/arm64", tag=t), {**ONE, "media_types": "oci"}, []),
    "single-docker": (lambda c, t: c.image("linux/arm64", tag=t, types=DOCKER_TYPES), ONE, []),
    "single-v8": (lambda c, t: c.image("linux/arm64/v8", tag=t), ONE, []),
    "single-wrong": (
        lambda c, t: c.image("linux/s390x", tag=t),
        ONE,
        ["missing linux/arm64, unexpected linux/s390x (platforms found: linux/s390x; wanted: linux/arm64)"],
    ),
    "foreign-layer": (
        lambda c, t: c.image("linux/arm64", tag=t, layer_type="application/x-own"),
        {"media_types": "oci"},
        ["is application/x-own, wanted application/vnd.oci.*"],
    ),
    "nondistributable": (
        lambda c, t: c.image("linux/arm64", tag=t, layer_type=f"{OCI}layer.nondistributable.v1.tar+gzip"),
        {"blobs": True},
        [],
    ),
    # Platforms.
    "v8": (
        lambda c, t: c.index(t, c.image("linux/amd64"), c.image("linux/arm64/v8", shown=V8)),
        EXACT,
        [],
    ),
    "v8-wanted": (two, {"platforms": ["linux/amd64", "linux/arm64/v8"]}, []),
    "aarch64": (two, {"platforms": ["linux/x86_64", "linux/aarch64"]}, []),
    "arm-v7": (lambda c, t: unlike(c, t, "linux/arm/v7"), {"platforms": ["linux/arm"]}, []),
    "arm-v6": (
        lambda c, t: unlike(c, t, "linux/arm/v6"),
        {"platforms": ["linux/arm"]},
        ["missing linux/arm/v7, unexpected linux/arm/v6 (platforms found: linux/arm/v6; wanted: linux/arm/v7)"],
    ),
    "more": (
        lambda c, t: unlike(c, t, *BOTH, "linux/s390x"),
        EXACT,
        ["unexpected linux/s390x (platforms found: linux/amd64, linux/arm64, linux/s390x; wanted: linux/amd64, "],
    ),
    "more-allowed": (lambda c, t: unlike(c, t, *BOTH, "linux/s390x"), {**EXACT, "exact": False}, []),
    "fewer": (
        lambda c, t: unlike(c, t, "linux/amd64"),
        {**EXACT, "exact": False},
        ["wanted: linux/amd64, linux/arm64)"],
    ),
    "twice": (
        lambda c, t: c.index(t, c.image("linux/amd64"), c.image("linux/arm64"), c.image("linux/arm64", "again")),
        EXACT,
        ["linux/arm64 is there 2 times, of which engines take the first"],
    ),
    "twice-as-v8": (
        lambda c, t: c.index(t, c.image("linux/arm64"), c.image("linux/arm64/v8", shown=V8)),
        ONE,
        ["linux/arm64 is there 2 times"],
    ),
    "windows": (
        lambda c, t: c.index(t, *(c.image("windows/amd64", str(one), shown=one) for one in WINDOWS)),
        {"platforms": ["windows/amd64"]},
        [],
    ),
    "unnamed": (
        # An index may leave platforms out: they are in the configs.
        lambda c, t: c.index(t, *({**c.image(platform).descriptor, "platform": {}} for platform in BOTH)),
        EXACT,
        [],
    ),
    "nothing": (lambda c, t: c.index(t), {}, ["it has no image for any platform"]),
    "nothing-wanted": (
        lambda c, t: c.index(t),
        ONE,
        ["missing linux/arm64 (platforms found: none; wanted: linux/arm64)"],
    ),
    # Digests and names.
    "digest": (two, {"digest": GONE}, [f", wanted {GONE}"]),
    "absent": (lambda _c, _t: None, {}, ["has none of this name; was it pushed?"]),
    # Attestations.
    "attested": (attested, {**EXACT, "provenance": {}, "sbom": True, "blobs": True}, []),
    "attested-says": (attested, {"provenance": PROVEN}, []),
    "attested-1": (
        lambda c, t: attested(c, t, provenance=PROVENANCE_1),
        {"provenance": {**PROVEN, "source": "git[.]example"}},
        [],
    ),
    "unattested": (
        two,
        {"provenance": {}, "sbom": True},
        ["no SBOM, wanted one", "it has no provenance, wanted some"] * 2,
    ),
    "sbom-only": (
        lambda c, t: attested(c, t, provenance=False),
        {"sbom": True, "provenance": {}},
        ["no provenance"] * 2,
    ),
    "sbom-unwanted": (attested, {"sbom": False}, ["it has an SBOM, wanted none"] * 2),
    "provenance-only": (lambda c, t: attested(c, t, sbom=False), {"provenance": {}, "sbom": False}, []),
    "other-builder": (
        attested,
        {"provenance": {"builder": "github"}},
        ["'https://ci.example.com/42', wanted a match"] * 2,
    ),
    "other-source": (attested, {"provenance": {"source": "github"}}, ["the source 'git@git.example.com:app'"] * 2),
    "other-revision": (attested, {"provenance": {"revision": "d" * 40}}, [f"wanted '{'d' * 40}'"] * 2),
    "other-base": (attested, {"provenance": {"bases": {BASE: GONE}}}, [f"at {BASE_DIGEST}, wanted {GONE}"] * 2),
    "no-base": (
        attested,
        {"provenance": {"bases": {"alpine": None}}},
        [f"alpine:latest (base images found: {BASE})"] * 2,
    ),
    "single-attested": (
        lambda c, t: c.index(t, c.image("linux/arm64", t), c.attestation(c.image("linux/arm64", t))),
        {**ONE, "provenance": {}},
        [],
    ),
    "attested-elsewhere": (
        lambda c, t: c.index(t, c.image("linux/arm64", t), c.attestation(c.image("linux/arm64", "another"))),
        {**ONE, "provenance": {}},
        ["it has no provenance"],
    ),
    # Labels, annotations, sizes, age.
    "labels": (
        lambda c, t: two(c, t, config={"Labels": {"a": "b", "t": "true"}}),
        {"labels": {"a": "b", "t": True}},
        [],
    ),
    "labels-differ": (
        lambda c, t: two(c, t, config={"Labels": {"a": "b"}}),
        {"labels": {"a": "c", "d": None}},
        ["label a is 'b', wanted 'c'", "it has no label d, wanted one"] * 2,
    ),
    "annotated": (
        lambda c, t: c.index(t, c.image("linux/arm64", t), annotations={"a": "b"}),
        {"annotations": {"a": "b"}},
        [],
    ),
    "annotated-manifest": (lambda c, t: unlike(c, t, *BOTH, annotations={"a": "b"}), {"annotations": {"a": "b"}}, []),
    "annotations-differ": (
        lambda c, t: c.index(t, c.image("linux/arm64", t), annotations={"a": "b"}),
        {"annotations": {"a": "c", "d": 1}},
        ["annotation a is 'b', wanted 'c'", "linux/arm64: it has no annotation d, wanted '1'"],
    ),
    "small": (two, {"max_size": "1kB"}, []),
    "large": (lambda c, t: unlike(c, t, "linux/arm64", size=5000), {"max_size": "4kB"}, ["bytes, wanted 4000 at most"]),
    "young": (
        lambda c, t: unlike(c, t, *BOTH, created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())),
        {"max_age": "1h"},
        [],
    ),
    "old": (two, {"max_age": "7d"}, ["s ago, wanted 604800 s at most"] * 2),
    "timeless": (
        lambda c, t: unlike(c, t, "linux/arm64", created=""),
        {"max_age": "7d"},
        ["says '' of when it was created"],
    ),
    # Queries.
    "queried": (
        attested,
        {"query": ["length(manifests) == `2`", "manifests[].provenance.builder", "kind == 'image'"]},
        [],
    ),
    "query-false": (two, {"query": ["attestations[?type=='x']"]}, ["finds [], wanted something that is true"]),
    "query-wrong": (two, {"query": ["length(size)"]}, ["cannot be applied to the image"]),
    # What is gone.
    "child-gone": (
        lambda c, t: losing(c, t, lambda corpus, made: corpus.drop_manifest(made[2])),
        EXACT,
        ["which the registry does not have"],
    ),
    "children-gone": (
        lambda c, t: losing(c, t, lambda corpus, made: [corpus.drop_manifest(one) for one in made[1:]]),
        {**EXACT, "labels": {"a": None}},
        ["which the registry does not have"] * 2,
    ),
    "attestation-gone": (
        lambda c, t: c.drop_manifest(attested(c, t, provenance={"builder": {"id": t}})[3]),
        EXACT,
        ["which the registry does not have"],
    ),
    "layer-gone": (two, {"blobs": True}, ["which the registry does not have"] * 2),
    "config-gone": (two, {"blobs": True}, ["which the registry does not have"]),
    "layer-gone-unnoticed": (two, EXACT, []),
    # What is no image.
    "artifact": (
        lambda c, t: c.artifact(t, "application/x-chart", "application/x-tar"),
        {},
        ["it is no image but an artifact"],
    ),
    "helm": (
        lambda c, t: c.manifest(
            OCI_TYPES[1], {"config": c.blob("application/vnd.cncf.helm.config.v1+json", b"{}"), "layers": []}, t
        ),
        {},
        ["it is no image but an artifact"],
    ),
    "notation": (lambda c, t: c.artifact(t, NOTATION, "application/jose+json"), {}, ["it is no image but a signature"]),
    "cosign": (
        lambda c, t: c.manifest(
            OCI_TYPES[1],
            {"config": c.blob(OCI_TYPES[2], b'{"architecture": "", "os": ""}'), "layers": [c.blob(COSIGN, b"{}")]},
            t,
        ),
        {},
        ["it is no image but a signature"],
    ),
    "sbom": (
        lambda c, t: c.artifact(t, "application/spdx+json", "application/spdx+json"),
        {},
        ["it is no image but an SBOM"],
    ),
    "cache-index": (
        lambda c, t: c.index(
            t, c.blob(OCI_TYPES[3], b"layer"), c.blob("application/vnd.buildkit.cacheconfig.v0", b"{}")
        ),
        EXACT,
        ["it is no image but a cache of BuildKit"],
    ),
    "cache-manifest": (
        lambda c, t: c.manifest(
            OCI_TYPES[1], {"config": c.blob("application/vnd.buildkit.cacheconfig.v0", b"{}"), "layers": []}, t
        ),
        {},
        ["it is no image but a cache of BuildKit"],
    ),
    "attestation": (
        lambda c, t: c.manifest(
            OCI_TYPES[1],
            {
                "config": c.blob(OCI_TYPES[2], b'{"architecture": "unknown", "os": "unknown"}'),
                "layers": [c.blob("application/vnd.in-toto+json", b"{}")],
            },
            t,
        ),
        {},
        ["it is no image but an attestation"],
    ),
    "index-of-artifacts": (
        lambda c, t: c.index(
            t,
            {
                **c.artifact(f"{t}-own", "application/x-chart", "application/x-tar").descriptor,
                "artifactType": "application/x-chart",
            },
        ),
        {},
        ["it is no image but an artifact"],
    ),
}


@pytest.fixture(scope="module")
def corpus(here: Here) -> Corpus:
    """All images in the registry."""
    for tag, (make, _wanted, _lines) in CASES.items():
        make(here.corpus, tag)
    return here.corpus


def test_every_image_gets_the_verdict_that_is_expected(here: Here, corpus: Corpus) -> None:
    """More than sixty in one task, and each line with what was found."""
    assert len(CASES) >= 60
    lost = {"layer-gone": 1, "layer-gone-unnoticed": 1, "config-gone": 0}
    for tag, number in lost.items():
        made = [corpus.image(platform, tag, created=f"{tag} {platform}") for platform in BOTH]
        corpus.index(tag, *made)
        drop_blob(here, made[0].blobs[number])
        if tag == "layer-gone":
            # Both have the same layer.
            assert made[0].blobs[1] == made[1].blobs[1]
    lines = {**{tag: lines for tag, (_make, _wanted, lines) in CASES.items()}}
    lines["layer-gone"] = lines["layer-gone"][:1]
    wanted = [{"name": corpus.name(tag), **options} for tag, (_make, options, _lines) in CASES.items()]
    started = time.monotonic()
    found = here.verify(images=wanted)
    seconds = time.monotonic() - started
    by_tag = dict(zip(CASES, found["images"], strict=True))
    wrong = {
        tag: (by_tag[tag]["problems"], expected)
        for tag, expected in lines.items()
        if len(by_tag[tag]["problems"]) != len(expected)
        or any(
            line not in problem for line, problem in zip(sorted(expected), sorted_by(expected, by_tag[tag]["problems"]))
        )
    }
    assert wrong == {}
    faulty = [tag for tag, expected in lines.items() if expected]
    said = found["msg"].splitlines()
    assert said[0] == f"{len(faulty)} of {len(CASES)} images are not as wanted:"
    assert len(said) == 1 + sum(len(expected) for expected in lines.values())
    assert all(line.startswith(f"image {corpus.repository.repository}:") for line in said[1:])
    assert seconds < 10, seconds


def sorted_by(expected: list[str], problems: list[str]) -> list[str]:
    """The problems in the order of the expected texts, so far as they have these in them."""
    left = list(problems)
    ordered = []
    for text in sorted(expected):
        fitting = next((one for one in left if text in one), left[0] if left else "")
        if fitting in left:
            left.remove(fitting)
        ordered.append(fitting)
    return ordered


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


PROGRAMS: dict[str, tuple[str, dict[str, tuple[int, bytes]], list[str], str | None]] = {
    "amd64-in-arm64": ("linux/arm64", {"app": (0o755, program("amd64"))}, ["/app"], "'/app' is a program for amd64"),
    "arm64-in-amd64": ("linux/amd64", {"app": (0o755, program("arm64"))}, ["/app"], "'/app' is a program for arm64"),
    "right": ("linux/arm64", {"app": (0o755, program("arm64"))}, ["/app"], None),
    "386-in-amd64": ("linux/amd64", {"app": (0o755, program("386"))}, ["/app"], None),
    "script": (
        "linux/arm64",
        {"app": (0o755, b"#!/sh\n"), "sh": (0o755, program("amd64"))},
        ["/app"],
        "'/sh', the interpreter of '/app' is a program for amd64",
    ),
    "script-right": ("linux/arm64", {"app": (0o755, b"#!/sh\n"), "sh": (0o755, program("arm64"))}, ["/app"], None),
    "text": ("linux/arm64", {"app": (0o755, b"echo\n")}, ["/app"], "without the #! line"),
    "missing": ("linux/arm64", {"other": (0o755, program("arm64"))}, ["/app"], "'/app' is missing in the image"),
    "mode": ("linux/arm64", {"app": (0o644, program("arm64"))}, ["/app"], "has mode 0644 and cannot be executed"),
}


def test_programs_are_what_their_platform_runs(here: Here, corpus: Corpus) -> None:
    """On an engine for amd64, in one task; nothing stays. What is run is heard though that engine keeps no logs."""
    for tag, (platform, files, entrypoint, _said) in PROGRAMS.items():
        corpus.index(tag, corpus.image(platform, tag, files=files, config={"Entrypoint": entrypoint}))
    images = [{"name": corpus.name(tag)} for tag in PROGRAMS]
    settings = {"insecure-registries": [here.plain], "log-driver": "none"}
    try:
        here.farm.module(ENGINE, "docker_listener", insecure=True, address="0.0.0.0", daemon_config=settings)
        found = here.verify(images=images, programs=True, builder="here")
        run = {"command": ["echo", "linux/amd64"], "expected": "{platform}", "timeout": 60}
        busybox = {"name": f"{here.plain}/{seed.BUSYBOX}", "platforms": BOTH[:1], "exact": False, "run": run}
        ran = here.verify(builder="here", **busybox)
        left = here.farm.ssh(ENGINE, "docker ps -aq; docker images -aq")
    finally:
        unlisten(here.farm, ENGINE)
    assert "msg" not in ran, ran["msg"]
    assert [(one["output"], one["native"]) for one in ran["image"]["platforms"][:1]] == [("linux/amd64", True)]
    for image, (tag, (_platform, _files, _entrypoint, said)) in zip(found["images"], PROGRAMS.items(), strict=True):
        assert len(image["problems"]) == (1 if said else 0), (tag, image["problems"])
        assert said is None or said in image["problems"][0], tag
    assert left == ""


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
