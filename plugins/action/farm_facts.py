# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of C(farm_facts) that is done where Ansible runs: variables and hosts are checked before anything else."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from ansible.errors import AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._packages.plan import exact_version
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.inventory import address_of, node_names
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.role_options import (
    convert,
    problems,
    specification,
    unknown,
)


class ActionModule(ActionBase):
    """Checks a host's variables and the names of all nodes, then gathers the facts of the host."""

    TRANSFERS_FILES = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's facts, or what is wrong with the variables."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        wrong = [*problems(variables, self._rendered), *self._misnamed(variables)]
        if wrong:
            return {**result, "failed": True, "msg": "; ".join(wrong)}
        result.update(self._execute_module(task_vars=variables))
        try:
            self._check_with(result.get("ansible_facts", {}).get("buildfarm"), variables)
        except FarmError as exc:
            return {**result, "failed": True, "msg": exc.message}
        warnings = list(unknown(variables))
        if warnings:
            result["warnings"] = [*result.get("warnings", []), *warnings]
        return result

    def _check_with(self, facts: Optional[Dict[str, Any]], variables: Dict[str, Any]) -> None:
        """Check what depends on the host, so that a node's wrong variable ends the run before the first change.

        :raises FarmError: it cannot be meant.
        """
        if facts and "engine_version" in variables and "buildx_nodes" in variables.get("group_names", ()):
            option = specification("engine")["engine_version"]
            version = convert("engine_version", option, self._rendered(variables["engine_version"]))
            if version is not None:
                exact_version(version, facts)

    def _misnamed(self, variables: Dict[str, Any]) -> Iterator[str]:
        """Yield why hosts cannot be nodes; a name that cannot be one is wrong for every host, as no farm is made."""
        host, nodes = str(variables.get("inventory_hostname")), variables.get("groups", {}).get("buildx_nodes", [])
        try:
            node_names("farm", nodes)
            names = ("farm_address", "ansible_host", "farm_endpoint")
            own = {name: self._rendered(variables[name]) for name in names if name in variables}
            if host in nodes and not own.get("farm_endpoint"):
                address_of(host, own)
        except FarmError as exc:
            yield exc.message
        except LookupError:
            # As with other variables, what needs it reports it.
            return

    def _rendered(self, value: Any) -> Any:
        try:
            return self._templar.template(value)
        except AnsibleUndefinedVariable as exc:
            raise LookupError from exc
