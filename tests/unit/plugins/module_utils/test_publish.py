# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image import publish as _publish
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.compose import Composed
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.publish import (
    Published,
    publish,
    put_by_digest,
    read_parts,
    to_move,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.host import TagImmutable
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import OCI_INDEX, digest_of

CONTENT = b'{"schemaVersion": 2, "manifests": []}'
IMAGE = Composed(OCI_INDEX, CONTENT, digest_of(CONTENT), ("sha256:" + "1" * 64, "sha256:" + "2" * 64), ())
OLD = "sha256:" + "0" * 64
TAGS = tuple(Reference.parse(f"{name}") for name in ("r.test/app:1", "r.test/app:latest", "s.test/copy:1"))


class Tags:
    """In the place of registries: what names stand for; notes what was written.

    :ivar lag: how often a tag is still read as it was.
    :ivar faults: by name, the error of a write.
    """

    def __init__(self, tags=TAGS, children=IMAGE.children):
        self.known = {str(tag.at(child)): child for tag in tags for child in children}
        self.lag, self.faults, self.written, self.before = {}, {}, [], {}
        self.meanwhile = {}

    def digest(self, reference, to_push=False):
        assert to_push
        name = str(reference)
        if name in self.written and self.lag.get(name, 0) > 0:
            self.lag[name] -= 1
            return self.before[name]
        return self.known.get(name)

    def put(self, reference, media_type, content):
        name = str(reference)
        if name in self.faults:
            raise self.faults[name]
        self.before[name], self.known[name] = self.known.get(name), self.meanwhile.get(name, digest_of(content))
        assert media_type == OCI_INDEX
        self.written.append(name)
        return digest_of(content)


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    noted = []
    # Not the module's sleep itself, which threads that other tests have left behind use as well.
    monkeypatch.setattr(_publish, "time", SimpleNamespace(sleep=noted.append))
    return noted


def test_all_tags_move_in_order_and_only_once():
    registries = Tags()
    registries.known[str(TAGS[1])] = OLD
    assert to_move(registries, TAGS, IMAGE.digest) == TAGS
    assert publish(registries, TAGS, IMAGE) == Published(TAGS, ())
    assert registries.written == [str(tag) for tag in TAGS]
    assert {registries.known[str(tag)] for tag in TAGS} == {IMAGE.digest}
    assert to_move(registries, TAGS, IMAGE.digest) == ()
    assert publish(registries, TAGS, IMAGE) == Published((), TAGS)
    assert len(registries.written) == 3


@pytest.mark.parametrize("missing", [(0, 1), (2, 0)])
def test_an_image_of_which_a_part_is_gone_is_not_published(missing):
    tag, child = TAGS[missing[0]], IMAGE.children[missing[1]]
    registries = Tags()
    del registries.known[str(tag.at(child))]
    with pytest.raises(FarmError, match=f"does not have {tag.at(child)} any more.*; no tag was moved"):
        publish(registries, TAGS, IMAGE)
    assert registries.written == []
    with pytest.raises(FarmError, match="does not have"):
        put_by_digest(registries, tag, IMAGE)
    assert registries.written == []


@pytest.mark.parametrize("kind", [FarmError, TagImmutable])
def test_a_failure_between_tags_says_which_moved_and_a_new_run_finishes(kind):
    registries = Tags()
    registries.faults[str(TAGS[1])] = kind("the registry does not want", cmd=["x"])
    with pytest.raises(kind) as caught:
        publish(registries, TAGS, IMAGE)
    assert caught.value.message == (
        "the registry does not want; moved: r.test/app:1; not moved: r.test/app:latest, s.test/copy:1; "
        "a new run finishes"
    )
    assert caught.value.details == {"cmd": ["x"]}
    registries.faults.clear()
    assert publish(registries, TAGS, IMAGE) == Published(TAGS[1:], TAGS[:1])


def test_a_tag_that_something_else_moves_meanwhile_is_an_error(pauses):
    registries = Tags()
    registries.meanwhile[str(TAGS[0])] = OLD
    with pytest.raises(
        FarmError, match=f"stands for {OLD} now; does something else push to it.*no tag was moved before"
    ):
        publish(registries, TAGS, IMAGE)
    assert len(registries.written) == 1
    assert len(pauses) == 3


def test_a_registry_whose_readers_lag_behind_is_waited_for(pauses):
    registries = Tags()
    registries.lag[str(TAGS[0])] = 2
    assert publish(registries, TAGS, IMAGE).moved == TAGS
    assert pauses == [0.5, 1.0]


def test_an_image_without_a_tag():
    registries = Tags()
    name = put_by_digest(registries, TAGS[0], IMAGE)
    assert registries.written == [str(name)] == [f"r.test/app@{IMAGE.digest}"]


def test_what_nodes_pushed_is_read_with_its_platforms(registries):
    config = json.dumps({"os": "windows", "architecture": "amd64", "os.version": "10.0"})
    manifest = json.dumps({"config": {"digest": digest_of(config.encode())}, "layers": []})
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:1", "size": 1}
    index = json.dumps({"manifests": [{**entry, "platform": {"os": "linux", "architecture": "arm64"}}]})
    digests = [digest_of(text.encode()) for text in (index, manifest, config)]
    app = TAGS[0]
    registries.documents = {str(app.at(digest)): text for digest, text in zip(digests, (index, manifest, config))}
    first, second = read_parts(registries, app, digests[:2])
    assert (first.platforms, first.document.content) == ((Platform("linux", "arm64"),), index.encode())
    assert (second.platforms, second.document.digest) == ((Platform("windows", "amd64"),), digests[1])
    assert (first.os_version, second.os_version) == ("", "10.0")
    with pytest.raises(FarmError, match=r"image r\.test/app@sha256:0.*the registry does not have it"):
        read_parts(registries, app, [OLD])
