# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What buildx notes of each build on a controller, and never removes: ``refs`` and ``activity`` in its store.

Source: docker/buildx ``localstate/localstate.go`` and ``store/store.go``.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

from .._buildx.store import Store
from .._docker.context_store import ContextStore

#: Where notes on builds that belong together are, beside the directories of builders.
_GROUPS = "__group__"


@dataclass(frozen=True)
class Note:
    """A file of buildx's.

    :ivar going: whether it is to go.
    """

    path: Path
    going: bool


def read_notes(store: Store, contexts: ContextStore, keep: int) -> Tuple[Note, ...]:
    """Return the notes on builds: all but the newest go, and those on builders that there are no more.

    :param keep: how many stay.
    """
    builders = {*store.names(), *(name.lower() for name in contexts.all()), "default", _GROUPS}
    refs = store.directory / "refs"
    dated = []
    for folder, _folders, files in os.walk(refs):
        for name in files:
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                dated.append((path.stat().st_mtime, path))
    newest_first = [path for _time, path in sorted(dated, reverse=True)]
    found = [path for path in newest_first if path.relative_to(refs).parts[0].lower() in builders]
    kept = set(found[:keep])
    activity = store.directory / "activity"
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(activity)):
            newest_first.append(activity / name)
            kept |= {activity / name} if name.lower() in builders else set()
    return tuple(Note(path, path not in kept) for path in newest_first)


def remove(note: Note) -> None:
    """Remove a note, and the directories that are empty then."""
    with contextlib.suppress(FileNotFoundError):
        note.path.unlink()
    for folder in note.path.parents:
        if folder.name in ("refs", "activity"):
            break
        with contextlib.suppress(OSError):
            folder.rmdir()
