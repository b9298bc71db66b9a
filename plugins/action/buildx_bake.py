# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Ansible machine's part of C(buildx_bake): shows the build while it runs."""

from __future__ import annotations

from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.live import LiveAction


class ActionModule(LiveAction):
    """Ansible's entry point."""
