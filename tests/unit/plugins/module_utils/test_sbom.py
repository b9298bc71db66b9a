# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What bills of materials say, in the formats that there are, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.sbom import Sbom, WantedSbom, sbom_problems
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.verify import run as verify
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import client as _registry
from ansible_collections.buildfarm.multiarch.tests.unit.corpus import BOTH, Corpus, attested
from ansible_collections.buildfarm.multiarch.tests.unit.documents import StoredRegistries

SPDX = {
    "spdxVersion": "SPDX-2.3",
    "packages": [
        {"name": "busybox", "versionInfo": "1:1.37.0-6"},
        {"name": "app", "versionInfo": "2.0"},
        {"name": "app", "versionInfo": "1.0"},
        {"name": "plain", "versionInfo": "NOASSERTION"},
        {"name": ""},
        "no package",
    ],
}
SPDX_3 = {
    "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
    "@graph": [
        {"type": "CreationInfo", "specVersion": "3.0.1"},
        {"type": "software_Package", "name": "busybox", "software_packageVersion": "1.37"},
        {"type": "software_File", "name": "/bin/busybox"},
    ],
}
CYCLONE = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "components": [
        {"type": "library", "group": "org.apache", "name": "log4j", "version": "2.14.1"},
        {"type": "application", "name": "app", "components": [{"type": "library", "name": "inner", "version": "3"}]},
        {"type": "file", "name": "/app"},
    ],
}


@pytest.mark.parametrize(
    ("document", "format_", "packages"),
    [
        (SPDX, "SPDX-2.3", {("busybox", "1:1.37.0-6"), ("app", "2.0"), ("app", "1.0"), ("plain", "")}),
        (SPDX_3, "SPDX-3.0.1", {("busybox", "1.37")}),
        ({"@graph": [{"type": "Package", "name": "x"}]}, "SPDX", {("x", "")}),
        (CYCLONE, "CycloneDX-1.6", {("org.apache/log4j", "2.14.1"), ("app", ""), ("inner", "3")}),
        ({"bomFormat": "CycloneDX"}, "CycloneDX", set()),
        ({"spdxVersion": "SPDX-2.2", "packages": None}, "SPDX-2.2", set()),
        ({}, "", set()),
    ],
)
def test_what_documents_say(document, format_, packages):
    assert Sbom.of(document) == Sbom(format_, frozenset(packages))


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        ({}, []),
        ({"format": "SPDX"}, ["its SBOM is CycloneDX-1.6, wanted SPDX"]),
        ({"format": "spdx-2.3"}, ["its SBOM is CycloneDX-1.6, wanted spdx-2.3"]),
        ({"format": "SPDX-2"}, ["its SBOM is CycloneDX-1.6, wanted SPDX-2", "its SBOM is SPDX-2.3, wanted SPDX-2"]),
        ({"packages": {"busybox": None, "app": "1.0", "inner": "3", "plain": None}}, []),
        (
            {"packages": {"openssl": None}},
            [
                "its SBOM names no package openssl (packages found: app, busybox, inner, org.apache/log4j, plain)",
            ],
        ),
        ({"packages": {"app": "3"}}, ["its SBOM names the package app of no version, 1.0, 2.0, wanted 3"]),
        ({"without": {"app": "3", "busy": None}}, []),
        ({"without": {"app": "2.0"}}, ["its SBOM names the package app 2.0, wanted none"]),
        (
            {"without": {"plain": None, "busybox": None}},
            [
                "its SBOM names the package plain, wanted none",
                "its SBOM names the package busybox 1:1.37.0-6, wanted none",
            ],
        ),
        ({"count": 7}, []),
        ({"count": 8}, ["its SBOM names 7 packages, wanted 8 at least"]),
    ],
)
def test_what_is_wrong_with_them(wanted, lines):
    assert sbom_problems(WantedSbom(**wanted), [Sbom.of(SPDX), Sbom.of(CYCLONE)]) == lines


def test_what_is_missing_is_told_with_some_of_what_is_there():
    many = Sbom("SPDX-2.3", frozenset((f"p{number}", "1") for number in range(8)))
    assert sbom_problems(WantedSbom(packages={"x": "1"}), [many]) == [
        "its SBOM names no package x (packages found: p0, p1, p2, p3, p4 and 3 more)"
    ]
    assert sbom_problems(WantedSbom("SPDX", {"x": None}), [Sbom("", frozenset())]) == [
        "its SBOM is in no format that is known, wanted SPDX",
        "its SBOM names no package x (packages found: none)",
    ]


@pytest.fixture
def corpus(monkeypatch, tmp_path):
    for name in ("BUILDX_CONFIG", "BUILDX_BUILDER", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    stored = StoredRegistries()
    monkeypatch.setattr(_registry.Registries, "of", lambda params, nodes, mirrors=True: stored)
    return Corpus(stored, "r.example.com/app")


def test_each_platform_has_to_have_what_is_wanted(corpus):
    attested(corpus, "1", sbom=SPDX)
    attested(corpus, "none", sbom=False)
    wanted = {"format": "SPDX-2.3", "packages": {"app": 2.0}, "without": None, "min_packages": 4}
    good = verify({"name": corpus.name("1"), "sbom_contents": wanted}, False, None)["image"]
    assert [one["sbom"] for one in good["platforms"]] == [{"formats": ["SPDX-2.3"], "packages": 4}] * 2
    # It is read only where it is wanted.
    for options in ({}, {"sbom": True}):
        found = verify({"name": corpus.name("1"), **options}, False, None)["image"]
        assert [one["sbom"] for one in found["platforms"]] == [None] * 2
    verify({"name": corpus.name("none"), "sbom": False, "sbom_contents": wanted}, False, None)
    for options in ({}, {"sbom": True}):
        with pytest.raises(FarmError) as caught:
            verify({"name": corpus.name("none"), "sbom_contents": {}, **options}, False, None)
        assert caught.value.message.count("it has no SBOM, wanted one") == 2
    with pytest.raises(FarmError) as caught:
        verify({"name": corpus.name("1"), "sbom_contents": {"without": {"busybox": None}}}, False, None)
    name = corpus.name("1")
    assert caught.value.message.splitlines() == [
        f"image {name}: {platform}: its SBOM names the package busybox 1:1.37.0-6, wanted none" for platform in BOTH
    ]


def test_a_statement_as_buildkit_stores_it():
    path = Path(__file__).parents[2] / "fixtures/buildx-0.29.1/sbom-statement.json"
    statement = json.loads(path.read_bytes())
    assert statement["predicateType"] == "https://spdx.dev/Document"
    assert Sbom.of(statement["predicate"]) == Sbom("SPDX-2.3", frozenset({("busybox", "1.37.0"), ("files", "2")}))
