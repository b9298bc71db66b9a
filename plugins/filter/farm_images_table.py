# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(farm_images_table): what was built, where and how long it took, as lines of text."""

from __future__ import annotations

DOCUMENTATION = r"""
name: farm_images_table
short_description: Show what was built where
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Takes RV(buildfarm.multiarch.buildx_build#module:images) and returns the lines of a table, one for each platform,
    and below it why images were built.
positional: _input
options:
  _input:
    description: The images as the module returns them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what was built where
  ansible.builtin.debug:
    msg: "{{ built.images | buildfarm.multiarch.farm_images_table }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

_HEADINGS = ("IMAGE", "PLATFORM", "NODE", "RUNS", "TIME", "SIZE", "DIGEST")
_UNITS = ("B", "kB", "MB", "GB", "TB")
#: Characters of a digest that are shown, ``sha256:`` among them.
_DIGEST = 19


def farm_images_table(images: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return the lines of the table; see DOCUMENTATION."""
    rows: List[Tuple[str, ...]] = [_HEADINGS]
    for image in images:
        name = f"{image['name']}{'' if image['changed'] else ' (unchanged)'}"
        if image["error"]:
            rows.append((f"{image['name']} (failed)", *[""] * (len(_HEADINGS) - 1)))
            continue
        for platform in image["platforms"]:
            seconds, size = platform["seconds"], platform["size"]
            rows.append(
                (
                    name,
                    platform["platform"],
                    platform["node"] or "",
                    {True: "native", False: "emulated", None: ""}[platform["native"]],
                    "" if seconds is None else f"{seconds:.1f} s",
                    "" if size is None else _size(size),
                    (platform["digest"] or "")[:_DIGEST],
                )
            )
            name = ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return table + [f"{image['name']}: {'; '.join(image['reasons'])}" for image in images if image.get("reasons")]


def _size(count: float) -> str:
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.1f} {_UNITS[unit]}" if unit else f"{count} B"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_images_table": farm_images_table}
