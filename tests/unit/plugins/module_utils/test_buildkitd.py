# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx import buildkitd as _buildkitd
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.buildkitd import (
    CONFIG_FILE,
    config_files,
    container_args,
    same_config,
    stored_flags,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError

FIXTURES = Path(__file__).parents[2] / "fixtures"
NETWORK, INSECURE = "--allow-insecure-entitlement=network.host", "--allow-insecure-entitlement=security.insecure"

needs_toml = pytest.mark.skipif(_buildkitd.toml_loads() is None, reason="no TOML parser")


def read(path):
    return {"ca.pem": b"CA\n", "key.pem": b"KEY\n", "cert.pem": b"CERT\n"}[Path(path).name]


@needs_toml
@pytest.mark.parametrize("version", ["0.13.1", "0.29.1"])
def test_the_files_are_those_that_buildx_makes(version):
    stored = Instance.from_json((FIXTURES / f"buildx-{version}/instance-with-config.json").read_bytes(), "").nodes[0]
    assert config_files((FIXTURES / "buildkitd.toml").read_text(), read) == stored.files


@needs_toml
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("b = 1\na = 'x'", 'a = "x"\nb = 1\n'),
        ("[t]\n", "\n[t]\n"),
        ("a.b.c = 1.0", "\n[a]\n\n  [a.b]\n    c = 1.0\n"),
        ('"a b" = "q\\"\\n\\t\\\\"', '"a b" = "q\\"\\n\\t\\\\"\n'),
        ("a = []\nb = [1, 2]\nc = true", "a = []\nb = [1, 2]\nc = true\n"),
    ],
)
def test_toml_is_written_as_buildx_writes_it(text, expected):
    assert config_files(text, read)[CONFIG_FILE].decode() == expected


@needs_toml
@pytest.mark.parametrize("text", ["a =", "[a", "a = 1\na = 2"])
def test_what_is_not_toml_is_refused(text):
    with pytest.raises(FarmError, match="is not TOML"):
        config_files(text, read)


def test_without_a_parser_a_plain_configuration_is_taken_as_it_is(monkeypatch):
    monkeypatch.setattr(_buildkitd, "toml_loads", lambda: None)
    plain = '[registry."r"]\n  http = true\n'
    assert config_files(plain, read) == {CONFIG_FILE: plain.encode()}
    assert stored_flags((), "docker-container", {}, {CONFIG_FILE: b'insecure-entitlements = ["network.host"]'}) == ()
    for text in ('[registry."r"]\n  ca = ["/ca.pem"]\n', '[[registry."r".keypair]]\nkey = "/key.pem"\n'):
        with pytest.raises(FarmError, match=r"needs Python 3\.11 or the Python library tomli"):
            config_files(text, read)


@needs_toml
@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({}, {}, True),
        ({CONFIG_FILE: b"a=1"}, {CONFIG_FILE: b"a = 1 # comment\n"}, True),
        ({CONFIG_FILE: b"a=1"}, {CONFIG_FILE: b"a=2"}, False),
        ({CONFIG_FILE: b"a=1"}, {}, False),
        ({CONFIG_FILE: b"a=1", "c": b"1"}, {CONFIG_FILE: b"a = 1", "c": b"2"}, False),
        ({CONFIG_FILE: b"a=1", "c": b"1"}, {CONFIG_FILE: b"a = 1", "c": b"1"}, True),
        ({CONFIG_FILE: b"a="}, {CONFIG_FILE: b"a = "}, False),
    ],
)
def test_the_same_configuration_in_other_words(left, right, same):
    assert same_config(left, right) is same


@pytest.mark.parametrize(
    ("flags", "driver", "opts", "config", "expected"),
    [
        ((), "docker-container", {}, "", (NETWORK,)),
        ((), "kubernetes", {}, "", (NETWORK,)),
        ((), "remote", {}, "", None),
        (("--debug",), "docker-container", {}, "", ("--debug", NETWORK)),
        ((INSECURE,), "docker-container", {}, "", (INSECURE,)),
        ((INSECURE,), "docker-container", {"network": "host"}, "", (INSECURE, NETWORK)),
        ((NETWORK,), "docker-container", {"network": "host"}, "", (NETWORK,)),
        (
            ("--allow-insecure-entitlement", "network.host"),
            "docker-container",
            {},
            "",
            ("--allow-insecure-entitlement", "network.host"),
        ),
        ((), "docker-container", {}, 'insecure-entitlements = ["network.host"]', ()),
        ((), "docker-container", {"network": "host"}, 'insecure-entitlements = ["network.host"]', (NETWORK,)),
        # buildx stops looking at the first flag that it does not know.
        (("--debug", INSECURE), "docker-container", {}, "", ("--debug", INSECURE, NETWORK)),
    ],
)
def test_flags_are_those_that_buildx_stores(flags, driver, opts, config, expected):
    assert stored_flags(flags, driver, opts, {CONFIG_FILE: config.encode()} if config else {}) == expected


def test_arguments_of_the_container():
    assert container_args(("--debug",), {CONFIG_FILE: b""}) == ("--config", "/etc/buildkit/buildkitd.toml", "--debug")
    assert container_args(None, {"certs/x": b""}) == ()
