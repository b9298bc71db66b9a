# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an image is built, for which platforms, and why."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.decision import (
    NOTHING,
    Evidence,
    and_bases,
    decide,
    for_takers,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.declaration import ALWAYS, NEVER, Image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.destination import Location
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.output import FILE, REGISTRY
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.state import State
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.index import Index
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.fetcher import Change
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.inputs import Inputs
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.record import Record
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.sources import IMAGE, Source
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import OCI_INDEX, Document, digest_of

APP, LATEST = "r.example.com/app:1", "r.example.com/app:latest"
AMD, ARM = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
BOTH = (AMD, ARM)
INPUTS = Inputs({"build arg VERSION": "1" * 64}, {})
BASE = Source(IMAGE, "docker.io/library/debian:13", "sha256:1", "linux/arm64", "sha256:2", ("linux/arm64",))


def index(*platforms, note=""):
    entries = [
        {
            "digest": f"sha256:{platform.arch}{note}",
            "size": 1,
            "platform": {"os": platform.os, "architecture": platform.arch},
        }
        for platform in platforms
    ]
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, "note": note}).encode()
    return Index.parse(Document(digest_of(content), OCI_INDEX, content))


def record(inputs=INPUTS, found=None, sources=()):
    images = {str(entry.platform): entry.digest for entry in (found or index(*BOTH)).manifests}
    return Record.of(inputs, sources, images)


@pytest.fixture
def image(tmp_path):
    def make(*tags, platforms=("linux/amd64", "linux/arm64"), **options):
        common = {"context": str(tmp_path), "platforms": list(platforms), "tags": list(tags or (APP, LATEST))}
        return Image.from_params({**common, "push": True, **options})

    return make


def evidence(found, inputs=INPUTS, records=None, **more):
    names = [Location(REGISTRY, tag) for tag in found]
    given = records if isinstance(records, dict) else {name: records or record() for name in names}
    return Evidence(State(registry=found), dict.fromkeys(names, inputs), given, **more)


def test_nothing_is_done_where_nothing_changed(image):
    found = index(*BOTH)
    assert decide(image(), "when_changed", evidence({APP: found, LATEST: found}), True) == NOTHING


def test_all_is_built_where_nothing_is_there(image):
    decision = decide(image(), "when_changed", evidence({APP: None, LATEST: None}), True)
    assert (decision.builds, decision.platforms, decision.certain) == (True, BOTH, True)
    assert decision.reasons == (f"nothing is there under {APP}, {LATEST}",)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"build arg VERSION": "2" * 64}, "build arg VERSION changed"),
        ({"build arg VERSION": "1" * 64, "label a": "3" * 64}, "label a is new"),
        ({}, "build arg VERSION is gone"),
    ],
)
def test_another_declaration_is_built_and_named(image, fields, reason):
    found = index(*BOTH)
    decision = decide(image(), "when_changed", evidence({APP: found, LATEST: found}, Inputs(fields, {})), True)
    assert (decision.builds, decision.platforms, decision.kept, decision.certain) == (True, BOTH, None, True)
    assert decision.reasons == (reason,)


def test_what_cannot_be_told_is_built_and_predicted_to_be_the_same(image):
    found, inputs = index(*BOTH), replace(INPUTS, doubts=("no_cache is set",))
    decision = decide(image(), "when_changed", evidence({APP: found, LATEST: found}, inputs), True)
    assert (decision.builds, decision.certain) == (True, False)
    assert decision.reasons == ("no_cache is set, so whether anything changed cannot be told",)


@pytest.mark.parametrize(
    ("other", "reason"),
    [(None, f"tag {LATEST} is missing"), (index(AMD, note="x"), f"tag {LATEST} stands for another image than {APP}")],
)
def test_a_tag_alone_is_only_written(image, other, reason):
    found = index(*BOTH)
    records = {Location(REGISTRY, APP): record(), Location(REGISTRY, LATEST): None}
    decision = decide(image(), "when_changed", evidence({APP: found, LATEST: other}, records=records), True)
    assert (decision.builds, decision.publishes, decision.certain) == (False, True, True)
    assert (decision.kept.tag, decision.kept.whole, decision.kept.platforms) == (APP, True, BOTH)
    assert decision.reasons == (reason,)


def test_of_two_tags_the_one_with_the_wanted_image_counts(image):
    old, new = index(*BOTH, note="old"), index(*BOTH)
    records = {Location(REGISTRY, APP): record(Inputs({}, {}), old), Location(REGISTRY, LATEST): record()}
    decision = decide(image(), "when_changed", evidence({APP: old, LATEST: new}, records=records), True)
    assert (decision.builds, decision.kept.tag, decision.kept.digest) == (False, LATEST, new.digest)


@pytest.mark.parametrize(
    ("present", "gone", "certain", "reason"),
    [
        ((AMD,), (), True, "linux/arm64 is missing in the registry"),
        (BOTH, (ARM,), False, "linux/arm64 is missing in the registry"),
    ],
)
def test_a_missing_platform_is_built_alone(image, present, gone, certain, reason):
    found = index(*present)
    given = evidence({APP: found, LATEST: found}, records=record(found=found), gone={found.digest: gone})
    decision = decide(image(), "when_changed", given, True)
    assert (decision.builds, decision.platforms, decision.certain) == (True, (ARM,), certain)
    assert (decision.kept.platforms, decision.kept.whole) == ((AMD,), False)
    assert decision.reasons == (reason,)


def test_a_platform_that_somebody_replaced_is_built_again(image):
    found = index(*BOTH, note="x")
    record_of_amd = replace(record(), images={"linux/amd64": "sha256:amd64x", "linux/arm64": "sha256:arm64"})
    decision = decide(image(), "when_changed", evidence({APP: found, LATEST: found}, records=record_of_amd), True)
    assert (decision.platforms, decision.reasons) == (
        (ARM,),
        ("linux/arm64 is another image than the one that was built",),
    )


def test_a_platform_that_is_not_declared_any_more_is_left_out_without_a_build(image):
    found = index(*BOTH)
    given = evidence({APP: found}, records=record())
    decision = decide(image(APP, platforms=["linux/amd64"]), "when_changed", given, True)
    assert (decision.builds, decision.publishes, decision.kept.platforms, decision.kept.whole) == (
        False,
        True,
        (AMD,),
        False,
    )
    assert decision.reasons == ("linux/arm64 is not wanted any more",)


def test_the_order_of_platforms_is_none_of_the_image(image):
    found = index(*BOTH)
    given = evidence({APP: found}, records=record())
    assert decide(image(APP, platforms=["linux/arm64", "linux/amd64"]), "when_changed", given, True) == NOTHING


def test_a_base_that_moved_for_one_platform_builds_that_one(image):
    found, words = index(*BOTH), "base image docker.io/library/debian:13 moved from sha256:1 to sha256:3"
    given = evidence({APP: found}, records=record(sources=(BASE,)), changes={BASE: Change(words, True)})
    decision = decide(image(APP), "when_changed", given, True)
    assert (decision.platforms, decision.kept.platforms, decision.reasons) == ((ARM,), (AMD,), (words,))


def test_a_base_of_another_image_is_none_of_this_one(image):
    found = index(*BOTH)
    given = evidence({APP: found}, records=record(), changes={BASE: Change("moved", True)})
    assert decide(image(APP), "when_changed", given, True) == NOTHING


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, f"{APP}: there is no record of how it was built"),
        ("schema 9, wanted 1", f"{APP}: its record of how it was built cannot be read (schema 9, wanted 1)"),
    ],
)
def test_what_others_built_is_built(image, found, reason):
    given = evidence({APP: index(*BOTH)}, records={Location(REGISTRY, APP): found})
    decision = decide(image(APP), "when_changed", given, True)
    assert (decision.builds, decision.reasons) == (True, (reason,))


def test_always_builds_what_did_not_change(image):
    decision = decide(image(APP), ALWAYS, evidence({APP: index(*BOTH)}), True)
    assert (decision.builds, decision.platforms, decision.certain) == (True, BOTH, False)


@pytest.mark.parametrize("own", [True, False])
def test_never_builds_only_what_is_missing(image, own):
    found, changed = index(*BOTH), Inputs({}, {})
    given = evidence({APP: found}, changed, {Location(REGISTRY, APP): record() if own else None})
    assert decide(image(APP), NEVER, given, True) == NOTHING
    assert decide(image(APP), NEVER, evidence({APP: None}), True).builds


def test_never_builds_a_missing_platform(image):
    found = index(AMD)
    given = evidence({APP: found}, Inputs({}, {}), record(found=found))
    assert decide(image(APP), NEVER, given, True).platforms == (ARM,)


class TestFile:
    """Results with a record beside them."""

    def decision(self, image, content="sha256:a", found="sha256:a", inputs=INPUTS, rebuild="when_changed", **more):
        declared = image(push=False, outputs=[{"type": "tar", "dest": "/out"}])
        recorded = Record.of(INPUTS, (BASE,), {}, content) if content else None
        given = Evidence(
            State(files={"/out": found}), {Location(FILE, "/out"): inputs}, {Location(FILE, "/out"): recorded}, **more
        )
        return decide(declared, rebuild, given, True)

    def test_it_is_left_alone_where_nothing_changed(self, image):
        assert self.decision(image) == NOTHING

    @pytest.mark.parametrize(
        ("case", "reason", "certain"),
        [
            ({"found": None}, "/out is not there yet", True),
            ({"content": None}, "/out: there is no record of how it was built", False),
            ({"found": "sha256:b"}, "/out is not what was built there", False),
            ({"found": "sha256:b", "inputs": Inputs({}, {})}, "/out is not what was built there", True),
            ({"inputs": Inputs({}, {})}, "build arg VERSION is gone", True),
            ({"changes": {BASE: Change("base moved", True)}}, "base moved", True),
        ],
    )
    def test_it_is_built_as_a_whole(self, image, case, reason, certain):
        decision = self.decision(image, **case)
        assert (decision.builds, decision.platforms, decision.certain) == (True, BOTH, certain)
        assert decision.reasons[0] == reason

    def test_all_reasons_are_told(self, image):
        decision = self.decision(image, found="sha256:b", inputs=Inputs({}, {}))
        assert decision.reasons == ("/out is not what was built there", "build arg VERSION is gone")

    def test_a_registry_that_holds_no_record_is_called_by_the_tag(self, image):
        name = Location(REGISTRY, APP)
        for found, reason in (
            (None, f"nothing is there under {APP}"),
            (index(*BOTH), f"{APP}: there is no record of how it was built"),
        ):
            given = Evidence(State(registry={APP: found}), {name: INPUTS}, {name: None})
            assert decide(image(APP), "when_changed", given, False).reasons == (reason,)

    def test_never_leaves_alone_what_is_there(self, image):
        assert self.decision(image, inputs=Inputs({}, {}), rebuild=NEVER) == NOTHING
        assert self.decision(image, found=None, rebuild=NEVER).builds

    def test_with_a_file_a_missing_platform_of_the_image_is_not_built_alone(self, image):
        declared = image(APP, outputs=[{"type": "tar", "dest": "/out"}], push=True)
        found = index(AMD)
        state = State(registry={APP: found}, files={"/out": "sha256:a"})
        records = {
            Location(REGISTRY, APP): record(found=found),
            Location(FILE, "/out"): Record.of(INPUTS, (), {}, "sha256:a"),
        }
        decision = decide(declared, "when_changed", Evidence(state, dict.fromkeys(records, INPUTS), records), True)
        assert (decision.platforms, decision.kept) == (BOTH, None)


def test_without_a_result_that_tells_it_is_built(image):
    decision = decide(image(push=False), "when_changed", Evidence(State(), {}), True)
    assert decision.builds and "cache" in decision.reasons[0]


def test_an_image_is_built_after_its_base(image):
    for differ in (True, False):
        decision = and_bases(image(APP), NOTHING, ["r.example.com/base:1"], differ)
        assert (decision.builds, decision.platforms, decision.certain) == (True, BOTH, differ)
        assert decision.reasons == ("base image r.example.com/base:1 is built in this run",)
    assert and_bases(image(APP), NOTHING, [], differ=False) == NOTHING


def test_what_is_only_linked_to_is_built_for_those_that_are_built_from_it(image):
    base = replace(image(), only_linked=True)
    assert decide(base, "when_changed", Evidence(State(), {}), annotated=False) == NOTHING
    decision = for_takers(base, NOTHING, ["app"])
    assert (decision.builds, decision.platforms, decision.reasons) == (True, base.platforms, ("app is built from it",))
    assert for_takers(base, decision, ["other"]) == decision


def test_where_no_platform_is_left_the_whole_image_is_built(image):
    found = index(*BOTH)
    lost = evidence({APP: found, LATEST: found}, gone={found.digest: BOTH})
    decision = decide(image(), "when_changed", lost, True)
    assert (decision.builds, decision.platforms, decision.kept, decision.certain) == (True, BOTH, None, False)
    assert decision.reasons == ("linux/amd64 is missing in the registry", "linux/arm64 is missing in the registry")


@pytest.mark.parametrize(
    ("decision", "platforms", "reasons"),
    [
        (NOTHING, BOTH, ("x is built from it",)),
        (replace(NOTHING, builds=True, platforms=(ARM,), reasons=("a",)), BOTH, ("a", "x is built from it")),
        (replace(NOTHING, publishes=True, platforms=BOTH), BOTH, ("x is built from it",)),
        (replace(NOTHING, builds=True, platforms=BOTH, reasons=("a",)), BOTH, ("a",)),
    ],
)
def test_what_others_take_is_built_as_a_whole(image, decision, platforms, reasons):
    found = for_takers(image(), decision, ["x"])
    assert (found.builds, found.platforms, found.reasons) == (True, platforms, reasons)


@pytest.mark.parametrize(
    ("builds", "publishes", "acts"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_whether_anything_is_done(builds, publishes, acts):
    assert replace(NOTHING, builds=builds, publishes=publishes).acts is acts


@pytest.mark.parametrize("others", [(True, False), (False, True)])
def test_a_change_of_any_tag_is_certain_or_not(image, others):
    """What is certain of one change is certain of all."""
    found = index(*BOTH)
    changes = {BASE: Change("base moved", others[0])}
    records = record(sources=(BASE,))
    inputs = Inputs(INPUTS.fields, {})
    decision = decide(
        image(), "when_changed", evidence({APP: found, LATEST: found}, inputs, records, changes=changes), True
    )
    assert (decision.platforms, decision.certain, decision.reasons) == ((ARM,), others[0], ("base moved",))
    assert decision.kept.platforms == (AMD,) and decision.kept.whole is False
