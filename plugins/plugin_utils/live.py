# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Actions whose module is seen while it runs.

The module is asked to go on in the background (``module_utils/_core/live.py``), which it does except in check mode. Its
progress is shown here until it has ended. What it has printed then is what this action would have got from a
module in the foreground, so that the task's result is the same.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible import constants
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.utils.display import Display
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.lease import LEASE
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.live import ASKED, QUIET, SHOWN, STARTED
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.plain import plain

#: Seconds that the host waits for the module's end before it tells what there is.
_WAIT = 1
#: Seconds between two polls of a host that cannot wait.
_PAUSE = 0.5
#: Bytes of the log that are read at once.
_CHUNK = 65536
#: Seconds for which a connection may fail, so that what it interrupts goes on.
_PATIENCE = LEASE / 2
#: A lock of the module's ends with it, so what waits for it sees the end at once.
_POLL = """\
cd {folder} 2>/dev/null && touch lease || {{ echo gone; exit 0; }}
if command -v flock >/dev/null; then flock -s -w {wait} running true; fi
if [ -e ended ]; then echo ended; elif kill -0 {process} 2>/dev/null; then echo running; else echo gone; fi
tail -c +{offset} log | head -c {chunk}"""
#: A module that runs takes its directory away by itself.
_ABANDON = "rm -f {folder}/lease; kill -0 {process} 2>/dev/null || rm -rf {folder}"
_COLLECT = "cd {folder} && cat result && cat errors >&2; status=$(cat ended); rm -rf {folder}; exit $status"
#: Seconds between two events of a job, and what AWX shows of one: the bytes of its text.
_APART, _AWX, _EVENT = 1.0, "awx_display", 1024
#: Callbacks whose standard output is for programs; AWX's own is not among them.
_MACHINE_READABLE = ("json", "jsonl", "null")

display = Display()


@dataclass(frozen=True)
class Started:
    """A module that runs in the background.

    :ivar folder: its directory on the host, quoted.
    """

    folder: str
    process: int

    @classmethod
    def parse(cls, output: str) -> Optional[Started]:
        """Read what a module answered that has gone to the background; None where it has not."""
        for line in output.splitlines():
            if line.startswith('{"' + STARTED):
                raw = json.loads(line)[STARTED]
                return cls(shlex.quote(raw["folder"]), int(raw["process"]))
        return None


@dataclass(frozen=True)
class Event:
    """A line of progress: seconds since the module began, and what happened."""

    seconds: float
    text: str

    @classmethod
    def parse(cls, line: str) -> Optional[Event]:
        """Read a line of the log, None for what no module of ours has written: a host can say anything."""
        try:
            raw = json.loads(line)
            return cls(float(raw["seconds"]), " ".join(plain(str(raw["text"])).split()))
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def __str__(self) -> str:
        return f"{self.seconds:7.1f}s  {self.text}"


@dataclass(frozen=True)
class News:
    """What one poll brings.

    :ivar state: ``running``, ``ended`` or ``gone``.
    :ivar read: bytes of the log that it has brought; its last line may be left for the next poll.
    :ivar whole: whether these were all that there were.
    """

    state: str
    events: Tuple[Event, ...]
    read: int = 0
    whole: bool = True

    @classmethod
    def parse(cls, output: str) -> News:
        """Read a poll's output, a terminal's line ends or not."""
        state, _end, log = output.replace("\r\n", "\n").partition("\n")
        whole = log[: log.rfind("\n") + 1]
        events = filter(None, map(Event.parse, whole.splitlines()))
        return cls(state, tuple(events), len(whole), len(log) < _CHUNK)


def current(events: Sequence[Event]) -> List[Event]:
    """Return events without the beginning of what has ended by now as well."""
    return [
        event
        for position, event in enumerate(events)
        if not event.text.endswith(" …")
        or not any(later.text.startswith(event.text[:-1]) for later in events[position + 1 :])
    ]


def fitting(lines: Sequence[str], limit: int) -> List[str]:
    """Return the last lines, as many as have room, after one that tells how many are left out.

    :param limit: bytes, the ends of the lines among them.
    """
    for left_out in range(len(lines)):
        note = [f"({left_out} lines before these are left out)"] if left_out else []
        shown = [*note, *lines[left_out:]]
        if len("\n".join(shown).encode()) < limit:
            return shown
    return list(lines[-1:])


class LiveAction(NormalAction):
    """Runs the module of the same name and shows its progress.

    Under ``no_log`` nothing is shown; with the task's own ``async`` it runs as any other module.
    """

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the module's result."""
        self._label = self._labelled(task_vars or {})
        environment = self._task.environment
        if not self._task.async_val:
            self._task.environment = [*environment, {ASKED: QUIET if self._task.no_log else SHOWN}]
        try:
            result: Dict[str, Any] = super().run(tmp, task_vars)
        finally:
            self._task.environment = environment
        return result

    def _low_level_execute_command(self, cmd: str, *arguments: Any, **options: Any) -> Dict[str, Any]:
        """Run a command on the host; a module that goes on in the background is waited for."""
        result: Dict[str, Any] = super()._low_level_execute_command(cmd, *arguments, **options)
        started = Started.parse(result["stdout"])
        return self._followed(started) if started else result

    def _followed(self, started: Started) -> Dict[str, Any]:
        """Show a module's progress until it has ended; return what it has printed, as of a command."""
        offset, renewed, told = 1, time.monotonic(), 0.0
        waiting: List[Event] = []
        try:
            while True:
                asked = time.monotonic()
                try:
                    news = self._poll(started, offset)
                    renewed = time.monotonic()
                except AnsibleConnectionFailure:
                    if time.monotonic() - renewed > _PATIENCE:
                        raise
                    time.sleep(_PAUSE)
                    continue
                if offset > 1 or news.state == "running":
                    # Otherwise it was decided in a moment, and the result says it all.
                    waiting += news.events
                    is_last = news.state != "running" and news.whole
                    if is_last or time.monotonic() - told >= _APART:
                        self._show(current(waiting))
                        waiting, told = [], time.monotonic()
                offset += news.read
                if news.state == "running":
                    time.sleep(max(0.0, asked + _PAUSE - time.monotonic()))
                elif news.whole:
                    return self._collect(started, news.state)
        except BaseException:
            self._abandon(started)
            raise

    def _poll(self, started: Started, offset: int) -> News:
        """Renew the lease, and return what has happened.

        :raises AnsibleConnectionFailure: the host could not be asked.
        """
        command = _POLL.format(offset=offset, chunk=_CHUNK, wait=_WAIT, **vars(started))
        answer = super()._low_level_execute_command(command)
        if answer["rc"] != 0:
            raise AnsibleConnectionFailure(f"the progress could not be read: {answer['stderr'] or answer['stdout']}")
        return News.parse(answer["stdout"])

    def _collect(self, started: Started, state: str) -> Dict[str, Any]:
        """Return what the module has printed, as the result of a command."""
        if state == "ended":
            result: Dict[str, Any] = super()._low_level_execute_command(_COLLECT.format(folder=started.folder))
            return result
        super()._low_level_execute_command(f"rm -rf {started.folder}")
        failure = {
            "failed": True,
            "msg": f"{self._task.action}: its process on the host is gone without a result; it was killed, or had not"
            f" heard of Ansible for {LEASE:g} seconds. What it was running has been ended; run the task again",
        }
        return {"rc": 1, "stdout": json.dumps(failure), "stderr": ""}

    def _abandon(self, started: Started) -> None:
        """End the module at once where the host can still be told; otherwise its lease runs out."""
        with contextlib.suppress(Exception):
            super()._low_level_execute_command(_ABANDON.format(**vars(started)))

    def _show(self, events: Sequence[Event]) -> None:
        """Show events in one call, which AWX stores as one event of the job."""
        if events:
            callback = str(constants.DEFAULT_STDOUT_CALLBACK).rpartition(".")[2]
            lines = [f"[{self._label}] {event}" for event in events]
            shown = "\n".join(fitting(lines, _EVENT) if callback == _AWX else lines)
            display.display(shown, stderr=callback in _MACHINE_READABLE)

    def _labelled(self, variables: Mapping[str, Any]) -> str:
        """Return the host, and the item of a loop as far as it is a word or has a label."""
        host, control = str(variables.get("inventory_hostname")), self._task.loop_control
        if not self._task.loop and not self._task.loop_with:
            return host
        item = variables.get(control.loop_var or "item" if control else "item")
        if control and control.label:
            item = self._templar.template(control.label)
        return f"{host} {item}" if isinstance(item, (str, int)) else host
