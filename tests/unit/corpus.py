# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of all kinds, written into a registry blob by blob, and what image_verify has to say of each."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.elf import program

OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
#: The types of index, manifest, config and layer.
OCI_TYPES = (f"{OCI}index.v1+json", f"{OCI}manifest.v1+json", f"{OCI}config.v1+json", f"{OCI}layer.v1.tar+gzip")
DOCKER_TYPES = (
    f"{DOCKER}distribution.manifest.list.v2+json",
    f"{DOCKER}distribution.manifest.v2+json",
    f"{DOCKER}container.image.v1+json",
    f"{DOCKER}image.rootfs.diff.tar.gzip",
)
BASE, BASE_DIGEST = "docker.io/library/debian:trixie", "sha256:" + "b" * 64
CREATED = "2026-01-02T03:04:05.678Z"


def sha256(content: bytes) -> str:
    """A content's digest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def packed(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """A layer of files, by path their modes and contents."""
    raw = io.BytesIO()
    with gzip.GzipFile("", "wb", 6, raw, mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for path, (mode, content) in files.items():
            entry = tarfile.TarInfo(path)
            entry.mode, entry.size = mode, len(content)
            archive.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


@dataclass
class Made:
    """What was pushed: its descriptor, as an index has it."""

    descriptor: dict[str, Any]
    blobs: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return str(self.descriptor["digest"])


class Corpus:
    """A repository that images are written into."""

    def __init__(self, registries: Any, repository: str) -> None:
        #: ``Registries``, or what stands in their place.
        self.registries = registries
        self.repository = Reference.parse(f"{repository}:none")

    def name(self, tag: str) -> str:
        return f"{self.repository.repository}:{tag}"

    def blob(self, media_type: str, content: bytes, **more: Any) -> dict[str, Any]:
        """Push a blob; returns its descriptor."""
        digest = self.registries.put_blob(self.repository, content)
        return {"mediaType": media_type, "digest": digest, "size": len(content), **more}

    def manifest(self, media_type: str, document: Mapping[str, Any], tag: str = "", **more: Any) -> Made:
        """Push a manifest by its digest, or under a tag; `more` is for its descriptor."""
        content = json.dumps({"schemaVersion": 2, "mediaType": media_type, **document}).encode()
        digest = sha256(content)
        where = Reference.parse(self.name(tag)) if tag else self.repository.at(digest)
        self.registries.put(where, media_type, content)
        return Made({"mediaType": media_type, "digest": digest, "size": len(content), **more})

    def image(
        self,
        platform: str,
        note: str = "",
        types: Sequence[str] = OCI_TYPES,
        files: Mapping[str, tuple[int, bytes]] | None = None,
        config: Mapping[str, Any] | None = None,
        created: str = CREATED,
        tag: str = "",
        annotations: Mapping[str, str] | None = None,
        layer_type: str = "",
        shown: Mapping[str, Any] | None = None,
        size: int = 0,
    ) -> Made:
        """Push an image for a platform; `shown` is the platform as the index has it."""
        _index, manifest, of_config, of_layer = types
        system, arch, *variant = platform.split("/")
        parts = {"os": system, "architecture": arch, **({"variant": variant[0]} if variant else {})}
        note = note or f"{platform} in {'docker' if types is DOCKER_TYPES else 'oci'}"
        content = packed(files or {"note": (0o644, note.encode())}) + b"\0" * size
        layer = self.blob(layer_type or of_layer, content)
        rootfs = {"type": "layers", "diff_ids": [sha256(gzip.decompress(content))]}
        values = {**parts, "created": created, "config": dict(config or {}), "rootfs": rootfs}
        described = self.blob(of_config, json.dumps(values).encode())
        document = {"config": described, "layers": [layer], **({"annotations": annotations} if annotations else {})}
        made = self.manifest(manifest, document, tag, platform=dict(parts if shown is None else shown))
        made.blobs = [described["digest"], layer["digest"]]
        return made

    def attestation(self, image: Made, provenance: Any = True, sbom: Any = True) -> Made:
        """Push what BuildKit attaches to an image."""
        statements = []
        if provenance:
            predicate = PROVENANCE if provenance is True else provenance
            kind = "https://slsa.dev/provenance/v" + ("1" if "buildDefinition" in predicate else "0.2")
            statements.append((kind, predicate))
        if sbom:
            document = {"spdxVersion": "SPDX-2.3"} if sbom is True else sbom
            statements.append(("https://spdx.dev/Document", document))
        subject = [{"name": "_", "digest": dict([image.digest.split(":")])}]
        layers = [
            self.blob(
                "application/vnd.in-toto+json",
                json.dumps({"predicateType": kind, "subject": subject, "predicate": said}).encode(),
                annotations={"in-toto.io/predicate-type": kind},
            )
            for kind, said in statements
        ]
        config = self.blob(OCI_TYPES[2], b'{"architecture": "unknown", "os": "unknown", "config": {}}')
        about = {
            "vnd.docker.reference.digest": image.digest,
            "vnd.docker.reference.type": "attestation-manifest",
        }
        made = self.manifest(
            OCI_TYPES[1],
            {"config": config, "layers": layers},
            platform={"os": "unknown", "architecture": "unknown"},
            annotations=about,
        )
        made.blobs = [config["digest"], *(layer["digest"] for layer in layers)]
        return made

    def index(
        self,
        tag: str,
        *entries: Made | Mapping[str, Any],
        types: Sequence[str] = OCI_TYPES,
        annotations: Mapping[str, str] | None = None,
    ) -> Made:
        """Push an index under a tag."""
        listed = [one.descriptor if isinstance(one, Made) else dict(one) for one in entries]
        document = {"manifests": listed, **({"annotations": annotations} if annotations else {})}
        return self.manifest(types[0], document, tag)

    def artifact(self, tag: str, artifact_type: str, layer_type: str, subject: Made | None = None) -> Made:
        """Push what is no image, as the OCI image specification advises."""
        empty = self.blob("application/vnd.oci.empty.v1+json", b"{}")
        document = {"artifactType": artifact_type, "config": empty, "layers": [self.blob(layer_type, b"content")]}
        if subject:
            about = {name: subject.descriptor[name] for name in ("mediaType", "digest", "size")}
            document["subject"] = about
        return self.manifest(OCI_TYPES[1], document, tag)

    def drop_manifest(self, made: Made) -> None:
        """Let the registry lose a manifest."""
        assert self.registries.remove(self.repository.at(made.digest))


#: Provenance as BuildKit writes it, of version 0.2.
PROVENANCE: Dict[str, Any] = {
    "builder": {"id": "https://ci.example.com/42"},
    "buildType": "https://mobyproject.org/buildkit@v1",
    "materials": [
        {"uri": "pkg:docker/debian@trixie?platform=linux%2Famd64", "digest": {"sha256": "b" * 64}},
        {"uri": "https://git.example.com/app.git", "digest": {"sha1": "c" * 40}},
    ],
    "invocation": {"configSource": {"uri": "https://git.example.com/app.git", "digest": {"sha1": "c" * 40}}},
    "metadata": {
        "https://mobyproject.org/buildkit@v1#metadata": {
            "vcs": {"source": "git@git.example.com:app", "revision": "c" * 40}
        }
    },
}
#: The same of version 1.
PROVENANCE_1: Dict[str, Any] = {
    "buildDefinition": {
        "externalParameters": {
            "configSource": {"uri": "https://git.example.com/app.git", "digest": {"sha1": "c" * 40}}
        },
        "resolvedDependencies": PROVENANCE["materials"],
    },
    "runDetails": {"builder": {"id": "https://ci.example.com/42"}, "metadata": {}},
}

BOTH = ["linux/amd64", "linux/arm64"]
GONE = "sha256:" + "0" * 64


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


Make = Callable[[Corpus, str], Any]
#: By tag: what is pushed, what is wanted of it, and the end of each line that is said of it, none for what is right.
Case = Tuple[Make, Dict[str, Any], List[str]]
V8 = {"os": "linux", "architecture": "arm64", "variant": "v8"}
WINDOWS = [{"os": "windows", "architecture": "amd64", "os.version": f"10.0.{number}"} for number in (1, 2)]
NOTATION, COSIGN = "application/vnd.cncf.notary.signature", "application/vnd.dev.cosign.simplesigning.v1+json"
EXACT: Dict[str, Any] = {"platforms": BOTH}
ONE: Dict[str, Any] = {"platforms": BOTH[1:]}
PROVEN: Dict[str, Any] = {
    "builder": "^https://ci[.]",
    "source": "app$",
    "revision": "c" * 40,
    "bases": {"debian:trixie": BASE_DIGEST},
}


def unlike(corpus: Corpus, tag: str, *platforms: str, **options: Any) -> None:
    corpus.index(tag, *(corpus.image(platform, f"{tag} {platform}", **options) for platform in platforms))


CASES: Dict[str, Case] = {
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
    "layer-gone": (two, {"blobs": True}, ["which the registry does not have"]),
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

#: Cases of which the registry then loses a blob of the image for amd64: its number, and how often that is said.
LOST = {"layer-gone": (1, 1), "layer-gone-unnoticed": (1, 0), "config-gone": (0, 1)}


def push_all(corpus: Corpus, drop_blob: Callable[[str], None]) -> None:
    """Push the images of all cases.

    :param drop_blob: lets the registry lose a blob.
    """
    for tag, (make, _wanted, _lines) in CASES.items():
        make(corpus, tag)
    for tag, (number, _count) in LOST.items():
        made = [corpus.image(platform, f"{tag} {platform}") for platform in BOTH]
        corpus.index(tag, *made)
        drop_blob(made[0].blobs[number])


def wanted_images(corpus: Corpus) -> List[Dict[str, Any]]:
    """Return the option ``images`` that is about all cases."""
    return [{"name": corpus.name(tag), **options} for tag, (_make, options, _lines) in CASES.items()]


def wrong_verdicts(images: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """Return the cases of which something else is said than expected, by their tags."""
    wrong = {}
    for image, (tag, (_make, _wanted, lines)) in zip(images, CASES.items()):
        left = list(image["problems"])
        for line in lines:
            fitting = [one for one in left if line in one]
            if not fitting:
                left.append(f"not said: {line}")
                break
            left.remove(fitting[0])
        if left:
            wrong[tag] = left
    return wrong


#: By tag: platform, files, entrypoint, and what is said of its programs.
PROGRAMS: Dict[str, Tuple[str, Dict[str, Tuple[int, bytes]], List[str], Optional[str]]] = {
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
