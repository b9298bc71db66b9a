# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that install a plugin, and the one that removes it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional

from .._buildx.cli import Version, format_version
from .._core.errors import FarmError
from .._core.plan import Step
from .._core.runner import Runner
from .._docker.config import PLUGIN
from .model import Plugin
from .source import Access, Source, described, fetch
from .state import inspect

MODE = 0o755


@dataclass
class Staging:
    """Where steps of one run put a file that is not visible yet: what comes has to run before it replaces anything.

    :ivar path: of the temporary file; None while there is none.
    """

    runner: Runner
    access: Access
    path: Optional[Path] = None

    def stage(self, source: Source, destination: Path, minimum: Optional[Version]) -> None:
        """Get a source's content, beside its destination and on disk, once it is what is wanted and has run here.

        :raises FarmError: it could not be had, is another file, or does not run.
        :raises OSError: the directory cannot be written.
        """
        destination.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=destination.parent, prefix=f".{PLUGIN}.")
        self.path = Path(temporary)
        with os.fdopen(handle, "w+b") as stream:
            fetch(source, stream, self.access, self.runner)
            os.fchmod(stream.fileno(), MODE)
            stream.flush()
            os.fsync(stream.fileno())
        require_plugin(str(source), self.path, source, minimum, self.runner)

    def discard(self) -> None:
        """Remove the temporary file, if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None


@dataclass(frozen=True)
class Fetch(Step[Staging]):
    """Download a source, or let the engine build it."""

    source: Source
    destination: Path
    minimum: Optional[Version]

    @property
    def action(self) -> List[str]:
        return ["build" if self.source.kind == "build" else "download", str(self.source)]

    def apply(self, world: Staging) -> None:
        with _writing(self.destination):
            world.stage(self.source, self.destination, self.minimum)

    def revert(self, world: Staging) -> None:
        world.discard()


@dataclass(frozen=True)
class Write(Step[Staging]):
    """Put what was fetched, or else a file of this host, into its place in one step."""

    source: Source
    destination: Path
    minimum: Optional[Version]

    @property
    def action(self) -> List[str]:
        return ["write", str(self.destination)]

    def apply(self, world: Staging) -> None:
        with _writing(self.destination):
            if world.path is None:
                world.stage(self.source, self.destination, self.minimum)
            os.replace(world.path or "", self.destination)
            world.path = None

    def revert(self, world: Staging) -> None:
        world.discard()


@dataclass(frozen=True)
class MakeExecutable(Step[Staging]):
    """Correct the mode of a file that is otherwise what is wanted."""

    path: Path

    @property
    def action(self) -> List[str]:
        return ["chmod", f"{MODE:04o}", str(self.path)]

    def apply(self, world: Staging) -> None:
        with _writing(self.path):
            self.path.chmod(MODE)


@dataclass(frozen=True)
class Remove(Step[Staging]):
    """Remove a plugin."""

    path: Path

    @property
    def action(self) -> List[str]:
        return ["remove", str(self.path)]

    def apply(self, world: Staging) -> None:
        try:
            self.path.unlink()
        except OSError as exc:
            raise FarmError(f"{self.path}: cannot be removed: {exc.strerror}") from exc


def require_plugin(
    subject: str, path: Path, source: Optional[Source], minimum: Optional[Version], runner: Runner
) -> Plugin:
    """Return the plugin that a file is.

    :param subject: how messages name it.
    :raises FarmError: it does not run on this host, or is another release than declared, or older.
    """
    plugin = inspect(path, runner)
    if plugin is None:
        raise FarmError(
            f"{subject}: {described(path)}, and no docker CLI plugin that runs on this host; what was there was left"
        )
    if source and source.release and not plugin.is_release(source.release):
        raise FarmError(
            f"{subject}: says that it is buildx {plugin.version}, wanted release {source.release}; what was there was"
            " left"
        )
    require_version(subject, plugin, minimum)
    return plugin


def require_version(subject: str, plugin: Plugin, minimum: Optional[Version]) -> None:
    """Check that a plugin is new enough.

    :raises FarmError: it is not.
    """
    if minimum is not None and not plugin.is_at_least(minimum):
        raise FarmError(
            f"{subject}: buildx {plugin.version} is older than the wanted {format_version(minimum)};"
            " upgrade its package, or give a newer release, url, src or build"
        )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise FarmError(f"{path}: cannot be written: {exc.strerror}") from exc
