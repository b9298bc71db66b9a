# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "registry", "path", "tag", "digest"),
    [
        ("app", "docker.io", "library/app", "latest", ""),
        ("team/app:1.4", "docker.io", "team/app", "1.4", ""),
        ("docker.io/app", "docker.io", "library/app", "latest", ""),
        ("index.docker.io/team/app", "docker.io", "team/app", "latest", ""),
        ("localhost/app", "localhost", "app", "latest", ""),
        ("registry:5000/app", "registry:5000", "app", "latest", ""),
        ("REGISTRY/app", "REGISTRY", "app", "latest", ""),
        ("registry.example.com/a/b_c/d--e:v", "registry.example.com", "a/b_c/d--e", "v", ""),
        ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000", "app", "latest", ""),
        (f"r.example.com/app@{DIGEST}", "r.example.com", "app", "", DIGEST),
        (f"r.example.com/app:1@{DIGEST}", "r.example.com", "app", "1", DIGEST),
    ],
)
def test_parse(text, registry, path, tag, digest):
    assert Reference.parse(text) == Reference(registry, path, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "App",
        "r.example.com/",
        "r.example.com/App",
        "app:",
        "app: 1",
        "app:-1",
        "--push",
        "a//b",
        "a/../b",
        "app@sha256:123",
        "app\n",
        "a__b___c",
        "app:" + "t" * 129,
        "0" * 64,
        "a/" * 127 + "abc",
    ],
)
def test_what_docker_refuses_is_refused(text):
    with pytest.raises(FarmError, match="image name"):
        Reference.parse(text)


def test_the_name_of_a_manifest_has_no_tag():
    reference = Reference.parse("r.example.com/app:1").at(DIGEST)
    assert str(reference) == f"r.example.com/app@{DIGEST}"


@pytest.mark.parametrize(
    "name", ["r.example.com/" + "a" * 241, "a" * 237, "team/" + "a" * 240, "docker.io/" + "a" * 237]
)
def test_the_longest_name(name):
    """255 characters with the registry, and with library/ for the Hub's own images."""
    assert len(Reference.parse(f"{name}:{'t' * 128}").repository) == 255
    with pytest.raises(FarmError, match="longer than 255 characters"):
        Reference.parse(f"{name}a")
