# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values from outside, which Ansible must not take for templates.

ansible-core before 2.19 renders every text that looks like a template, unless it is marked. Later ones render only what
is marked as trusted, and what this collection reads never is; marking it there once more changes nothing.
"""

from __future__ import annotations

from typing import Any

from ansible.utils.unsafe_proxy import wrap_var


def make_unsafe(value: Any) -> Any:
    """Return a value of JSON types with each text in it that might be a template marked as none.

    Others stay plain: a mark shows where variables are printed, and the names of hosts are compared and stored.
    """
    if isinstance(value, dict):
        return {make_unsafe(key): make_unsafe(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [make_unsafe(one) for one in value]
    return wrap_var(value) if isinstance(value, str) and "{" in value else value
