# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build makes of a directory and its Dockerfile, and how another host is told of it."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.declaration import Image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.notes import forget, note_path
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.sent import name_for
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.sources import Sources
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import FILE, Entry


@pytest.fixture
def context(tmp_path):
    path = tmp_path / "context"
    path.mkdir()
    (path / "Dockerfile").write_bytes(b"FROM scratch # \xff\n")
    (path / "app").write_text("1")
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_directory_is_read_with_its_dockerfile_and_its_ignore_file(context, tmp_path):
    (context / ".dockerignore").write_text("app\n")
    found = Sources.read(str(context), str(context / "Dockerfile"))
    assert set(found.tree) == {b"Dockerfile", b".dockerignore"} and found.doubt == ""
    assert found.dockerfile == "FROM scratch # �\n"
    assert found.files == {name: sha256(context / name) for name in ("Dockerfile", ".dockerignore")}
    outside = tmp_path / "other.Dockerfile"
    outside.write_text("FROM x\n")
    of_other = Sources.read(str(context), str(outside))
    assert (of_other.dockerfile, of_other.files[str(outside)]) == ("FROM x\n", sha256(outside))
    without = Sources.read(str(context), None)
    assert (without.dockerfile, list(without.files)) == ("", [".dockerignore"])
    assert Sources.read(str(context), str(context / "none")).files == without.files


def test_what_is_not_certain_is_said(context):
    (context / ".dockerignore").write_text("[[:alpha:]]\n")
    found = Sources.read(str(context), str(context / "Dockerfile"))
    assert found.tree is None and "named class of characters" in found.doubt
    assert found.dockerfile and set(found.files) == {"Dockerfile", ".dockerignore"}
    (context / ".dockerignore").write_text("[\n")
    with pytest.raises(FarmError):
        Sources.read(str(context), None)


@pytest.mark.parametrize("certain", [True, False])
def test_another_host_is_told_the_same(context, certain):
    if not certain:
        (context / ".dockerignore").write_text("[[:alpha:]]\n")
    found = Sources.read(str(context), str(context / "Dockerfile"))
    told = Sources.from_dict(json.loads(json.dumps(found.as_dict())))
    assert told == found and (told.tree is not None) is certain


def test_notes_of_contents_are_kept(context, tmp_path):
    for name in ("Dockerfile", "app", "."):
        os.utime(context / name, (1000, 1000))
    notes = tmp_path / "notes"
    first = Sources.read(str(context), str(context / "Dockerfile"), notes=str(notes))
    assert first == Sources.read(str(context), str(context / "Dockerfile"), notes=str(notes))
    assert Sources.read(str(context), None, notes=None).tree == first.tree


def test_a_declared_dockerfile_is_the_one_that_is_sent(context):
    sources = Sources({}, dockerfile="FROM told\n")
    common = {"context": str(context)}
    assert Image.from_params({**common, "sources": sources.as_dict()}).dockerfile() == "FROM told\n"
    inline = {**common, "dockerfile_inline": "FROM inline\n"}
    assert Image.from_params({**inline, "sources": sources.as_dict()}).dockerfile() == "FROM inline\n"
    assert Image.from_params(common).dockerfile() == "FROM scratch # �\n"
    assert Image.from_params({"context": "https://example.com/x.git"}).dockerfile() == ""


def test_notes_of_contexts_that_are_used_stay(tmp_path):
    store, tree = tmp_path / "sent", {b"a": Entry(FILE, 0o644, "1" * 64, 1, "", 5)}
    used = name_for(str(store), "/x/used", tree)
    for number in range(70):
        for path in store.glob("*.sent"):
            os.utime(path, (path.stat().st_mtime - 10, path.stat().st_mtime - 10))
        assert name_for(str(store), "/x/used", tree) == used
        name_for(str(store), f"/x/{number}", tree)
    assert len(list(store.glob("*.sent"))) == 64


def test_the_oldest_notes_of_a_kind_are_forgotten(tmp_path):
    for number in range(5):
        for kind in ("sent", "contents"):
            path = note_path(str(tmp_path), str(number), kind)
            with open(path, "w", encoding="ascii"):
                os.utime(path, (number, number))
    forget(str(tmp_path), "sent", 2)
    left = {os.path.basename(note_path(str(tmp_path), str(number), "sent")) for number in (3, 4)}
    assert {path.name for path in tmp_path.glob("*.sent")} == left
    assert len(list(tmp_path.glob("*.contents"))) == 5
    forget(str(tmp_path), "sent", 0)
    assert not list(tmp_path.glob("*.sent"))
