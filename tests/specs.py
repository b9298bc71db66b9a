# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What modules and roles take, and what Ansible itself says of values that they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator


def complaints(spec: dict[str, Any], values: dict[str, Any], **rules: Any) -> list[str]:
    """What Ansible itself says of a task's options; the value of a template is taken to be right."""
    for own in ("supports_check_mode", "unshown"):
        rules.pop(own, None)
    open_values = {name for name, value in values.items() if isinstance(value, str) and "{{" in value}
    known = {name: {"type": "raw"} if name in open_values else option for name, option in spec.items()}
    return list(ArgumentSpecValidator(known, **rules).validate(values).error_messages)


def role_variables(tree: Path) -> dict[str, dict[str, Any]]:
    """The documented variables of all roles."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(tree.glob("roles/*/meta/argument_specs.yml")):
        for spec in yaml.safe_load(path.read_text())["argument_specs"].values():
            found.update(spec.get("options") or {})
    return found
