# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What buildx_bake has built of a definition: which targets, with which of the task's options."""

from __future__ import annotations

import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._bake import apply as _apply
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.outcome import Outcome
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result

PUSHED = [{"type": "registry"}]
CACHED = [{"type": "cacheonly"}]


def tagged(name, **fields):
    return {"tags": [f"r.example.com/{name}:1"], "platforms": ["linux/amd64"], "output": PUSHED, **fields}


@pytest.fixture
def bake(tmp_path, monkeypatch):
    """Runs the module on targets; returns its outcome, and the declarations that were built."""

    def call(printed, requested=("app",), version="0.29.1", check_mode=False, **params):
        declared = []

        def build(declaration, _params, check, _runner, _progress=None):
            assert check is check_mode
            declared.append(declaration)
            titles = [image.title for image in declaration.images]
            called = declaration.images[0].options.call
            values = {"call": f"{called} of {titles[0]}"} if called else {"images": titles}
            return Outcome({}, {"built": titles}, values=values, warnings=(f"of {titles}",))

        def runner(argv, **_options):
            groups = {"default": {"targets": list(requested)}}
            output = json.dumps({"group": groups, "target": printed})
            text = f"github.com/docker/buildx v{version} x" if argv[2] == "version" else output
            return Result(tuple(argv), 0, text, "")

        monkeypatch.setattr(_apply, "build", build)
        return _apply.run({"chdir": str(tmp_path), **params}, check_mode, runner), declared

    return call


@pytest.mark.parametrize(
    ("targets", "requested", "built"),
    [
        ({"app": tagged("app")}, ["app"], ["app"]),
        ({"app": tagged("app"), "other": tagged("other")}, ["app"], ["app"]),
        (
            {"app": tagged("app", contexts={"b": "target:base"}), "base": {"output": CACHED}, "x": {"output": CACHED}},
            ["app"],
            ["app", "base"],
        ),
        ({"app": tagged("app"), "check": {"call": "check"}}, ["app", "check"], ["app"]),
        ({"check": {"call": "check"}}, ["check"], []),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_what_is_wanted_is_built_with_what_it_links_to(bake, targets, requested, built, check_mode):
    outcome, declared = bake(targets, requested, check_mode=check_mode)
    whole = [one for one in declared if not one.images[0].options.call]
    assert [image.title for one in whole for image in one.images] == built
    assert all(one.is_list for one in declared)
    called = {name: f"check of {name}" for name in targets if "call" in targets[name]}
    assert outcome.values == {"images": built, "call": called}
    assert outcome.after == ({"built": built} if built else {})
    assert outcome.warnings == (*([f"of {built}"] if built else []), *(f"of {[name]}" for name in called))


def test_options_of_the_task_are_all_targets(bake):
    _outcome, (declaration,) = bake(
        {"app": tagged("app"), "two": tagged("two")}, ["app", "two"], timeout=9.0, sbom="true", rebuild="always"
    )
    assert declaration.rebuild == "always"
    assert [(one.timeout, one.options.sbom) for one in declaration.images] == [(9.0, "true")] * 2


@pytest.mark.parametrize("programs", [None, False, True])
def test_what_is_pushed_is_checked(bake, programs):
    targets = {"app": tagged("app"), "local": tagged("local", output=[{"type": "docker"}])}
    _outcome, (declaration,) = bake(targets, ["app", "local"], programs=programs)
    checks = {image.title: image.checks for image in declaration.images}
    assert checks["local"] is None and bool(checks["app"]) is bool(programs)


ATTESTED = {"app": tagged("app", attest=[{"type": "sbom"}])}


def test_an_attestation_is_declared_once(bake):
    with pytest.raises(FarmError, match=r"target app has an attestation sbom of its own; remove the option sbom"):
        bake(ATTESTED, sbom="false")
    _outcome, (declaration,) = bake(ATTESTED, provenance="true")
    assert (declaration.images[0].options.sbom, declaration.images[0].options.provenance) == ("true", "true")


@pytest.mark.parametrize(
    ("version", "linked", "words"),
    [
        ("0.7.0", PUSHED, r"target app: contexts: b needs buildx 0\.8\.0"),
        ("0.8.0", PUSHED, None),
        ("0.9.0", CACHED, r"contexts: b, of a target that is not pushed, needs buildx 0\.10\.0"),
        ("0.10.0", CACHED, None),
    ],
)
def test_links_take_a_buildx_that_has_them(bake, version, linked, words):
    targets = {"app": tagged("app", contexts={"b": "target:base"}), "base": tagged("base", output=linked)}
    if words:
        with pytest.raises(FarmError, match=words):
            bake(targets, version=version)
    else:
        assert bake(targets, version=version)[1]


def test_what_is_only_evaluated_links_to_nothing(bake):
    targets = {"app": {"call": "check", "contexts": {"b": "target:base"}}, "base": tagged("base")}
    with pytest.raises(FarmError, match="target app: call check cannot be done with contexts that are targets"):
        bake(targets)


def test_a_definition_without_targets_is_refused(bake):
    with pytest.raises(FarmError, match="the definition has no target to build"):
        bake({}, ())
    with pytest.raises(FarmError, match="the definition has no target app, other"):
        bake({}, (), targets=["app", "other"])
