# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plugin files of this host, as found.

Source of the metadata command: docker/cli ``cli-plugins/manager``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from .._core.runner import CommandError, Runner
from .._docker.config import plugin_candidates
from .declaration import Declaration
from .model import Plugin
from .source import Source, checksum_of, described, with_checksum


@dataclass(frozen=True)
class File:
    """A plugin's file, whether it runs or not.

    :ivar mode: its permission bits.
    """

    path: Path
    checksum: str
    mode: int

    def as_dict(self) -> Dict[str, Any]:
        """Return what a diff shows of it."""
        return {"path": str(self.path), "checksum": self.checksum, "mode": f"{self.mode:04o}"}


@dataclass(frozen=True)
class State:
    """What there is of the declared plugin.

    :ivar path: the file that the declaration is about: the plugin that meets it, else the destination.
    :ivar file: that file, None where there is none.
    :ivar first: the file that docker takes for the plugin, None where there is none.
    :ivar first_is: what kind of file that is, for people; empty where nobody has to know.
    :ivar plugin: the plugin that docker takes; None where there is none that runs, or the source's checksum decides.
    :ivar source: what is to be installed, with its checksum where it has one; None where nothing is.
    :ivar searched: where docker searches for the plugin, in its order.
    :ivar ahead: other plugins that docker finds before ``path``.
    :ivar behind: other plugins that ``path`` hides.
    """

    path: Path
    file: Optional[File]
    first: Optional[Path] = None
    first_is: str = ""
    plugin: Optional[Plugin] = None
    source: Optional[Source] = None
    searched: Tuple[Path, ...] = ()
    ahead: Tuple[Path, ...] = ()
    behind: Tuple[Path, ...] = ()


def read_state(declaration: Declaration, runner: Runner) -> State:
    """Read which plugins there are; of a release that is to be installed its list of checksums is downloaded.

    :raises FarmError: a file cannot be read, or that list cannot be had.
    """
    if not declaration.present:
        return State(declaration.destination, read_file(declaration.destination))
    candidates = plugin_candidates({"docker_config": declaration.docker_config})
    searched = candidates if declaration.anywhere else (declaration.destination,)
    # The docker CLI takes the first one there is, and no other if that does not run.
    first = next((path for path in searched if path.exists()), None)
    plugin = None if first is None or declaration.decided_by_checksum else inspect(first, runner)
    source = declaration.source
    if plugin is not None and declaration.is_met_by(plugin):
        source = None
    path = declaration.destination if plugin is None or source is not None else Path(plugin.path)
    ahead, behind = _others(path, candidates)
    return State(
        path=path,
        file=read_file(path),
        first=first,
        first_is=described(first) if first is not None and plugin is None and declaration.source is None else "",
        plugin=plugin,
        source=None if source is None else with_checksum(source, declaration.access),
        searched=searched,
        ahead=ahead,
        behind=behind,
    )


def inspect(path: Path, runner: Runner) -> Optional[Plugin]:
    """Return a plugin, None where there is no file or it is no plugin that runs on this host."""
    if not os.access(path, os.X_OK):
        return None
    try:
        metadata = json.loads(runner([str(path), "docker-cli-plugin-metadata"], timeout=30).stdout)
        words = runner([str(path), "version"], timeout=30).stdout.split()
        revision = words[2] if len(words) > 2 else ""
        return Plugin(str(path), str(metadata["Version"]), revision, bool(metadata.get("Experimental")))
    except (CommandError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_file(path: Path) -> Optional[File]:
    """Return a plugin's file, None where there is none.

    :raises FarmError: it cannot be read.
    """
    checksum = checksum_of(path)
    return None if checksum is None else File(path, checksum, path.stat().st_mode & 0o7777)


def _others(path: Path, candidates: Tuple[Path, ...]) -> Tuple[Tuple[Path, ...], Tuple[Path, ...]]:
    """Return which other plugins docker finds before a file, and which after it."""
    if path not in candidates:
        # For another user, whose docker searches there.
        return (), ()
    own = candidates.index(path)
    ahead, behind = (
        tuple(one for one in part if one.exists() and not (path.exists() and one.samefile(path)))
        for part in (candidates[:own], candidates[own + 1 :])
    )
    return ahead, behind
