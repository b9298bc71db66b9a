# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What leads back from a change, on disk until the change is final: former files, and commands for the engine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from dataclasses import asdict, dataclass, replace
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._core.files import abandoned, read_bytes, restore, write_atomically
from .._core.plan import Step
from .._core.runner import Runner
from .steps import CreateDirectory, RestoreFile, Systemctl, changed_files

#: A record for each service that is being changed. It does not outlive a reboot, and neither does a running engine.
RECORDS = "/run/buildfarm-listener"


@dataclass(frozen=True)
class Checkpoint:
    """What brings the files and the engine back.

    The former content of a file has a second name beside it, a hard link. Putting it back takes no room, which a full
    disk may not have, and owner, times and labels are the former ones; and a key does not leave its directory.

    :ivar files: the second name by path; None where there was no file.
    :ivar directories: the mode by path; None where there was no such directory.
    :ivar commands: verb and units of systemctl, for when the files are back.
    :ivar began: when the change began, in seconds since the epoch.
    :ivar completed: whether the change succeeded and waits to be confirmed; otherwise it goes on, or was killed.
    """

    unit: str
    files: Mapping[str, Optional[str]]
    directories: Mapping[str, Optional[int]]
    commands: Sequence[Sequence[str]]
    began: float
    completed: bool = False

    @classmethod
    def load(cls, unit: str) -> Optional[Checkpoint]:
        """Return the checkpoint of a change that is provisional, or was killed half-way; None where there is none.

        :raises OSError: it cannot be read.
        """
        text = read_bytes(_record(unit))
        return cls(**json.loads(text)) if text else None

    @classmethod
    def create(
        cls,
        unit: str,
        steps: Iterable[Step[Runner]],
        engine: Iterable[Systemctl],
        began: float,
        older: Optional[Checkpoint] = None,
    ) -> Checkpoint:
        """Record what steps may change, before the first is taken.

        :param engine: the steps that bring the engine back.
        :param older: of a change that was killed half-way: it leads back to a state that was whole.
        :raises OSError: it cannot be recorded; nothing has changed then.
        """
        steps = tuple(steps)
        # Writing follows a link, removing does not.
        paths = [os.path.realpath(path) if file else path for path, file in changed_files(steps).items()]
        files = {path: _second_name(path) if os.path.lexists(path) else None for path in paths}
        folders = [step.path for step in steps if isinstance(step, CreateDirectory)]
        folders += [os.path.dirname(path) for path in files]
        directories = {path: os.stat(path).st_mode & 0o7777 if os.path.isdir(path) else None for path in folders}
        for staged in itertools.chain.from_iterable(map(abandoned, older.files if older else ())):
            restore(staged, None)
        known = older or cls(unit, {}, {}, [[step.verb, *step.units] for step in engine], began)
        checkpoint = cls(unit, {**files, **known.files}, {**directories, **known.directories}, known.commands, began)
        try:
            checkpoint._save(path for path in files if path not in known.files)
        except OSError:
            if older is None:
                checkpoint.remove()
            raise
        return checkpoint

    def _save(self, new: Iterable[str]) -> None:
        for stale_name in filter(None, map(self.files.get, new)):
            # A reboot took its record.
            restore(stale_name, None)
        self._write_record()
        for path, second in self.files.items():
            if second and not os.path.lexists(second):
                os.link(path, second, follow_symlinks=False)

    def _write_record(self) -> None:
        os.makedirs(RECORDS, mode=0o700, exist_ok=True)
        write_atomically(_record(self.unit), json.dumps(asdict(self)).encode(), 0o600)

    def complete(self) -> None:
        """Record that the change succeeded: it can be confirmed now, or reverted.

        :raises OSError: the record cannot be written.
        """
        replace(self, completed=True)._write_record()

    def former(self, path: str) -> Optional[str]:
        """Return where the former content of a file is, None where there was no such file."""
        return self.files.get(os.path.realpath(path), path)

    def read_former(self) -> Dict[str, Optional[bytes]]:
        """Return the former contents by path; None where there was no file.

        :raises OSError: one cannot be read.
        """
        return {path: read_bytes(second) if second else None for path, second in self.files.items()}

    @property
    def file_steps(self) -> Tuple[RestoreFile, ...]:
        """The steps that put the files back."""
        return tuple(RestoreFile(path, second) for path, second in self.files.items())

    @property
    def engine_steps(self) -> Tuple[Systemctl, ...]:
        """The steps that bring the engine back, once the files are."""
        return tuple(Systemctl(verb, tuple(units)) for verb, *units in self.commands)

    def restore(self, runner: Runner) -> List[str]:
        """Put the files and directories back; returns the files that could not be, with the reason."""
        failures = []
        for step in self.file_steps:
            try:
                step.apply(runner)
            except OSError as exc:
                failures.append(f"{step.path} ({exc.strerror or exc})")
        for path, mode in self.directories.items():
            with contextlib.suppress(OSError):
                os.rmdir(path) if mode is None else os.chmod(path, mode)
        if not failures:
            restore(_record(self.unit), None)
        return failures

    def remove(self) -> None:
        """Make the change final; directories that a removal has left empty go too.

        :raises OSError: a second name, or the record, cannot be removed.
        """
        for path, second in self.files.items():
            if second:
                restore(second, None)
                if not os.path.lexists(path):
                    with contextlib.suppress(OSError):
                        os.rmdir(os.path.dirname(path))
        restore(_record(self.unit), None)


def _second_name(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.previous")


def _record(unit: str) -> str:
    return os.path.join(RECORDS, unit + ".json")
