# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What C(slurp_secrets) read stays hidden, what went wrong does not."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Runs the module of the same name."""

    _supports_check_mode = True

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result, censored for callbacks unless it failed.

        A module cannot request that itself, and C(no_log) of the task hides failures too, even unreachable hosts.
        """
        result: Dict[str, Any] = super().run(tmp, task_vars)
        try:
            result.update(self._unseen(task_vars))
        except AnsibleConnectionFailure:
            # The connection has hidden why. If the host cannot be reached, this fails and says so.
            self._low_level_execute_command("true")
            result.update(self._unseen(task_vars))
        if not result.get("failed"):
            result["_ansible_no_log"] = True
        return result

    def _unseen(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Run the module while the connection does not print, as it does at -vvv, what comes over it."""
        context = self._connection._play_context
        context.no_log = True
        try:
            result: Dict[str, Any] = self._execute_module(task_vars=task_vars)
        finally:
            context.no_log = False
        return result
