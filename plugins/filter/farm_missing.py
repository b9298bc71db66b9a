# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(farm_missing): hosts that a run began with and could not provide, and why."""

from __future__ import annotations

DOCUMENTATION = r"""
name: farm_missing
short_description: List the hosts that a run of site could not provide, and why
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Returns the hosts that the playbook C(buildfarm.multiarch.site) began with and that did not come through
    it. Hosts that it did not begin with, as C(--limit) leaves them out, are not missing.
  - Reads what the playbook registers for each host. C(site_looked) is the first look at it and C(site_failed) why its
    part of the play failed. C(_emulators_handlers), which the role C(emulators) registers last, is there if nothing
    failed.
positional: _input
extends_documentation_fragment: [buildfarm.multiarch.inventory]
"""

EXAMPLES = r"""
- name: Show which nodes are missing
  ansible.builtin.debug:
    msg: "{{ groups['buildx_nodes'] | buildfarm.multiarch.farm_missing(hostvars) }}"
"""

RETURN = r"""
_value:
  description: Why each host that is missing is, by its name.
  type: dict
  sample: {arm1: "Failed to connect to the host via ssh: connect to host arm1 port 22: No route to host"}
"""

from typing import Any, Callable, Dict, Mapping, Optional, Sequence


def _line(message: Any) -> str:
    # ssh ends its lines as terminals do.
    return " ".join(str(message).split())


def _reason(variables: Mapping[str, Any]) -> Optional[str]:
    """Return why a host is missing, None if it is not."""
    looked = variables.get("site_looked")
    if looked is None:
        return None
    if "site_failed" in variables:
        return _line(variables["site_failed"]["msg"])
    if looked.get("unreachable") or looked.get("failed"):
        return _line(looked["msg"])
    return None if "_emulators_handlers" in variables else "it stopped answering; see above"


def farm_missing(names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> Dict[str, str]:
    """Return the hosts that are missing, and why; see DOCUMENTATION."""
    reasons = {name: _reason(hostvars[name]) for name in names}
    # Many messages begin with the host's own name.
    return {name: reason.removeprefix(f"{name}: ") for name, reason in reasons.items() if reason is not None}


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_missing": farm_missing}
