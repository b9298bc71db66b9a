# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""OCI layouts of several nodes, joined to one directory or archive."""

from __future__ import annotations

import json
import tarfile
from types import SimpleNamespace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.layout import (
    CREATED,
    Declared,
    add_blobs,
    join,
    keep_others,
    pack,
    unpack,
    write_index,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.linking import Link
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import (
    OCI_INDEX,
    OCI_MANIFEST,
    digest_of,
)

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
BOTH = (AMD64, ARM64)
APP, OTHER = Reference.parse("r.example.com/app:1"), Reference.parse("other")
NAME, TAG = "io.containerd.image.name", "org.opencontainers.image.ref.name"


class Layout:
    """A layout as BuildKit exports one image."""

    def __init__(self, path):
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def put(self, document):
        content = json.dumps(document).encode()
        digest = digest_of(content)
        (self.path / "blobs/sha256" / digest[len("sha256:") :]).write_bytes(content)
        return {"digest": digest, "size": len(content)}

    def manifest(self, platform, layer="shared"):
        config = self.put({"os": platform.os, "architecture": platform.arch})
        return {
            "mediaType": OCI_MANIFEST,
            **self.put({"mediaType": OCI_MANIFEST, "config": config, "layers": [self.put({"layer": layer})]}),
        }

    def names(self, descriptor, created="2026-01-01T00:00:00Z"):
        entry = {**descriptor, "annotations": {CREATED: created, TAG: "latest"}}
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return str(self.path)


@pytest.fixture
def exported(tmp_path):
    """Makes a node's layout of one platform, in an index with its attestation if wanted."""

    def make(name, platform, attested=False, **created):
        layout = Layout(tmp_path / name)
        image = layout.manifest(platform)
        if not attested:
            return layout.names(image, **created)
        subject = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"]}
        attestation = {
            "mediaType": OCI_MANIFEST,
            **layout.put({"mediaType": OCI_MANIFEST, "config": {}, "layers": [], "of": str(platform)}),
            "annotations": subject,
            "platform": {"os": "unknown", "architecture": "unknown"},
        }
        image["platform"] = {"os": platform.os, "architecture": platform.arch}
        index = layout.put({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image, attestation]})
        return layout.names({"mediaType": OCI_INDEX, **index}, **created)

    return make


def entries_of(layout):
    return json.loads((layout / "index.json").read_text())["manifests"]


def blob_of(layout, digest):
    return json.loads((layout / "blobs/sha256" / digest[len("sha256:") :]).read_text())


@pytest.mark.parametrize("attested", [False, True])
def test_shares_become_one_image_with_all_that_they_name(tmp_path, exported, attested):
    shares = [
        exported("b", ARM64, attested, created="2026-01-02T00:00:00Z"),
        exported("a", AMD64, attested, created="2026-01-01T00:00:00Z"),
    ]
    declared = Declared(
        BOTH, (APP, OTHER), index=(("i", "x"),), descriptors=((ARM64, "d", "arm"),), layout=(("l", "y"),)
    )
    target = tmp_path / "joined"
    join(shares, str(target), declared, "unused")
    first, second = entries_of(target)
    shared = {CREATED: "2026-01-02T00:00:00Z", "l": "y"}
    assert first["annotations"] == {**shared, NAME: "r.example.com/app:1", TAG: "1"}
    assert second["annotations"] == {**shared, NAME: "docker.io/library/other:latest", TAG: "latest"}
    assert first["digest"] == second["digest"] and first["mediaType"] == OCI_INDEX
    index = blob_of(target, first["digest"])
    assert index["annotations"] == {"i": "x"}
    images = index["manifests"][:2]
    assert [(one["platform"]["architecture"], one.get("annotations")) for one in images] == [
        ("amd64", None),
        ("arm64", {"d": "arm"}),
    ]
    attestations = [one["annotations"]["vnd.docker.reference.digest"] for one in index["manifests"][2:]]
    assert attestations == ([one["digest"] for one in images] if attested else [])
    named = [first["digest"]]
    for entry in index["manifests"]:
        manifest = blob_of(target, entry["digest"])
        named += [entry["digest"], *(one["digest"] for one in (manifest["config"], *manifest["layers"]) if one)]
    assert {f"sha256:{one.name}" for one in (target / "blobs/sha256").iterdir()} == set(named)
    assert (target / "oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'


@pytest.mark.parametrize(("tag", "annotations"), [("latest", {TAG: "latest"}), ("", {})])
def test_an_image_without_a_name(tmp_path, exported, tag, annotations):
    join([exported("a", AMD64, created=""), exported("b", ARM64, created="")], str(tmp_path / "j"), Declared(BOTH), tag)
    assert [entry["annotations"] for entry in entries_of(tmp_path / "j")] == [annotations]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: (path / "index.json").unlink(), "index.json is missing; wanted an OCI layout"),
        (lambda path: (path / "index.json").write_text("[]"), "index.json is no index of an OCI layout"),
        (lambda path: (path / "index.json").write_text('{"manifests": []}'), "0 entries in index.json; wanted one"),
        (lambda path: [one.unlink() for one in (path / "blobs/sha256").iterdir()], "index.json names sha256:.*not in"),
    ],
)
def test_a_share_that_is_broken_is_named(tmp_path, exported, damage, words):
    shares = [exported("a", AMD64), exported("b", ARM64)]
    damage(tmp_path / "b")
    with pytest.raises(FarmError, match=f"^{tmp_path}/b.*{words}"):
        join(shares, str(tmp_path / "joined"), Declared(BOTH))


def test_a_platform_that_no_share_has(tmp_path, exported):
    with pytest.raises(FarmError, match="linux/arm64 is missing"):
        join([exported("a", AMD64)], str(tmp_path / "joined"), Declared(BOTH))


def test_an_archive_is_the_same_bytes_for_the_same_content(tmp_path, exported):
    join([exported("a", AMD64), exported("b", ARM64)], str(tmp_path / "joined"), Declared(BOTH, (APP,)))
    for name in ("one", "two"):
        pack(str(tmp_path / "joined"), str(tmp_path / name))
        (tmp_path / "joined/index.json").touch()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with tarfile.open(tmp_path / "one") as archive:
        members = archive.getmembers()
        (entry,) = json.load(archive.extractfile("index.json"))["manifests"]
        assert json.load(archive.extractfile(entry["digest"].replace("sha256:", "blobs/sha256/")))["manifests"]
    names = [member.name for member in members]
    assert names == sorted(names) and names[:2] == ["blobs", "blobs/sha256"]
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}
    assert {member.mode for member in members if member.isfile()} == {0o444}


def test_a_directory_with_other_images(tmp_path, exported):
    there, joined = tmp_path / "there", tmp_path / "joined"
    join([exported("a", AMD64), exported("b", ARM64)], str(there), Declared(BOTH, (APP, OTHER)))
    old = entries_of(there)
    join([exported("c", AMD64, True), exported("d", ARM64, True)], str(joined), Declared(BOTH, (APP,)))
    (new,) = entries_of(joined)
    keep_others(str(joined), str(there))
    add_blobs(str(joined), str(there))
    assert entries_of(there) == old, "the index comes last"
    write_index(str(joined), str(there))
    assert entries_of(there) == [old[1], new]
    assert all(blob_of(there, entry["digest"]) for entry in entries_of(there))


def test_a_share_names_no_file_outside_of_it(tmp_path, exported):
    share = Layout(tmp_path / "a")
    image = {**share.manifest(AMD64), "platform": {"os": "linux", "architecture": "amd64"}}
    victim = tmp_path / "victim"
    victim.write_text(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image]}))
    share.names({"mediaType": OCI_INDEX, "digest": "sha256:../../../victim", "size": 1})
    with pytest.raises(FarmError, match=r"a: the digest 'sha256:../../../victim' is none"):
        join([str(share.path), exported("b", ARM64)], str(tmp_path / "joined"), Declared(BOTH))
    assert victim.exists()


def test_a_document_of_a_share_has_its_digest(tmp_path, exported):
    share = exported("a", AMD64, attested=True)
    (entry,) = entries_of(tmp_path / "a")
    blob = tmp_path / "a/blobs/sha256" / entry["digest"][len("sha256:") :]
    blob.write_bytes(blob.read_bytes() + b" ")
    with pytest.raises(FarmError, match=f"a: what it has as {entry['digest']} is something else"):
        join([share, exported("b", ARM64)], str(tmp_path / "joined"), Declared(BOTH))


def test_an_archive_writes_nothing_outside_of_its_layout(tmp_path, exported):
    with tarfile.open(tmp_path / "archive", "w") as archive:
        for name in ("index.json", "oci-layout", "blobs/sha256"):
            archive.add(f"{exported(f'for-{name[:5]}', AMD64)}/{name}", name)
        archive.add(tmp_path / "for-index/index.json", f"blobs/sha256/../../../{'0' * 64}")
        link = tarfile.TarInfo(f"blobs/sha256/{'1' * 64}")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    before = sorted(tmp_path.iterdir())
    unpack(str(tmp_path / "archive"), str(tmp_path / "layout"))
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "layout"])
    written = [str(one.relative_to(tmp_path / "layout")) for one in (tmp_path / "layout").rglob("*") if one.is_file()]
    wanted = [f"blobs/sha256/{one.name}" for one in (tmp_path / "for-blobs/blobs/sha256").iterdir()]
    assert sorted(written) == sorted([*wanted, "index.json", "oci-layout"])
    (tmp_path / "broken").write_text("no archive" * 100)
    with pytest.raises(FarmError, match="broken: buildx exported it as an OCI archive, and it is none"):
        unpack(str(tmp_path / "broken"), str(tmp_path / "other"))


def linked(tmp_path, platforms, layouts):
    """What other builds are given of an image that nodes exported so."""
    link, parts = Link.of(str(tmp_path)), []
    for layout in layouts:
        parts.append(link.new_part())
        pack(layout, parts[-1])
    value = link.join(SimpleNamespace(platforms=platforms), parts)
    path, _at, digest = value[len("oci-layout://") :].rpartition("@")
    assert path == link.path
    with open(f"{path}/blobs/sha256/{digest[len('sha256:') :]}", "rb") as stream:
        return json.load(stream)


@pytest.mark.parametrize("attested", [False, True])
def test_a_link_has_the_platforms_of_all_nodes(tmp_path, exported, attested):
    layouts = [exported("a", AMD64, attested=attested), exported("b", ARM64, attested=attested)]
    found = linked(tmp_path, BOTH, layouts)
    images = [entry["platform"] for entry in found["manifests"] if "architecture" in entry["platform"]]
    assert {"architecture": "arm64", "os": "linux"} in images and len(found["manifests"]) == (4 if attested else 2)


@pytest.mark.parametrize("attested", [False, True])
def test_a_link_of_one_platform_is_for_any(tmp_path, exported, attested):
    """BuildKit takes a manifest for every platform, and looks for the right one in an index."""
    found = linked(tmp_path, (), [exported("a", AMD64, attested=attested)])
    assert found["mediaType"] == OCI_MANIFEST
