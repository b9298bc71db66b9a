# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where on the Ansible machine a relative path of a task's option is searched."""

from __future__ import annotations

import os
from typing import Any, List, Mapping, Sequence

from ansible import context
from ansible.plugins.action import ActionBase
from ansible.plugins.lookup import LookupBase


def source_folders(action: ActionBase, variables: Mapping[str, Any]) -> List[str]:
    """Return where a relative source is searched: where the user is, then where the user's files are.

    :param action: of the task that names it.
    :param variables: of that task.
    """
    return _folders(action._loader.get_basedir(), action._task.get_search_path(), variables)


def lookup_folders(lookup: LookupBase, variables: Mapping[str, Any]) -> List[str]:
    """Return where a lookup searches a relative directory: where a source of the same name would be found.

    :param variables: those that the lookup was given.
    """
    # Ansible sets the search path for a task; a lookup outside of one, as in a play's name, has none.
    return _folders(lookup._loader.get_basedir(), variables.get("ansible_search_path") or (), variables)


def _folders(playbook: str, search_path: Sequence[str], variables: Mapping[str, Any]) -> List[str]:
    given = [text[1:] for text in context.CLIARGS.get("extra_vars") or () if text.startswith("@")]
    inventories = [text for text in variables.get("ansible_inventory_sources") or () if "," not in text]
    return [
        os.path.abspath(folder)
        for folder in (
            os.getcwd(),
            *(os.path.dirname(os.path.expanduser(file)) for file in given),
            playbook,
            *(text if os.path.isdir(text) else os.path.dirname(text) for text in inventories),
            *(place for path in search_path for place in (os.path.join(path, "files"), path)),
        )
    ]
