# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.declaration import (
    Declaration,
    NodeSpec,
    canonical,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.model import same_endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.tests.unit.builder_options import BUILDER, NODE


@pytest.fixture
def contexts(tmp_path):
    store = ContextStore(tmp_path)
    for name, host in (("arm1", "tcp://arm1:2376"), ("local", "unix:///var/run/docker.sock")):
        store.meta_dir(name).mkdir(parents=True)
        meta = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host}}}
        (store.meta_dir(name) / "meta.json").write_text(json.dumps(meta))
    return store


def declare(contexts, *nodes, stored_driver="", lenient=False, **params):
    given = None if not nodes else [{**NODE, "name": "a", **node} for node in nodes]
    return Declaration.from_params({**BUILDER, "nodes": given, **params}, contexts, {}, stored_driver, lenient)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"name": "A1", "endpoint": "tcp://h"}, NodeSpec("a1", "tcp://h:2375")),
        ({"endpoint": "unix://"}, NodeSpec("a", "unix:///var/run/docker.sock")),
        ({"endpoint": "arm1"}, NodeSpec("a", "arm1")),
        ({"endpoint": "ssh://me@h"}, NodeSpec("a", "ssh://me@h")),
        ({}, NodeSpec("a")),
        ({"platforms": []}, NodeSpec("a", platforms=())),
        ({"platforms": ["linux/arm64/v8", "linux/arm64"]}, NodeSpec("a", platforms=(Platform("linux", "arm64"),))),
        ({"driver_opts": {}}, NodeSpec("a", driver_opts={})),
        (
            {"driver_opts": {"cpu-shares": 5, "default-load": True}},
            NodeSpec("a", driver_opts={"cpu-shares": "5", "default-load": "true"}),
        ),
        (
            {"driver_opts": {"env.A": 1}, "env": {"B": "x=y"}},
            NodeSpec("a", driver_opts={"env.A": "1"}, env={"B": "x=y"}),
        ),
        ({"buildkitd_flags": "--debug --x 'a b'"}, NodeSpec("a", flags=("--debug", "--x", "a b"))),
        ({"buildkitd_flags": ["--x", 5]}, NodeSpec("a", flags=("--x", "5"))),
        ({"buildkitd_flags": ""}, NodeSpec("a", flags=())),
        ({"buildkitd_config": " \n"}, NodeSpec("a", files={})),
        ({"buildkitd_config": "debug = true\n"}, NodeSpec("a", files={"buildkitd.toml": b"debug = true\n"})),
    ],
)
def test_nodes_are_read(contexts, node, expected):
    assert declare(contexts, node).nodes == (expected,)


def test_a_configuration_that_is_no_text_is_refused(contexts, tmp_path):
    path = tmp_path / "buildkitd.toml"
    path.write_bytes("# für alle\n".encode("latin-1"))
    with pytest.raises(FarmError, match=f"builder 'farm', node 'a': {path}: not UTF-8 text"):
        declare(contexts, {"buildkitd_config_file": str(path)})


def test_the_default_endpoint_is_docker_s_own(contexts, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2376")
    assert declare(contexts, {"endpoint": "default"}).nodes[0].endpoint == "tcp://elsewhere:2376"


@pytest.mark.parametrize(
    ("nodes", "params", "message"),
    [
        ([], {"name": "default"}, "reserves this name"),
        ([], {"name": "arm1"}, "a docker context has this name"),
        ([], {"name": "a b"}, "builder 'a b': wanted letters"),
        ([], {"driver": "docker"}, "the docker driver is the engine itself"),
        ([], {"state": "stopped", "driver": "remote"}, "the remote driver has nothing that buildx could stop"),
        ([], {"platforms": ["linux/z80"]}, "unknown architecture 'z80'"),
        ([{"name": "1"}], {}, "builder 'farm', node '1': wanted letters"),
        ([{}, {"name": "A"}], {}, "two nodes are named 'a'"),
        ([{"endpoint": "tcp://h"}, {"name": "b", "endpoint": "tcp://H:2375"}], {}, "have one endpoint, tcp://h:2375"),
        (
            [{"endpoint": "arm1"}, {"name": "b", "endpoint": "tcp://arm1:2376"}],
            {},
            "have one endpoint, tcp://arm1:2376",
        ),
        ([{"endpoint": "nowhere"}], {}, "no such docker context in"),
        ([{"endpoint": "http://h"}], {}, "node 'a': endpoint 'http://h'"),
        ([{"platforms": ["arm64"]}], {}, "node 'a': platform 'arm64'"),
        (
            [{"driver_opts": {"memroy": "1g"}}],
            {},
            "driver option 'memroy': the docker-container driver has cgroup-parent",
        ),
        ([{"driver_opts": {"env.": "x"}}], {}, "driver option 'env.'"),
        ([{"driver_opts": {"memory": "lots"}}], {}, "driver option memory='lots'"),
        ([{"driver_opts": {"cpu-quota": "x"}}], {}, "driver option cpu-quota='x'"),
        ([{"driver_opts": {"restart-policy": "never"}}], {}, "wanted no, always"),
        ([{"driver_opts": {"default-load": "maybe"}}], {}, "wanted true or false"),
        ([{"env": {"A=B": "c"}}], {}, "no name of a variable"),
        ([{"buildkitd_flags": "'"}], {}, "buildkitd_flags"),
        ([{"buildkitd_flags": 5}], {}, "wanted a list"),
        ([{"buildkitd_config_file": "/no/such"}], {}, "/no/such: cannot be read: No such file"),
        ([{"buildkitd_config": "a", "buildkitd_config_file": "/x"}], {}, "cannot be given together"),
        ([{"endpoint": "arm1"}], {"driver": "remote"}, "the remote driver wants"),
        ([{"endpoint": "tcp"}], {"driver": "remote"}, "endpoint 'tcp': the remote driver wants"),
        ([{"endpoint": "http://h"}], {"driver": "remote"}, "endpoint 'http://h': the remote driver wants"),
        ([{"endpoint": "tcp://h:1", "buildkitd_flags": "--debug"}], {"driver": "remote"}, "takes neither"),
        (
            [{"endpoint": "tcp://h:1", "driver_opts": {"cert": "/c", "key": "/k"}}],
            {"driver": "remote"},
            "needs the driver option cacert",
        ),
        (
            [{"endpoint": "tcp://h:1", "driver_opts": {"cacert": "/a", "cert": "/c"}}],
            {"driver": "remote"},
            "and cert and key together",
        ),
        ([{"endpoint": "tcp://h:1", "driver_opts": {"servername": "x"}}], {"driver": "remote"}, "needs the driver"),
        (
            [{"endpoint": "tcp://h:1", "driver_opts": {"cacert": "ca.pem"}}],
            {"driver": "remote"},
            "wanted an absolute path",
        ),
        ([{"endpoint": "tcp://h:1"}], {"driver": "kubernetes"}, "takes no endpoint"),
    ],
)
def test_what_cannot_be_meant_is_refused(contexts, nodes, params, message):
    with pytest.raises(FarmError) as caught:
        declare(contexts, *nodes, **params)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "options", [{}, {"default-load": "true"}, {"cacert": "/a"}, {"cacert": "/a", "cert": "/c", "key": "/k"}]
)
def test_tls_of_the_remote_driver(contexts, options):
    declared = declare(contexts, {"endpoint": "tcp://h:1", "driver_opts": options}, driver="remote")
    assert declared.nodes[0].driver_opts == options


def test_the_stored_driver_counts_where_none_is_declared(contexts):
    with pytest.raises(FarmError, match="the remote driver wants"):
        declare(contexts, {"endpoint": "arm1"}, stored_driver="remote")
    assert declare(contexts, {"driver_opts": {"nodeselector": "a=b"}}, driver="kubernetes").nodes[0].driver_opts


def test_a_context_may_be_created_later_in_check_mode(contexts):
    assert declare(contexts, {"endpoint": "nowhere"}, lenient=True).nodes[0].endpoint == "nowhere"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("arm1", "tcp://arm1:2376"),
        ("tcp://ARM1:2376", "tcp://arm1:2376"),
        ("nowhere", "nowhere"),
        ("kubernetes:///x?y", "kubernetes:///x?y"),
    ],
)
def test_one_engine_under_several_names(contexts, endpoint, expected):
    assert canonical(endpoint, contexts) == expected


def test_contexts_that_there_are_are_named(contexts, tmp_path):
    with pytest.raises(FarmError, match=r"no such docker context in .* \(there: arm1, local\)"):
        declare(contexts, {"endpoint": "nowhere"})
    with pytest.raises(FarmError, match=r"\(there: none\)"):
        declare(ContextStore(tmp_path / "empty"), {"endpoint": "nowhere"})


@pytest.mark.parametrize("config", [None, "debug = true\n"])
def test_limits_of_the_cache_are_part_of_a_configuration_that_is_declared(contexts, config):
    (node,) = declare(contexts, {"buildkitd_config": config, "cache": {"max_used": "1GB"}}).nodes
    if config is None:
        assert node.files is None and node.cache is not None
    else:
        assert node.cache is None and b"debug = true" in node.files["buildkitd.toml"]
        assert node.files["buildkitd.toml"] != config.encode()


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("tcp://h:2375", "tcp://H", True),
        ("tcp://h:2375", "tcp://h:2376", False),
        ("odd://x", "odd://x", True),
        ("odd://x", "odd://y", False),
        ("odd://x", "tcp://h", False),
    ],
)
def test_spellings_of_one_endpoint(left, right, same):
    for pair in ((left, right), (right, left)):
        assert same_endpoint(*pair) is same
