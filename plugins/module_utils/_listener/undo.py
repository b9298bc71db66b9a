# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making an engine listen on TCP: what a change replaces, kept until the change has proved itself."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from dataclasses import asdict, dataclass
from typing import Dict, Iterable, List, Mapping, Optional, Sequence

from .._core.files import abandoned, read_bytes, restore, write_atomically
from .plan import Change, Plan

#: A record of each service that is being changed. Nothing of it outlives a reboot, as no engine does.
RECORDS = "/run/buildfarm-listener"


@dataclass(frozen=True)
class Undo:
    """What brings the files and the engine back.

    A file keeps its former content under a second name beside it, a hard link. Putting it back takes no room, which a
    full disk may not have, and owner, times and labels are the former ones; and a key does not leave its directory.

    :ivar files: by path the second name; None where there was no file.
    :ivar directories: by path the mode; None where there was no such directory.
    :ivar commands: systemctl's, for when the files are back.
    :ivar began: when the change began, in seconds since the epoch.
    """

    unit: str
    files: Mapping[str, Optional[str]]
    directories: Mapping[str, Optional[int]]
    commands: Sequence[Sequence[str]]
    began: float

    @classmethod
    def load(cls, unit: str) -> Optional[Undo]:
        """Return what a change that is provisional, or was ended half-way, has kept; None where there is none.

        :raises OSError: it cannot be read.
        """
        text = read_bytes(_record(unit))
        return cls(**json.loads(text)) if text else None

    @classmethod
    def prepare(
        cls, unit: str, steps: Plan, commands: Sequence[Sequence[str]], began: float, older: Optional[Undo] = None
    ) -> Undo:
        """Keep what steps may change, before the first is taken.

        :param commands: those that bring the engine back.
        :param older: what a change that was ended half-way has kept: it leads back to a state that was whole.
        :raises OSError: it cannot be kept; nothing has changed then.
        """
        files: Dict[str, Optional[str]] = {}
        for change in steps.changes:
            # Writing follows a link, removing does not.
            path = os.path.realpath(change.path) if change.after is not None else change.path
            folder, name = os.path.split(path)
            files[path] = os.path.join(folder, f".{name}.previous") if os.path.lexists(path) else None
        folders = [path for path, _mode in steps.directories] + [os.path.dirname(path) for path in files]
        directories = {path: os.stat(path).st_mode & 0o7777 if os.path.isdir(path) else None for path in folders}
        for staged in itertools.chain.from_iterable(map(abandoned, older.files if older else ())):
            restore(staged, None)
        known = older or cls(unit, {}, {}, commands, began)
        undo = cls(unit, {**files, **known.files}, {**directories, **known.directories}, known.commands, began)
        try:
            undo._keep(path for path in files if path not in known.files)
        except OSError:
            if older is None:
                undo.forget()
            raise
        return undo

    def _keep(self, new: Iterable[str]) -> None:
        for abandoned_name in filter(None, map(self.files.get, new)):
            # A reboot took its record.
            restore(abandoned_name, None)
        os.makedirs(RECORDS, mode=0o700, exist_ok=True)
        write_atomically(_record(self.unit), json.dumps(asdict(self)).encode(), 0o600)
        for path, second in self.files.items():
            if second and not os.path.lexists(second):
                os.link(path, second, follow_symlinks=False)

    def former(self, path: str) -> Optional[str]:
        """Return where the former content of a file is, None where there was no such file."""
        return self.files.get(os.path.realpath(path), path)

    @property
    def steps(self) -> Plan:
        """What putting all of it back takes."""
        changes = [Change(path, read_bytes(second) if second else None, 0) for path, second in self.files.items()]
        return Plan(changes=tuple(changes), commands=tuple(tuple(command) for command in self.commands))

    def restore(self) -> List[str]:
        """Put the files back; returns those that could not be, with the reason."""
        failures = []
        for path, second in self.files.items():
            try:
                if second is None:
                    restore(path, None)
                elif os.path.lexists(second):
                    os.replace(second, path)
                    # Two names of one file are left as they are by rename(2).
                    restore(second, None)
            except OSError as exc:
                failures.append(f"{path} ({exc.strerror or exc})")
        for path, mode in self.directories.items():
            with contextlib.suppress(OSError):
                os.rmdir(path) if mode is None else os.chmod(path, mode)
        if not failures:
            restore(_record(self.unit), None)
        return failures

    def forget(self) -> None:
        """Keep it no longer; directories that a removal has left empty go too."""
        for path, second in self.files.items():
            if second:
                restore(second, None)
                if not os.path.lexists(path):
                    with contextlib.suppress(OSError):
                        os.rmdir(os.path.dirname(path))
        restore(_record(self.unit), None)


def _record(unit: str) -> str:
    return os.path.join(RECORDS, unit + ".json")
