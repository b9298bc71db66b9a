# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of images, as layers over each other make them."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.layers import Files
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.programs import File


def layer(entries, mode="w"):
    """Pack a layer: by path a file's content, None for a directory, or the kind and target of a link."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode) as archive:
        for path, content in entries.items():
            entry = tarfile.TarInfo(path)
            entry.mode = 0o755
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, tuple):
                entry.type, entry.linkname = content
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content if isinstance(content, bytes) else b""))
    return raw


def files(*layers):
    made = Files()
    for one in layers:
        made.add(one if isinstance(one, io.BytesIO) else layer(one))
    return made


def head(made, path, size=4096):
    found = made.read(path, size)
    return found and (found.head if found.kind == "file" else found.target if found.kind == "link" else found.kind)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_name_that_would_fill_the_memory_is_refused(kind):
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, 32 << 20
    packed = io.BytesIO(gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + bytes(32 << 20)))
    tracemalloc.start()
    with pytest.raises(FarmError, match="a layer cannot be read"):
        files(packed)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


class Entries(dict):
    """Entries that count how often all of them are looked at."""

    looks = 0

    def __iter__(self):
        self.looks += 1
        return super().__iter__()


def test_a_file_costs_no_look_at_all_the_others():
    """Layers have tens of thousands of files, new ones and those with another mode."""
    made = files({"usr/lib": None, **{f"usr/lib/{number}": b"x" for number in range(50)}})
    made._entries = Entries(made._entries)
    made.add(layer({f"usr/{folder}/{number}": b"y" for folder in ("lib", "share") for number in range(50)}))
    assert made._entries.looks == 0
    assert head(made, "/usr/lib/7") == b"y" and head(made, "/usr/share/7") == b"y"
    made.add(layer({"usr/lib": b"a file now"}))
    assert head(made, "/usr/lib/7") is None and head(made, "/usr/share/7") == b"y"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_file_is_found_however_it_is_named_and_packed(mode):
    made = files(layer({"./bin/app": b"app", "/sbin/init": b"init", "etc/x": b""}, mode))
    assert [head(made, path) for path in ("/bin/app", "/sbin/init", "/bin", "/bin/no", "/no/app")] == [
        b"app",
        b"init",
        "other",
        None,
        None,
    ]
    assert made.read("/bin/app", 10) == File("file", 0o755, head=b"app")


def test_links_are_followed_to_their_end():
    made = files(
        {
            "usr/bin/app": b"app",
            "bin": (SYM, "usr/bin"),
            "usr/bin/relative": (SYM, "../bin/app"),
            "usr/bin/absolute": (SYM, "/bin/relative"),
            "usr/bin/broken": (SYM, "nowhere"),
            "usr/bin/a": (SYM, "b"),
            "usr/bin/b": (SYM, "a"),
            "usr/bin/hard": (HARD, "usr/bin/app"),
            "up": (SYM, "../../bin/app"),
        }
    )
    assert head(made, "/bin/app") == b"app"
    assert head(made, "/bin/hard") == b"app"
    assert {head(made, path) for path in ("/bin/relative", "/bin/absolute", "/up")} == {"/usr/bin/app"}
    assert head(made, "/bin/broken") == "/usr/bin/nowhere"
    assert head(made, "/bin/a") == "other"
    assert head(made, "/bin/../bin/app") == b"app"


def test_a_layer_hides_what_it_replaces_and_removes():
    lower = {"app": b"old", "d/one": b"1", "d/two": b"2", "e/one": b"1", "f/one": b"1", "kept": b"kept"}
    upper = {
        "app": b"new",
        "d/.wh.one": b"",
        "e/.wh..wh..opq": b"",
        "e/new": b"new",
        ".wh.f": b"",
        "hard": (HARD, "kept"),
    }
    made = files(lower, upper)
    paths = ("/app", "/d/one", "/d/two", "/e/one", "/e/new", "/f/one", "/f", "/kept", "/hard")
    assert [head(made, path) for path in paths] == [b"new", None, b"2", None, b"new", None, None, b"kept", b"kept"]
    made.add(layer({"d": b"a file now"}))
    assert (head(made, "/d"), head(made, "/d/two")) == (b"a file now", None)
    made.add(layer({"d": None, "d/three": b"3"}))
    assert (head(made, "/d"), head(made, "/d/three")) == ("other", b"3")


def test_more_than_the_beginning_is_read_when_it_is_asked_for():
    made = files({"app": b"x" * 10000})
    assert [len(head(made, "/app", size)) for size in (100, 4096, 9000, 20000)] == [4096, 4096, 9000, 10000]


def test_what_is_no_archive_is_an_error():
    with pytest.raises(FarmError, match="a layer cannot be read"):
        files(io.BytesIO(b"no archive" * 100))


@pytest.mark.parametrize(("mode", "found"), [(0o755, b"app"), (0o641, b"app"), (0o610, b"app"), (0o646, b"")])
def test_of_what_nobody_may_start_nothing_is_read(mode, found):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        entry = tarfile.TarInfo("app")
        entry.mode, entry.size = mode, 3
        archive.addfile(entry, io.BytesIO(b"app"))
    assert files(raw).read("/app", 10) == File("file", mode, head=found)


def test_what_is_neither_file_nor_link_nor_directory():
    made = files({"dev/pipe": (tarfile.FIFOTYPE, "")})
    assert made.read("/dev/pipe", 10) == File("other")
