# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.pinning import Candidate, assign
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import native_platform, parse_all


def node(name, machine, pins=None):
    return Candidate(name, native_platform(machine), None if pins is None else parse_all(pins))


@pytest.mark.parametrize(
    "nodes, requested, pins, emulated",
    [
        pytest.param(
            [node("a", "x86_64"), node("b", "aarch64")],
            [],
            [["linux/amd64"], ["linux/arm64"]],
            [[], []],
            id="facts alone",
        ),
        pytest.param(
            [node("a", "aarch64"), node("b", "x86_64")],
            ["linux/amd64", "linux/arm64"],
            [["linux/arm64"], ["linux/amd64"]],
            [[], []],
            id="native whatever the order",
        ),
        pytest.param(
            [node("a", "x86_64"), node("b", "x86_64")],
            ["linux/arm64", "linux/amd64"],
            [["linux/amd64"], ["linux/arm64"]],
            [[], ["linux/arm64"]],
            id="the spare node emulates",
        ),
        pytest.param(
            [node("a", "x86_64")],
            ["linux/amd64", "linux/arm64/v8", "linux/s390x"],
            [["linux/amd64", "linux/arm64", "linux/s390x"]],
            [["linux/arm64", "linux/s390x"]],
            id="one node does it all",
        ),
        pytest.param(
            [node("a", "x86_64", ["linux/arm64"]), node("b", "x86_64")],
            ["linux/amd64", "linux/arm64"],
            [["linux/arm64"], ["linux/amd64"]],
            [["linux/arm64"], []],
            id="fixed pins stay",
        ),
        pytest.param(
            [node("a", "x86_64", []), node("b", "x86_64", ["linux/amd64"])],
            ["linux/386"],
            [["linux/386"], ["linux/amd64"]],
            [[], []],
            id="all fixed: the least burdened takes the rest",
        ),
        pytest.param(
            [node("a", "x86_64"), node("b", "aarch64"), node("c", "aarch64")],
            ["linux/amd64", "linux/arm64", "linux/riscv64", "linux/s390x", "linux/ppc64le"],
            [["linux/amd64", "linux/ppc64le"], ["linux/arm64", "linux/s390x"], ["linux/riscv64"]],
            [["linux/ppc64le"], ["linux/s390x"], ["linux/riscv64"]],
            id="emulation goes to spare nodes first",
        ),
        pytest.param([node("a", "x86_64"), node("b", "x86_64")], [], [["linux/amd64"], []], [[], []], id="a spare"),
        pytest.param(
            [node("a", "aarch64")], ["linux/arm/v7"], [["linux/arm/v7"]], [["linux/arm/v7"]], id="arm on arm64"
        ),
    ],
)
def test_every_platform_gets_one_pin(nodes, requested, pins, emulated):
    assigned = assign(nodes, parse_all(requested))
    assert [[str(pin) for pin in node.pins] for node in assigned] == pins
    assert [[str(pin) for pin in node.emulated] for node in assigned] == emulated


def test_one_platform_fixed_twice_is_refused():
    with pytest.raises(FarmError, match="linux/amd64 is fixed on node 'a' and on node 'b'"):
        assign([node("a", "x86_64", ["linux/amd64"]), node("b", "x86_64", ["linux/amd64"])])


def test_no_node_is_refused():
    with pytest.raises(FarmError, match="there is no node"):
        assign([], parse_all(["linux/amd64"]))
