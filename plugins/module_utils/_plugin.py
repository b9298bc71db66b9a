# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx itself, a plugin of the docker CLI: found, installed from a file or a URL, removed.

Source of the directories and of the metadata command: docker/cli ``cli-plugins/manager``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from ._buildx import PLUGIN as NAME
from ._buildx import Version, format_version, plugin_directories
from ._contexts import config_dir
from ._errors import FarmError
from ._plan import Outcome
from ._runner import CommandError, Runner

_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Plugin:
    """A plugin that runs on this host.

    :ivar path: of the file, links not followed.
    :ivar version: as it says itself, ``v0.13.1`` or ``0.13.1+ds1`` for example.
    :ivar revision: of its sources, or its packager's own version; empty where it does not say one.
    """

    path: str
    version: str
    revision: str

    def as_dict(self, source: Optional[str] = None) -> Dict[str, Any]:
        """Return the values as JSON types.

        :param source: where it was installed from in this run; None for one that was there.
        """
        return {
            "path": self.path,
            "version": self.version,
            "revision": self.revision or None,
            "checksum": checksum_of(Path(self.path)),
            "source": source,
        }


@dataclass(frozen=True)
class Source:
    """Where a plugin is to be installed from.

    :ivar location: a URL, or a path on this host.
    :ivar checksum: what its content has to be.
    :ivar timeout: seconds that a server may let pass without sending anything.
    """

    location: str
    checksum: str
    timeout: float

    @property
    def is_url(self) -> bool:
        """Whether it has to be downloaded."""
        return "://" in self.location

    def __str__(self) -> str:
        """Return the location without a URL's password and query, either of which may be a secret."""
        if not self.is_url:
            return self.location
        parts = urlsplit(self.location)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def run_module(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """The logic of the module ``buildx_plugin``."""
    version = params["version"]
    if version is not None and parse_version(version) is None:
        raise FarmError(f"version {version!r}: wanted a form like 0.13 or 0.13.1")
    at = _destination(params)
    if params["state"] == "absent":
        return _remove(at, check_mode)
    source = _source(params)
    if source is None:
        return _require(at, params, runner)
    return _install(at, source, version, check_mode, runner)


def find(params: Mapping[str, Any], runner: Runner) -> Optional[Plugin]:
    """Return the plugin that the docker CLI uses: the first one that runs, in the order of its directories.

    :param params: a module's parameters; ``docker_config`` counts.
    """
    directories = plugin_directories(config_dir(params))
    plugins = (inspect(directory / NAME, runner) for directory in directories)
    return next((plugin for plugin in plugins if plugin is not None), None)


def inspect(path: Path, runner: Runner) -> Optional[Plugin]:
    """Return a plugin, None where there is no file or it is no plugin that runs on this host."""
    if not os.access(path, os.X_OK):
        return None
    try:
        version = str(json.loads(runner([str(path), "docker-cli-plugin-metadata"], timeout=30).stdout)["Version"])
        said = runner([str(path), "version"], timeout=30).stdout.split()
    except (CommandError, ValueError, KeyError, TypeError):
        return None
    return Plugin(str(path), version, said[2] if len(said) > 2 else "")


def parse_version(text: str) -> Optional[Version]:
    """Read a version such as ``v0.13.1`` or ``0.13.1+ds1``; None for a build that has none."""
    match = _VERSION.match(text)
    return (int(match.group(1)), int(match.group(2)), int(match.group(3) or 0)) if match else None


def checksum_of(path: Path) -> Optional[str]:
    """Return a file's checksum, ``sha256:`` and hexadecimal digits; None where there is no file.

    :raises FarmError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for chunk in iter(lambda: stream.read(_CHUNK), b""):
                digest.update(chunk)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise FarmError(f"{path}: cannot be read: {exc.strerror}") from exc
    return f"sha256:{digest.hexdigest()}"


def _destination(params: Mapping[str, Any]) -> Path:
    if params["path"] is None:
        return config_dir(params) / "cli-plugins" / NAME
    path = Path(params["path"])
    if path.name != NAME:
        raise FarmError(f"path {str(path)!r}: docker finds a plugin by its name; the path must end in /{NAME}")
    return path


def _source(params: Mapping[str, Any]) -> Optional[Source]:
    """Return what is declared to be installed; None where any plugin will do."""
    url, src, wanted = params["url"], params["src"], params["checksum"]
    if wanted is not None and not _CHECKSUM.match(wanted):
        raise FarmError(f"checksum {wanted!r}: wanted sha256: and 64 hexadecimal digits in lower case")
    if url is not None:
        source = Source(url, wanted or "", params["timeout"])
        if urlsplit(url).scheme not in ("http", "https"):
            raise FarmError(f"url {source}: wanted http or https; a file on this host is given as src")
        if wanted is None:
            raise FarmError(f"url {source}: a download needs the checksum of what is wanted; give it as sha256:HEX")
        return source
    if src is None:
        return None
    found = checksum_of(Path(src))
    if found is None:
        raise FarmError(f"src {src!r}: there is no such file on this host; copy it there first")
    return Source(src, wanted or found, params["timeout"])


def _require(at: Path, params: Mapping[str, Any], runner: Runner) -> Outcome:
    """Find a plugin that the distribution or someone else installed."""
    plugin = find(params, runner) if params["path"] is None else inspect(at, runner)
    if plugin is None:
        where = str(at) if params["path"] else ", ".join(map(str, plugin_directories(config_dir(params))))
        raise FarmError(
            f"buildx is not installed here: no {NAME} that runs in {where}; install the package docker-buildx"
            " (docker-buildx-plugin from Docker's own repository), or give url and checksum, or src"
        )
    _require_version(plugin.path, plugin, params["version"])
    found = plugin.as_dict()
    state = {"path": plugin.path, "checksum": found["checksum"]}
    return Outcome(state, state, values={"plugin": found})


def _install(at: Path, source: Source, version: Optional[str], check_mode: bool, runner: Runner) -> Outcome:
    before = _state(at)
    after = {"path": str(at), "checksum": source.checksum, "mode": "0755"}
    actions: List[Tuple[str, ...]] = []
    if before.get("checksum") != source.checksum:
        actions = [("download", str(source))] if source.is_url else []
        actions.append(("write", str(at)))
    elif before != after:
        actions = [("chmod", "0755", str(at))]
    if actions and check_mode:
        plugin = {"path": str(at), "version": None, "revision": None, "checksum": source.checksum}
        return Outcome(before, after, actions, {"plugin": {**plugin, "source": str(source)}})
    try:
        if actions and actions[0][0] == "chmod":
            at.chmod(0o755)
        elif actions:
            _write(at, source, version, runner)
    except OSError as exc:
        raise FarmError(f"{at}: cannot be written: {exc.strerror}") from exc
    installed = _checked(str(at), at, version, runner)
    return Outcome(before, after, actions, {"plugin": installed.as_dict(str(source) if actions else None)})


def _write(at: Path, source: Source, version: Optional[str], runner: Runner) -> None:
    """Put a plugin into its place in one step, once it has the checksum and has run here.

    :raises FarmError: it could not be had, is another file, or does not run; what was there stays.
    """
    at.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=at.parent, prefix=f".{NAME}.")
    try:
        digest = hashlib.sha256()
        with os.fdopen(handle, "wb") as stream:
            for chunk in _content(source):
                digest.update(chunk)
                stream.write(chunk)
            os.fchmod(stream.fileno(), 0o755)
            stream.flush()
            os.fsync(stream.fileno())
        found = f"sha256:{digest.hexdigest()}"
        if found != source.checksum:
            raise FarmError(f"{source}: its checksum is {found}, wanted {source.checksum}; nothing was changed")
        _checked(str(source), Path(temporary), version, runner)
        os.replace(temporary, at)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _content(source: Source) -> Iterator[bytes]:
    """Read a source piece by piece; proxies are those of the environment."""
    try:
        opener = urllib.request.build_opener()
        opened = opener.open(source.location, timeout=source.timeout) if source.is_url else None
        with opened or open(source.location, "rb") as stream:
            yield from iter(lambda: stream.read(_CHUNK), b"")
    except urllib.error.HTTPError as exc:
        raise FarmError(f"{source}: the server answered {exc.code} {exc.reason}; nothing was changed") from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise FarmError(f"{source}: cannot be read: {reason}; nothing was changed") from exc


def _checked(subject: str, path: Path, version: Optional[str], runner: Runner) -> Plugin:
    plugin = inspect(path, runner)
    if plugin is None:
        raise FarmError(
            f"{subject}: this is no docker CLI plugin that runs on this host; is it made for another architecture than"
            f" {os.uname().machine}? What was there was left"
        )
    _require_version(subject, plugin, version)
    return plugin


def _require_version(subject: str, plugin: Plugin, minimum: Optional[str]) -> None:
    wanted, found = parse_version(minimum or "0.0"), parse_version(plugin.version)
    if wanted is not None and found is not None and found < wanted:
        raise FarmError(
            f"{subject}: buildx {plugin.version} is older than the wanted {format_version(wanted)};"
            " upgrade its package, or give url and checksum of a newer release"
        )


def _remove(at: Path, check_mode: bool) -> Outcome:
    before = _state(at)
    if not before:
        return Outcome(before, {}, values={"plugin": None})
    if not check_mode:
        try:
            at.unlink()
        except OSError as exc:
            raise FarmError(f"{at}: cannot be removed: {exc.strerror}") from exc
    return Outcome(before, {}, [("remove", str(at))], {"plugin": None})


def _state(path: Path) -> Dict[str, Any]:
    found = checksum_of(path)
    if found is None:
        return {}
    return {"path": str(path), "checksum": found, "mode": f"{path.stat().st_mode & 0o7777:04o}"}
