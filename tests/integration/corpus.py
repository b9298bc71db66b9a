# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of all kinds, written into a registry blob by blob: nothing is built, and no engine is needed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.client import Registries

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

    def __init__(self, registries: Registries, repository: str) -> None:
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

    def attestation(self, image: Made, provenance: Any = True, sbom: bool = True) -> Made:
        """Push what BuildKit attaches to an image."""
        statements = []
        if provenance:
            predicate = PROVENANCE if provenance is True else provenance
            kind = "https://slsa.dev/provenance/v" + ("1" if "buildDefinition" in predicate else "0.2")
            statements.append((kind, predicate))
        if sbom:
            statements.append(("https://spdx.dev/Document", {"spdxVersion": "SPDX-2.3"}))
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
PROVENANCE: dict[str, Any] = {
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
PROVENANCE_1: dict[str, Any] = {
    "buildDefinition": {
        "externalParameters": {
            "configSource": {"uri": "https://git.example.com/app.git", "digest": {"sha1": "c" * 40}}
        },
        "resolvedDependencies": PROVENANCE["materials"],
    },
    "runDetails": {"builder": {"id": "https://ci.example.com/42"}, "metadata": {}},
}
