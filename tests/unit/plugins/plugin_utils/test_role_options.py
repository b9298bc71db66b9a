# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every variable of every role, in every spelling that inventories, command lines and surveys give it.

The cases are made of the roles' argument specifications, so a variable that is added later is covered by them.
"""

from __future__ import annotations

import itertools
import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.role_options import (
    convert,
    option,
    options,
    problems,
    roles,
    specification,
    unknown,
)

EVERY = {name: spec for role in roles() for name, spec in specification(role).items()}
#: Texts of options that take no other text.
TEXTS = {
    "buildx_minimum_version": "0.13.1",
    "buildx_release": "0.29.1",
    "emulators_endpoint": "tcp://amd1:2376",
    "emulators_qemu_version": "10.0.4",
    "engine_minimum_version": "26.1.5",
    "engine_version": "28.5.2",
    "farm_endpoint": "tcp://amd1:2376",
    "platforms": "linux/arm64",
}


def example(name, spec):
    """Return values of an option as YAML gives them."""
    kind, last = spec.get("type", "str"), name.split(".")[-1]
    if "choices" in spec and kind != "list":
        return spec["choices"]
    if kind == "bool":
        return [True, False]
    if kind == "int":
        return [1, 825]
    if last == "engine_registry_authorities":
        return [{}, {"r.example.com:5000": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}]
    if kind == "dict" and "options" not in spec:
        return [{}, {"a": "b"}, {"a": {"b": [1, True, None, "c,d"]}}]
    if (kind == "list" and spec.get("elements") == "dict") or kind == "dict":
        members = {key: example(key, one)[-1] for key, one in spec["options"].items()}
        return [members] if kind == "dict" else [[], [members], [members, members]]
    if kind == "list":
        text = TEXTS["platforms"] if last.endswith("platforms") else "a"
        return [[], [text], [text, "linux/amd64" if text != "a" else "b c"]]
    return [TEXTS.get(last, "/a/path" if kind == "path" else "some-text")]


def spellings(value):
    """Return what people write for a value where only text can be sent, or what a program makes of it."""
    if isinstance(value, bool):
        return [
            str(value),
            str(value).lower(),
            str(value).upper(),
            *(["yes", "on", "1"] if value else ["no", "off", "0"]),
        ]
    if isinstance(value, int):
        return [str(value), f" {value} "]
    if isinstance(value, (list, dict)):
        made = [json.dumps(value), json.dumps(value, indent=2)]
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            made += [",".join(value), ", ".join(value), "\n".join(value), ",".join(value) + ","]
        return made
    return [value]


CASES = [
    pytest.param(name, value, spelling, id=f"{name}={spelling}")
    for name, spec in EVERY.items()
    for value in example(name, spec)
    for spelling in [value, *spellings(value)]
]


@pytest.mark.parametrize(("name", "value", "spelling"), CASES)
def test_every_spelling_means_the_same(name, value, spelling):
    assert convert(name, EVERY[name], spelling) == value
    assert type(convert(name, EVERY[name], spelling)) is type(value)


@pytest.mark.parametrize(("name", "blank"), itertools.product(EVERY, [None, "", " ", "\n"]))
def test_a_blank_field_is_one_that_was_not_given(name, blank):
    assert convert(name, EVERY[name], blank) == EVERY[name].get("default")


@pytest.mark.parametrize("name", EVERY)
def test_what_cannot_be_meant_is_refused_by_name(name):
    kind = EVERY[name].get("type", "str")
    wrong = {
        "bool": ["maybe", "tru", 2, [True], {"a": 1}],
        "dict": ["some text", [1], 3, True, "{'a': "],
        "int": ["some", "1.5", 1.5, True, [1], {"a": 1}],
        "list": ["[1, "] if EVERY[name].get("elements") == "str" else ["some text", "[1, ", True],
        "path": [0.3, True, ["a"], {"a": 1}],
        "str": [0.3, 20.1, True, False, ["a"], {"a": 1}],
    }[kind]
    for value in [*wrong, *(["dokcer"] if "choices" in EVERY[name] else [])]:
        with pytest.raises(FarmError) as caught:
            convert(name, EVERY[name], value)
        assert name in caught.value.message
        assert "wanted" in caught.value.message


def test_a_choice_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(FarmError) as caught:
        convert("engine_source", EVERY["engine_source"], "dokcer")
    assert caught.value.message == 'engine_source: found "dokcer", wanted one of distribution, docker, none'


def test_a_version_that_was_read_as_a_number_is_refused_with_what_to_do():
    with pytest.raises(FarmError, match=r"buildx_minimum_version: found 0\.3, wanted a text; .*put it into quotes"):
        convert("buildx_minimum_version", EVERY["buildx_minimum_version"], 0.30)


def test_a_whole_number_is_its_text():
    assert convert("engine_repository_release", EVERY["engine_repository_release"], 9) == "9"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("farm_platforms", "linux/amd64,linux", "farm_platforms: platform 'linux'"),
        ("farm_node_platforms", ["amd64/linux/x/y"], "farm_node_platforms: platform"),
        ("emulators_platforms", "all,arm7", "emulators_platforms: platform 'arm7'"),
        ("listener_port", "99999", "listener_port: wanted a port, 1 to 65535"),
        ("farm_builder", "my farm", "farm_builder: "),
        ("farm_endpoint", "http://amd1", "farm_endpoint: endpoint 'http://amd1'"),
        (
            "images_list",
            [{"name": "a", "platform": []}],
            "images_list[0]: found the key 'platform', wanted some of name,",
        ),
        (
            "images_list",
            [{"name": name, "source": name, "context": "/srv/x"} for name in "ab"],
            "images_list: a and b have different sources and one context, '/srv/x'; wanted",
        ),
        ("images_list", [{"context": "."}], "images_list[0]: name is missing"),
        ("images_list", [{"name": "a", "platforms": "linux"}], "images_list[0].platforms: platform 'linux'"),
    ],
)
def test_what_a_type_cannot_say_is_checked_too(name, value, message):
    with pytest.raises(FarmError) as caught:
        convert(name, EVERY[name], value)
    assert caught.value.message.startswith(message)


def test_a_secret_is_not_shown():
    with pytest.raises(FarmError) as caught:
        convert("listener_authority_passphrase", EVERY["listener_authority_passphrase"], 20.15)
    assert "20" not in caught.value.message


def test_members_that_were_not_given_stay_out():
    value = [{"name": "a", "platforms": "linux/amd64, linux/arm64", "tags": "", "target": None}]
    assert convert("images_list", EVERY["images_list"], value) == [
        {"name": "a", "platforms": ["linux/amd64", "linux/arm64"]}
    ]


def test_options_are_named_without_the_role():
    found = options("listener", {"listener_ssh": "false", "listener_port": "2400", "other": 1}, lambda value: value)
    assert found["ssh"] is False
    assert found["port"] == 2400
    assert found["directory"] is None
    assert sorted(found) == [
        *("address", "authority", "authority_cert", "authority_decrypt", "authority_key", "authority_passphrase"),
        *("authority_previous_passphrase", "ca", "certificate", "clients", "directory", "insecure", "interface", "key"),
        *("key_type", "nodes", "port", "probe", "renew_before_days", "rotate", "ssh", "ssh_user", "validity_days"),
    ]


def test_all_problems_of_a_role_are_told_at_once():
    with pytest.raises(FarmError) as caught:
        options("listener", {"listener_ssh": "maybe", "listener_port": "x"}, lambda value: value)
    assert "listener_ssh: " in caught.value.message
    assert "listener_port: " in caught.value.message


def test_an_unknown_role_is_refused():
    with pytest.raises(FarmError, match="no role 'linster'; wanted one of buildx, "):
        options("linster", {}, lambda value: value)


def test_one_option_of_a_host():
    assert option("listener_insecure", {"listener_insecure": "no"}) is False
    assert option("listener_insecure", {}) is False


def test_problems_of_all_roles_but_not_of_what_cannot_be_rendered_yet():
    def template(value):
        if value == "{{ later }}":
            raise LookupError
        return value

    given = {"engine_source": "dokcer", "farm_use": "maybe", "listener_address": "{{ later }}", "farm_builder": "a"}
    found = problems(given, template)
    assert [text.split(":")[0] for text in found] == ["engine_source", "farm_use"]


def test_unknown_variables_with_a_role_s_prefix_are_named_with_what_was_meant():
    given = {"listener_intreface": 1, "engine_x": 2, "listener_interface": 3, "my_listener_x": 4, "_listener_x": 5}
    assert list(unknown(given)) == [
        "engine_x is no variable of the role engine, and nothing reads it",
        "listener_intreface is no variable of the role listener, and nothing reads it; was listener_interface meant?",
    ]
