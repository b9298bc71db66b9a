# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of an image by its layers in a registry: no engine is needed to look at them.

Source of the format: the OCI image specification, "Image Layer Filesystem Changeset".
"""

from __future__ import annotations

import contextlib
import posixpath
import tarfile
import tempfile
from dataclasses import dataclass
from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, Optional

from .._core.archives import Member
from .._core.errors import FarmError
from .._docker.reference import Reference
from .._platform.platform import Platform
from .._registry.client import Registries
from .contents import Part
from .programs import File, Findings, Start, examine

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
#: Bytes of a file that are kept; more is read again.
_HEAD = 4096
#: Links that lead to each other end here (Linux: 40).
_LINKS = 40


@dataclass(frozen=True)
class _Entry:
    """What a layer has at a path.

    :ivar target: of a link, as it stands there.
    :ivar more: returns that many bytes of a file's beginning.
    """

    kind: str
    mode: int = 0
    target: str = ""
    head: bytes = b""
    more: Optional[Callable[[int], bytes]] = None


class Files:
    """The files of an image, as one layer after the other makes them."""

    def __init__(self) -> None:
        self._entries: Dict[str, _Entry] = {"/": _Entry("directory")}

    def add(self, layer: IO[bytes]) -> None:
        """Lay a layer over what is there.

        :param layer: a file that stays open.
        :raises FarmError: it is no archive, or packed in a way that Python does not know.
        """
        fresh: Dict[str, _Entry] = {}
        gone: List[str] = []
        try:
            with _opened(layer) as archive:
                for member in archive:
                    path = posixpath.normpath(f"/{member.name.lstrip('/')}")
                    directory, name = posixpath.split(path)
                    if name == _OPAQUE:
                        gone += [one for one in self._entries if one.startswith(directory.rstrip("/") + "/")]
                    elif name.startswith(_WHITEOUT):
                        gone += self._tree(posixpath.join(directory, name[len(_WHITEOUT) :]))
                    elif member.islnk():
                        linked = posixpath.normpath(f"/{member.linkname.lstrip('/')}")
                        fresh[path] = fresh.get(linked) or self._entries.get(linked) or _Entry("other")
                    else:
                        fresh[path] = _entry(archive, member, layer)
        except (tarfile.TarError, OSError, EOFError) as exc:
            # The first line says it, further ones what was tried.
            reason = (str(exc).splitlines() or ["it is cut"])[0].rstrip(":")
            raise FarmError(
                f"a layer cannot be read ({reason}); name an engine that can examine it, with the option endpoints or "
                f"builder"
            ) from exc
        for path, entry in fresh.items():
            if entry.kind != "directory":
                gone += self._tree(path)
        for path in gone:
            self._entries.pop(path, None)
        self._entries.update(fresh)
        for path in fresh:
            for parent in _parents(path):
                self._entries.setdefault(parent, _Entry("directory"))

    def read(self, path: str, size: int) -> Optional[File]:
        """Return what is at a path, as ``ReadFile`` in ``programs``."""
        directory, name = posixpath.split(path)
        parent = self._resolve(directory)
        place = posixpath.join(parent, name) if parent is not None else None
        entry = self._entries.get(place) if place else None
        if entry is None:
            return None
        if entry.kind == "link":
            target = self._resolve(path)
            return File("other") if target is None else File("link", target=target)
        if entry.kind != "file":
            return File("other")
        head = entry.more(size) if size > _HEAD and entry.more else entry.head
        return File("file", entry.mode & 0o777, head=head)

    def _tree(self, path: str) -> List[str]:
        """Return what is at a path and below it."""
        entry = self._entries.get(path)
        if entry is None:
            return []
        if entry.kind == "file":
            return [path]
        return [one for one in self._entries if one == path or one.startswith(f"{path}/")]

    def _resolve(self, path: str) -> Optional[str]:
        """Return where a path ends, all links followed, also where nothing is; None for links in a circle."""
        found, waiting, links = "/", path.split("/")[::-1], 0
        while waiting:
            name = waiting.pop()
            if name == "..":
                found = posixpath.dirname(found)
            elif name not in ("", "."):
                place = posixpath.join(found, name)
                entry = self._entries.get(place)
                if entry is None or entry.kind != "link":
                    found = place
                    continue
                links += 1
                if links > _LINKS:
                    return None
                found = "/" if entry.target.startswith("/") else found
                waiting += entry.target.split("/")[::-1]
        return found


def examine_image(registries: Registries, reference: Reference, part: Part, platform: Platform) -> Findings:
    """Examine the programs that an image starts, by its layers.

    :param reference: any name of its repository.
    :param part: with its config.
    :raises FarmError: a layer is not there, or cannot be read.
    """
    start = _start(part.config or {})
    if start is None:
        return Findings()
    with image_files(registries, reference, part) as files:
        return examine(start, platform, files.read)


@contextlib.contextmanager
def image_files(registries: Registries, reference: Reference, part: Part) -> Iterator[Files]:
    """Read the layers of an image into temporary files; yields its files.

    :raises FarmError: a layer is not there, or cannot be read.
    """
    files = Files()
    with contextlib.ExitStack() as stack:
        for layer in (part.document or {}).get("layers") or ():
            file = stack.enter_context(tempfile.TemporaryFile())
            if not registries.save(reference, str(layer["digest"]), file):
                raise FarmError(f"the registry {reference.registry} does not have the layer {layer['digest']}")
            files.add(file)
        yield files


def _start(config: Mapping[str, Any]) -> Optional[Start]:
    """Return how a container of an image would start, None where the image names no program."""
    own = config.get("config") or {}
    words = [*(own.get("Entrypoint") or ()), *(own.get("Cmd") or ())]
    return Start.of({"Config": own, "Path": words[0]}) if words else None


@contextlib.contextmanager
def _opened(layer: IO[bytes]) -> Iterator[tarfile.TarFile]:
    layer.seek(0)
    with tarfile.open(fileobj=layer, mode="r:*", tarinfo=Member) as archive:
        yield archive


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo, layer: IO[bytes]) -> _Entry:
    if member.issym():
        return _Entry("link", target=member.linkname)
    if member.isdir():
        return _Entry("directory")
    if not member.isfile():
        return _Entry("other")
    content = archive.extractfile(member) if member.mode & 0o111 else None

    def more(size: int) -> bytes:
        with _opened(layer) as again:
            found = again.extractfile(member.name)
            return found.read(size) if found else b""

    return _Entry("file", member.mode, head=content.read(_HEAD) if content else b"", more=more)


def _parents(path: str) -> Iterator[str]:
    while path != "/":
        path = posixpath.dirname(path)
        yield path
