# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lookup C(role_options): the variables of one of the collection's roles, each of its documented type."""

from __future__ import annotations

DOCUMENTATION = r"""
name: role_options
short_description: The variables of a role, each of its documented type
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - INI inventories, C(-e name=value) and the surveys of AWX send text, by which V(false) is true. This lookup returns
    the variables of one of the collection's roles as what the role's documentation says they are, whatever form they
    were given in. The roles read their variables through it.
  - A boolean is any of V(true), V(yes), V(on), V(1), V(false), V(no), V(off) and V(0). A list may be one text with
    commas or lines, or JSON; a dictionary may be JSON.
  - A blank field is one that was not given.
  - What cannot be meant is an error that names the variable, for example a choice that there is not, or a number where
    a version is wanted.
options:
  _terms:
    description: Names of roles.
    type: list
    elements: str
    required: true
  host:
    description:
      - The host whose variables are returned.
      - By default the one that the task is about.
    type: str
"""

EXAMPLES = r"""
- name: Open the port of the listener
  ansible.posix.firewalld:
    port: "{{ (lookup('buildfarm.multiarch.role_options', 'listener')).port or 2376 }}/tcp"
    state: enabled
"""

RETURN = r"""
_raw:
  description:
    - For each role a dictionary of its variables by their names without the role's, C(port) for C(listener_port).
    - A variable that was not given has its documented default, else none.
  type: list
  elements: dict
"""

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.role_options import options


class LookupModule(LookupBase):
    """Ansible's entry point."""

    def run(
        self, terms: Sequence[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any
    ) -> List[Dict[str, Any]]:
        """Return the options of each role; see DOCUMENTATION."""
        self.set_options(var_options=variables, direct=kwargs)
        host = self.get_option("host")
        given = variables or {}
        try:
            return [options(role, given["hostvars"][host] if host else given, self._templar.template) for role in terms]
        except FarmError as exc:
            raise AnsibleLookupError(exc.message) from exc
