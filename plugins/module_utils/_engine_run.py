# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running one platform's image once on an engine, and leaving the engine as it was.

Source of the API's behaviour: moby ``api/docs/CHANGELOG.md``: ``platform`` for creating containers since API 1.41.
"""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

from ._contexts import ContextStore
from ._endpoints import Endpoint
from ._engine import connect
from ._errors import FarmError
from ._platforms import Platform, runs_natively
from ._reference import Reference

_PLATFORM_API = (1, 41)


@dataclass(frozen=True)
class Ran:
    """What a program in a container did.

    :ivar output: its standard output, without surrounding white space.
    :ivar errors: its standard error, likewise.
    :ivar rc: its exit status.
    :ivar native: whether the engine's own processor ran it.
    """

    output: str
    errors: str
    rc: int
    native: Optional[bool]


def run_once(
    endpoint: Endpoint,
    contexts: ContextStore,
    reference: Reference,
    platform: Platform,
    command: Sequence[str],
    timeout: float,
) -> Ran:
    """Pull an image, run it without a network, and remove container and image again.

    An image that the engine has already is neither pulled nor removed.

    :param reference: with the digest of the platform's manifest.
    :param timeout: seconds that the engine may be silent while it is asked or pulls, and that the program may take.
    :raises FarmError: anything but the program's own failure.
    """
    client = connect(endpoint, contexts, timeout)
    with contextlib.closing(client), _errors_of_sdk(timeout):
        with _image(client, contexts.config_dir, reference, platform):
            output, errors, rc = _run(client, reference, platform, command, timeout)
        return Ran(output, errors, rc, _is_native(client, platform))


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
    options: Dict[str, Any] = {"auth_config": _credentials(config_dir, reference.registry)}
    if _takes_platform(client):
        options["platform"] = str(platform)
    for event in client.api.pull(reference.repository, tag=reference.digest, stream=True, decode=True, **options):
        if "error" in event:
            raise FarmError(f"registry {reference.registry} did not give the image: {event['error']}")


def _credentials(config_dir: Path, registry: str) -> Dict[str, Any]:
    """Return what ``docker login`` stored for a registry, empty if nothing.

    The SDK would fall back to the files of other users and directories.
    """
    from docker import auth

    path = config_dir / "config.json"
    if not path.exists():
        return {}
    return auth.resolve_authconfig(auth.load_config(config_path=str(path)), registry=registry) or {}


def _run(
    client: Any, reference: Reference, platform: Platform, command: Sequence[str], timeout: float
) -> Tuple[str, str, int]:
    options: Dict[str, Any] = {}
    if _takes_platform(client) and "platform" in inspect.signature(client.api.create_container).parameters:
        options["platform"] = str(platform)
    host_config = client.api.create_host_config(network_mode="none")
    container = client.api.create_container(
        str(reference), command=list(command) or None, host_config=host_config, **options
    )
    try:
        client.api.start(container)
        rc = int(client.api.wait(container, timeout=timeout)["StatusCode"])
        output, errors = (
            client.api.logs(container, stdout=stdout, stderr=not stdout).decode(errors="replace").strip()
            for stdout in (True, False)
        )
        return output, errors, rc
    finally:
        client.api.remove_container(container, v=True, force=True)


def _takes_platform(client: Any) -> bool:
    version: str = client.api.api_version
    return tuple(int(part) for part in version.split(".")) >= _PLATFORM_API


def _is_native(client: Any, platform: Platform) -> Optional[bool]:
    version = client.version()
    try:
        return runs_natively(platform, Platform.make(str(version["Os"]), str(version["Arch"])))
    except FarmError:
        return None


@contextlib.contextmanager
def _errors_of_sdk(timeout: float) -> Iterator[None]:
    """Turn the errors of the docker SDK, and of requests below it, into messages."""
    import docker.errors
    import requests.exceptions

    try:
        yield
    except docker.errors.APIError as exc:
        raise FarmError(str(exc.explanation or exc)) from exc
    except docker.errors.DockerException as exc:
        raise FarmError(str(exc)) from exc
    except requests.exceptions.RequestException as exc:
        late = "timed out" in str(exc).lower() or isinstance(exc, requests.exceptions.Timeout)
        raise FarmError(f"not finished after {timeout:g} s" if late else str(exc)) from exc
