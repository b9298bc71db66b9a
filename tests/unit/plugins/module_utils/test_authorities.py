# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx import authorities as _authorities
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.authorities import (
    read_authorities,
    with_authorities,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.buildkitd import (
    CONFIG_FILE,
    same_config,
    toml_loads,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import settings as _settings

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
A, B = b"a", b"b"
PATH = "certs/r.test_5000/declared-ca.crt"

needs_toml = pytest.mark.skipif(toml_loads() is None, reason="no TOML parser")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"r.test:5000": f"\n{PEM}\n\n"}, None),
        ({"[::1]:5000": PEM + PEM}, None),
        ({"https://r.test": PEM}, r"registry 'https://r\.test': wanted its name"),
        ({"r.test/team": PEM}, "wanted its name"),
        ({'r"': PEM}, "wanted its name"),
        ({"r.test": "/etc/ssl/ca.pem"}, r"registry r\.test: found no certificate; wanted .* no path"),
        ({"r.test": ""}, "found no certificate"),
        ({"r.test": PEM.replace("CERTIFICATE", "PRIVATE KEY")}, "found no certificate"),
    ],
)
def test_what_users_declare(raw, problem):
    if problem:
        with pytest.raises(FarmError, match=problem):
            read_authorities(raw)
    else:
        wanted = [f"{text.strip()}\n".encode() for text in raw.values()]
        assert list(read_authorities(raw).values()) == wanted


CASES = [
    # The configuration, what is declared, the registry's ca afterwards.
    ("", {"r.test:5000": A}, A),
    ('debug = true\n[registry."o.test"]\n  http = true\n', {"r.test:5000": A}, A),
    ('[registry."r.test:5000"]\n  mirrors = ["m"]\n', {"r.test:5000": A}, A),
    ('[registry."r.test:5000"]\n  http = true\n', {"r.test:5000": A}, None),
    ('[registry."r.test:5000"]\n  ca = ["/etc/buildkit/own"]\n', {"r.test:5000": A}, b"own"),
    ("", {}, None),
]


@needs_toml
@pytest.mark.parametrize(("text", "declared", "expected"), CASES)
def test_a_configuration_gets_what_is_declared_and_loses_what_was(text, declared, expected):
    files = {"own": b"own", **({CONFIG_FILE: text.encode()} if text else {})}
    found = with_authorities(files, declared)
    registry = _settings._registries(found.get(CONFIG_FILE, b"").decode()).get("r.test:5000", {})
    assert _settings._settings(registry, found).authorities == ((expected,) if expected else ())
    assert (PATH in found) == (expected == A)
    assert with_authorities(found, declared) == found
    changed = with_authorities(found, dict.fromkeys(declared, B))
    assert (changed == found) == (expected != A)
    assert same_config(with_authorities(found, {}), files)


def test_without_a_parser_tables_are_added_and_taken_away(monkeypatch):
    monkeypatch.setattr(_authorities, "toml_loads", lambda: None)
    files = {CONFIG_FILE: b'[registry."o.test"]\n  http = true\n'}
    found = with_authorities(files, {"r.test:5000": A, "s.test": B})
    assert found[PATH] == A and found[CONFIG_FILE].startswith(files[CONFIG_FILE])
    for loads in (toml_loads(), None):
        monkeypatch.setattr(_settings, "toml_loads", lambda loads=loads: loads)
        tables = _settings._registries(found[CONFIG_FILE].decode())
        assert _settings._settings(tables["r.test:5000"], found).authorities == (A,)
    assert with_authorities(found, {"r.test:5000": A, "s.test": B}) == found
    assert with_authorities(found, {}) == files
    assert with_authorities({}, {}) == {}
    with pytest.raises(FarmError, match=r"registry o\.test: laying its authority .* needs Python 3\.11"):
        with_authorities(files, {"o.test": A})
