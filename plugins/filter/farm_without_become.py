# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(farm_without_become): hosts on which C(--become) could only fail, and is not needed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: farm_without_become
short_description: List the hosts that are the Ansible machine itself and have no way to become another user
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - AWX passes C(--become) for all hosts. Nodes need it; a controller that is the container in which Ansible runs has
    no C(sudo), and needs none, as nothing there is another user's.
  - Returns those of the hosts that are reached with the connection C(local) and where becoming another user could only
    fail, because there is no such program, or because Ansible runs in a container, no password is given, and C(sudo)
    wants one.
  - Hosts that have the variable C(ansible_become) are left out, whatever it says, and so are all where C(--become) is
    not given.
positional: _input
extends_documentation_fragment: [buildfarm.multiarch.inventory]
"""

EXAMPLES = r"""
- name: Controllers that are this container stay who they are
  ansible.builtin.set_fact:
    ansible_become: false
  delegate_to: "{{ item }}"
  delegate_facts: true
  loop: "{{ groups['buildx_controllers'] | buildfarm.multiarch.farm_without_become(hostvars) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The names of the hosts.
  type: list
  elements: str
"""

import shutil
import subprocess
from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible import constants, context
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.environment import in_container

#: Seconds.
_TIMEOUT = 10


def farm_without_become(names: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> List[str]:
    """Return the hosts that have no way to become another user; see DOCUMENTATION."""
    if not _given("become", constants.DEFAULT_BECOME):
        return []
    return [name for name in names if _is_without(hostvars[name])]


def _is_without(variables: Mapping[str, Any]) -> bool:
    connection = variables.get("ansible_connection") or _given("connection", constants.DEFAULT_TRANSPORT)
    if "ansible_become" in variables or _short(connection) != "local":
        return False
    method = variables.get("ansible_become_method") or _given("become_method", constants.DEFAULT_BECOME_METHOD)
    program = str(variables.get("ansible_become_exe") or _short(method))
    if shutil.which(program) is None:
        return True
    password = any(variables.get(name) for name in ("ansible_become_password", "ansible_become_pass"))
    password = password or bool(_given("become_ask_pass", None) or _given("become_password_file", None))
    return _short(method) == "sudo" and not password and in_container() and not _is_allowed(program)


def _given(option: str, default: Any) -> Any:
    """Return an option of the command line, else what Ansible is configured to."""
    return context.CLIARGS.get(option) or default


def _short(name: Any) -> str:
    return str(name).rpartition(".")[2]


def _is_allowed(program: str) -> bool:
    """Return whether this user may become another one without a password."""
    try:
        done = subprocess.run(
            [program, "-n", "true"], check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_without_become": farm_without_become}
