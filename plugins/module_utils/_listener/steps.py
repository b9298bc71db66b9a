# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a change: directories, files, then systemctl.

None of them undoes itself. A run may be killed, and it is the next one then that has to undo its steps: a checkpoint on
disk leads back, by steps of its own (``Checkpoint.file_steps`` and ``engine_steps``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Optional, Tuple

from .._core.files import restore, write_together
from .._core.plan import Step
from .._core.runner import Runner, checked

#: Seconds that systemd may take to restart the engine: it has to end and start the containers too.
_RESTART_TIMEOUT = 300


@dataclass(frozen=True)
class CreateDirectory(Step[Runner]):
    """Create a directory, or set its mode."""

    path: str
    mode: int

    @property
    def action(self) -> List[str]:
        """The command that would do the same."""
        return ["mkdir", "-p", "-m", f"{self.mode:04o}", self.path]

    def apply(self, world: Runner) -> None:
        """Create the directory.

        :raises OSError: it cannot be created.
        """
        os.makedirs(self.path, exist_ok=True)
        os.chmod(self.path, self.mode)


@dataclass(frozen=True)
class File:
    """A file as declared.

    :ivar known: False where the content is not known yet; check mode only.
    """

    path: str
    # A private key for one.
    content: bytes = field(repr=False)
    mode: int
    known: bool = True


@dataclass(frozen=True)
class WriteFiles(Step[Runner]):
    """Write files that belong together, a certificate and its key: nearly at once."""

    files: Tuple[File, ...]

    @property
    def actions(self) -> List[List[str]]:
        """One operation for each file."""
        return [["write", file.path] for file in self.files]

    def apply(self, world: Runner) -> None:
        """Write the files, and create the directories that they lie in.

        :raises OSError: one of them cannot be written; none is replaced then.
        """
        for folder in {os.path.dirname(file.path) for file in self.files}:
            os.makedirs(folder, exist_ok=True)
        write_together((file.path, file.content, file.mode) for file in self.files)


@dataclass(frozen=True)
class RemoveFile(Step[Runner]):
    """Remove a file."""

    path: str

    @property
    def action(self) -> List[str]:
        """The operation and the path."""
        return ["remove", self.path]

    def apply(self, world: Runner) -> None:
        """Remove the file, or the link.

        :raises OSError: it cannot be removed.
        """
        restore(self.path, None)


@dataclass(frozen=True)
class RestoreFile(Step[Runner]):
    """Put the former file back.

    :ivar former: the second name of its content; None where there was no file.
    """

    path: str
    former: Optional[str]

    @property
    def action(self) -> List[str]:
        """The operation and the path."""
        return ["write" if self.former else "remove", self.path]

    def apply(self, world: Runner) -> None:
        """Put the file back, or remove it.

        :raises OSError: it cannot be put back.
        """
        if self.former is None:
            restore(self.path, None)
        elif os.path.lexists(self.former):
            os.replace(self.former, self.path)
            # Two names of one file are left as they are by rename(2).
            restore(self.former, None)


@dataclass(frozen=True)
class Systemctl(Step[Runner]):
    """Have systemd do something: reload its files, start or stop a unit."""

    verb: str
    units: Tuple[str, ...] = ()

    @property
    def action(self) -> List[str]:
        """The command."""
        return ["systemctl", self.verb, *self.units]

    @property
    def starts(self) -> bool:
        """Whether a unit is started or restarted."""
        return self.verb in ("start", "restart")

    def apply(self, world: Runner) -> None:
        """Run the command.

        :raises CommandError: it failed.
        """
        checked(world, self.action, " ".join(self.action), timeout=_RESTART_TIMEOUT)


RELOAD = Systemctl("daemon-reload")


def changed_files(steps: Iterable[Step[Runner]]) -> Dict[str, Optional[File]]:
    """Return the files that steps write, by path; None for those that they remove."""
    changed: Dict[str, Optional[File]] = {}
    for step in steps:
        if isinstance(step, WriteFiles):
            changed.update((file.path, file) for file in step.files)
        elif isinstance(step, RemoveFile):
            changed[step.path] = None
    return changed


def restart(unit: str, sockets: Tuple[str, ...] = ()) -> Tuple[Systemctl, ...]:
    """Return the steps that restart a service, however often that was done in the last minute.

    ``reset-failed`` also sets back the counter by which systemd refuses frequent starts (systemctl(1)).

    :param sockets: socket units to restart, which is possible only while the service does not run.
    """
    reset = Systemctl("reset-failed", (unit,))
    if not sockets:
        return (reset, Systemctl("restart", (unit,)))
    return (reset, Systemctl("stop", (unit,)), Systemctl("restart", sockets), Systemctl("start", (unit,)))
