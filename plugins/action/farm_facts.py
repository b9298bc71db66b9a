# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of C(farm_facts) that is done where Ansible runs: the roles' variables are checked before anything else."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.errors import AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.role_options import problems, unknown


class ActionModule(ActionBase):
    """Checks a host's variables, then looks at the host."""

    TRANSFERS_FILES = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's facts, or what is wrong with the variables."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        wrong = problems(variables, self._rendered)
        if wrong:
            return {**result, "failed": True, "msg": "; ".join(wrong)}
        result.update(self._execute_module(task_vars=variables))
        warnings = list(unknown(variables))
        if warnings:
            result["warnings"] = [*result.get("warnings", []), *warnings]
        return result

    def _rendered(self, value: Any) -> Any:
        try:
            return self._templar.template(value)
        except AnsibleUndefinedVariable as exc:
            raise LookupError from exc
