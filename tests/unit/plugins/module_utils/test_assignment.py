# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.pinning import Candidate, assign
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import native_platform, parse_all


def node(name, machine, pins=None, may_emulate=True):
    return Candidate(name, native_platform(machine), None if pins is None else parse_all(pins), may_emulate)


BOTH = ["linux/amd64", "linux/arm64"]


@pytest.mark.parametrize(
    "nodes, requested, pins, emulated",
    [
        pytest.param(
            [node("a", "x86_64"), node("b", "aarch64")], None, [BOTH[:1], BOTH[1:]], [[], []], id="facts alone"
        ),
        pytest.param(
            [node("a", "aarch64"), node("b", "x86_64")],
            BOTH,
            [["linux/arm64"], ["linux/amd64"]],
            [[], []],
            id="native whatever the order",
        ),
        pytest.param(
            [node("a", "x86_64"), node("b", "aarch64"), node("c", "x86_64"), node("d", "x86_64")],
            ["linux/386", *BOTH],
            [["linux/386", "linux/amd64"], ["linux/arm64"], *[["linux/386", "linux/amd64"]] * 2],
            [[]] * 4,
            id="all whose processor runs it",
        ),
        pytest.param(
            [node("a", "x86_64"), node("b", "x86_64")],
            ["linux/arm64", "linux/amd64"],
            [["linux/amd64", "linux/arm64"]] * 2,
            [["linux/arm64"]] * 2,
            id="all emulate",
        ),
        pytest.param(
            [node("a", "x86_64"), node("b", "x86_64", may_emulate=False), node("c", "x86_64")],
            BOTH,
            [BOTH, ["linux/amd64"], BOTH],
            [["linux/arm64"], [], ["linux/arm64"]],
            id="all that may emulate",
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
            BOTH,
            [["linux/arm64"], ["linux/amd64"]],
            [["linux/arm64"], []],
            id="what is fixed for emulation is emulated there",
        ),
        pytest.param(
            [node("a", "x86_64", ["linux/arm64"]), node("b", "x86_64", ["linux/arm64"]), node("c", "aarch64")],
            BOTH[1:],
            [["linux/arm64"]] * 3,
            [["linux/arm64"], ["linux/arm64"], []],
            id="fixed on several, and natively on others",
        ),
        pytest.param(
            [node("a", "x86_64", []), node("b", "x86_64", ["linux/amd64"]), node("c", "aarch64", ["linux/arm64"])],
            ["linux/amd64", "linux/386", "linux/riscv64"],
            [[], ["linux/amd64", "linux/386", "linux/riscv64"], ["linux/arm64", "linux/riscv64"]],
            [[], ["linux/riscv64"], ["linux/riscv64"]],
            id="all fixed: the rest goes to those that have any",
        ),
        pytest.param(
            [node("a", "x86_64"), node("b", "aarch64")],
            [*BOTH, "linux/riscv64"],
            [["linux/amd64", "linux/riscv64"], ["linux/arm64", "linux/riscv64"]],
            [["linux/riscv64"]] * 2,
            id="emulated beside what is native",
        ),
        pytest.param([node("a", "x86_64"), node("b", "x86_64")], None, [BOTH[:1]] * 2, [[], []], id="no spares"),
        pytest.param([node("a", "x86_64", [])], None, [[]], [[]], id="no pins fixed"),
        pytest.param([node("a", "x86_64")], [], [[]], [[]], id="nothing wanted"),
        pytest.param(
            [node("a", "aarch64")], ["linux/arm/v7"], [["linux/arm/v7"]], [["linux/arm/v7"]], id="arm on arm64"
        ),
    ],
)
def test_every_platform_is_pinned_to_all_that_serve_it(nodes, requested, pins, emulated):
    assigned = assign(nodes, None if requested is None else parse_all(requested))
    assert [[str(pin) for pin in node.pins] for node in assigned] == pins
    assert [[str(pin) for pin in node.emulated] for node in assigned] == emulated


@pytest.mark.parametrize(
    "nodes, message",
    [
        ([], "there is no node"),
        ([Candidate("a", None)], "the architecture of 'a' is none that images are made for"),
        ([node("a", "x86_64", may_emulate=False), Candidate("b", None)], "no processor of 'a' runs it.*emulate"),
        ([node("a", "x86_64", [])], "no processor of 'a' runs it.*farm_node_platforms"),
    ],
)
def test_a_platform_that_nobody_serves_is_refused(nodes, message):
    with pytest.raises(FarmError, match=f"platform linux/arm64 is wanted, but {message}"):
        assign(nodes, parse_all(["linux/arm64"]))
