# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checking one platform's image on an engine, and leaving the engine as it was.

Source of the API's behaviour: moby ``api/docs/CHANGELOG.md``: ``platform`` for creating containers since API 1.41.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

from .._core.errors import FarmError
from .._docker.context_store import ContextStore
from .._docker.credentials import auth_config, stored_credentials
from .._docker.endpoint import Endpoint
from .._docker.engine import connect
from .._docker.mistrust import advice
from .._docker.reference import Reference
from .._platform.platform import Platform, runs_natively
from .programs import File, Findings, Start, examine

_PLATFORM_API = (1, 41)
#: Bytes of a file that are read at once.
_CHUNK = 1 << 15


@dataclass(frozen=True)
class Checks:
    """Which checks an image is put to.

    :ivar command: replaces the image's own; empty leaves that.
    :ivar programs: examine the files of the programs that it starts.
    :ivar run: run it, unless one of its programs is wrong.
    :ivar timeout: seconds that the engine may take for each answer and each part of a pull, and that the program may
        take.
    """

    command: Tuple[str, ...] = ()
    programs: bool = True
    run: bool = False
    timeout: float = 120


@dataclass(frozen=True)
class RunResult:
    """What a container's program printed, and how it ended.

    :ivar stdout: without surrounding white space, as ``stderr``.
    :ivar rc: its exit status.
    :ivar native: whether the engine's own processor ran it, None where that is not known.
    """

    stdout: str
    stderr: str
    rc: int
    native: Optional[bool]


@dataclass(frozen=True)
class CheckResult:
    """What the checks of an image found.

    :ivar findings: on its programs, None where they were not examined.
    :ivar run: None where it was not run.
    """

    findings: Optional[Findings] = None
    run: Optional[RunResult] = None


def check_image(
    endpoint: Endpoint, contexts: ContextStore, reference: Reference, platform: Platform, checks: Checks
) -> CheckResult:
    """Pull an image, examine its programs or run it without a network, and remove container and image again.

    An image that the engine has already is neither pulled nor removed.

    :param reference: with the digest of the platform's manifest.
    :raises FarmError: anything but the program's own failure.
    """
    client = connect(endpoint, contexts, checks.timeout)
    with contextlib.closing(client), _sdk_errors(checks.timeout):
        with _image(client, contexts.config_dir, reference, platform):
            if not checks.run and not _has_command(client, reference):
                return CheckResult(Findings())
            with _container(client, reference, platform, checks) as container:
                examined = checks.programs and platform.os == "linux"
                findings = _examine(client, container, platform) if examined else None
                if not checks.run or (findings and findings.problem):
                    return CheckResult(findings)
                stdout, stderr, rc = _run(client, container, checks.timeout)
        return CheckResult(findings, RunResult(stdout, stderr, rc, _is_native(client, platform)))


@contextlib.contextmanager
def _image(client: Any, config_dir: Path, reference: Reference, platform: Platform) -> Iterator[None]:
    from docker.errors import ImageNotFound

    try:
        client.api.inspect_image(str(reference))
        was_there = True
    except ImageNotFound:
        was_there = False
        _pull(client, config_dir, reference, platform)
    try:
        yield
    finally:
        if not was_there:
            client.api.remove_image(str(reference))


def _pull(client: Any, config_dir: Path, reference: Reference, platform: Platform) -> None:
    # The SDK by itself would fall back to the files of other users and directories.
    credentials = stored_credentials(config_dir, reference.registry)
    options: Dict[str, Any] = {"auth_config": auth_config(credentials, reference.registry)}
    if _accepts_platform(client):
        options["platform"] = str(platform)
    for event in client.api.pull(reference.repository, tag=reference.digest, stream=True, decode=True, **options):
        if "error" in event:
            said = str(event["error"])
            raise FarmError(f"registry {reference.registry} did not give the image: {said}{advice(said, 'the engine')}")


def _has_command(client: Any, reference: Reference) -> bool:
    """Return whether an image names a program; engines create no container of one that does not."""
    config = client.api.inspect_image(str(reference)).get("Config") or {}
    return bool(config.get("Entrypoint") or config.get("Cmd"))


@contextlib.contextmanager
def _container(client: Any, reference: Reference, platform: Platform, checks: Checks) -> Iterator[str]:
    options: Dict[str, Any] = {}
    if _accepts_platform(client) and "platform" in inspect.signature(client.api.create_container).parameters:
        options["platform"] = str(platform)
    # With a log that can be read, whatever the engine keeps by default (dockerd's option log-driver).
    host_config = client.api.create_host_config(network_mode="none", log_config={"Type": "json-file", "Config": {}})
    container = client.api.create_container(
        str(reference), command=list(checks.command) or None, host_config=host_config, **options
    )
    try:
        yield container["Id"]
    finally:
        client.api.remove_container(container, v=True, force=True)


def _examine(client: Any, container: str, platform: Platform) -> Findings:
    start = Start.of(client.api.inspect_container(container))
    return examine(start, platform, lambda path, size: _read_file(client, container, path, size))


def _read_file(client: Any, container: str, path: str, size: int) -> Optional[File]:
    """Return what a container has at a path, with the first bytes of a file; the rest is not transferred.

    The engine says where a link ends (moby ``daemon/archive``), and sends the link itself.
    """
    from docker.errors import APIError, NotFound

    try:
        chunks, status = client.api.get_archive(container, path, chunk_size=_CHUNK)
    except NotFound:
        return None
    except APIError as exc:
        # Status 500, with the kernel's message or Docker's for links that lead to each other.
        message = str(exc.explanation)
        if "too many l" in message:
            return File("other")
        if "not a directory" in message:
            return None
        raise
    stream = io.BufferedReader(_Stream(chunks))
    with contextlib.closing(chunks), tarfile.open(fileobj=stream, mode="r|") as archive:
        entry = archive.next()
        content = archive.extractfile(entry) if entry and entry.isfile() else None
        if entry is None or content is None:
            return File("link" if entry and entry.issym() else "other", target=status["linkTarget"])
        return File("file", entry.mode & 0o777, head=content.read(size))


class _Stream(io.RawIOBase):
    """An iterator of chunks as a file that can be read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._chunks, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _run(client: Any, container: str, timeout: float) -> Tuple[str, str, int]:
    """Run a container; return its standard output, standard error and exit status."""
    client.api.start(container)
    rc = int(client.api.wait(container, timeout=timeout)["StatusCode"])

    def log(stdout: bool) -> str:
        text: str = client.api.logs(container, stdout=stdout, stderr=not stdout).decode(errors="replace")
        return text.strip()

    return log(stdout=True), log(stdout=False), rc


def _accepts_platform(client: Any) -> bool:
    version: str = client.api.api_version
    return tuple(int(part) for part in version.split(".")) >= _PLATFORM_API


def _is_native(client: Any, platform: Platform) -> Optional[bool]:
    version = client.version()
    try:
        return runs_natively(platform, Platform.make(str(version["Os"]), str(version["Arch"])))
    except FarmError:
        return None


@contextlib.contextmanager
def _sdk_errors(timeout: float) -> Iterator[None]:
    """Turn the errors of the docker SDK, and of requests below it, into messages."""
    import docker.errors
    import requests.exceptions

    try:
        yield
    except docker.errors.APIError as exc:
        said = str(exc.explanation or exc)
        raise FarmError(said + advice(said, "the engine")) from exc
    except docker.errors.DockerException as exc:
        raise FarmError(str(exc)) from exc
    except requests.exceptions.RequestException as exc:
        timed_out = "timed out" in str(exc).lower() or isinstance(exc, requests.exceptions.Timeout)
        raise FarmError(f"not finished after {timeout:g} s" if timed_out else str(exc)) from exc
