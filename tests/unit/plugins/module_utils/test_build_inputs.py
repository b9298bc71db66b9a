# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which options of an image decide its key."""

from __future__ import annotations

import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.declaration import Image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.inputs import (
    Contexts,
    and_all,
    and_checks,
    and_exporter,
    and_linked,
    crosses,
    read_inputs,
    sent_as,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.output import Output
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.inputs import Inputs
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import Entry

OPENCONTAINERS = "org.opencontainers.image"


@pytest.fixture
def key(tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")

    def of(**options):
        common = {"context": str(context), "tags": ["r.example.com/app:1"], "push": True}
        return read_inputs(Image.from_params({**common, **options}), Contexts(str(tmp_path / "notes")), tmp_path).key

    return of


@pytest.mark.parametrize("option", ["labels", "annotations"])
@pytest.mark.parametrize(
    ("name", "of_origin"),
    [("created", True), ("revision", True), ("source", True), ("version", True), ("title", False)],
)
def test_where_an_image_is_from_is_none_of_its_key(key, option, name, of_origin):
    values = [{}, {f"{OPENCONTAINERS}.{name}": "1"}, {f"{OPENCONTAINERS}.{name}": "2"}]
    assert len({key(**{option: value}) for value in values}) == (1 if of_origin else 3)


def test_nor_is_it_as_annotation_of_the_index(key):
    revision = f"index,manifest:{OPENCONTAINERS}.revision"
    assert key(annotations={revision: "1"}) == key(annotations={revision: "2"}) == key()
    assert key(annotations={"index:com.example.a": "1"}) != key(annotations={"index:com.example.a": "2"})


@pytest.fixture
def inputs(tmp_path):
    """What an image with some options is made of."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")
    config = tmp_path / "docker"
    config.mkdir()

    def of(**options):
        common = {"context": str(context), "tags": ["r.example.com/app:1"], "push": True}
        return read_inputs(Image.from_params({**common, **options}), Contexts(str(tmp_path / "notes")), config)

    return of


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "prod"}, ["the target"]),
        ({"provenance": "mode=max"}, ["the option provenance"]),
        ({"sbom": "true"}, ["the option sbom"]),
        ({"provenance": "false", "sbom": "false"}, []),
        ({"network": "none"}, ["the option network"]),
        ({"allow": ["network.host"]}, ["the option allow"]),
        ({"shm_size": "64m"}, ["the option shm_size"]),
        ({"cgroup_parent": "x.slice"}, ["the option cgroup_parent"]),
        ({"add_hosts": {"a": "192.0.2.1"}}, ["the option add_hosts"]),
        ({"ulimits": {"nofile": "9"}}, ["the option ulimits"]),
        ({"build_args": {"A": "1"}, "labels": {"l": "1"}}, ["build arg A", "label l"]),
        ({"secrets": [{"id": "s", "value": "x"}]}, ["secret s"]),
        ({"ssh": ["default"]}, ["ssh default"]),
        ({"links": {"base": "other"}}, ["named context base"]),
        ({"contexts": {"base": "docker-image://r.example.com/base:1"}}, ["named context base"]),
        ({"annotations": {"manifest:k": "1"}}, ["annotation k"]),
        ({"dockerfile_inline": "FROM scratch\n"}, ["the Dockerfile"]),
        ({"pull": True, "cache_from": ["type=registry,ref=r.example.com/cache"], "timeout": 9}, []),
    ],
)
def test_what_changes_is_named(inputs, options, words):
    plain, changed = inputs().fields, inputs(**options).fields
    own = {"Dockerfile"} - set(changed)
    assert sorted(set(changed) - set(plain)) == words
    assert own == ({"Dockerfile"} if "dockerfile_inline" in options else set())


def test_values_of_an_option_are_told_apart(inputs):
    pairs = [
        ("links", {"base": "one"}, {"base": "two"}),
        ("contexts", {"b": "docker-image://r.example.com/b:1"}, {"b": "docker-image://r.example.com/b:2"}),
        ("annotations", {"manifest:k": "1"}, {"manifest-descriptor:k": "1"}),
        ("annotations", {"manifest[linux/amd64]:k": "1"}, {"manifest:k": "1"}),
    ]
    for option, one, other in pairs:
        options = {"platforms": ["linux/amd64"]} if option == "annotations" else {}
        assert inputs(**options, **{option: one}).key != inputs(**options, **{option: other}).key


def test_a_url_is_known_by_its_text(inputs):
    url = "https://git.example.com/app.git"
    fields = inputs(context=url, file="sub/Dockerfile").fields
    assert sorted(fields) == ["the context's URL", "the option file"]
    assert inputs(context=url).fields == {"the context's URL": fields["the context's URL"]}
    assert inputs(context=f"{url}#next").fields["the context's URL"] != fields["the context's URL"]


@pytest.mark.parametrize(
    ("options", "doubts"),
    [
        ({"no_cache": True}, ("no_cache is set",)),
        ({"no_cache_filter": ["prod"]}, ("no_cache_filter is set",)),
        ({"context": "/nonexistent"}, ("context /nonexistent is not there yet",)),
        ({}, ()),
    ],
)
def test_what_cannot_be_told_is_said(inputs, options, doubts):
    assert inputs(**options).doubts == doubts


def test_named_contexts_are_read(inputs, tmp_path):
    data, layout = tmp_path / "data", tmp_path / "layout"
    for folder in (data, layout):
        folder.mkdir()
    (layout / "index.json").write_text("{}")
    (data / "one").write_text("1")
    contexts = {"data": str(data), "base": f"oci-layout://{layout}:1"}
    first = inputs(contexts=contexts)
    assert set(first.trees) == {"", "data"} and b"one" in first.trees["data"]
    assert "named context base" in first.fields and "named context data" not in first.fields
    (layout / "index.json").write_text("[]")
    assert inputs(contexts=contexts).key != first.key
    (data / ".dockerignore").write_bytes(b"\xff\n")
    doubtful = inputs(contexts={"data": str(data)})
    assert doubtful.doubts and "data" not in doubtful.trees


def test_a_file_of_rules_for_what_is_fetched_counts(inputs, tmp_path, monkeypatch):
    rules = tmp_path / "rules.json"
    monkeypatch.setenv("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", str(rules))
    assert "the source policy" not in inputs().fields
    rules.write_text("{}")
    first = inputs()
    rules.write_text("[]")
    assert "the source policy" in first.fields and inputs().key != first.key


def test_the_record_of_an_image_proves_no_password_of_a_proxy(inputs, tmp_path):
    found = []
    for password in ("one", "two"):
        url = f"http://me:{password}@proxy.example.com:3128"
        (tmp_path / "docker/config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": url}}}))
        found.append(inputs(build_args={"HTTP_PROXY": url, "no_proxy": "x"}))
    assert found[0].key == found[1].key
    assert inputs(build_args={"HTTP_PROXY": "http://other.example.com", "no_proxy": "x"}).key != found[0].key
    assert len({inputs(build_args={"URL": f"http://me:{password}@x/"}).key for password in ("one", "two")}) == 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"proxies": {"default": {"httpProxy": "http://p.example.com"}}}, ["proxy settings for default"]),
        ({"proxies": None}, []),
        ("{", []),
    ],
)
def test_proxies_of_the_docker_configuration_count(inputs, tmp_path, config, words):
    plain = set(inputs().fields)
    text = config if isinstance(config, str) else json.dumps(config)
    (tmp_path / "docker/config.json").write_text(text)
    assert sorted(set(inputs().fields) - plain) == words


def test_where_a_result_goes_counts_as_far_as_it_changes_it():
    made = Inputs({}, {})
    compressed = (("compression", "zstd"),)
    same = [Output("registry"), Output("image", options=(("push", "true"),)), Output("registry", options=())]
    assert len({and_exporter(made, output).key for output in same}) == 1
    others = [Output("docker"), Output("oci", "/a"), Output("tar", "/a"), Output("registry", options=compressed)]
    assert len({and_exporter(made, output).key for output in (*same, *others)}) == 5
    assert and_exporter(made, Output("oci", "/a")).key == and_exporter(made, Output("oci", "/b")).key
    there = Output("docker", options=(("context", "x"),))
    assert and_exporter(made, there).key == and_exporter(made, Output("docker")).key


def test_names_platforms_and_checks_count_where_a_result_does_not_hold_them(tmp_path):
    made, common = Inputs({}, {}), {"context": str(tmp_path), "tags": ["r.example.com/app:1"], "push": True}
    images = [
        Image.from_params({**common, **options})
        for options in ({}, {"platforms": ["linux/amd64"]}, {"tags": ["r.example.com/app:2"]})
    ]
    assert len({and_all(made, image).key for image in images}) == 3
    checked = [
        Image.from_params({**common, "platforms": ["linux/amd64"], "run": {"command": command, "timeout": 9}})
        for command in (["true"], ["false"])
    ]
    assert and_checks(made, images[0]) == made
    assert len({and_checks(made, image).key for image in (images[0], *checked)}) == 3


def test_what_a_link_is_made_of_is_told_with_its_name():
    tree = {b"a": Entry("file", 0o644)}
    linked = Inputs({"build arg A": "1"}, {"": tree, "data": tree}, ("no_cache is set",))
    found = and_linked(Inputs({"label l": "2"}, {"": {}}, ("x",)), "base", linked)
    assert found.fields == {"label l": "2", "build arg A of target base": "1"}
    assert set(found.trees) == {"", "target:base", "target:base, data"}
    assert found.doubts == ("x", "target base: no_cache is set")


def test_a_context_that_is_not_certain_is_sent_under_a_new_name_each_time(tmp_path):
    image = Image.from_params({"context": str(tmp_path), "tags": ["r.example.com/app:1"], "push": True})
    names = {sent_as(image, Inputs({}, {}), str(tmp_path / "notes")) for _time in range(3)}
    assert len(names) == 3 and {len(name) for name in names} == {16}
    # A Dockerfile that is missing is left to buildx.
    assert sent_as(image, Inputs({}, {"": {}}), str(tmp_path / "notes"))


@pytest.mark.parametrize(
    ("dockerfile", "expected"),
    [("FROM scratch\n", False), ("FROM --platform=$BUILDPLATFORM golang\n", True), (None, True)],
)
def test_a_stage_may_be_for_another_platform(tmp_path, dockerfile, expected):
    if dockerfile:
        (tmp_path / "Dockerfile").write_text(dockerfile)
    assert crosses(Image.from_params({"context": str(tmp_path)})) is expected
