# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Ansible machine's part of the module ``build_context``: finds the source, compares, sends what differs."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Dict, List, Mapping, Optional

from ansible import constants, context
from ansible.plugins.action import ActionBase
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.apply import (
    check_foreign,
    find_source,
    identity,
    outcome,
    read_source,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.transfer import write_archive
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import (
    Changes,
    digest,
    dump_names,
    load,
    load_names,
    top,
)

MODULE = "buildfarm.multiarch.build_context"
#: As the user gives them; ``~`` in dest is the host's.
OPTIONS = {
    "src": {"type": "path", "required": True},
    "dest": {"type": "str", "required": True},
    "force": {"type": "bool", "default": False},
    "dockerfiles": {"type": "list", "elements": "str", "default": ["Dockerfile"]},
    "send_ignored": {"type": "bool", "default": False},
}
#: What Ansible itself wants to know of a module that was run.
_PASSED_ON = ("ansible_facts", "warnings", "deprecations")


class ActionModule(ActionBase):
    """Ansible's entry point."""

    # A temporary directory on the host is needed only where something is sent.
    TRANSFERS_FILES = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the task's result."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _validated, options = self.validate_argument_spec(OPTIONS)
        try:
            return self._send(options, variables)
        except FarmError as exc:
            return {"failed": True, "msg": exc.message, **exc.details}

    def _send(self, options: Mapping[str, Any], variables: Dict[str, Any]) -> Dict[str, Any]:
        source = find_source(options["src"], self._folders(variables))
        if self._connection.transport == "local":
            _check_apart(source, options["dest"])
        wanted = read_source(source, options["dockerfiles"], options["send_ignored"])
        asked = {"digest": digest(wanted), "top": dump_names(top(wanted)), "identity": identity(source)}
        report = self._run_module(options, variables, **asked)
        if report.get("failed"):
            return report
        path = report["path"]
        # The host shows its tree only where it is another one.
        changes = Changes.between(load(report["tree"]) if "tree" in report else wanted, wanted)
        if changes and not options["force"]:
            check_foreign(path, changes.removed, load_names(report["owned"]))
        found = outcome(path, report["exists"], source, changes)
        result = {**{key: report[key] for key in _PASSED_ON if key in report}, **found.as_result()}
        if found.changed and not self._task.check_mode:
            with tempfile.NamedTemporaryFile(dir=constants.DEFAULT_LOCAL_TMP, prefix="build-context-") as archive:
                write_archive(archive, source, changes)
                archive.flush()
                applied = self._run_module(options, variables, archive=self._put(archive.name))
            if applied.get("failed"):
                return applied
        return result

    def _folders(self, variables: Mapping[str, Any]) -> List[str]:
        """Return where a relative source is searched: where the user is, then where the user's files are."""
        given = [text[1:] for text in context.CLIARGS.get("extra_vars") or () if text.startswith("@")]
        inventories = [text for text in variables.get("ansible_inventory_sources") or () if "," not in text]
        return [
            os.path.abspath(folder)
            for folder in (
                os.getcwd(),
                *(os.path.dirname(os.path.expanduser(file)) for file in given),
                self._loader.get_basedir(),
                *(text if os.path.isdir(text) else os.path.dirname(text) for text in inventories),
                *(place for path in self._task.get_search_path() for place in (os.path.join(path, "files"), path)),
            )
        ]

    def _run_module(self, options: Mapping[str, Any], variables: Dict[str, Any], **request: str) -> Dict[str, Any]:
        result: Dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args={**options, "request": request}, task_vars=variables
        )
        return result

    def _put(self, archive: str) -> str:
        """Copy the archive to the host, readable for the task's user; returns its path there."""
        shell = self._connection._shell
        if not shell.tmpdir:
            self._make_tmp_path()
        there: str = self._transfer_file(archive, shell.join_path(shell.tmpdir, "sources.tar"))
        self._fixup_perms2((shell.tmpdir, there))
        return there


def _check_apart(source: str, dest: str) -> None:
    """Make sure that a directory is not copied into itself, deeper with each run.

    :raises FarmError: it would be.
    """
    real = os.path.realpath(source)
    context_path = os.path.realpath(os.path.expanduser(dest))
    if context_path != real and os.path.commonpath([context_path, real]) == real:
        raise FarmError(
            f"context {context_path}: lies in its own source {real}; wanted a directory outside of it; name another, "
            f"or build the source where it is"
        )
