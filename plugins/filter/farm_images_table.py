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
    and below it why images were built, and last why some were not. Long names and texts are shortened.
  - What is not known is C(-). A platform that is in no registry has the digest of the archive or the directory that it
    is in, RV(buildfarm.multiarch.buildx_build#module:outputs[].digest).
positional: _input, page
options:
  _input:
    description: The images as the module returns them.
    type: list
    elements: dict
    required: true
  page:
    description:
      - Return pages of lines instead, each of so many bytes at most as C(debug) prints it. AWX shows 1,024 bytes of
        what a task prints for a host or an item.
    type: int
"""

EXAMPLES = r"""
- name: Show what was built where
  ansible.builtin.debug:
    msg: "{{ built.images | buildfarm.multiarch.farm_images_table }}"

- name: The same, in parts that AWX shows as a whole
  ansible.builtin.debug:
    msg: "{{ item }}"
  loop: "{{ built.images | buildfarm.multiarch.farm_images_table(page=900) }}"
  loop_control: {index_var: page, label: "{{ page + 1 }}"}
"""

RETURN = r"""
_value:
  description: The lines, or lists of them.
  type: list
  elements: raw
"""

import json
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.plain import plain

_HEADINGS = ("IMAGE", "PLATFORM", "NODE", "RUNS", "TIME", "SIZE", "DIGEST")
_UNKNOWN: Mapping[str, Any] = dict.fromkeys(("platform", "node", "native", "seconds", "size", "digest"))
_UNITS = ("B", "kB", "MB", "GB", "TB")
#: Characters of a digest that are shown, ``sha256:`` among them.
_DIGEST = 19
#: Of names, which tell most by their ends, and of lines of text.
_NAME = 60
_LINE = 160
#: Reasons for a build that are shown, the most important ones.
_WHY = 5
#: Lines of an error that are shown, from its end: there BuildKit says what failed.
_ERROR = 10
#: Bytes of a line beside its text in what C(debug) prints.
_FRAME = 11


def farm_images_table(
    images: Sequence[Mapping[str, Any]], page: Optional[int] = None
) -> Union[List[str], List[List[str]]]:
    """Return the lines of the table; see DOCUMENTATION."""
    lines = [*_table(images), *_reasons(images), *_errors(images)] if images else []
    return lines if page is None else _pages(lines, page)


def _table(images: Sequence[Mapping[str, Any]]) -> List[str]:
    rows: List[Tuple[str, ...]] = [_HEADINGS]
    for image in images:
        if image["error"]:
            rows.append((f"{_ending(image['name'])} (failed)", *[""] * (len(_HEADINGS) - 1)))
            continue
        name = f"{_ending(image['name'])}{'' if image['changed'] else ' (unchanged)'}"
        # Of an image that is for the platform of whatever builds it nothing is known where it becomes a file.
        for platform in image["platforms"] or [_UNKNOWN]:
            seconds, size = platform["seconds"], platform["size"]
            digest = platform["digest"] or _of_files(image)
            cells = (
                platform["platform"],
                _ending(platform["node"] or ""),
                {True: "native", False: "emulated", None: ""}[platform["native"]],
                "" if seconds is None else f"{seconds:.1f} s",
                "" if size is None else _size(size),
                digest[:_DIGEST],
            )
            rows.append((name, *(cell or "-" for cell in cells)))
            name = ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _of_files(image: Mapping[str, Any]) -> str:
    """Return the digest of what an image has become on the controller, empty where it is no file."""
    return next((one["digest"] for one in image["outputs"] if one["digest"]), "")


def _reasons(images: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return why images were built, a line for each reason."""
    lines: List[str] = []
    for image in images:
        reasons: Sequence[str] = () if image["error"] else image.get("reasons") or ()
        beginnings = [f"{_ending(image['name'])}, why: ", *["  "] * len(reasons)]
        lines += [_shortened(begin + reason) for begin, reason in zip(beginnings, reasons[:_WHY])]
        if len(reasons) > _WHY:
            lines.append(f"  and {len(reasons) - _WHY} more")
    return lines


def _errors(images: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return why images failed: what the message is about, and its last lines."""
    lines = []
    for image in images:
        first, *more = plain(image["error"] or "").strip().splitlines() or [""]
        if first:
            lines.append(_shortened(f"{_ending(image['name'])} failed: {first}"))
        lines += [_shortened(f"  {line}") for line in [line for line in more if line.strip()][-_ERROR:]]
    return lines


def _pages(lines: Sequence[str], page: int) -> List[List[str]]:
    pages: List[List[str]] = [[]]
    room = page
    for line in lines:
        room -= len(json.dumps(line, ensure_ascii=False).encode()) + _FRAME
        if room < 0 and pages[-1]:
            pages.append([])
            room = page - len(json.dumps(line, ensure_ascii=False).encode()) - _FRAME
        pages[-1].append(line)
    return pages if lines else []


def _ending(text: str) -> str:
    return text if len(text) <= _NAME else f"…{text[1 - _NAME :]}"


def _shortened(text: str) -> str:
    """Return a line without its middle: commands begin with what they are, and end with what became of them."""
    half = _LINE // 2
    return text if len(text) <= _LINE else f"{text[: half - 1]}…{text[-half:]}"


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
