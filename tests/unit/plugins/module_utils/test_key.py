# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys, records, what builds fetched, and whether that is still the same."""

from __future__ import annotations

import base64
import http.server
import json
import os
import threading
import zlib
from dataclasses import replace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result, run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.fetcher import Change, Fetcher
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.inputs import Inputs
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.record import (
    INPUTS,
    KEY,
    ROOM,
    SCHEMA_OF,
    ForeignRecord,
    Record,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.sources import (
    GIT,
    HTTP,
    IMAGE,
    Source,
    read_sources,
    sources_of_bases,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.store import Records
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import (
    OCI_INDEX,
    Document,
    digest_of,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import FILE, Entry

AMD, ARM = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
DIGEST = "sha256:" + "a" * 64
BUSYBOX = "registry.farm.test:5000/library/busybox"


def tree(**files):
    return {name.encode(): Entry(FILE, 0o644, text * 64, 1) for name, text in files.items()}


class TestInputs:
    def test_the_key_is_of_all_that_is_in_them(self):
        inputs = Inputs({"build arg A": "1"}, {"": tree(a="1")})
        others = [
            Inputs({"build arg A": "2"}, inputs.trees),
            Inputs({"build arg B": "1"}, inputs.trees),
            Inputs(inputs.fields, {"": tree(a="2")}),
            Inputs(inputs.fields, {"other": tree(a="1")}),
            inputs.and_field("the platforms", ["linux/amd64"]),
        ]
        assert len({one.key for one in [inputs, *others]}) == 6
        assert len(inputs.key) == 64

    def test_doubts_are_none_of_the_key(self):
        assert Inputs({}, {}).key == Inputs({}, {}, ("no_cache is set",)).key


class TestRecord:
    inputs = Inputs({"build arg TOKEN": "0123456789abcdef" * 4, "label a": "f" * 64}, {"": tree(main="1", other="2")})
    source = Source(IMAGE, "docker.io/library/debian:13", DIGEST, "linux/amd64", "sha256:b", ("linux/amd64",))

    def test_what_is_written_is_read(self, tmp_path):
        record = Record.of(self.inputs, (self.source,), {"linux/amd64": DIGEST}, "sha256:c")
        assert Record.from_annotations({"other": "x", **record.annotations}) == record
        assert Record.from_json(record.to_json()) == record
        assert Record.from_annotations({"other": "x"}) is None

    def test_it_proves_no_value(self):
        record = Record.of(self.inputs, (), {})
        assert record.fields["build arg TOKEN"] == "01234567"
        assert "0123456789" not in record.to_json().decode()

    @pytest.mark.parametrize(
        "change",
        [{SCHEMA_OF: "9"}, {INPUTS: ""}, {INPUTS: "!!"}, {INPUTS: "eJwrSS0uAQAEXQHB"}, {SCHEMA_OF: ""}],
    )
    def test_of_another_version_or_broken_it_is_foreign(self, change):
        annotations = {**Record.of(self.inputs, (), {}).annotations, **change}
        with pytest.raises(ForeignRecord):
            Record.from_annotations(annotations)

    @pytest.mark.parametrize(("text", "times", "why"), [(b"[", 100_000, "recursion"), (b" ", 65 << 20, "more than")])
    def test_one_that_would_fill_the_memory_is_foreign(self, text, times, why):
        packed = base64.b64encode(zlib.compress(text * times)).decode()
        annotations = {**Record.of(self.inputs, (), {}).annotations, INPUTS: packed}
        with pytest.raises(ForeignRecord, match=f"broken: .*{why}"):
            Record.from_annotations(annotations)

    @pytest.mark.parametrize(
        "of_tree",
        [
            "text",
            {"schema": 2},
            {"schema": 1},
            {"schema": 1, "digest": "x", "modeless": "", "modes": {}, "tree": {"main": ""}},
            {"schema": 1, "digest": "x", "modeless": "", "modes": {}, "tree": {"main": ["f0644", 7]}},
            {"schema": 1, "digest": "x", "modeless": "", "modes": {}, "tree": {"main": "?0755"}},
        ],
    )
    def test_what_it_says_of_a_tree_may_be_anything(self, of_tree):
        record = replace(Record.of(self.inputs, (), {}), trees={"": of_tree})
        assert record.changes(self.inputs) == ["the context differs from what its record can tell"]

    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": 9}', b'{"schema": 1, "key": "a"}'])
    def test_in_a_file_too(self, content):
        with pytest.raises(ForeignRecord):
            Record.from_json(content)

    def test_it_fits_whatever_the_tree(self):
        many = {
            f"d{number % 97}/file{number}".encode(): Entry(FILE, 0o644, os.urandom(32).hex(), number)
            for number in range(20000)
        }
        folders = {f"d{number}".encode(): Entry("directory", 0o755) for number in range(97)}
        record = Record.of(Inputs({}, {"": dict(sorted({**folders, **many}.items()))}), (), {})
        assert sum(len(value) for value in record.annotations.values()) <= ROOM + 200

    def test_it_says_what_differs(self):
        record = Record.of(self.inputs, (), {})
        later = Inputs({"build arg TOKEN": "9" * 64}, {"": tree(main="3", other="2"), "extra": tree(x="1")})
        assert record.changes(later) == [
            "main changed",
            "named context extra is new",
            "build arg TOKEN changed",
            "label a is gone",
        ]
        assert "the context is a directory now" in Record.of(Inputs({}, {}), (), {}).changes(self.inputs)
        assert record.changes(self.inputs) == []


def provenance(*materials, version=0.2):
    listed = [{"uri": uri, "digest": digest} for uri, digest in materials]
    return {"materials": listed} if version == 0.2 else {"buildDefinition": {"resolvedDependencies": listed}}


class TestSources:
    @pytest.mark.parametrize("version", [0.2, 1])
    def test_provenance_tells_what_each_platform_was_built_with(self, version):
        image = (f"pkg:docker/{BUSYBOX}@latest?platform=linux%2F{{}}", {"sha256": "a" * 64})
        metadata = {
            f"buildx.build.provenance/linux/{arch}": provenance((image[0].format(arch), image[1]), version=version)
            for arch in ("amd64", "arm64")
        }
        assert read_sources((AMD, ARM), metadata, [], (), True) == tuple(
            Source(IMAGE, f"{BUSYBOX}:latest", DIGEST, platform, "", (platform,))
            for platform in ("linux/amd64", "linux/arm64")
        )

    def test_of_one_platform_it_names_none(self):
        metadata = {
            "buildx.build.ref": "a/b/c",
            "buildx.build.provenance": provenance(
                ("pkg:docker/docker/dockerfile@1", {"sha256": "b" * 64}),
                ("pkg:docker/busybox@1?digest=sha256:cc&platform=linux%2Farm64", {"sha256": "c" * 64}),
                ("https://example.com/a.tar", {"sha256": "d" * 64}),
                ("https://example.com/app.git#main", {"sha1": "e" * 40}),
                ("pkg:oci/layout?x=y", {"sha256": "f" * 64}),
            ),
        }
        assert read_sources((ARM,), metadata, [("", "ignored:1@" + DIGEST)], (), True) == (
            Source(IMAGE, "docker.io/docker/dockerfile:1", "sha256:" + "b" * 64, targets=("linux/arm64",)),
            Source(HTTP, "https://example.com/a.tar", targets=("linux/arm64",)),
            Source(GIT, "https://example.com/app.git#main", "e" * 40, targets=("linux/arm64",)),
        )

    def test_without_it_the_progress_does(self):
        printed = [("linux/amd64", f"{BUSYBOX}:1@{DIGEST}"), ("", "https://example.com/x"), ("", "repo/app@" + DIGEST)]
        amd, both = ("linux/amd64",), ("linux/amd64", "linux/arm64")
        web = Source(HTTP, "https://example.com/x", targets=both)
        assert read_sources((AMD, ARM), {}, printed, (), False) == (
            Source(IMAGE, f"{BUSYBOX}:1", DIGEST, "linux/amd64", "", amd),
            web,
        )
        # A stage for the node's own platform may be of use to any.
        assert read_sources((AMD, ARM), {}, printed, (), True) == (
            Source(IMAGE, f"{BUSYBOX}:1", DIGEST, targets=both),
            web,
        )
        assert read_sources((ARM,), {}, [("", f"{BUSYBOX}:1@{DIGEST}")], (), False) == (
            Source(IMAGE, f"{BUSYBOX}:1", DIGEST, "linux/arm64", "", ("linux/arm64",)),
        )

    def test_what_is_shown_of_another_build_is_none_of_this_one(self):
        own, other = (f"r.example.com/base:{tag}" for tag in ("own", "other"))
        printed = [("", f"{own}@{DIGEST}"), ("", f"{other}@{DIGEST}")]
        arm = ("linux/arm64",)
        known = Source(IMAGE, own, DIGEST, "linux/arm64", "", arm)
        assert read_sources((ARM,), {}, printed, {own}, False) == (known,)
        assert read_sources((ARM,), {}, printed, {own, f"{other}@{DIGEST}"}, False) == (known,)
        # Its own name may be missing then, so that what it was cannot be told.
        assert read_sources((ARM,), {}, printed[1:], {own}, False) == (Source(IMAGE, own, targets=arm),)

    def test_bases_of_the_list_are_asked_for_by_name(self):
        found = sources_of_bases((AMD, ARM), {"r.example.com/base:1": f"r.example.com/base@{DIGEST}"}, False)
        assert [(one.name, one.digest, one.platform, one.targets) for one in found] == [
            ("r.example.com/base:1", DIGEST, platform, (platform,)) for platform in ("linux/amd64", "linux/arm64")
        ]

    @pytest.mark.parametrize(
        "values", [["image", "a"], ["other", "a", "", "", "", []], ["image", "a", "", "", "", "b"]]
    )
    def test_a_broken_record_is_none(self, values):
        with pytest.raises(ValueError):
            Source.from_list(values)


def base(note="", **digests):
    entries = [
        {"digest": digest, "size": 1, "platform": {"os": "linux", "architecture": arch}}
        for arch, digest in digests.items()
    ]
    content = json.dumps({"mediaType": OCI_INDEX, "manifests": entries, "note": note}).encode()
    return Document(digest_of(content), OCI_INDEX, content)


class Registry:
    """What a registry has, by names with tags."""

    def __init__(self, **found):
        self.found = found
        self.asked = []

    def digest(self, reference):
        self.asked.append(str(reference))
        if reference.tag == "broken":
            raise FarmError("the registry answers 500")
        found = self.found.get(reference.tag)
        return found.digest if found else None

    def manifest(self, reference):
        return next((one for one in self.found.values() if one.digest == reference.digest), None)


def image_source(document, platform="linux/amd64", manifest="", tag="now"):
    return Source(IMAGE, f"docker.io/library/base:{tag}", document.digest, platform, manifest, (platform,))


class TestFetcher:
    old, rebuilt_arm = base(amd64="sha256:1", arm64="sha256:2"), base(amd64="sha256:1", arm64="sha256:3")

    def changes(self, registry, *sources, runner=None, checks=True):
        return Fetcher(registry, runner, checks).changes(sources)

    def test_the_image_of_the_platform_is_noted(self):
        (source,) = Fetcher(Registry(old=self.old), None, True).completed([image_source(self.old)])
        assert source.manifest == "sha256:1"

    def test_what_is_the_same_is_no_change(self):
        assert self.changes(Registry(now=self.old), image_source(self.old)) == {}

    def test_another_platforms_image_is_none_of_this_one(self):
        amd = image_source(self.old, manifest="sha256:1")
        arm = image_source(self.old, "linux/arm64", "sha256:2")
        found = self.changes(Registry(now=self.rebuilt_arm), amd, arm)
        words = f"base image docker.io/library/base:now moved from {self.old.digest} to {self.rebuilt_arm.digest}"
        assert found == {arm: Change(words, True)}

    def test_without_a_note_of_the_platform_any_other_index_is_a_change(self):
        assert list(self.changes(Registry(now=self.rebuilt_arm), image_source(self.old))) == [image_source(self.old)]

    def test_each_thing_is_asked_for_once(self):
        registry = Registry(now=self.old)
        self.changes(registry, image_source(self.old), image_source(self.old, "linux/arm64"))
        assert registry.asked == ["docker.io/library/base:now"]

    @pytest.mark.parametrize(
        ("tag", "words"),
        [("gone", "is not there any more"), ("broken", "cannot be told: the registry answers 500")],
    )
    def test_what_cannot_be_told_says_so(self, tag, words):
        source = image_source(self.old, tag=tag)
        change = self.changes(Registry(), source)[source]
        assert words in change.words and not change.certain

    @pytest.mark.parametrize(
        ("output", "changed"),
        [
            (f"{'e' * 40}\trefs/heads/main\n", False),
            (f"{'1' * 40}\trefs/tags/v1\n{'e' * 40}\trefs/tags/v1^{{}}\n", False),
            (f"{'2' * 40}\trefs/heads/main\n", True),
            # git tells of all that ends so.
            (f"{'1' * 40}\trefs/heads/feature/main\n{'e' * 40}\trefs/heads/main\n", False),
            (f"{'e' * 40}\trefs/heads/feature/main\n{'2' * 40}\trefs/heads/main\n", True),
            # As for BuildKit, a branch goes before a tag, and what a tag is about before the tag.
            (f"{'e' * 40}\trefs/heads/main\n{'1' * 40}\trefs/tags/main\n{'2' * 40}\trefs/tags/main^{{}}\n", False),
            (f"{'1' * 40}\trefs/tags/main\n{'e' * 40}\trefs/tags/main^{{}}\n", False),
            ("", True),
        ],
    )
    def test_git_is_asked_for_the_commit(self, output, changed):
        def runner(argv, **_options):
            assert argv[:3] == ["git", "ls-remote", "--"]
            return Result(tuple(argv), 0, output, "")

        source = Source(GIT, "https://example.com/app.git#main:sub", "e" * 40)
        assert bool(self.changes(None, source, runner=runner)) == changed
        assert self.changes(None, source, runner=runner, checks=False) == {}

    def test_a_record_lets_nobody_see_the_files_of_this_host(self, tmp_path):
        repository, file = tmp_path / "repository", tmp_path / "file"
        file.write_text("")
        for words in (["init", "-q", "."], ["commit", "-q", "--allow-empty", "-m", "first"]):
            repository.mkdir(exist_ok=True)
            run(["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.com", *words])
        sources = [
            Source(GIT, f"file://{repository}", "e" * 40),
            Source(GIT, str(repository), "e" * 40),
            Source(HTTP, f"file://{file}", '"1"'),
            Source(HTTP, "data:,x", '"1"'),
        ]
        found = self.changes(None, *sources, runner=run)
        assert [found[one].certain for one in sources] == [False] * 4
        shown = [found[one].words for one in sources]
        assert all("transport 'file' not allowed" in one for one in shown[:2])
        assert all("wanted http or https" in one for one in shown[2:])

    def test_git_that_fails_tells_nothing(self):
        source = Source(GIT, "https://example.com/app.git", "e" * 40)
        failed = self.changes(None, source, runner=lambda argv, **_options: Result(tuple(argv), 128, "", "fatal: no"))
        assert "fatal: no" in failed[source].words and not failed[source].certain

    @pytest.fixture
    def web(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                if self.path == "/odd":
                    self.wfile.write(b"no HTTP at all\r\n\r\n")
                    return
                self.send_response(404 if self.path == "/gone" else 200)
                if self.path == "/tagged":
                    self.send_header("ETag", self.server.version)
                self.end_headers()

            def log_message(self, *_arguments):
                """Say nothing."""

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        server.version = '"1"'
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
        server.server_close()

    def test_a_file_is_told_by_its_etag(self, web):
        url = f"http://127.0.0.1:{web.server_port}"
        fetcher = Fetcher(None, None, True)
        tagged, plain = fetcher.completed([Source(HTTP, f"{url}/tagged"), Source(HTTP, f"{url}/plain")])
        assert tagged.digest == '"1"'
        assert list(fetcher.changes([tagged, plain])) == [plain]
        web.version = '"2"'
        assert fetcher.changes([tagged])[tagged].certain
        gone = Source(HTTP, f"{url}/gone", '"1"')
        assert fetcher.changes([gone])[gone].words.endswith("is not there any more")

    @pytest.mark.parametrize("path", ["/odd", "/with a blank"])
    def test_what_speaks_no_http_tells_nothing(self, web, path):
        odd = Source(HTTP, f"http://127.0.0.1:{web.server_port}{path}", '"1"')
        change = Fetcher(None, None, True).changes([odd])[odd]
        assert "cannot be told" in change.words and not change.certain


class TestRecords:
    record = Record.of(Inputs({}, {}), (), {}, "sha256:1")

    def test_that_of_a_file_lies_beside_it(self, tmp_path):
        Records(tmp_path / "buildx").write(f"{tmp_path}/out/", self.record)
        assert json.loads((tmp_path / "out.buildfarm.json").read_text())["content"] == "sha256:1"
        assert Records(tmp_path / "elsewhere").read(f"{tmp_path}/out") == self.record

    def test_others_are_kept_here(self, tmp_path):
        records = Records(tmp_path)
        assert records.read("engine a:1") is None
        records.write("engine a:1", self.record)
        assert records.read("engine a:1") == self.record
        assert records.read("engine a:2") is None
        (path,) = (tmp_path / "buildfarm/records").iterdir()
        path.write_text("{}")
        with pytest.raises(ForeignRecord):
            records.read("engine a:1")

    def test_their_number_is_bounded(self, tmp_path):
        records, folder = Records(tmp_path), tmp_path / "buildfarm/records"
        folder.mkdir(parents=True)
        for number in range(1005):
            path = folder / f"{number}.json"
            path.touch()
            os.utime(path, (number, number))
        records.write("engine a:1", self.record)
        assert len(list(folder.iterdir())) == 1000 and records.read("engine a:1")
        assert not (folder / "5.json").exists() and (folder / "6.json").exists()

    def test_what_cannot_be_written_is_left_out(self, tmp_path):
        Records(tmp_path).write(f"{tmp_path}/missing/out", self.record)
        assert not (tmp_path / "missing").exists()
        assert KEY.endswith(".key")


class TestOddSources:
    """What is rarely fetched, or cannot be told of what was."""

    @pytest.mark.parametrize(
        ("printed", "kept"),
        [
            (("", "https://example.com/a.tar"), (HTTP, "https://example.com/a.tar")),
            (("", "https://example.com/a.git#main"), (GIT, "https://example.com/a.git#main")),
            (("", f"repo/app@{DIGEST}"), None),
            (("", f"Not:Valid@{DIGEST}"), None),
        ],
    )
    def test_of_the_progress(self, printed, kept):
        found = [(one.kind, one.name) for one in read_sources((AMD,), {}, [printed], (), False)]
        assert found == ([kept] if kept else [])

    @pytest.mark.parametrize(
        "uri", ["pkg:docker/base@1?digest=sha256:aa", "pkg:docker/Not%20Valid@1", "pkg:npm/left@1", "", "plain"]
    )
    def test_of_a_provenance_what_cannot_be_another_one(self, uri):
        metadata = {"buildx.build.provenance": provenance((uri, {"sha256": "a" * 64}))}
        assert read_sources((AMD,), metadata, [], (), True) == ()

    @pytest.mark.parametrize("value", [None, [], "text"])
    def test_of_a_provenance_that_is_none(self, value):
        printed = [("", "https://example.com/a.tar")]
        for metadata in ({"buildx.build.provenance/linux/amd64": value}, {"buildx.build.provenance": {}}):
            assert [one.kind for one in read_sources((AMD,), metadata, printed, (), True)] == [HTTP]

    def test_an_image_without_a_tag_in_a_provenance(self):
        metadata = {"buildx.build.provenance": provenance(("pkg:docker/busybox", {"sha256": "a" * 64}))}
        (found,) = read_sources((AMD,), metadata, [], (), True)
        assert found == Source(IMAGE, "docker.io/library/busybox:latest", DIGEST, targets=("linux/amd64",))

    def test_one_source_of_several_platforms_is_one(self):
        item = ("https://example.com/a.tar", {"sha256": "d" * 64})
        metadata = {f"buildx.build.provenance/linux/{arch}": provenance(item, item) for arch in ("amd64", "arm64")}
        (found,) = read_sources((AMD, ARM), metadata, [], (), True)
        assert found.targets == ("linux/amd64", "linux/arm64")

    def test_how_sources_are_called(self):
        named = [Source(IMAGE, "a:1"), Source(GIT, "https://me:secret@example.com/x.git"), Source(HTTP, "http://x")]
        assert list(map(str, named)) == [
            "base image a:1",
            "git repository https://***@example.com/x.git",
            "file http://x",
        ]
        assert [Source.from_list(one.as_list()) for one in named] == named


class TestOddAnswers:
    """What has become of a source cannot always be told."""

    old = base(amd64="sha256:1", arm64="sha256:2")

    @pytest.mark.parametrize("found", [{}, {"old": base(note="other", s390x="sha256:9")}])
    def test_an_image_whose_platform_is_not_there_is_not_noted(self, found):
        (source,) = Fetcher(Registry(**found), None, True).completed([image_source(self.old)])
        assert source == image_source(self.old)

    def test_a_registry_that_does_not_answer_leaves_it_without_a_note(self):
        class Broken:
            def manifest(self, reference):
                raise FarmError("500")

            def digest(self, reference):
                return "sha256:new"

        (source,) = Fetcher(Broken(), None, True).completed([image_source(self.old)])
        assert source == image_source(self.old)
        noted = image_source(self.old, manifest="sha256:1")
        assert Fetcher(Broken(), None, True).changes([noted])[noted].certain

    @pytest.mark.parametrize("missing", ["platform", "digest"])
    def test_what_lacks_something_is_left_as_it_is(self, missing):
        source = replace(image_source(self.old), **{missing: ""})
        assert Fetcher(None, None, True).completed([source]) == (source,)

    def test_files_from_the_web_are_not_asked_for_where_they_do_not_count(self):
        source = Source(HTTP, "http://127.0.0.1:1/x", '"1"')
        assert Fetcher(None, None, False).completed([source]) == (source,)
        assert Fetcher(None, None, False).changes([source]) == {}

    def test_a_server_that_does_not_answer_tells_nothing(self):
        source = Source(HTTP, "http://127.0.0.1:1/x")
        fetcher = Fetcher(None, None, True)
        assert fetcher.completed([source]) == (source,)
        assert not fetcher.changes([source])[source].certain

    @pytest.mark.parametrize(
        ("name", "asked"),
        [
            ("https://example.com/a.git", ["https://example.com/a.git", "HEAD", "HEAD^{}"]),
            ("git+https://example.com/a.git#v1:sub", ["https://example.com/a.git", "v1", "v1^{}"]),
            (f"https://example.com/a.git#{'e' * 40}", None),
        ],
    )
    def test_what_git_is_asked(self, name, asked):
        ran = []

        def runner(argv, env=None, timeout=None):
            ran.append(argv)
            assert env["GIT_TERMINAL_PROMPT"] == "0" and timeout
            return Result(tuple(argv), 0, f"warning\n{'e' * 40}\tHEAD\n", "")

        source = Source(GIT, name, "e" * 40)
        assert Fetcher(None, runner, True).changes([source]) == {}
        assert ran == ([["git", "ls-remote", "--", *asked]] if asked else [])


def test_a_number_that_is_no_schema_of_today_is_told():
    text = json.dumps({"schema": 9, "key": "a"}).encode()
    with pytest.raises(ForeignRecord, match="schema 9, wanted 1"):
        Record.from_json(text)
    with pytest.raises(ForeignRecord, match=r"^broken: "):
        Record.from_json(b"{}")


def test_a_named_context_that_is_gone_is_told():
    before = Record.of(Inputs({}, {"": tree(a="1"), "data": tree(a="1")}), (), {})
    assert before.changes(Inputs({}, {"": tree(a="1")})) == ["named context data is gone"]
    assert before.changes(Inputs({}, {"": tree(a="1"), "data": tree(a="2")})) == ["data: a changed"]
