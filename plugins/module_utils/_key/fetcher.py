# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what a build fetched is still what it was: everything is asked again, side by side, each thing once."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.parallel import each
from .._core.runner import CommandError, Runner
from .._docker.reference import Reference
from .._image.index import read_index
from .._platform.platform import Platform
from .._registry.client import Registries
from .sources import GIT, HTTP, IMAGE, Source

_TIMEOUT = 10.0
#: Options of git for a server that asks for nothing that nobody would answer; and no repository of this host, as what
#: is asked for stands in a record that anybody may have written.
_GIT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_ALLOW_PROTOCOL": "git:http:https:ssh",
}


@dataclass(frozen=True)
class Change:
    """What became of a source.

    :ivar words: a sentence.
    :ivar certain: whether it is something else; otherwise that cannot be told.
    """

    words: str
    certain: bool


class Fetcher:
    """Asks what things are now.

    :param registries: as BuildKit reaches them, mirrors included.
    :param checks_remote: whether git repositories and files from the web are asked for too; else they count as
        unchanged.
    """

    def __init__(self, registries: Registries, runner: Runner, checks_remote: bool) -> None:
        self._registries = registries
        self._runner = runner
        self._checks_remote = checks_remote

    def completed(self, sources: Iterable[Source]) -> Tuple[Source, ...]:
        """Return what a build fetched with what has to be asked for to compare it later."""

        def complete(source: Source) -> Source:
            if source.kind == IMAGE and source.platform and source.digest:
                try:
                    manifest = self._manifest(Reference.parse(source.name).at(source.digest), source.platform)
                except FarmError:
                    manifest = ""
                return Source(IMAGE, source.name, source.digest, source.platform, manifest, source.targets)
            if source.kind == HTTP and self._checks_remote:
                return Source(HTTP, source.name, _version(source.name), targets=source.targets)
            return source

        return tuple(each(sources, complete))

    def changes(self, sources: Sequence[Source]) -> Dict[Source, Change]:
        """Return those that are not what they were any more, or of which that cannot be told, with how it is said."""
        by_name: Dict[Tuple[str, str], List[Source]] = {}
        for source in dict.fromkeys(sources):
            if source.kind == IMAGE or self._checks_remote:
                by_name.setdefault((source.kind, source.name), []).append(source)
        found = each(by_name.values(), self._changes_of)
        return {source: change for changes in found for source, change in changes.items()}

    def _changes_of(self, sources: Sequence[Source]) -> Dict[Source, Change]:
        """Return the changes of one thing, for each platform and state in which builds fetched it."""
        first = sources[0]
        try:
            now = {IMAGE: self._image, GIT: self._commit, HTTP: _version_of}[first.kind](first)
        except FarmError as exc:
            return {source: _untold(source, exc.message) for source in sources}
        if now is None:
            return {source: Change(f"{source} is not there any more", False) for source in sources}
        changes: Dict[Source, Change] = {}
        for source in sources:
            if not source.digest or not now:
                changes[source] = _untold(source, "nothing tells its versions apart")
            elif source.digest != now and not self._is_same_image(source, now):
                changes[source] = Change(f"{source} moved from {source.digest} to {now}", True)
        return changes

    def _image(self, source: Source) -> Optional[str]:
        return self._registries.digest(Reference.parse(source.name))

    def _is_same_image(self, source: Source, digest: str) -> bool:
        """Return whether only images for other platforms of a base were built anew."""
        if not source.manifest:
            return False
        try:
            return self._manifest(Reference.parse(source.name).at(digest), source.platform) == source.manifest
        except FarmError:
            return False

    def _manifest(self, name: Reference, platform: str) -> str:
        """Return the digest of the image for a platform, empty where that is not certain."""
        index = read_index(self._registries, name)
        wanted = Platform.parse(platform)
        found = [entry.digest for entry in index.manifests if entry.platform == wanted] if index else []
        return found[0] if found else ""

    def _commit(self, source: Source) -> Optional[str]:
        """Return the commit that a git reference stands for.

        Source of the syntax: BuildKit ``util/gitutil``; ``URL#REF:DIRECTORY``.
        """
        url, _mark, fragment = source.name.partition("#")
        ref = fragment.partition(":")[0] or "HEAD"
        if ref == source.digest:
            return source.digest
        argv = ["git", "ls-remote", "--", url.replace("git+", "", 1), ref, f"{ref}^{{}}"]
        result = self._runner(argv, env=_GIT, timeout=_TIMEOUT)
        if result.rc:
            raise CommandError("git ls-remote", result)
        found = {
            name: commit for commit, tab, name in (line.partition("\t") for line in result.stdout.splitlines()) if tab
        }
        # git tells of all whose names end so, as refs/heads/feature/main for main.
        names = (ref, f"refs/{ref}", f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}")
        likely = [name for name in found if name.endswith("^{}")] or list(found)
        return next((found[name] for name in (*names, *likely) if name in found), None)


def _untold(source: Source, why: str) -> Change:
    return Change(f"whether {source} changed cannot be told: {why}", False)


def _version(url: str) -> str:
    try:
        return _version_of(Source(HTTP, url)) or ""
    except FarmError:
        return ""


def _version_of(source: Source) -> Optional[str]:
    """Return what a web server calls the present version of a file, empty where it gives it no name.

    :raises FarmError: it does not answer.
    """
    if not source.name.startswith(("http://", "https://")):
        raise FarmError("no address of the web; wanted http or https")
    request = urllib.request.Request(source.name, method="HEAD")
    try:
        with urllib.request.build_opener().open(request, timeout=_TIMEOUT) as answer:
            return str(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
    except urllib.error.HTTPError as exc:
        if exc.code in (404, 410):
            return None
        raise FarmError(f"the server answers {exc.code}") from exc
    except (OSError, ValueError, http.client.HTTPException) as exc:
        raise FarmError(str(exc)) from exc
