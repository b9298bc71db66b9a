# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How controllers reach the nodes of an inventory."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.filter.farm_nodes import FilterModule
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import parse_all
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.routing import Worker, routes

FACTS = {"ansible_facts": {"architecture": "x86_64"}}


@pytest.mark.parametrize(
    ("variables", "endpoint", "context"),
    [
        ({}, "farm-n", "tcp://n:2376"),
        ({"ansible_host": "192.0.2.7", "listener_port": 2400}, "farm-n", "tcp://192.0.2.7:2400"),
        ({"ansible_host": "192.0.2.7", "farm_address": "2001:db8::7"}, "farm-n", "tcp://[2001:db8::7]:2376"),
        ({"listener_insecure": True}, "tcp://n:2375", None),
        ({"listener_ssh": True}, "ssh://n", None),
        ({"listener_ssh": True, "ansible_user": "root", "ansible_port": 2222}, "ssh://root@n:2222", None),
        ({"listener_ssh": True, "ansible_user": "root", "listener_ssh_user": "b"}, "ssh://b@n", None),
        ({"listener_ssh": True, "ansible_host": "2001:db8::7"}, "ssh://[2001:db8::7]", None),
        ({"farm_endpoint": "unix:///a.sock", "listener_ssh": True}, "unix:///a.sock", None),
    ],
)
def test_endpoints(variables, endpoint, context):
    (found,) = FilterModule().filters()["farm_nodes"](["n"], {"n": {**FACTS, **variables}})
    assert found["node"]["endpoint"] == endpoint
    assert (found.get("context") or {}).get("host") == context
    assert found["context"] == (context and {"name": "farm-n", **found["node"]["context"]})
    assert context or "context" not in found["node"]


def host(machine=None, **variables):
    """Variables of a host; without a machine its facts are not known."""
    return {"ansible_facts": {"architecture": machine} if machine else {}, **variables}


AMD, ARM, GONE = host("x86_64"), host("aarch64"), host()
LIMITED = host("x86_64", ansible_limit="some")
BOTH = ["linux/amd64", "linux/arm64"]


def shown(platforms, **hosts):
    """Pins (None where they are left alone) and emulated platforms of the nodes that are declared."""
    found = FilterModule().filters()["farm_nodes"](list(hosts), hosts, platforms)
    return {one["name"]: (one["node"].get("platforms"), one["emulated"]) for one in found}


def test_every_node_serves_all_that_it_can():
    emulates = (BOTH, ["linux/arm64"])
    assert shown(BOTH, a=AMD, b=AMD, c=AMD) == {"a": emulates, "b": emulates, "c": emulates}
    assert shown(BOTH, a=AMD, b=AMD, c=ARM) == {"a": (BOTH[:1], []), "b": (BOTH[:1], []), "c": (BOTH[1:], [])}


@pytest.mark.parametrize("no", [False, "no"])
def test_only_some_may_emulate(no):
    assert shown(BOTH, a=host("x86_64", farm_node_emulates=no), b=AMD) == {
        "a": (BOTH[:1], []),
        "b": (BOTH, ["linux/arm64"]),
    }
    with pytest.raises(AnsibleFilterError, match="may emulate it; let one, with farm_node_emulates"):
        shown(BOTH, a=host("x86_64", farm_node_emulates=no))


def test_a_platform_is_fixed_on_several_nodes():
    fixed = host("x86_64", farm_node_platforms=["linux/arm64"])
    assert shown(BOTH, a=fixed, b=AMD, c=fixed) == {
        "b": (BOTH[:1], []),
        "a": (BOTH[1:], BOTH[1:]),
        "c": (BOTH[1:], BOTH[1:]),
    }


def test_by_itself_buildx_finds_the_nodes_that_run_a_platform_natively():
    emulates, native = host("x86_64", farm_node_platforms=BOTH), host("aarch64", farm_node_platforms=BOTH[1:])
    hosts = {"a": emulates, "b": native, "c": ARM, "d": AMD, "e": emulates}
    found = FilterModule().filters()["farm_nodes"](list(hosts), hosts, BOTH)
    assert [one["name"] for one in found] == ["b", "c", "d", "a", "e"]
    workers = [Worker(one["name"], parse_all(one["node"]["platforms"])) for one in found]
    assert [way.node for way in routes(parse_all(BOTH), workers)[0]] == ["d", "b"]


@pytest.mark.parametrize("missing", ["a", "b"])
def test_pins_do_not_depend_on_nodes_that_are_missing(missing):
    hosts = {"a": AMD, "b": AMD, "c": AMD}
    rest = {name: found for name, found in shown(BOTH, **hosts).items() if name != missing}
    assert shown(BOTH, **{**hosts, missing: GONE}) == rest
    assert shown(BOTH[:1], **{**hosts, missing: GONE, "c": LIMITED}) == shown(BOTH[:1], **dict.fromkeys(rest, AMD))


def test_a_node_that_is_down_does_not_stop_a_farm_that_may_not_emulate():
    own = host("x86_64", farm_node_emulates=False)
    assert shown(BOTH, a=own, b=GONE) == {"a": (BOTH[:1], [])}
    assert shown(BOTH[1:], a=own, b=GONE) == {"a": ([], [])}


def test_nodes_that_are_down_are_left_out():
    assert shown(BOTH, a=GONE, b=AMD) == {"b": (BOTH, ["linux/arm64"])}
    assert shown([], a=GONE, b=ARM) == {"b": (["linux/arm64"], [])}
    # What Ansible cannot reach may be declared as a whole.
    known = host(farm_endpoint="ssh://a", farm_node_platforms=["linux/s390x"])
    assert shown(BOTH, a=known, b=AMD) == {"a": (["linux/s390x"], []), "b": (BOTH, ["linux/arm64"])}
    assert "a" not in shown(BOTH, a=host(farm_endpoint="ssh://a"), b=AMD)
    assert "a" not in shown(BOTH, a=host(farm_node_platforms=["linux/s390x"]), b=AMD)


def test_a_limit_hides_who_runs_what():
    assert shown(BOTH, a=LIMITED, b=GONE) == {"a": (None, [])}
    assert shown(BOTH, a=LIMITED, b=ARM, c=GONE) == {"a": (["linux/amd64"], []), "b": (["linux/arm64"], [])}
    assert shown(BOTH, a=LIMITED) == {"a": (BOTH, ["linux/arm64"])}
    fixed = {**LIMITED, "farm_node_platforms": ["linux/s390x"]}
    assert shown(BOTH, a=fixed, b=GONE) == {"a": (["linux/s390x"], ["linux/s390x"])}
    # Nothing is emulated where only natives are wanted, and nothing is hidden.
    assert shown([], a=LIMITED, b=GONE) == {"a": (["linux/amd64"], [])}


def test_without_any_facts_nothing_is_declared():
    with pytest.raises(AnsibleFilterError, match=r"the facts of no node are known \(a, b\)"):
        shown(BOTH, a=GONE, b=GONE)
    assert shown(BOTH[:0]) == {}


def test_a_node_of_an_unknown_architecture_stops_no_farm():
    odd = host("sparc64")
    assert shown(BOTH, a=odd, b=AMD, c=ARM) == {"a": ([], []), "b": (BOTH[:1], []), "c": (BOTH[1:], [])}
    assert shown(BOTH, a=odd, b=AMD) == {"a": ([], []), "b": (BOTH, ["linux/arm64"])}
    assert shown([], a=odd) == {"a": ([], [])}
    with pytest.raises(AnsibleFilterError, match="the architecture of 'a' is none that images are made for"):
        shown(BOTH, a=odd)
    assert shown(BOTH[1:], a={**odd, "farm_node_platforms": BOTH[1:]}) == {"a": (BOTH[1:], [])}


def test_the_engine_tells_what_is_native():
    facts = {"architecture": "aarch64", "buildfarm": {"engine_architecture": "arm"}}
    found = FilterModule().filters()["farm_nodes"](["a"], {"a": {"ansible_facts": facts}}, ["linux/arm64"])
    assert (found[0]["native"], found[0]["emulated"]) == ("linux/arm/v7", ["linux/arm64"])
    assert shown([], a={"ansible_facts": facts}, b=AMD)["a"] == (["linux/arm/v7"], [])


def configured(variables=None, mirror=None, **options):
    """The parts of a node that are about its BuildKit's configuration."""
    hosts = {"n": {**AMD, **(variables or {})}, "m": {"ansible_host": "192.0.2.9", **(mirror or {})}}
    (found,) = FilterModule().filters()["farm_nodes"](["n"], hosts, **options)
    about = ("buildkitd_config", "cache", "registry_authorities")
    return {key: found["node"][key] for key in about if key in found["node"]}


def test_limits_of_the_cache():
    assert configured() == {}
    assert configured(cache={}) == {"cache": {}}
    limits = {"max_used": "40g", "max_age": "7d"}
    own = {"farm_node_cache": '{"max_used": "9g"}'}
    assert configured(own, cache=limits) == {"cache": {"max_used": "9g", "max_age": "7d"}}
    assert configured(own) == {"cache": {"max_used": "9g"}}


HUB = '[registry."docker.io"]\n  mirrors = ["{0}"]\n\n[registry."{0}"]\n  http = true\n'


@pytest.mark.parametrize(
    ("variables", "options", "expected"),
    [
        ({}, {}, None),
        ({}, {"mirrors": ["m"]}, HUB.format("192.0.2.9:5001")),
        ({}, {"mirrors": ["m"], "buildkitd_config": "debug = true"}, "debug = true\n\n" + HUB.format("192.0.2.9:5001")),
        ({"engine_registry_mirrors": "http://x:1"}, {"mirrors": ["m"]}, HUB.format("x:1")),
        ({"engine_registry_mirrors": []}, {"mirrors": ["m"]}, ""),
        (
            {"engine_registry_mirrors": ["https://a.test", "https://b.test/"]},
            {},
            '[registry."docker.io"]\n  mirrors = ["a.test", "b.test"]\n',
        ),
        # What a configuration says itself.
        ({}, {"mirrors": ["m"], "buildkitd_config": "[registry.'docker.io']\n"}, "[registry.'docker.io']\n"),
        # Another port is another registry.
        (
            {"engine_registry_mirrors": "http://x"},
            {"mirrors": ["m"], "buildkitd_config": '[registry."x:1"]\n'},
            '[registry."x:1"]\n\n' + HUB.format("x"),
        ),
        (
            {},
            {"mirrors": ["m"], "buildkitd_config": '[registry."192.0.2.9:5001"]\n  http = true\n'},
            '[registry."192.0.2.9:5001"]\n  http = true\n\n[registry."docker.io"]\n  mirrors = ["192.0.2.9:5001"]\n',
        ),
    ],
)
def test_mirrors(variables, options, expected):
    found = configured(variables, {"mirror_port": "5001"}, **options)
    assert found == ({} if expected is None else {"buildkitd_config": expected})


def test_authorities_of_registries():
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    for given in ({"r.test": pem}, json.dumps({"r.test": pem})):
        assert configured({"engine_registry_authorities": given}) == {"registry_authorities": {"r.test": pem}}
    with pytest.raises(AnsibleFilterError, match=r"engine_registry_authorities: registry r.test: found no certificate"):
        configured({"engine_registry_authorities": {"r.test": "/a/path"}})


def test_no_mirror():
    with pytest.raises(AnsibleFilterError, match=r"mirror 'mirror.test': wanted http://HOST\[:PORT\]"):
        configured({"engine_registry_mirrors": ["mirror.test"]})


def test_engines_that_were_asked_stand_for_facts():
    """Of one that did not answer its facts count, if there are any."""
    hosts = {"a": GONE, "b": host("x86_64"), "c": GONE, "d": ARM}
    natives = {"a": "linux/arm64", "b": "linux/386", "c": None, "d": None}
    found = FilterModule().filters()["farm_nodes"](list(hosts), hosts, None, natives=natives)
    assert [(one["name"], one["native"]) for one in found] == [
        ("a", "linux/arm64"),
        ("b", "linux/386"),
        ("d", "linux/arm64"),
    ]
