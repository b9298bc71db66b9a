"""Writes each task's result to the file `$BUILDFARM_RECORDS`, one JSON object a line, for the tests to read."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: records
type: aggregate
short_description: write task results as JSON lines
description: [For this project's own tests.]
"""


class CallbackModule(CallbackBase):
    """Records results as Ansible reports them."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "records"

    def _record(self, outcome, result):
        task = result._task
        content = {key: value for key, value in result._result.items() if not key.startswith("_ansible")}
        line = {
            "host": result._host.get_name(),
            "task": task.get_name(),
            "action": task.action,
            "outcome": outcome,
            "result": content,
        }
        with open(os.environ["BUILDFARM_RECORDS"], "a", encoding="utf-8") as records:
            records.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result):
        """A task succeeded."""
        self._record("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """A task failed."""
        self._record("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result):
        """A host did not answer."""
        self._record("unreachable", result)

    def v2_runner_on_skipped(self, result):
        """A task's condition did not hold."""
        self._record("skipped", result)
