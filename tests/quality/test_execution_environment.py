# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ansible-builder makes of what the collection says it needs, and of the definitions of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

Tool = Callable[..., str]

DEFINITIONS = ["debian", "redhat"]


def test_what_the_collection_needs_is_found(tree: Path, tool: Tool) -> None:
    found = yaml.safe_load(tool("importer", "ansible-builder", "introspect", tree.parents[2]))
    source = "  # from collection buildfarm.multiarch"
    for kind, file in (("python", "ee-requirements.txt"), ("system", "ee-bindep.txt")):
        lines = (tree / "meta" / file).read_text().splitlines()
        # Lines that it cannot read, and what it takes for its own, such as ansible-core, it leaves out.
        assert found[kind] == [line + source for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("name", DEFINITIONS)
def test_definitions_become_contexts(tree: Path, tool: Tool, tmp_path: Path, name: str) -> None:
    definition = tree / f"examples/execution-environment/{name}.yml"
    arguments = ["--file", definition, "--context", tmp_path, "--output-filename", "Containerfile"]
    tool("importer", "ansible-builder", "create", *arguments)
    steps = (tmp_path / "Containerfile").read_text()
    assert "ansible-galaxy collection install" in steps
    assert "sha256sum --check" in steps


def test_the_definitions_differ_in_their_base_only(tree: Path) -> None:
    first, *others = (
        yaml.safe_load((tree / f"examples/execution-environment/{name}.yml").read_text()) for name in DEFINITIONS
    )
    for other in others:
        for key in ("ansible_core", "ansible_runner", "galaxy"):
            assert other["dependencies"][key] == first["dependencies"][key]
