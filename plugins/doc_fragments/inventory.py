# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What filters take that read the variables of several hosts."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment C(buildfarm.multiarch.inventory)."""

    DOCUMENTATION = r"""
options:
  _input:
    description: Names of the hosts, as in the inventory.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variable C(hostvars).
    type: dict
    required: true
"""
