# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the module ``buildx_builder`` as Ansible hands them over where a task does not give them."""

from __future__ import annotations

BUILDER = {
    "name": "farm",
    "state": "present",
    "driver": None,
    "nodes": None,
    "purge_nodes": None,
    "absent_nodes": None,
    "purge_contexts": False,
    "bootstrap": True,
    "use": False,
    "use_scope": "default",
    "keep_state": None,
    "on_unreachable": "fail",
    "platforms": None,
    "emulation": "allow",
    "share_nodes": False,
    "probe": True,
    "timeout": 10,
    "bootstrap_timeout": 600,
}
#: Of each node.
NODE = dict.fromkeys(
    "endpoint context platforms driver_opts env buildkitd_flags buildkitd_config buildkitd_config_file".split()
)
