# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import os
import tarfile

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.content import content_digest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.output import (
    ARCHIVE,
    CACHE,
    ENGINE,
    FILE,
    REGISTRY,
    TREE,
    Output,
    check_combination,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError


@pytest.mark.parametrize(
    ("raw", "argument", "kind"),
    [
        ({"type": "registry"}, "type=registry", REGISTRY),
        ({"type": "image", "options": {"push": True}}, "type=image,push=true", REGISTRY),
        ({"type": "image"}, "type=image", CACHE),
        ({"type": "docker"}, "type=docker", ENGINE),
        ({"type": "docker", "dest": "/x/i.tar"}, "type=docker,dest=/x/i.tar", ARCHIVE),
        ({"type": "oci", "dest": "/x/a,b"}, 'type=oci,"dest=/x/a,b"', ARCHIVE),
        ({"type": "local", "dest": "/x/"}, "type=local,dest=/x", TREE),
        ({"type": "tar", "dest": "/x/t"}, "type=tar,dest=/x/t", FILE),
        (
            {"type": "registry", "options": {"compression-level": 3, "annotation.a": 'b "c"'}},
            'type=registry,"annotation.a=b ""c""",compression-level=3',
            REGISTRY,
        ),
    ],
)
def test_argument_and_kind(raw, argument, kind):
    output = Output.from_params(raw)
    assert (output.argument(), output.kind("docker-container")) == (argument, kind)


def test_the_docker_driver_keeps_images_in_its_engine():
    assert Output("image").kind("docker") == ENGINE


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"type": "local"}, "output local: dest is missing; wanted the path of a directory"),
        ({"type": "oci"}, "dest is missing; wanted the path of a file"),
        ({"type": "tar", "dest": "-"}, "standard output"),
        ({"type": "registry", "dest": "/x"}, "has no dest; found '/x'"),
        ({"type": "registry", "options": {"push": False}}, "contradicts"),
        ({"type": "image", "options": {"Name": "x"}}, "use the module's option tags"),
        ({"type": "image", "options": {"push-by-digest": True}}, "not supported"),
        ({"type": "image", "options": {"a": ["b"]}}, "option a: wanted text, found list"),
    ],
)
def test_contradictions_are_refused(raw, words):
    with pytest.raises(FarmError, match=words):
        Output.from_params(raw)


@pytest.mark.parametrize(
    ("outputs", "tags", "platforms", "attested", "words"),
    [
        ([Output("registry")], [], 1, False, "push: tags are missing"),
        ([Output("docker")], [], 1, False, "load: tags are missing"),
        ([Output("docker", "/x")], ["a"], 2, False, "2 platforms need an index; use type oci"),
        ([Output("docker", "/x")], ["a"], 1, True, "attestations need an index"),
        ([Output("tar", "/x"), Output("oci", "/x")], [], 1, False, "/x is the dest of two outputs"),
    ],
)
def test_combinations_that_cannot_work_are_refused(outputs, tags, platforms, attested, words):
    with pytest.raises(FarmError, match=words):
        check_combination(outputs, tags, platforms, attested)


def test_places_are_checked_before_anything_is_built(tmp_path):
    (tmp_path / "file").touch()
    for output, words in (
        (Output("tar", str(tmp_path)), "is a directory; wanted the path of a file"),
        (Output("local", str(tmp_path / "file")), "is a file; wanted the path of a directory"),
        (Output("oci", str(tmp_path / "no/x.tar")), f"there is no directory {tmp_path}/no; create it first"),
    ):
        with pytest.raises(FarmError, match=words):
            output.check_dest()
    (tmp_path / "link").symlink_to(tmp_path / "gone/x.tar")
    with pytest.raises(FarmError, match=f"there is no directory {tmp_path}/gone; create it first"):
        Output("oci", str(tmp_path / "link")).check_dest()
    Output("local", str(tmp_path / "a/b/c")).check_dest()
    Output("oci", str(tmp_path / "x.tar")).check_dest()


def test_a_directory_that_an_earlier_task_would_have_made_is_only_warned_of_in_check_mode(tmp_path):
    (tmp_path / "file").touch()
    assert Output("tar", str(tmp_path / "x.tar")).check_dest(lenient=True) == ()
    (warning,) = Output("tar", str(tmp_path / "no/x.tar")).check_dest(lenient=True)
    assert warning == f"output tar: dest {tmp_path}/no/x.tar: there is no directory {tmp_path}/no yet"
    with pytest.raises(FarmError, match="create it first"):
        Output("tar", str(tmp_path / "file/x.tar")).check_dest(lenient=True)


def _archive(path, created, digest="sha256:1", tag="app:1"):
    annotations = {"io.containerd.image.name": tag, "org.opencontainers.image.created": created}
    index = json.dumps({"manifests": [{"digest": digest, "annotations": annotations}]}).encode()
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("index.json")
        entry.size = len(index)
        archive.addfile(entry, io.BytesIO(index))


def test_an_archive_is_the_same_whenever_it_was_exported(tmp_path):
    output, path = Output("oci", str(tmp_path / "a.tar")), str(tmp_path / "a.tar")
    assert content_digest(output, path) is None
    _archive(path, "2026-01-01T00:00:00Z")
    first = content_digest(output, path)
    _archive(path, "2026-01-02T00:00:00Z")
    assert content_digest(output, path) == first
    for change in ({"digest": "sha256:2"}, {"tag": "app:2"}):
        _archive(path, "2026-01-01T00:00:00Z", **change)
        assert content_digest(output, path) != first


def test_in_a_directory_that_images_share_the_content_is_that_of_ones_own(tmp_path):
    output = Output("oci", str(tmp_path), (("tar", "false"),))

    def digest_of(*found, names=("r/a:1", "r/b:1")):
        entries = [{"digest": one, "annotations": {"io.containerd.image.name": name}} for name, one in found]
        (tmp_path / "index.json").write_text(json.dumps({"manifests": entries}))
        return content_digest(output, output.dest, names)

    own = digest_of(("r/a:1", "sha256:1"), ("r/b:1", "sha256:1"))
    assert digest_of(("r/b:1", "sha256:1"), ("r/c:1", "sha256:2"), ("r/a:1", "sha256:1")) == own
    assert digest_of(("r/a:1", "sha256:1"), ("r/c:1", "sha256:1")) != own
    assert digest_of(("r/c:1", "sha256:1")) is None
    assert digest_of(("r/c:1", "sha256:1"), names=()) is not None
    early = {"digest": "sha256:1", "annotations": {"org.opencontainers.image.ref.name": "r/a:1,r/b:1"}}
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [early]}))
    assert [content_digest(output, output.dest, [name]) is None for name in ("r/a:1", "r/b:1", "r/c:1")] == [0, 0, 1]
    one, same, other = (output.record_name(names) for names in (["r/a:1", "r/b:1"], ["r/b:1", "r/a:1"], ["r/c:1"]))
    assert one == same != other and one.startswith(f"{tmp_path}.")
    assert (output.record_name([]), Output("oci", "/x.tar").record_name(["r/a:1"])) == (str(tmp_path), "/x.tar")


def test_what_is_no_archive_is_not_overwritten(tmp_path):
    (tmp_path / "a.tar").write_text("a letter")
    with pytest.raises(FarmError, match=r"a\.tar cannot be compared .*; remove it, or choose another dest"):
        content_digest(Output("oci", ""), str(tmp_path / "a.tar"))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda root: os.utime(root / "d/f", (1, 1)), True),
        (lambda root: (root / "d/f").write_text("other"), False),
        (lambda root: (root / "d/f").chmod(0o755), False),
        (lambda root: (root / "d/f").rename(root / "d/g"), False),
        (lambda root: (root / "empty").mkdir(), False),
        (lambda root: ((root / "link").unlink(), (root / "link").symlink_to("elsewhere")), False),
    ],
)
def test_a_tree_is_its_names_modes_links_and_contents(tmp_path, change, same):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("text")
    (tmp_path / "d/f").chmod(0o644)
    (tmp_path / "link").symlink_to("d/f")
    output = Output("local", str(tmp_path))
    before = content_digest(output, output.dest)
    change(tmp_path)
    assert (content_digest(output, output.dest) == before) is same
