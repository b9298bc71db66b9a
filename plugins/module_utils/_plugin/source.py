# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a buildx comes from: a release, a URL, a file, or its sources, built by the engine."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, List, Mapping, Optional
from urllib.parse import urlsplit

from .._buildx.cli import Buildx
from .._buildx.known_engines import addresses
from .._core.environment import register_engine_finder
from .._core.errors import FarmError
from .._core.runner import Runner, checked
from .._core.scratch import scratch_directory
from .._core.urls import mask, secret_in
from .._core.version import declared_version
from .._docker.config import config_dir, plugin_in_use
from .._docker.context_store import ContextStore
from .._host.download import HEAD, describe, download
from .._platform.elf import arch_of
from .._platform.platform import Platform, native_platform, runs_natively

_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}\Z")
#: A URL, or an address as ssh takes it.
_GIT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|[\w.-]+@[\w.-]+:")
_CHUNK = 1 << 20
#: Bytes of a list of checksums.
_LISTING = 1 << 20
#: What the Dockerfile in buildx's sources puts out.
_BUILT = ("buildx", "docker-buildx")


@dataclass(frozen=True)
class Source:
    """Where a plugin is to be installed from.

    :ivar kind: ``url``, ``src`` or ``build``.
    :ivar location: a URL, a path on this host, or what ``docker build`` takes: a directory or a git address.
    :ivar checksum: what its content has to be; empty where that is not known yet, and for what is built.
    :ivar release: which release it is, without ``v``; empty where that is not declared.
    """

    kind: str
    location: str
    checksum: str = ""
    release: str = ""

    def __str__(self) -> str:
        """Return the location without what may be secret in it."""
        return mask(self.location)

    @property
    def is_fetched(self) -> bool:
        """Whether its content has to be downloaded or built before it is at hand."""
        return self.kind != "src"


@dataclass(frozen=True)
class Access:
    """How sources are reached.

    :ivar timeout: seconds that a server may let pass without sending anything.
    :ivar retries: how many requests in a row may bring nothing new.
    :ivar docker_config: docker's configuration directory, None for its own choice.
    """

    timeout: float
    retries: int
    docker_config: Optional[str]


def source_of(params: Mapping[str, Any]) -> Optional[Source]:
    """Return what is declared to be installed; None where any plugin that is there will do.

    :param params: the parameters of the module ``buildx_plugin``.
    :raises FarmError: the declaration cannot be meant so.
    """
    checksum = params["checksum"] or ""
    if checksum and not _CHECKSUM.match(checksum):
        raise FarmError(f"checksum {checksum!r}: wanted sha256: and 64 hexadecimal digits in lower case")
    if params["release"] is not None:
        return _release(params["release"], params["mirror"], checksum)
    if params["url"] is not None:
        return _url(params["url"], checksum)
    if params["src"] is not None:
        return _file(params["src"], checksum)
    if params["build"] is not None:
        return _sources(params["build"], checksum)
    if checksum:
        raise FarmError(
            "checksum: there is nothing to compare with it, as the plugin that is there would do; give release, url or"
            " src too, or leave it out"
        )
    return None


def with_checksum(source: Source, access: Access) -> Source:
    """Return a source with its checksum, which a release has in a file beside it.

    :raises FarmError: that file could not be had, or does not list what is wanted.
    """
    if source.checksum or source.kind != "url":
        return source
    folder, _slash, name = source.location.rpartition("/")
    listing = io.BytesIO()
    download(f"{folder}/checksums.txt", listing, access.timeout, access.retries, _LISTING)
    content = listing.getvalue()
    # As shasum writes it, "*" before the name of a binary file; some releases leave that out.
    line = re.compile(rb"^([0-9a-f]{64}) [ *]" + re.escape(name.encode()) + rb"\r?$", re.MULTILINE).search(content)
    if line is None:
        raise FarmError(
            f"{mask(folder)}/checksums.txt: no checksum of {name} in it, but"
            f" {describe(content[:HEAD], len(content))}; give the checksum in the task, or another release"
        )
    return replace(source, checksum=f"sha256:{line.group(1).decode()}")


def fetch(source: Source, target: BinaryIO, access: Access, runner: Runner) -> None:
    """Write a source's content to an empty file.

    :param target: open for reading and writing.
    :raises FarmError: it could not be had, or is something else than what is wanted.
    """
    if source.kind == "url":
        download(source.location, target, access.timeout, access.retries)
    elif source.kind == "src":
        _copy(Path(source.location), target)
    else:
        _build(source, target, access, runner)
    target.seek(0)
    head = target.read(HEAD)
    size = target.seek(0, os.SEEK_END)
    found = _digest(target)
    if source.checksum and found != source.checksum:
        raise FarmError(
            f"{source}: what came is {describe(head, size)} with the checksum {found}, wanted {source.checksum};"
            " nothing was changed"
        )
    _refuse_other_architecture(source, head, size)


def checksum_of(path: Path) -> Optional[str]:
    """Return a file's checksum, ``sha256:`` and hexadecimal digits; None where there is no file.

    :raises FarmError: it cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            return _digest(stream)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise FarmError(f"{path}: cannot be read: {exc.strerror}") from exc


def described(path: Path) -> str:
    """Say what a file on this host is."""
    try:
        with open(path, "rb") as stream:
            return describe(stream.read(HEAD), os.fstat(stream.fileno()).st_size)
    except OSError as exc:
        return f"cannot be read ({exc.strerror})"


def _digest(stream: BinaryIO) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(_CHUNK), b""):
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _release(text: str, mirror: str, checksum: str) -> Source:
    release = declared_version("release", text, "0.29.1 or 0.30.0-rc1", fewest=3, candidates=True)
    platform = native_platform(os.uname().machine)
    name = f"buildx-v{release}.{str(platform).replace('/', '-')}"
    source = _url(f"{mirror.rstrip('/')}/v{release}/{name}", checksum, "mirror")
    return replace(source, release=release)


def _url(url: str, checksum: str, option: str = "url") -> Source:
    source = Source("url", url, checksum)
    if urlsplit(url).scheme not in ("http", "https"):
        raise FarmError(f"{option} {source}: wanted http or https; a file on this host is given as src")
    if not checksum and option == "url":
        raise FarmError(f"url {source}: a download needs the checksum of what is wanted; give it as sha256:HEX")
    return source


def _file(path: str, checksum: str) -> Source:
    found = checksum_of(Path(path))
    if found is None:
        raise FarmError(f"src {path!r}: there is no such file on this host; copy it there first")
    return Source("src", path, checksum or found)


def _sources(location: str, checksum: str) -> Source:
    if checksum:
        raise FarmError("checksum: what is built has none that could be known before; leave it out")
    if os.path.isdir(location):
        return Source("build", location)
    if secret := secret_in(location):
        raise FarmError(
            f"build {mask(location)}: {secret} in an address stands in the list of processes; clone it first"
        )
    if not _GIT.match(location):
        raise FarmError(f"build {mask(location)!r}: there is no such directory on this host, and it is no git address")
    return Source("build", location)


def _copy(path: Path, target: BinaryIO) -> None:
    try:
        with open(path, "rb") as stream:
            shutil.copyfileobj(stream, target, _CHUNK)
    except OSError as exc:
        raise FarmError(f"{path}: cannot be copied: {exc.strerror}; nothing was changed") from exc


def _build(source: Source, target: BinaryIO, access: Access, runner: Runner) -> None:
    """Let the engine that docker talks to build the sources, for this host."""
    with scratch_directory("buildx-source-") as output:
        args = ["--platform", str(native_platform(os.uname().machine)), "--output", f"type=local,dest={output}"]
        if not os.path.isdir(source.location):
            # Of a git address only; buildx finds its version in there.
            args += ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"]
        register_engine_finder(addresses)
        _start_build([*args, source.location], f"{source}: the engine could not build it", access, runner)
        came = sorted(os.listdir(output))
        name = next((name for name in _BUILT if name in came), None)
        if name is None:
            raise FarmError(
                f"{source}: the build put out {', '.join(came) or 'nothing'}, wanted a file {_BUILT[0]};"
                " are these the sources of buildx? Nothing was changed"
            )
        _copy(Path(output) / name, target)


def _start_build(args: List[str], failure: str, access: Access, runner: Runner) -> None:
    """Build with the buildx that is there, as the docker CLI itself does from 23.0 on; earlier ones need none."""
    params = {"docker_config": access.docker_config}
    there = plugin_in_use(params)
    if os.access(there, os.X_OK):
        # The docker CLI chooses the builder that is its engine's, whichever one buildx uses.
        endpoint = ContextStore(config_dir(params)).current_endpoint()
        builder = "default" if "://" in endpoint else endpoint
        buildx = Buildx(runner, access.docker_config, there)
        buildx.run(["build", "--builder", builder, *args], f"{failure}, nothing was changed")
        return
    env = {"DOCKER_BUILDKIT": "1", **({"DOCKER_CONFIG": access.docker_config} if access.docker_config else {})}
    remedy = (
        f"{failure}, nothing was changed (where there is no buildx yet, only a docker CLI before 23.0 can build it:"
        " install the package of buildx first)"
    )
    checked(runner, ["docker", "build", *args], remedy, env=env)


def _refuse_other_architecture(source: Source, head: bytes, size: int) -> None:
    """Refuse a program that only an emulator could run here, before it is started."""
    arch, native = arch_of(head), native_platform(os.uname().machine)
    if arch is None:
        return
    try:
        fits = runs_natively(Platform.make("linux", arch), native)
    except FarmError:
        fits = False
    if not fits:
        raise FarmError(f"{source}: what came is {describe(head, size)}, wanted one for {native}; nothing was changed")
