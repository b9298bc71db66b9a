# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a build: what buildx is given for them, from which version on, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.call import evaluate
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.options import BuildOptions
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.preconditions import check_split
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform

NEWEST = (0, 36, 1)
AMD64, ARM64, ARMV7 = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm", "v7")
BOTH = {"platforms": ["linux/amd64", "linux/arm64/v8"]}
CACHE = "r.example.com/app:cache"


def options(**params):
    return BuildOptions.from_params(params)


def given(params, platforms=(), **keywords):
    """The arguments for options, without the one that is always there."""
    arguments = options(**params).arguments(NEWEST, platforms, **keywords)
    return [word for word in arguments if word != "--provenance=false"]


@pytest.mark.parametrize(
    ("params", "arguments", "floor"),
    [
        ({"contexts": {"b": "docker-image://alpine:3", "a": "https://example.com/a.git#main"}},
         ["--build-context", "a=https://example.com/a.git#main", "--build-context", "b=docker-image://alpine:3"],
         (0, 8, 0)),
        ({"contexts": {"base": "oci-layout:///srv/../layout:1"}}, ["--build-context", "base=oci-layout:///layout:1"],
         (0, 10, 0)),
        ({"contexts": {"base": "oci-layout:///layout"}}, ["--build-context", "base=oci-layout:///layout"], (0, 10, 0)),
        ({"contexts": {"src": "/srv//src/"}}, ["--build-context", "src=/srv/src"], (0, 8, 0)),
        ({"annotations": {"k": "v", "manifest:a:b": 1}},
         ["--annotation", "manifest:k=v", "--annotation", "manifest:a:b=1"], (0, 12, 0)),
        ({"annotations": ["index,manifest-descriptor:k=a=b"]},
         ["--annotation", "index:k=a=b", "--annotation", "manifest-descriptor:k=a=b"], (0, 12, 0)),
        ({"annotations": "index-descriptor:k="}, ["--annotation", "index-descriptor:k="], (0, 12, 0)),
        ({"no_cache_filter": ["one", "two"]}, ["--no-cache-filter", "one", "--no-cache-filter", "two"], (0, 8, 0)),
        ({"secrets": [{"id": "a", "src": "/x,y"}]}, ["--secret", 'id=a,"src=/x,y"'], None),
        ({"secrets": [{"id": "a", "env": "TOKEN"}]}, ["--secret", "id=a,env=TOKEN"], (0, 6, 0)),
        ({"secrets": [{"id": "a", "src": "/x"}, {"id": "b", "value": "hush"}]},
         ["--secret", "id=a,src=/x", "--secret", "id=b,env=BUILDFARM_SECRET_2"], (0, 6, 0)),
        ({"ssh": ["default", "git=/k/one,/k/../two"]}, ["--ssh", "default", "--ssh", "git=/k/one,/two"], None),
        ({"network": "none"}, ["--network", "none"], None),
        ({"allow": ["network.host", "network.host", "security.insecure"]},
         ["--allow", "network.host", "--allow", "security.insecure"], None),
        ({"allow": ["device=vendor.com/gpu"]}, ["--allow", "device=vendor.com/gpu"], (0, 21, 0)),
        ({"add_hosts": {"a": "192.0.2.1", "b": "[2001:db8::1]"}},
         ["--add-host", "a:192.0.2.1", "--add-host", "b:2001:db8::1"], None),
        ({"add_hosts": ["a:192.0.2.1", "a=2001:db8::1"]},
         ["--add-host", "a:192.0.2.1", "--add-host", "a:2001:db8::1"], None),
        ({"add_hosts": "a:host-gateway"}, ["--add-host", "a:host-gateway"], (0, 10, 0)),
        ({"ulimits": {"nofile": "1:2", "nproc": 5}}, ["--ulimit", "nofile=1:2", "--ulimit", "nproc=5"], (0, 7, 0)),
        ({"ulimits": ["core=-1"]}, ["--ulimit", "core=-1"], (0, 7, 0)),
        ({"shm_size": "64m"}, ["--shm-size", "64m"], (0, 7, 0)),
        ({"cgroup_parent": "/builds"}, ["--cgroup-parent", "/builds"], (0, 7, 0)),
        ({"cache_from": [CACHE]}, ["--cache-from", f"type=registry,ref={CACHE}"], None),
        ({"cache_from": ["a,b", {"type": "local", "src": "/c"}]},
         ["--cache-from", "type=registry,ref=a", "--cache-from", "type=registry,ref=b",
          "--cache-from", "type=local,src=/c"], None),
        ({"cache_to": [{"type": "registry", "ref": CACHE, "mode": "max", "oci-mediatypes": True}]},
         ["--cache-to", f"type=registry,ref={CACHE},mode=max,oci-mediatypes=true"], None),
        ({"cache_to": ["type=inline"]}, ["--cache-to", "type=inline"], None),
        ({"cache_to": ["type=inline", CACHE]},
         ["--cache-to", "type=inline", "--cache-to", f"type=registry,ref={CACHE}"], (0, 10, 0)),
        ({"cache_from": ["type=gha"]}, ["--cache-from", "type=gha"], (0, 6, 0)),
        ({"attest": ["type=sbom"]}, ["--sbom=true"], (0, 10, 0)),
        ({"attest": [{"type": "sbom", "generator": "r/i:1"}, "type=provenance,disabled=true"]},
         ["--sbom=generator=r/i:1"], (0, 10, 0)),
        ({"call": "outline"}, ["--call", "outline,format=json"], (0, 15, 0)),
        ({"call": "build"}, [], None),
        ({"call": "check", "cache_to": [CACHE]}, ["--call", "check,format=json"], (0, 15, 0)),
    ],
)  # fmt: skip
def test_what_buildx_is_given_and_the_first_version_that_takes_it(params, arguments, floor):
    assert given(params) == arguments
    assert max([version for _feature, version in options(**params).requirements()], default=None) == floor


def test_an_attestation_is_that_of_its_own_option():
    assert options(attest=["type=provenance,mode=max"]) == options(provenance="mode=max")
    assert options(attest=[{"type": "provenance", "mode": "max"}]).attested
    # Only what is a boolean may be written in any way: paths and tags tell capitals from small letters.
    url = "https://ci.example.com/Org/Repo"
    assert options(provenance=f"builder-id={url}").provenance == f"builder-id={url}"
    assert options(provenance="True", sbom="FALSE") == options(provenance="true", sbom="false")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"contexts": {"A B": "/srv"}}, "image name 'A B'"),
        ({"contexts": {"a": "target:app"}}, "contexts: a: target:app is another target of a bake file"),
        ({"contexts": {"a": "docker-image://UPPER"}}, "image name 'UPPER'"),
        (
            {"contexts": {"a": "https://me:hush@example.com/a.git"}},
            r"contexts: a: https://\*\*\*@example.com/a.git: a pass",
        ),
        ({"contexts": {"a": ["/srv"]}}, "contexts: a:.*: wanted text, found list"),
        ({"annotations": ["k"]}, "annotations: 'k': wanted KEY=VALUE"),
        ({"annotations": {"manifests:k": "v"}}, "unknown type 'manifests'; wanted manifest, manifest-descriptor"),
        ({"annotations": {"index[linux/amd64]:k": "v"}}, "the index is of all platforms"),
        ({"annotations": {"index:": "v"}}, r"wanted \[TYPE\[PLATFORM\]:\]KEY"),
        ({"annotations": {"manifest[linux/z80]:k": "v"}}, "unknown architecture 'z80'"),
        ({**BOTH, "annotations": {"manifest[linux/arm/v7]:k": "v"}}, "linux/arm/v7 is not one of the platforms"),
        ({"no_cache": True, "no_cache_filter": ["a"]}, "no_cache runs all steps again"),
        ({"no_cache_filter": ["a b"]}, "no_cache_filter 'a b'"),
        ({"secrets": [{"id": "a"}]}, "secrets: a: wanted one of src, env and value, found none"),
        ({"secrets": [{"id": "a", "src": "/x", "value": "hush"}]}, "found src, value$"),
        ({"secrets": [{"id": "a,b", "src": "/x"}]}, "secrets: id 'a,b'"),
        ({"secrets": [{"id": "a", "src": "/x"}, {"id": "a", "env": "X"}]}, "secrets: a is there twice"),
        ({"secrets": [{"id": "a", "env": "BUILDX_BUILDER"}]}, "env 'BUILDX_BUILDER': no such variable reaches buildx"),
        ({"secrets": [{"id": "a", "value": "x" * 140000}]}, "value is longer than 131008 bytes"),
        ({"ssh": ["a="]}, "ssh: 'a=': wanted default, or ID=PATH"),
        ({"network": "mine"}, "network 'mine': wanted default, host, none"),
        ({"allow": ["fs.read=/"]}, "allow: 'fs.read=/'"),
        ({"add_hosts": {"a": "b"}}, "add_hosts: a: 'b' is neither an IP address"),
        ({"add_hosts": {"a": "[2001:db8::1"}}, "is neither an IP address"),
        ({"add_hosts": {"a": "2001:db8::1]"}}, "is neither an IP address"),
        ({"add_hosts": ["a"]}, "add_hosts: 'a': wanted KEY=VALUE"),
        ({"add_hosts": {"a,b": "192.0.2.1"}}, "'a,b' is no name of a host"),
        ({"ulimits": {"files": 1}}, "unknown limit 'files'; wanted one of core, cpu"),
        ({"ulimits": {"nofile": "many"}}, "ulimits: nofile: 'many'"),
        ({"shm_size": "big"}, "shm_size 'big'"),
        ({"cgroup_parent": "-x"}, "cgroup_parent '-x'"),
        ({"cache_from": ["type=redis"]}, "cache_from: unknown type 'redis'; wanted registry, local"),
        ({"cache_from": [{"ref": "x"}]}, "cache_from: unknown type ''"),
        ({"cache_to": ["type=local,src=/x"]}, "cache_to, type local: dest is missing"),
        ({"cache_to": ["type=registry"]}, "ref is missing, which names the cache"),
        ({"cache_to": ["r.example.com/UPPER"]}, "image name 'r.example.com/UPPER'"),
        ({"cache_to": ["type=s3,secret_access_key=a,hush"]}, "secret_access_key would stand in the process list"),
        ({"cache_to": ["type=gha,repository=a/b,ghtoken=hush"]}, "ghtoken would stand in the process list"),
        ({"cache_to": [{"type": "s3", "Session_Token": "hush"}]}, "session_token would stand in the process list"),
        ({"cache_from": ["type=gha,token=hush,x"]}, "cache_from: token would stand in the process list"),
        ({"cache_from": ['type=s3, "Secret_Access_Key =a,hush"']}, "secret_access_key would stand in the process"),
        ({"cache_from": ["type=s3,endpoint_url=https://me:hush@s3.example,x"]}, "'x': wanted KEY=VALUE"),
        ({"cache_to": ["type=s3,endpoint_url=https://me:hush@s3.example"]}, "endpoint_url: a password would stand in"),
        ({"cache_to": ["type=azblob,account_url=https://a.example/?sig=hush"]}, "account_url: its sig would stand in"),
        ({"cache_to": ["type=local,dest=/a,dest=/b"]}, "dest is there twice"),
        ({"cache_to": [5]}, "cache_to: wanted a dictionary or text such as type=TYPE, found int"),
        ({"attest": ["type=other"]}, "attest: unknown type 'other'; wanted provenance or sbom"),
        ({"attest": ["type=sbom"], "sbom": "true"}, "attest: sbom is declared twice"),
        ({"call": "lint"}, "call 'lint': wanted build, check, outline, targets"),
        ({"dockerfile_inline": " \n"}, "dockerfile_inline is empty"),
        ({"dockerfile_inline": "FROM a", "file": "b"}, "file and dockerfile_inline are two Dockerfiles"),
    ],
)
def test_what_buildx_would_fail_on_or_show_is_refused(params, words):
    with pytest.raises(FarmError, match=words) as caught:
        options(**params)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "environment", "missing"),
    [
        ("", [], "no ACTIONS_RUNTIME_TOKEN and no ACTIONS_CACHE_URL or ACTIONS_RESULTS_URL,"),
        ("", ["ACTIONS_RUNTIME_TOKEN"], "no ACTIONS_CACHE_URL or ACTIONS_RESULTS_URL,"),
        ("", ["ACTIONS_CACHE_URL"], "no ACTIONS_RUNTIME_TOKEN,"),
        (",url=https://cache.example", ["ACTIONS_RUNTIME_TOKEN"], ""),
        ("", ["ACTIONS_RUNTIME_TOKEN", "ACTIONS_RESULTS_URL"], ""),
    ],
)
def test_a_cache_on_github_needs_what_jobs_there_have(monkeypatch, attributes, environment, missing):
    for name in ("ACTIONS_RUNTIME_TOKEN", "ACTIONS_CACHE_URL", "ACTIONS_RESULTS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in environment:
        monkeypatch.setenv(name, "https://github.example")
    problems = options(cache_from=[f"type=gha{attributes}"]).problems()
    assert [missing in problem for problem in problems] == ([True] if missing else [])


def test_each_platform_has_a_cache_of_its_own_and_all_are_read():
    caches = [CACHE, {"type": "local", "src": "/c", "dest": "/c"}, "type=gha,scope=app", "type=inline"]
    params = {**BOTH, "cache_from": caches[:3], "cache_to": caches}
    arguments = given(params, [ARM64])
    names = [value for word, value in zip(arguments, arguments[1:]) if word == "--cache-from"]
    assert names == [
        f"type=registry,ref={CACHE}",
        f"type=registry,ref={CACHE}-linux-amd64",
        f"type=registry,ref={CACHE}-linux-arm64",
        *(f"type=local,src=/c{end},dest=/c" for end in ("", "/linux-amd64", "/linux-arm64")),
        *(f"type=gha,scope=app{end}" for end in ("", "-linux-amd64", "-linux-arm64")),
    ]
    written = [value for word, value in zip(arguments, arguments[1:]) if word == "--cache-to"]
    assert written == [
        f"type=registry,ref={CACHE}-linux-arm64",
        "type=local,src=/c,dest=/c/linux-arm64",
        "type=gha,scope=app-linux-arm64",
        "type=inline",
    ]
    both = given(params, [AMD64, ARM64])
    assert [word for word in both if word.startswith("type=registry") and word.endswith("amd64")] == [
        f"type=registry,ref={CACHE}-linux-amd64"
    ] * 2
    pinned = f"r.example.com/app@sha256:{'a' * 64}"
    assert given({**BOTH, "cache_from": [pinned]}) == ["--cache-from", f"type=registry,ref={pinned}"]
    assert options(**params).requirements()[-1] == ("cache_to for more than one platform or cache", (0, 10, 0))


def test_annotations_go_to_what_a_run_builds():
    entries = {
        "manifest[linux/arm64]:k": "arm",
        "k": "all",
        "manifest-descriptor:d": "all",
        "manifest-descriptor[linux/arm64]:d": "arm",
        "index:i": "x",
        "index-descriptor:l": "y",
    }
    declared = {**BOTH, "annotations": entries}
    always = ["--annotation", "index-descriptor:l=y"]
    assert given(declared, [AMD64], with_index=False) == ["--annotation", "manifest:k=all", *always]
    # Of a single manifest BuildKit knows no platform, so what is for it replaces what is for all.
    assert given(declared, [ARM64], with_index=False) == ["--annotation", "manifest:k=arm", *always]
    assert given(declared, [AMD64], with_index=False, whole=False) == ["--annotation", "manifest:k=all"]
    whole = given(declared, [AMD64, ARM64])
    assert whole[1::2] == [
        "manifest:k=all",
        "manifest-descriptor:d=all",
        "index:i=x",
        "index-descriptor:l=y",
        "manifest[linux/arm64]:k=arm",
        "manifest-descriptor[linux/arm64]:d=arm",
    ]
    found = options(**declared)
    assert found.index_annotations == (("i", "x"),)
    assert found.annotations.layout == (("l", "y"),)
    assert found.descriptor_annotations == ((None, "d", "all"), (ARM64, "d", "arm"))
    unbound = {"annotations": {"manifest[linux/arm/v7]:k": "v"}}
    assert given(unbound) == ["--annotation", "manifest[linux/arm/v7]:k=v"]
    assert given(unbound, [AMD64, ARMV7]) == ["--annotation", "manifest[linux/arm/v7]:k=v"]


def test_secrets_are_in_the_environment_only():
    found = options(secrets=[{"id": "a", "value": "hush\n"}, {"id": "b", "env": "TOKEN"}])
    assert found.environment() == {"BUILDFARM_SECRET_1": "hush\n"}
    assert "hush" not in repr(found) + "".join(found.arguments(NEWEST))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"contexts": {"a": "{tmp}/none"}}, "contexts: a: {tmp}/none: nothing there on this controller"),
        ({"contexts": {"a": "{tmp}/file"}}, "contexts: a: {tmp}/file: a file, not a directory"),
        ({"contexts": {"a": "oci-layout://{tmp}"}}, "{tmp} is no OCI layout, as it has no index.json"),
        ({"contexts": {"a": "{tmp}", "b": "docker-image://x"}}, None),
        ({"secrets": [{"id": "a", "src": "{tmp}/none"}]}, "secrets: a: nothing at {tmp}/none"),
        ({"secrets": [{"id": "a", "src": "{tmp}"}]}, "secrets: a: {tmp} is a directory"),
        ({"secrets": [{"id": "a", "src": "{tmp}/large"}]}, "has 512001 bytes; BuildKit takes 512000 at most"),
        ({"secrets": [{"id": "a", "src": "{tmp}/file"}, {"id": "b", "value": "x"}]}, None),
        ({"secrets": [{"id": "a", "env": "NOT_THERE"}]}, "there is no variable NOT_THERE in the task's environment"),
        ({"secrets": [{"id": "a", "env": "THERE"}]}, None),
        ({"ssh": ["default"]}, "ssh: default: there is no ssh agent: SSH_AUTH_SOCK names {tmp}/socket, where"),
        ({"ssh": ["default={tmp}/none"]}, "ssh: default: nothing at {tmp}/none"),
        ({"ssh": ["default={tmp}/file"]}, None),
    ],
)
def test_what_a_build_reads_here_is_there_before_it_begins(tmp_path, monkeypatch, params, words):
    (tmp_path / "file").write_text("")
    (tmp_path / "large").write_bytes(b"x" * 512001)
    monkeypatch.setenv("THERE", "")
    monkeypatch.delenv("NOT_THERE", raising=False)
    monkeypatch.setenv("SSH_AUTH_SOCK", f"{tmp_path}/socket")

    def here(value):
        if isinstance(value, dict):
            return {key: here(item) for key, item in value.items()}
        return [here(item) for item in value] if isinstance(value, list) else value.replace("{tmp}", str(tmp_path))

    problems = options(**here(params)).problems()
    assert len(problems) == (1 if words else 0)
    assert all(here(words) in problem for problem in problems)


@pytest.mark.parametrize(
    ("params", "nodes", "version", "words"),
    [
        ({"dockerfile_inline": "FROM a"}, "ab", "0.16.2", "for nodes a, b without the gate needs buildx 0.17"),
        ({"dockerfile_inline": "FROM a"}, "ab", "0.17.0", None),
        ({"dockerfile_inline": "FROM a"}, "a", "0.13.1", None),
        ({"annotations": ["index:k=v"]}, "ab", "0.15.1", "index of nodes a, b without the gate needs buildx 0.16"),
        ({"annotations": ["index:k=v"]}, "", "0.15.1", None),
        ({"annotations": ["index:k=v"]}, "ab", "0.16.0", None),
        ({"annotations": ["k=v"]}, "ab", "0.12.0", None),
    ],
)  # fmt: skip
def test_what_buildx_loses_between_several_nodes_is_refused(params, nodes, version, words):
    buildx = Buildx(lambda argv, **_options: Result(tuple(argv), 0, f"buildx v{version} x", ""))
    with pytest.raises(FarmError, match=words) if words else contextlib.nullcontext():
        check_split(buildx, options(**params), tuple(nodes))


def test_an_evaluation_is_what_the_frontend_returns():
    said = {"stdout": '{"warnings": null, "sources": ["RlJPTQ=="]}', "rc": 0}

    def runner(argv, env=None, stdin=None, **_options):
        said.update(argv=argv, env=env, stdin=stdin)
        return Result(tuple(argv), said["rc"], said["stdout"], "no node")

    asked = options(call="check", dockerfile_inline="FROM a", secrets=[{"id": "a", "value": "hush"}])

    def found():
        return evaluate(Buildx(runner), asked, ["build", *asked.arguments(NEWEST)])

    assert found() == {"method": "check", "passed": True, "result": {"warnings": []}}
    assert (said["stdin"], said["env"]["BUILDFARM_SECRET_1"]) == ("FROM a", "hush")
    assert "check,format=json" in said["argv"]
    said.update(rc=1, stdout='{"warnings": [{"ruleName": "X"}]}')
    assert not found()["passed"]
    said.update(stdout='{"warnings": null, "buildError": {"message": "m"}}')
    assert found() == {
        "method": "check", "passed": False, "result": {"warnings": [], "buildError": {"message": "m"}}
    }  # fmt: skip
    said.update(stdout="")
    with pytest.raises(CommandError, match=r"^call check: buildx returned no result: no node"):
        found()
