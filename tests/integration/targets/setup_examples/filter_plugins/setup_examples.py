# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter that makes tasks of the examples of a module's documentation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError


def example_tasks(documentation: str, values: Sequence[Sequence[str]], left_out: Mapping[str, str]) -> str:
    """Return the examples of a module as the YAML text of a tasks file.

    :param documentation: what ``ansible-doc --json`` prints of the one module.
    :param values: pairs of texts of the examples and what the test has instead, replaced in this order.
    :param left_out: the names of the examples that are not run, and why.
    :raises AnsibleFilterError: a text or a name does not occur: the documentation has changed.
    """
    (module,) = json.loads(documentation).values()
    text: str = module["examples"]
    for old, new in values:
        if old not in text:
            raise AnsibleFilterError(f"the examples do not have {old!r} (any more); correct setup_examples_values")
        text = text.replace(old, new)
    tasks: list[dict[str, Any]] = yaml.safe_load(text)
    unknown = set(left_out) - {task["name"] for task in tasks}
    if unknown:
        raise AnsibleFilterError(f"there is no example {sorted(unknown)} (any more); correct setup_examples_left_out")
    dumped: str = yaml.safe_dump([task for task in tasks if task["name"] not in left_out], sort_keys=False)
    return dumped


class FilterModule:
    """The filters of this role."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filters by name."""
        return {"example_tasks": example_tasks}
