# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that every module of the controller shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment C(buildfarm.multiarch.controller)."""

    DOCUMENTATION = r"""
options:
  docker_config:
    description:
      - The docker CLI's configuration directory, where C(config.json), the contexts and buildx's builders are.
      - If unset, E(DOCKER_CONFIG) is used, and C(~/.docker) of the task's user if that is unset too. A user
        without home directory, neither E(HOME) nor one of an account, has to give it.
      - C(~) is expanded.
    type: path
"""
