# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What changes of an image make it to be built, and what is said of why: on the controller that built it, on another
one that never did, in check mode and for real.

Each case is an image of its own. All are built by one task; then each is changed in its way, on both controllers and in
the registry; then both decide, and each builds a half of what there is to build.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import seed
from ansible_runs import LiveFarm, shell, task
from building import ARM as WEB_HOST
from building import BUILDER, CONTROLLERS, PLATFORMS, BuildFarm, build_farm

OLD, FRESH = CONTROLLERS
COPIED = "FROM BASE\nCOPY . /srv/\n"
#: What is done.
NOTHING, ALL, TAGS = "nothing", "all", "tags"
ARM = PLATFORMS[1]
EVERYTHING = "*\n!note\n"


@dataclass(frozen=True)
class Case:
    """One change.

    :ivar decision: what is built: NOTHING, ALL, TAGS for none, or the only platform.
    :ivar reasons: regular expressions of what is said, in this order and nothing else.
    :ivar change: a shell command in the context's directory, on both controllers.
    :ivar in_registry: what somebody else does in the registry, see `Somebody`.
    :ivar files: of the context, beside a file `note` with the text `text`.
    :ivar before: options of the image when it is first built.
    :ivar after: those that differ later; None is left out.
    :ivar again: whether the next run has to build it again.
    :ivar only_check: whether it cannot be built.
    """

    decision: str
    reasons: tuple[str, ...] = ()
    change: str = ""
    in_registry: str = ""
    dockerfile: str = COPIED
    files: dict[str, str] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    again: bool = False
    only_check: bool = False


SAME_TIME = "touch -r note .time; {}; touch -r .time note; rm .time"
BOTH = {"platforms": PLATFORMS}
MANY = "i=0; while [ $i -lt 40 ]; do echo $i > f$i; i=$((i+1)); done; chmod 644 f*"

CASES: dict[str, Case] = {
    # Sources.
    "unchanged": Case(NOTHING),
    "content": Case(ALL, ("note changed",), "echo new > note"),
    "content-of-same-size-and-time": Case(ALL, ("note changed",), SAME_TIME.format("printf TEXT > note")),
    "mode": Case(ALL, (r"note has another mode \(0644 → 0600\)",), "chmod 600 note"),
    "setuid": Case(ALL, (r"note has another mode \(0644 → 4644\)",), "chmod u+s note"),
    "link-target": Case(
        ALL, ("link link points to other, pointed to note",), "ln -sfn other link", files={"link": "@note"}
    ),
    "file-becomes-link": Case(ALL, ("note is a link, was a file",), "ln -sf other note"),
    "rename": Case(ALL, ("other is new", "note is gone"), "mv note other"),
    "new-file": Case(ALL, ("more is new",), "echo > more"),
    "gone-file": Case(ALL, ("more is gone",), "rm more", files={"more": "x"}),
    "empty-directory": Case(ALL, ("empty/ is new",), "mkdir empty"),
    "directory-mode": Case(ALL, (r"sub/ has another mode \(0755 → 0700\)",), "chmod 700 sub", files={"sub/a": "x"}),
    "directory-with-files": Case(ALL, ("sub/ is new, with 3 names in it",), "mkdir sub; touch sub/a sub/b sub/c"),
    "deep": Case(ALL, ("a/b/c changed",), "echo y > a/b/c", files={"a/b/c": "x"}),
    "umask": Case(
        ALL, (r"40 files have another mode \(0644 → 0664\): another umask\?",), "chmod 664 f*", files={"@": MANY}
    ),
    "time": Case(NOTHING, change="touch -d 2001-01-01 note"),
    "owner": Case(NOTHING, change="chown 1234:1234 note"),
    "root-mode": Case(NOTHING, change="chmod 700 ."),
    "hard-link": Case(NOTHING, change="cp -p note n; ln -f n note; rm n; ln note ../.hard-link"),
    "same-content-again": Case(NOTHING, change="cat note > n; cat n > note; rm n"),
    "xattr": Case(
        ALL, ("note has other extended attributes",), 'python3 -c \'import os; os.setxattr("note", "user.a", b"1")\''
    ),
    "unicode-name": Case(ALL, ("grün changed",), "echo y > grün", files={"grün": "x"}),
    "big-tree": Case(
        ALL,
        ("something below .* changed|.* changed",),
        "echo y > d7/f77",
        files={
            "@": (
                "for d in 0 1 2 3 4 5 6 7 8 9; do mkdir d$d; i=0; "
                "while [ $i -lt 200 ]; do echo $d $i > d$d/f$i; i=$((i+1)); done; done"
            )
        },
    ),
    # Ignored.
    "ignored-file": Case(NOTHING, change="echo new > log", files={".dockerignore": "log\n", "log": "x"}),
    "ignored-new-file": Case(NOTHING, change="echo new > log", files={".dockerignore": "*.tmp\nlog\n"}),
    "ignored-directory": Case(
        NOTHING, change="echo new > node_modules/a", files={".dockerignore": "node_modules\n", "node_modules/a": "x"}
    ),
    "excepted-file": Case(
        ALL, ("keep changed",), "echo new > keep", files={".dockerignore": "*\n!keep\n", "keep": "x"}
    ),
    "ignore-file": Case(
        ALL,
        (r"\.dockerignore changed", "log is gone"),
        "echo log > .dockerignore",
        files={".dockerignore": "x\n", "log": "x"},
    ),
    "ignore-file-ignored": Case(
        ALL, (r"\.dockerignore changed",), "echo '*.no' >> .dockerignore", files={".dockerignore": EVERYTHING}
    ),
    "ignore-file-beside-dockerfile": Case(
        ALL,
        ("log is gone", r"Dockerfile\.dockerignore is new", r"\.dockerignore is gone"),
        "printf 'log\\nDockerfile*\\n.dockerignore\\n' > Dockerfile.dockerignore",
        dockerfile="FROM BASE\nCOPY note lo[g] /srv/\n",
        files={".dockerignore": "Dockerfile*\n.dockerignore\n", "log": "x"},
    ),
    # The Dockerfile.
    "dockerfile-comment": Case(
        ALL, ("Dockerfile changed",), "echo '# more' >> Dockerfile", files={".dockerignore": EVERYTHING}
    ),
    "dockerfile-in-context": Case(ALL, ("Dockerfile changed",), "echo 'ENV A=1' >> Dockerfile"),
    "dockerfile-mode": Case(NOTHING, change="chmod 600 Dockerfile", files={".dockerignore": EVERYTHING}),
    "another-dockerfile": Case(
        ALL,
        ("other is new", "Dockerfile is gone"),
        files={".dockerignore": EVERYTHING, "other": COPIED + "ENV B=2\n"},
        after={"file": "other"},
    ),
    "inline": Case(
        ALL,
        ("the Dockerfile changed",),
        before={"dockerfile_inline": COPIED},
        after={"dockerfile_inline": COPIED + "ENV A=1\n"},
    ),
    "inline-same": Case(NOTHING, before={"dockerfile_inline": COPIED}),
    "syntax-line": Case(
        ALL, ("Dockerfile changed",), "sed -i '1i# escape=`' Dockerfile", files={".dockerignore": EVERYTHING}
    ),
    "target": Case(
        ALL,
        ("the target changed",),
        dockerfile="FROM BASE AS a\nCOPY note /a\nFROM a AS b\nENV B=1\n",
        before={"target": "a"},
        after={"target": "b"},
    ),
    "target-new": Case(
        ALL,
        ("the target is new",),
        dockerfile="FROM BASE AS a\nCOPY note /a\nFROM a AS b\nENV B=1\n",
        after={"target": "a"},
    ),
    # Options.
    "arg": Case(
        ALL,
        ("build arg VERSION changed",),
        dockerfile="FROM BASE\nARG VERSION\nENV V=$VERSION\n",
        before={"build_args": {"VERSION": "1"}},
        after={"build_args": {"VERSION": "2"}},
    ),
    "arg-new": Case(
        ALL,
        ("build arg VERSION is new",),
        dockerfile="FROM BASE\nARG VERSION=1\nENV V=$VERSION\n",
        after={"build_args": {"VERSION": "1"}},
    ),
    "arg-gone": Case(
        ALL, ("build arg VERSION is gone",), before={"build_args": {"VERSION": "1"}}, after={"build_args": {}}
    ),
    "arg-number": Case(NOTHING, before={"build_args": {"VERSION": 1}}, after={"build_args": {"VERSION": "1"}}),
    "args-reordered": Case(
        NOTHING, before={"build_args": {"A": "1", "B": "2"}}, after={"build_args": {"B": "2", "A": "1"}}
    ),
    "two-args": Case(
        ALL,
        ("build arg A changed", "build arg B changed"),
        before={"build_args": {"A": "1", "B": "2"}},
        after={"build_args": {"A": "2", "B": "1"}},
    ),
    "label": Case(
        ALL, ("label stage changed",), before={"labels": {"stage": "test"}}, after={"labels": {"stage": "live"}}
    ),
    "label-new": Case(ALL, ("label stage is new",), after={"labels": {"stage": "live"}}),
    "annotation": Case(
        ALL,
        ("annotation com.example.a changed",),
        before={"annotations": {"com.example.a": "1"}},
        after={"annotations": {"com.example.a": "2"}},
    ),
    "secret-id": Case(ALL, ("secret a is new",), after={"secrets": [{"id": "a", "value": "first-secret"}]}),
    "secret-value": Case(
        NOTHING,
        before={"secrets": [{"id": "a", "value": "first-secret"}]},
        after={"secrets": [{"id": "a", "value": "second-secret"}]},
    ),
    "secret-source": Case(
        NOTHING,
        before={"secrets": [{"id": "a", "value": "first-secret"}]},
        after={"secrets": [{"id": "a", "src": "/etc/hostname"}]},
    ),
    "network": Case(ALL, ("the option network is new",), after={"network": "none"}),
    "add-hosts": Case(ALL, ("the option add_hosts is new",), after={"add_hosts": {"a.example.com": "192.0.2.1"}}),
    "ulimits": Case(ALL, ("the option ulimits is new",), after={"ulimits": {"nofile": "1024:1024"}}),
    "shm-size": Case(ALL, ("the option shm_size is new",), after={"shm_size": "64m"}),
    "compression": Case(
        ALL,
        ("the options of the output changed",),
        after={"push": False, "outputs": [{"type": "registry", "options": {"compression": "zstd"}}]},
    ),
    "output-written-out": Case(NOTHING, after={"push": False, "outputs": [{"type": "registry"}]}),
    "provenance": Case(ALL, ("the option provenance is new",), after={"provenance": "mode=min"}),
    "cache-from": Case(NOTHING, after={"cache_from": ["REPOSITORY/cache:1"]}),
    "timeout": Case(NOTHING, after={"timeout": 300}),
    "checks": Case(ALL, (r"the check before publishing \(run, programs\) is new",), after={"programs": True}),
    "pull": Case(NOTHING, after={"pull": True}),
    "no-cache": Case(
        ALL, ("no_cache is set, so whether anything changed cannot be told",), after={"no_cache": True}, again=True
    ),
    # Platforms.
    "platform-added": Case(ARM, (f"{ARM} is missing in the registry",), after=BOTH),
    "platform-removed": Case(TAGS, (f"{ARM} is not wanted any more",), before=BOTH, after={"platforms": PLATFORMS[:1]}),
    "platforms-reordered": Case(NOTHING, before=BOTH, after={"platforms": PLATFORMS[::-1]}),
    "platform-spelled": Case(NOTHING, before=BOTH, after={"platforms": ["linux/amd64", "linux/arm64/v8"]}),
    "two-platforms": Case(ALL, ("note changed",), "echo new > note", before=BOTH),
    # Named contexts.
    "named-context": Case(
        ALL,
        ("lib: a changed",),
        "echo y > ../named-context.lib/a",
        dockerfile="FROM BASE\nCOPY --from=lib a /a\n",
        files={"../named-context.lib/a": "x"},
        before={"contexts": {"lib": "CONTEXT.lib"}},
    ),
    "named-context-ignores": Case(
        NOTHING,
        change="echo y > ../named-context-ignores.lib/b",
        dockerfile="FROM BASE\nCOPY --from=lib a /a\n",
        files={"../named-context-ignores.lib/a": "x", "../named-context-ignores.lib/.dockerignore": "b\n"},
        before={"contexts": {"lib": "CONTEXT.lib"}},
    ),
    "named-context-moved": Case(
        NOTHING,
        change="cp -a ../named-context-moved.lib ../named-context-moved.new",
        dockerfile="FROM BASE\nCOPY --from=lib a /a\n",
        files={"../named-context-moved.lib/a": "x"},
        before={"contexts": {"lib": "CONTEXT.lib"}},
        after={"contexts": {"lib": "CONTEXT.new"}},
    ),
    "named-context-new": Case(
        ALL,
        ("named context lib is new",),
        files={"../named-context-new.lib/a": "x"},
        after={"contexts": {"lib": "CONTEXT.lib"}},
    ),
    "named-image": Case(
        ALL,
        ("named context base changed",),
        dockerfile="FROM base\nCOPY note /\n",
        before={"contexts": {"base": "docker-image://BASE"}},
        after={"contexts": {"base": "docker-image://REPOSITORY/moving:all"}},
    ),
    # In the registry.
    "tag-deleted": Case(TAGS, ("tag REPOSITORY/tag-deleted:latest is missing",), in_registry="untag latest"),
    "first-tag-deleted": Case(TAGS, ("tag REPOSITORY/first-tag-deleted:1 is missing",), in_registry="untag 1"),
    "tags-deleted": Case(ALL, ("nothing is there under .*",), in_registry="untag 1 latest"),
    "tag-moved": Case(
        TAGS,
        ("tag REPOSITORY/tag-moved:latest stands for another image than REPOSITORY/tag-moved:1",),
        in_registry="tag latest BASE",
    ),
    "tags-replaced": Case(
        ALL, ("REPOSITORY/tags-replaced:1: there is no record of how it was built",), in_registry="tag 1,latest BASE"
    ),
    "another-tag": Case(
        TAGS,
        ("tag REPOSITORY/another-tag:extra is missing",),
        after={"tags": ["REPOSITORY/another-tag:1", "REPOSITORY/another-tag:extra"]},
    ),
    "fewer-tags": Case(NOTHING, after={"tags": ["REPOSITORY/fewer-tags:1"]}),
    "another-repository": Case(
        ALL,
        (f"{PLATFORMS[0]} is missing in the registry",),
        after={"tags": ["REPOSITORY/another-repository:1", "REPOSITORY/elsewhere:1"]},
    ),
    "child-gone": Case(ARM, (f"{ARM} is missing in the registry",), in_registry=f"remove {ARM}", before=BOTH),
    "foreign-record": Case(
        ALL,
        (r"REPOSITORY/foreign-record:1: its record .* cannot be read \(schema 99, wanted 1\)",),
        in_registry="annotate schema 99",
        before=BOTH,
    ),
    "broken-record": Case(
        ALL,
        (r"REPOSITORY/broken-record:1: its record .* cannot be read \(broken: .*",),
        in_registry="annotate inputs !!",
        before=BOTH,
    ),
    "child-replaced": Case(
        ARM, (f"{ARM} is another image than the one that was built",), in_registry=f"replace {ARM}", before=BOTH
    ),
    # What is fetched.
    "base-moved": Case(
        ALL,
        ("base image REPOSITORY/moving:all moved from sha256:.* to sha256:.*",),
        dockerfile="FROM REPOSITORY/moving:all\nCOPY note /\n",
        before=BOTH,
    ),
    "base-moved-for-one": Case(
        ARM,
        ("base image REPOSITORY/moving:one moved from sha256:.* to sha256:.*",),
        dockerfile="FROM REPOSITORY/moving:one\nCOPY note /\n",
        before=BOTH,
    ),
    "base-moved-for-another": Case(NOTHING, dockerfile="FROM REPOSITORY/moving:one\nCOPY note /\n"),
    "base-of-a-stage-that-is-not-used": Case(
        NOTHING, dockerfile="FROM REPOSITORY/moving:all AS unused\nCOPY note /\nFROM BASE\nCOPY note /\n"
    ),
    "base-copied-from": Case(
        ALL,
        ("base image REPOSITORY/moving:all moved from .*",),
        dockerfile="FROM BASE\nCOPY --from=REPOSITORY/moving:all /etc/passwd /p\n",
    ),
    "base-of-an-arg": Case(
        ALL,
        ("base image REPOSITORY/moving:all moved from .*",),
        dockerfile="ARG WHAT=x\nFROM REPOSITORY/moving:${WHAT}\nCOPY note /\n",
        before={"build_args": {"WHAT": "all"}},
    ),
    "base-pinned": Case(NOTHING, dockerfile="FROM REPOSITORY/moving:all@DIGEST\nCOPY note /\n"),
    "base-gone": Case(
        ALL,
        ("base image REPOSITORY/moving:gone is not there any more",),
        dockerfile="FROM REPOSITORY/moving:gone\nCOPY note /\n",
        only_check=True,
    ),
    "web-file": Case(
        ALL, ("file http://.*/changing moved from .* to .*",), dockerfile="FROM BASE\nADD http://WEB/changing /f\n"
    ),
    "web-file-unchanged": Case(NOTHING, dockerfile="FROM BASE\nADD http://WEB/steady /f\n"),
}

CONTEXTS = "/srv/images/rebuild"
WEB_PORT = 8125
WEB = "/srv/images/web"


class Somebody:
    """What others do in the registry, on its disk."""

    def __init__(self, images: BuildFarm) -> None:
        self.root = images.farm.farm.directory / "registry/farm/store/docker/registry/v2"

    def do(self, repository: str, command: str) -> None:
        """Carry out `untag TAG...`, `tag TAG,TAG REPOSITORY:TAG`, `remove PLATFORM`, `annotate KEY VALUE`, ..."""
        verb, *words = command.split()
        if verb == "untag":
            for tag in words:
                (self._tag(repository, tag) / "current/link").unlink()
        elif verb == "tag":
            source, tag = words[1].rsplit(":", 1)
            digest = (self._tag(source, tag) / "current/link").read_text()
            for wanted in words[0].split(","):
                self._link(repository, digest)
                (self._tag(repository, wanted) / "current/link").write_text(digest)
        elif verb == "remove":
            digest = self._child(self.index(repository), words[0])["digest"].replace(":", "/")
            (self.root / f"repositories/{repository}/_manifests/revisions/{digest}/link").unlink()
        else:
            index = self.index(repository)
            if verb == "annotate":
                index["annotations"][f"io.github.buildfarm.multiarch.{words[0]}"] = words[1]
            else:
                child = self._child(index, words[0])
                manifest = json.loads(self._blob(child["digest"]).read_text())
                manifest["annotations"] = {"com.example.by": "somebody else"}
                child["digest"], child["size"] = self._write(repository, manifest)
            digest, _size = self._write(repository, index)
            for tag in ("1", "latest"):
                (self._tag(repository, tag) / "current/link").write_text(digest)

    def index(self, repository: str, tag: str = "1") -> Any:
        """What a tag stands for."""
        return json.loads(self._blob((self._tag(repository, tag) / "current/link").read_text()).read_text())

    def _tag(self, repository: str, tag: str) -> Path:
        return self.root / f"repositories/{repository}/_manifests/tags/{tag}"

    def _blob(self, digest: str) -> Path:
        algorithm, value = digest.split(":")
        return self.root / f"blobs/{algorithm}/{value[:2]}/{value}/data"

    def _link(self, repository: str, digest: str) -> None:
        link = self.root / f"repositories/{repository}/_manifests/revisions/{digest.replace(':', '/')}/link"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.write_text(digest)

    def _write(self, repository: str, document: Any) -> tuple[str, int]:
        content = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        blob = self._blob(digest)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        self._link(repository, digest)
        return digest, len(content)

    @staticmethod
    def _child(index: Any, platform: str) -> Any:
        architecture = platform.partition("/")[2]
        return next(one for one in index["manifests"] if one["platform"]["architecture"] == architecture)


class Corpus:
    """The cases as images of both controllers."""

    def __init__(self, images: BuildFarm) -> None:
        self.images = images
        self.farm = images.farm
        self.words = {
            "REPOSITORY": images.repository,
            "BASE": f"{images.registry}/{seed.BUSYBOX}",
            "WEB": f"{images.farm.address(WEB_HOST)}:{WEB_PORT}",
        }

    def filled(self, value: Any, name: str) -> Any:
        """A value with the words that stand for something replaced."""
        if isinstance(value, dict):
            return {self.filled(key, name): self.filled(one, name) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.filled(one, name) for one in value]
        if isinstance(value, str):
            for word, meaning in {**self.words, "CONTEXT": f"{CONTEXTS}/{name}"}.items():
                value = value.replace(word, meaning)
        return value

    def write(self) -> None:
        """Write all contexts, the same on both controllers but for their times."""
        lines = []
        for name, case in CASES.items():
            lines.append(f"mkdir -p {CONTEXTS}/{name}; cd {CONTEXTS}/{name}")
            for file, text in {"Dockerfile": case.dockerfile, "note": "text", **case.files}.items():
                content, quoted = self.filled(text, name), shlex.quote(file)
                if file == "@":
                    lines.append(content)
                elif content.startswith("@"):
                    lines.append(f"ln -s {content[1:]} {quoted}")
                else:
                    lines.append(f"mkdir -p $(dirname {quoted}); printf %s {shlex.quote(content)} > {quoted}")
        self.both("\n".join(lines))

    def change(self) -> None:
        """Let happen to each case what it is about."""
        self.both("\n".join(f"cd {CONTEXTS}/{name}; {case.change}" for name, case in CASES.items() if case.change))
        somebody, registry = Somebody(self.images), f"{self.images.registry}/"
        for name, case in CASES.items():
            if case.in_registry:
                repository = f"{self.images.repository}/{name}".removeprefix(registry)
                somebody.do(repository, self.filled(case.in_registry, name).replace(registry, ""))

    def both(self, script: str) -> None:
        """Run a shell script on both controllers."""
        for host in CONTROLLERS:
            self.farm.ssh(host, "umask 022; sh -e", stdin=script)

    def image(self, name: str, later: bool) -> dict[str, Any]:
        """The options of a case's image."""
        case = CASES[name]
        common = {
            "context": f"{CONTEXTS}/{name}",
            "tags": [f"{self.images.repository}/{name}:{tag}" for tag in ("1", "latest")],
            "platforms": PLATFORMS[:1],
            "push": True,
        }
        options: dict[str, Any] = self.filled({**common, **case.before, **(case.after if later else {})}, name)
        return options

    def run(self, host: str, names: list[str], later: bool = True, check: bool = False) -> dict[str, dict[str, Any]]:
        """Build the images of cases; returns what became of each."""
        given = [self.image(name, later) for name in names]
        result = self.farm.module(host, "buildx_build", check=check, builder=BUILDER, images=given)
        return dict(zip(names, result["images"]))

    def expected(self, name: str) -> tuple[str, list[str]]:
        """What has to be decided, and the patterns of the reasons."""
        return CASES[name].decision, self.filled(CASES[name].reasons, name)


def decided(image: dict[str, Any]) -> str:
    """What was done, or would be, about an image."""
    if not image["built"]:
        return TAGS if image["reasons"] else NOTHING
    built = [one["platform"] for one in image["platforms"] if one["node"]]
    return ALL if len(built) == len(image["platforms"]) else ",".join(built)


@pytest.fixture(scope="module")
def images(farm: LiveFarm) -> Iterator[BuildFarm]:
    """Both controllers with their builders; what is built runs no steps for arm64."""
    with build_farm(farm, emulating=False) as made:
        yield made


@pytest.fixture(scope="module")
def corpus(images: BuildFarm) -> Iterator[Corpus]:
    """All cases built, and then changed."""
    made = Corpus(images)
    serve = f"mkdir -p {WEB}; cd {WEB}; echo 1 > changing; echo 1 > steady; touch -d 2026-01-01 *; "
    images.farm.ssh(
        WEB_HOST, f"{serve} systemd-run -q --unit=web -p WorkingDirectory={WEB} python3 -m http.server {WEB_PORT}"
    )
    try:
        bases = {"": "one", "ENV A=1\n": "two"}
        for lines, name in bases.items():
            context = images.context(OLD, f"base-{name}", f"FROM busybox\n{lines}")
            tags = [f"{images.repository}/moving:{tag}" for tag in ([name, "all", "gone"] if name == "one" else [name])]
            images.build(OLD, builder=BUILDER, context=context, platforms=PLATFORMS, tags=tags, push=True)
        somebody, repository = Somebody(images), f"{images.repository}/moving".removeprefix(f"{images.registry}/")
        made.words["DIGEST"] = (somebody._tag(repository, "all") / "current/link").read_text()
        made.write()
        made.run(OLD, list(CASES), later=False)
        # One has another image for one platform, the other for both.
        index, other = somebody.index(repository, "one"), somebody.index(repository, "two")
        index["manifests"] = [index["manifests"][0], other["manifests"][1]]
        digest, _size = somebody._write(repository, index)
        (somebody._tag(repository, "one") / "current/link").write_text(digest)
        somebody.do(repository, f"tag all {repository}:two")
        somebody.do(repository, "untag gone")
        images.farm.ssh(WEB_HOST, f"cd {WEB}; echo 2 > changing; touch -d 2026-01-02 changing")
        made.change()
        yield made
    finally:
        images.farm.ssh(WEB_HOST, "systemctl stop web; systemctl reset-failed web", check=False)


@pytest.fixture(scope="module")
def checked(corpus: Corpus) -> dict[str, dict[str, dict[str, Any]]]:
    """What check mode says on each controller."""
    return {host: corpus.run(host, list(CASES), check=True) for host in CONTROLLERS}


@pytest.fixture(scope="module")
def done(corpus: Corpus, checked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was done, the one half of it by each controller."""
    names = [name for name, case in CASES.items() if not case.only_check]
    assert checked
    return {**corpus.run(OLD, names[::2]), **corpus.run(FRESH, names[1::2])}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("host", CONTROLLERS)
def test_check_mode_decides(corpus: Corpus, checked: dict[str, Any], host: str, name: str) -> None:
    found = checked[host][name]
    decision, patterns = corpus.expected(name)
    assert decided(found) == decision, found["reasons"]
    assert len(found["reasons"]) == len(patterns), found["reasons"]
    for reason, pattern in zip(found["reasons"], patterns):
        assert re.fullmatch(pattern, reason), (pattern, reason)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.only_check])
def test_what_is_done_is_what_check_mode_said(checked: dict[str, Any], done: dict[str, Any], name: str) -> None:
    found = done[name]
    for host in CONTROLLERS:
        assert (decided(found), found["reasons"]) == (decided(checked[host][name]), checked[host][name]["reasons"])
        # What is built again of other files' times may be another image.
        if not CASES[name].again and name != "child-gone":
            assert found["changed"] == checked[host][name]["changed"]


def test_afterwards_nothing_is_left_to_do(corpus: Corpus, done: dict[str, Any]) -> None:
    for host in CONTROLLERS:
        found = corpus.run(host, list(done), check=True)
        left = {name: image["reasons"] for name, image in found.items() if image["reasons"]}
        assert list(left) == [name for name in done if CASES[name].again], left


def test_what_buildkit_takes_for_unchanged_reaches_the_image(corpus: Corpus, done: dict[str, Any]) -> None:
    assert done["content-of-same-size-and-time"]["changed"]
    name = f"{corpus.images.repository}/content-of-same-size-and-time:1"
    for host in CONTROLLERS:
        dest = f"{CONTEXTS}/content"
        fetched = f"FROM {name}\n"
        corpus.farm.module(
            host,
            "buildx_build",
            builder=BUILDER,
            context=CONTEXTS,
            dockerfile_inline=fetched,
            platforms=PLATFORMS[:1],
            outputs=[{"type": "local", "dest": dest}],
        )
        assert corpus.farm.ssh(host, f"cat {dest}/srv/note") == "TEXT"


def test_no_value_is_in_a_record(corpus: Corpus, done: dict[str, Any]) -> None:
    index = Somebody(corpus.images).index(f"{corpus.images.repository}/secret-value".partition("/")[2])
    record = zlib.decompress(base64.b64decode(index["annotations"]["io.github.buildfarm.multiarch.inputs"])).decode()
    assert done and "secret a" in record and "first-secret" not in record and "second-secret" not in record


def test_the_environment_decides_as_well(corpus: Corpus) -> None:
    """Times of reproducible builds, proxies and rules of the site reach BuildKit by other ways than options."""
    host, name = OLD, "environment"
    context = corpus.images.context(host, name, corpus.filled(COPIED, name), note="text")
    image = {"context": context, "platforms": PLATFORMS[:1], "tags": [f"{corpus.images.repository}/{name}:1"]}
    rules, configuration = "/srv/images/policy.json", "/root/.docker/config.json"
    proxies = {"proxies": {"default": {"httpProxy": "http://proxy.example.com:3128"}}}
    corpus.farm.ssh(host, f"cat > {rules}", stdin='{"rules": []}')
    build = task("buildx_build", builder=BUILDER, push=True, **image)
    check = {**build, "check_mode": True}
    built, again, epoch, policy, _proxies, proxied, _undone, afterwards = corpus.farm.tasks(
        host,
        build,
        check,
        {**check, "environment": {"SOURCE_DATE_EPOCH": "1"}},
        {**check, "environment": {"EXPERIMENTAL_BUILDKIT_SOURCE_POLICY": rules}},
        shell(f"test ! -e {configuration} && printf %s {shlex.quote(json.dumps(proxies))} > {configuration}"),
        check,
        shell(f"rm {configuration}"),
        check,
    )
    found = [one["images"][0]["reasons"] for one in (again, epoch, policy, proxied, afterwards)]
    assert built["images"][0]["built"]
    assert found == [
        [],
        ["build arg SOURCE_DATE_EPOCH is new"],
        ["the source policy is new"],
        ["proxy settings for default is new"],
        [],
    ]
