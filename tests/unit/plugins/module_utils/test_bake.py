# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bake definitions as buildx 0.13.1 and 0.29.1 print them (``bakes/``), what targets become, and what is allowed.

The definitions are in ``tests/integration/bakes/``; ``fields`` and ``calls`` have each field once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._bake.allow import Allowed, Need
from ansible_collections.buildfarm.multiarch.plugins.module_utils._bake.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._bake.declaration import Bake
from ansible_collections.buildfarm.multiarch.plugins.module_utils._bake.definition import Definition, evaluate
from ansible_collections.buildfarm.multiarch.plugins.module_utils._bake.targets import (
    Place,
    Target,
    images_of,
    targets_of,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.inputs import and_linked
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.order import bases_of
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.inputs import Inputs

BAKES = Path(__file__).parent / "bakes"
VERSIONS = ("0.13.1", "0.29.1")
NAMES = ("groups", "matrix", "functions", "compose", "project", "links", "json")
HERE = "/srv/project"
PLACE = Place(HERE)


def printed(name, version):
    return (BAKES / f"{name}-{version}.json").read_text()


def targets(name, version="0.29.1", place=PLACE):
    definition = Definition.parse(printed(name, version))
    return {target.name: target for target in targets_of(definition.targets, place, definition.requested)}


def target(raw, place=PLACE):
    return Target.from_printed("t", raw, place)


def read(raw, field, place=PLACE):
    return target(raw, place).params[field]


@pytest.mark.parametrize("name", NAMES)
def test_all_versions_of_buildx_mean_the_same(name):
    old, new = (targets(name, version) for version in VERSIONS)
    assert set(old) == set(new)
    for each in old:
        # What is only linked to says so since 0.14.
        one, other = (
            {**found[each].params, "outputs": found[each].params.get("outputs") or []} for found in (old, new)
        )
        assert (one, old[each].links, set(old[each].needs)) == (other, new[each].links, set(new[each].needs))


@pytest.mark.parametrize("version", VERSIONS)
def test_each_field(version, monkeypatch):
    monkeypatch.setenv("TOK", "1")
    found = targets("fields", version)
    sink = found["sink"]
    options = dict(sink.params)
    if version == "0.13.1":
        # It does not print it.
        assert "network" not in options
    else:
        assert (options.pop("network"), options.pop("allow")) == ("host", ["network.host"])
    assert options == {
        "context": f"{HERE}/app",
        "file": f"{HERE}/app/D",
        "contexts": {
            "cw": f"{HERE}/app",
            "img": "docker-image://alpine:3",
            "lay": f"oci-layout://{HERE}/lay:x",
            "src": f"{HERE}/app",
        },
        "build_args": {"E": "", "V": "1"},
        "labels": {"l": "1"},
        "annotations": ["index:a=b", "c=d"],
        "tags": ["reg.example.com/x:1"],
        "platforms": ["linux/amd64", "linux/arm64"],
        "target": "t",
        "cache_from": options["cache_from"],
        "cache_to": [{"type": "inline"}, {"type": "local", "dest": f"{HERE}/cc", "mode": "max"}],
        "outputs": [
            {"type": "registry", "options": {}},
            {"type": "local", "dest": f"{HERE}/out", "options": {}},
            {"type": "local", "dest": f"{HERE}/out2", "options": {}},
            {"type": "image", "options": {"push": "true"}},
        ],
        "secrets": [
            {"id": "a", "src": f"{HERE}/a"},
            {"id": "TOK", "env": "TOK"},
            {"id": "B", "env": "BB"},
            {"id": "bare", "src": f"{HERE}/bare"},
        ],
        "ssh": ["default", f"k={HERE}/k1"],
        "attest": options["attest"],
        "pull": True,
        "no_cache_filter": ["s"],
        "shm_size": "64m",
        "ulimits": ["nofile=1024:2048"],
    }
    assert options["cache_from"][-1] == {"type": "local", "src": f"{HERE}/cc"}
    assert [one["type"] for one in options["attest"]] == ["provenance", "sbom"]
    assert sink.links == {"base": "base"}
    wanted = {"fs.read=/srv/project/app", "fs.read=/srv/project/cc", "fs.write=/srv/project/cc", "ssh"}
    wanted |= {"fs.write=/srv/project/out", "fs.read=/srv/project/k1", "fs.read=/srv/project/lay"}
    assert wanted <= {need.entry for need in sink.needs}
    assert found["inl"].params["dockerfile_inline"] == "FROM scratch\nCOPY . /\n"
    (image,) = images_of([found["inl"]], ["inl"], {})
    assert (image.name, image.file) == ("inl", "-")


def test_calls_and_rights():
    found = targets("calls")["n-a"]
    assert found.call == "check"
    assert found.params["add_hosts"] == {"h": "1.2.3.4"}
    assert {"network.host", "security.insecure"} <= {need.entry for need in found.needs}
    assert found.params["allow"] == ["network.host", "security.insecure"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"policy": [{"filename": "x"}]}, "policy is nothing that this module can build"),
        ({"context": "-"}, "standard input"),
        ({"dockerfile": "https://example.com/D"}, "wanted the path of a file"),
        ({"output": ["-"]}, "standard output"),
        ({"output": ["type=tar"]}, "standard output"),
        ({"output": ["type=strange"]}, "unknown type 'strange'"),
        ({"entitlements": ["everything"]}, "wanted network.host"),
        ({"secret": [{"id": "x", "strange": []}]}, "wanted text"),
    ],
)
def test_what_no_image_of_ours_can_have_is_refused_with_the_target(raw, message):
    with pytest.raises(FarmError, match=message) as caught:
        target(raw)
    assert caught.value.message.startswith("target t: ")


def test_contexts_of_a_remote_definition():
    place = Place(HERE, "https://git.example.com/p.git#v1")
    assert read({"context": "."}, "context", place) == "https://git.example.com/p.git#v1"
    assert read({"context": "./a/b"}, "context", place) == "https://git.example.com/p.git#v1:a/b"
    below = Place(HERE, "https://git.example.com/p.git#v1:sub")
    assert read({"context": "a"}, "context", below) == "https://git.example.com/p.git#v1:sub/a"
    assert read({"context": "a", "dockerfile": "D"}, "file", place) == "D"
    assert read({"context": "cwd://x"}, "context", place) == f"{HERE}/x"
    assert target({"context": "."}, place).needs == ()
    local = target({"context": ".", "dockerfile": "cwd://D", "contexts": {"c": "cwd://y"}}, place)
    assert [need.entry for need in local.needs] == [f"fs.read={HERE}/y", f"fs.read={HERE}/D"]
    with pytest.raises(FarmError, match="name that directory as chdir"):
        read({"context": "a"}, "context", Place(HERE, "https://example.com/p.tar.gz"))


def test_the_token_of_a_remote_definition_reaches_its_context(monkeypatch):
    monkeypatch.setenv("BUILDX_BAKE_GIT_AUTH_TOKEN", "secret")
    place = Place(HERE, "https://git.example.com/p.git")
    assert read({}, "secrets", place) == [{"id": "GIT_AUTH_TOKEN", "env": "BUILDX_BAKE_GIT_AUTH_TOKEN"}]
    assert "secrets" not in target({}).params


def test_what_push_adds_counts():
    assert read({"output": ["type=image,push=false,push=true"]}, "outputs")[0]["options"] == {"push": "true"}


def test_a_name_in_an_output_is_a_tag_where_there_is_none():
    raw = {"output": ["type=image,name=r.example.com/a,push=true"]}
    assert read(raw, "tags") == ["r.example.com/a"]
    assert read({**raw, "tags": ["r.example.com/b"]}, "tags") == ["r.example.com/b"]


def test_secrets_may_be_variables_of_the_task(monkeypatch):
    monkeypatch.delenv("TOKEN", raising=False)
    place = Place(HERE, variables={"TOKEN": "hidden"})
    assert read({"secret": [{"id": "TOKEN"}]}, "secrets", place) == [{"id": "TOKEN", "value": "hidden"}]
    assert read({"secret": ["type=env,id=t,env=TOKEN"]}, "secrets", place) == [{"id": "t", "value": "hidden"}]


def test_tags_belong_to_what_puts_them_somewhere():
    found = targets("project")
    images = {image.name: image for image in images_of(tuple(found.values()), list(found), {})}
    assert {name for name, image in images.items() if image.tags} == {"image", "image-debug"}
    shared = [
        target({"tags": ["r.example.com/a:1"], "output": [{"type": "registry"}]}),
        target({"tags": ["r.example.com/a:1"]}),
    ]
    assert [image.tags for image in images_of(shared, ["t"], {})] == [("r.example.com/a:1",), ()]


def test_what_is_only_linked_to():
    found = targets("links", "0.13.1")
    images = {image.name: image for image in images_of(tuple(found.values()), ["app", "plugin"], {})}
    assert {name: image.only_linked for name, image in images.items()} == {
        "app": False,
        "plugin": False,
        "assets": True,
        "base": True,
    }
    assert images["app"].links == (("assets", "assets"), ("base", "base"))


def test_a_link_to_nothing_is_refused():
    with pytest.raises(FarmError, match="target:gone is no target"):
        targets_of({"t": {"contexts": {"x": "target:gone"}}}, Place(HERE), ["t"])


ALLOWED = [
    ([], "fs.read", "/srv/project/a", True),
    ([], "fs.write", "/srv/project", True),
    ([], "fs.read", "/srv/projects", False),
    (["fs.read=../other"], "fs.read", "/srv/other/x", True),
    (["fs.read=../other"], "fs.write", "/srv/other/x", False),
    (["fs=/srv/other/"], "fs.write", "/srv/other/x", True),
    (["fs.write=*"], "fs.write", "/etc", True),
    (["fs.read=/"], "fs.read", "/etc", True),
    ([], "ssh", "", False),
    (["ssh"], "ssh", "", True),
    (["network.host"], "security.insecure", "", False),
    (["device"], "device", "gpu=all", True),
    (["device=gpu=all"], "device", "gpu=all", True),
    (["device=gpu=all"], "device", "", False),
]


@pytest.mark.parametrize(("entries", "right", "value", "covered"), ALLOWED)
def test_what_is_allowed(entries, right, value, covered):
    assert Allowed.from_param(entries, HERE).covers(Need(right, value, "it")) is covered


def test_links_out_of_the_working_directory_are_followed(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in/link").symlink_to(tmp_path / "out")
    allowed = Allowed.from_param([], str(tmp_path / "in"))
    assert not allowed.covers(Need("fs.read", str(tmp_path / "in/link/file"), "it"))
    assert Allowed.from_param([f"fs.read={tmp_path}/in/link"], HERE).covers(
        Need("fs.read", str(tmp_path / "out/f"), "it")
    )


@pytest.mark.parametrize("entry", ["fs.read", "fs.read=", "ssh=x", "everything", "device=", "network.host=1"])
def test_no_right(entry):
    with pytest.raises(FarmError, match="allow: "):
        Allowed.from_param([entry], HERE)


def test_arguments():
    bake = Bake.from_params(
        {
            "chdir": "/srv",
            "files": ["a.hcl"],
            "targets": ["x"],
            "set": {"*.platform": ["linux/amd64", "linux/arm64"], "x.args.N": 1},
            "vars": {"V": True},
            "push": True,
            "builder": "farm",
        }
    )
    assert bake.arguments() == [
        *("bake", "--print", "--file", "a.hcl", "--set", "*.platform=linux/amd64", "--set", "*.platform=linux/arm64"),
        *("--set", "x.args.N=1", "--push", "x"),
    ]
    assert bake.variables == {"V": "true"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"files": ["-"]}, "standard input"),
        ({"targets": ["--allow=fs=/"]}, "option of buildx"),
        ({"set": ["x=1"]}, "wanted TARGET.KEY=VALUE"),
        ({"vars": {"a=b": 1}}, "no name of a variable"),
        ({"url": "/srv/x"}, "wanted the URL"),
        ({"url": "https://user:secret@example.com/x.git"}, "a password in a URL"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(FarmError, match=message) as caught:
        Bake.from_params({"chdir": "/srv", **options})
    assert "user:secret" not in caught.value.message


def fake(version, output, calls):
    def runner(argv, **options):
        calls.append((list(argv), options))
        text = f"github.com/docker/buildx v{version} x" if argv[2] == "version" else output
        return Result(tuple(argv), 0, text, "")

    return runner


def test_a_definition_is_evaluated_in_its_directory_with_its_variables(tmp_path):
    calls = []
    bake = Bake.from_params({"chdir": str(tmp_path), "vars": {"SECRET": "hidden"}})
    found = evaluate(bake, Buildx(fake("0.29.1", printed("links", "0.29.1"), calls)))
    assert found.requested == ("app", "plugin")
    argv, options = calls[-1]
    assert (options["cwd"], options["env"]["SECRET"]) == (str(tmp_path), "hidden")
    assert "hidden" not in " ".join(argv) and not options.get("stdin")


def test_of_what_buildx_prints_the_fault_of_a_definition_is_told(tmp_path):
    said = (
        "#1 [internal] load local bake definitions\n#1 reading x.hcl done\n#1 DONE 0.0s\nERROR: failed to find target t"
    )

    def runner(argv, **_options):
        rc = 0 if argv[2] == "version" else 1
        return Result(tuple(argv), rc, "github.com/docker/buildx v0.29.1 x", said if rc else "")

    with pytest.raises(FarmError) as caught:
        evaluate(Bake.from_params({"chdir": str(tmp_path)}), Buildx(runner))
    assert caught.value.message == "the bake definition could not be evaluated: ERROR: failed to find target t"
    assert caught.value.details["stderr"] == said


@pytest.mark.parametrize(
    "text",
    [
        'target "x" {\n network = "host"\n}',
        'target "x" { network = "host" }',
        'target "x" {\n args = {\n  a = "${b}"\n }\n network = "host"\n}',
        '{\n"network": "none"}',
        '{"target": {"x": {"args": {"a": "b"}, "network": "none"}}}',
        "build:\n  network: host",
        "build:\n  args:\n    a: b\n  network: host",
        "build: {context: ., network: host}",
    ],
)
def test_networks_that_buildx_would_not_tell_are_refused(tmp_path, text):
    (tmp_path / "docker-bake.hcl").write_text(text)
    bake = Bake.from_params({"chdir": str(tmp_path)})
    with pytest.raises(FarmError, match=r"network of a bake target needs buildx 0\.17\.0"):
        evaluate(bake, Buildx(fake("0.13.1", printed("links", "0.13.1"), [])))
    evaluate(bake, Buildx(fake("0.17.0", printed("links", "0.29.1"), [])))


def test_what_is_not_allowed_is_refused_before_anything_else(tmp_path):
    calls = []
    output = json.dumps({"target": {"default": {"context": "/outside", "entitlements": ["network.host"]}}})
    with pytest.raises(FarmError, match=r"add to allow: network\.host, fs\.read=/outside"):
        run({"chdir": str(tmp_path)}, False, fake("0.29.1", output, calls))
    assert [argv[2] for argv, _options in calls] == ["version", "bake"]


def test_a_directory_that_is_not_there_yet_is_a_warning_in_check_mode(tmp_path):
    params = {"chdir": os.path.join(str(tmp_path), "gone")}
    outcome = run(params, True, fake("0.29.1", "", []))
    assert outcome.warnings and outcome.values["images"] == []
    with pytest.raises(FarmError, match="no such directory"):
        run(params, False, fake("0.29.1", "", []))


def test_what_is_linked_to_and_in_no_registry_counts_for_the_image():
    before, linked = Inputs({"build arg A": "1"}, {}), Inputs({"build arg B": "2"}, {}, ("no_cache is set",))
    found = and_linked(before, "base", linked)
    assert found.fields == {"build arg A": "1", "build arg B of target base": "2"}
    assert found.doubts == ("target base: no_cache is set",) and found.key != before.key


def test_links_are_bases():
    found = tuple(targets("links").values())
    images = images_of(found, ["app", "plugin"], {})
    names = [image.name for image in images]
    bases = dict(zip(names, bases_of(images)))
    assert {name: names[position] for name, position in bases["app"].items()} == {"base": "base", "assets": "assets"}
    assert {name: names[position] for name, position in bases["plugin"].items()} == {"app": "app"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"files": ["a.hcl", "cwd://b.hcl"]}, ["/srv/a.hcl", "/srv/b.hcl"]),
        ({"files": ["a.hcl", "cwd://b.hcl"], "url": "https://git.example.com/x.git"}, ["/srv/b.hcl"]),
        ({"files": ["/abs/a.hcl"]}, ["/abs/a.hcl"]),
        ({}, []),
    ],
)
def test_which_files_have_to_be_here(options, expected):
    bake = Bake.from_params({"chdir": "/srv", **options})
    assert list(bake.local_files) == expected


def test_a_network_that_is_set_by_the_task_counts(tmp_path):
    bake = Bake.from_params({"chdir": str(tmp_path), "set": {"app.network": "host"}})
    with pytest.raises(FarmError, match=r"network of a bake target needs buildx 0\.17\.0"):
        evaluate(bake, Buildx(fake("0.13.1", printed("links", "0.13.1"), [])))


@pytest.mark.parametrize("name", ["network", "networks"])
def test_an_argument_of_that_name_is_no_network(tmp_path, name):
    files = {
        "docker-bake.hcl": f'variable "{name}" {{}}\ntarget "x" {{\n args = {{\n  {name} = "${{{name}}}"\n }}\n}}',
        "docker-bake.json": f'{{"target": {{"x": {{"args": {{"{name}": "y"}}, "labels": {{"a": "b"}}}}}}}}',
        "compose.yaml": f"services:\n  x:\n    build:\n      args:\n        {name}: y\n\n      context: .\n",
    }
    for path, text in files.items():
        (tmp_path / path).write_text(text)
    bake = Bake.from_params({"chdir": str(tmp_path), "set": {f"app.args.{name}": "host", f"app.labels.x.{name}": "y"}})
    evaluate(bake, Buildx(fake("0.13.1", printed("links", "0.13.1"), [])))


OWN = ["fs.read=/srv/project", "fs.read=/srv/project/Dockerfile"]


@pytest.mark.parametrize(
    ("raw", "needs"),
    [
        ({}, OWN),
        ({"context": "sub", "dockerfile": "../D"}, ["fs.read=/srv/project/sub", "fs.read=/srv/project/D"]),
        ({"context": "https://example.com/x.git"}, []),
        ({"context": "https://example.com/x.git", "dockerfile": "cwd://D"}, ["fs.read=/srv/project/D"]),
        ({"dockerfile-inline": "FROM x", "dockerfile": "D"}, OWN[:1]),
        ({"secret": [{"id": "s", "src": "../s"}]}, ["fs.read=/srv/s", *OWN]),
        ({"secret": ["id=s,source=/s"]}, ["fs.read=/s", *OWN]),
        ({"secret": [{"id": "s", "env": "HOME"}]}, OWN),
        ({"secret": [{"id": "no-such-variable"}]}, ["fs.read=/srv/project/no-such-variable", *OWN]),
        ({"secret": ["type=env,id=HOME,src=x"]}, OWN),
        ({"ssh": ["default"]}, ["ssh", *OWN]),
        ({"ssh": [{"id": "k", "paths": ["/a", "b"]}]}, ["fs.read=/a", "fs.read=/srv/project/b", *OWN]),
        ({"ssh": ["k=/a,/b"]}, ["fs.read=/a", "fs.read=/b", *OWN]),
        ({"cache-from": ["type=local,src=c", "r.example.com/c"]}, ["fs.read=/srv/project/c", *OWN]),
        ({"cache-to": [{"type": "local", "dest": "/c"}, {"type": "registry", "dest": "/x"}]}, ["fs.write=/c", *OWN]),
        ({"output": ["out", "type=registry"]}, ["fs.write=/srv/project/out", *OWN]),
        ({"output": [{"type": "oci", "dest": "/o"}, "type=oci,dest=/o"]}, ["fs.write=/o", *OWN]),
        ({"contexts": {"l": "oci-layout:///l@sha256:1"}}, ["fs.read=/l", *OWN]),
        ({"contexts": {"l": "oci-layout://l"}}, ["fs.read=/srv/project/l", *OWN]),
        ({"contexts": {"i": "docker-image://x", "t": "target:o", "u": "https://example.com/x.git"}}, OWN),
        ({"contexts": {"d": "../d"}}, ["fs.read=/srv/d", *OWN]),
        ({"network": "host"}, ["network.host", *OWN]),
        ({"network": "none"}, OWN),
        ({"entitlements": ["device=gpu", "security.insecure"]}, ["device=gpu", "security.insecure", *OWN]),
    ],
)
def test_what_a_target_uses_has_to_be_allowed(raw, needs):
    assert [need.entry for need in target(raw).needs] == needs


@pytest.mark.parametrize(
    ("raw", "field", "expected"),
    [
        ({"output": ["type=cacheonly"]}, "outputs", []),
        ({"output": ["type=oci,dest=/o", {"type": "oci", "dest": "/o"}]}, "outputs", 1),
        ({"output": ["out"]}, "outputs", [{"type": "local", "dest": f"{HERE}/out", "options": {}}]),
        ({"contexts": {"l": "oci-layout://l:1"}}, "contexts", {"l": f"oci-layout://{HERE}/l:1"}),
        ({"contexts": {"l": "oci-layout:///l@sha256:1"}}, "contexts", {"l": "oci-layout:///l@sha256:1"}),
        ({"contexts": {"l": "oci-layout:///l"}}, "contexts", {"l": "oci-layout:///l"}),
        ({"dockerfile": "Dockerfile"}, "file", None),
        ({"dockerfile": "D"}, "file", f"{HERE}/D"),
        ({"context": "https://example.com/x.git", "dockerfile": "Dockerfile"}, "file", None),
        ({"call": "lint,format=json"}, "call", "check"),
        ({"call": "build"}, "call", ""),
        ({"call": "outline"}, "call", "outline"),
        ({"args": {"A": None, "B": "1"}}, "build_args", {"B": "1"}),
        ({"network": "host", "entitlements": ["network.host"]}, "allow", ["network.host"]),
        ({"attest": ["type=sbom", "type=sbom,generator=g"]}, "attest", [{"type": "sbom", "generator": "g"}]),
        ({"ssh": ["k=/a,b"]}, "ssh", [f"k=/a,{HERE}/b"]),
    ],
)
def test_what_fields_become(raw, field, expected):
    found = read(raw, field)
    assert (len(found) if isinstance(expected, int) else found) == expected


@pytest.mark.parametrize(
    ("output", "named"),
    [
        ([], True),
        (["type=registry"], True),
        (["type=local,dest=/x"], False),
        (["type=local,dest=/x", "type=oci"], True),
    ],
)
def test_tags_without_an_image_are_left_out(output, named):
    raw = {"tags": ["r.example.com/a:1"], "output": output}
    assert ("tags" in target(raw).params) is named


def test_a_directory_wins_over_a_url_of_the_same_name(tmp_path):
    (tmp_path / "github.com/x").mkdir(parents=True)
    place = Place(str(tmp_path))
    assert place.context("github.com/x") == (f"{tmp_path}/github.com/x", True)
    assert place.context("github.com/y") == ("github.com/y", False)


def test_a_buildx_without_bake_is_refused(tmp_path):
    bake = Bake.from_params({"chdir": str(tmp_path)})
    with pytest.raises(FarmError, match=r"bake needs buildx 0\.2\.0"):
        evaluate(bake, Buildx(fake("0.1.0", printed("links", "0.13.1"), [])))
