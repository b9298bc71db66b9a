# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine whose containers register handlers, by its API.

The API needs neither the docker CLI, which a controller may lack, nor the docker SDK, which nodes do not have, and is
the same over a socket, TCP and ssh.

Source: moby ``api/docs``; the exit statuses of containers that did not start are the docker CLI's (``docker run``,
"Exit status").
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from .._core.errors import FarmError
from .._core.parallel import each
from .._core.runner import Result, Runner
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .binfmt_misc import ENTRIES
from .image import EmulatorImage

if TYPE_CHECKING:
    from .._docker.client import Conversation

#: Seconds: until the engine describes itself; until a container has ended, or the registry sends more of an image.
_TIMEOUT, _RUN_TIMEOUT = 30, 600
#: Containers at the same time.
_CONTAINERS = 8
NOT_RUN, _NOT_THERE = 125, 127


class EngineError(FarmError):
    """The engine cannot be reached, or does not do what it is to do; in check mode it may be yet to come."""


class Engine:
    """The engine of this host, or of an endpoint.

    :param name: for messages, the host or the endpoint.
    :param endpoint: None for the engine that the docker CLI uses without arguments.
    :param docker: the docker CLI with the arguments that lead to the engine, for messages.
    :ivar report: of the emulator image that changed handlers last, None where none has.
    """

    def __init__(
        self, runner: Runner, name: str, endpoint: Optional[str], config_dir: Path, docker: Sequence[str]
    ) -> None:
        self.name = name
        self.report: Optional[Result] = None
        self._runner = runner
        self._store = ContextStore(config_dir)
        self._given = endpoint
        self._docker = tuple(docker)

    @property
    def _endpoint(self) -> Endpoint:
        if self._given:
            return Endpoint.parse(self._given)
        current = self._store.current_endpoint()
        # The environment's engine may come with TLS.
        return Endpoint("context", "default" if ":" in current else current)

    @contextlib.contextmanager
    def _connected(self, timeout: float = _RUN_TIMEOUT) -> Iterator[Conversation]:
        """Connect to the engine.

        :raises EngineError: it cannot be reached.
        """
        # This import would delay all other tasks by tens of milliseconds.
        from .._docker.client import conversation

        try:
            with conversation(self._endpoint, self._store, timeout) as engine:
                yield engine
        except EngineError:
            raise
        except FarmError as exc:
            raise EngineError(f"{self.name}: the engine on {self.name} has to run: {exc.message}") from exc

    def info(self) -> Mapping[str, Any]:
        """Return the engine's own description of itself and its host.

        :raises EngineError: it cannot be reached.
        :raises FarmError: it can register nothing.
        """
        with self._connected(_TIMEOUT) as engine:
            status, body = engine.request("GET", "/info")
        info = _json(body)
        if status != 200 or not info.get("ServerVersion"):
            raise EngineError(f"{self.name}: the engine on {self.name} has to run: {_message(body)}")
        if any("rootless" in option for option in info.get("SecurityOptions") or ()):
            raise FarmError(
                f"{self.name}: the engine is a rootless one, whose containers may not change the kernel's handlers; "
                "let the host's root register them, with source: packages, or use an engine that runs as root"
            )
        return info

    def lacking(self, image: EmulatorImage, architectures: Sequence[str], pull: bool) -> Sequence[str]:
        """Return those of some architectures whose emulators an image does not have.

        Each emulator is run for its version, in an ordinary container: there is no other way to list the files of an
        image without a shell, but to transfer the whole of it.

        :param pull: get the image where it is missing, instead of taking it to have all.
        :raises FarmError: no container of it runs.
        """
        if not pull and not self._has_image(image):
            return ()
        self._provide(image)
        there = each(architectures, lambda arch: self._has_emulator(image, arch), _CONTAINERS)
        return [arch for arch, has in zip(architectures, there) if not has]

    def _has_emulator(self, image: EmulatorImage, arch: str) -> bool:
        result = self.run(image.name, ("--version",), entrypoint=f"/usr/bin/{ENTRIES[arch]}")
        if result.rc == NOT_RUN:
            raise EngineError(f"{self.name}: the emulators of image {image.name} were not run: {result.stderr}")
        return result.rc != _NOT_THERE

    def change_handlers(self, image: EmulatorImage, uninstall: Sequence[str], install: Sequence[str]) -> None:
        """Run the emulator image, pulled where it is missing; it exits with 0 whatever happens.

        :param uninstall: handlers that it removes.
        :param install: architectures that it registers handlers for.
        :raises FarmError: it did not run.
        """
        self.report = self._run_image(image, uninstall, install)

    def list_handlers(self, image: EmulatorImage) -> Result:
        """Run the emulator image without arguments: it prints a JSON object with the handlers.

        :raises FarmError: it did not run.
        """
        return self._run_image(image)

    def _run_image(self, image: EmulatorImage, uninstall: Sequence[str] = (), install: Sequence[str] = ()) -> Result:
        self._provide(image)
        ended = self.run(image.name, image.command(uninstall, install), image.environment, privileged=True)
        if ended.rc in (NOT_RUN, _NOT_THERE):
            raise self._not_run(image, ended.stderr)
        return Result((*self._docker, *image.run_argv(uninstall, install)), ended.rc, ended.stdout, ended.stderr)

    def _has_image(self, image: EmulatorImage) -> bool:
        with self._connected() as engine:
            return engine.request("GET", f"/images/{quote(image.name)}/json")[0] == 200

    def _provide(self, image: EmulatorImage) -> None:
        """Pull an image where it is missing.

        :raises FarmError: it cannot be pulled.
        """
        if self._has_image(image):
            return
        # This import would delay all other tasks by some milliseconds.
        from .._docker.pull import pulled

        query, headers = pulled(image.name, self._store.config_dir, self._runner)
        problem = self._create_image(query, headers=headers)
        if problem:
            raise self._not_run(image, problem)

    def _not_run(self, image: EmulatorImage, reason: str) -> EngineError:
        return EngineError(
            f"{self.name}: the emulator image {image.name} was not run; "
            f"the engine on {self.name} has to run and be able to pull it, or another is named (image; with the roles:"
            f" emulators_image), or none is needed (source: packages; emulators_source): {reason}"
        )

    def import_image(self, name: str, tag: str, archive: bytes) -> None:
        """Make an image of one layer.

        :param archive: the layer, a tar archive.
        :raises EngineError: the engine does not take it.
        """
        query = {"fromSrc": "-", "repo": name, "tag": tag}
        problem = self._create_image(query, archive, {"Content-Type": "application/x-tar"})
        if problem:
            raise EngineError(f"{self.name}: the engine did not take the programs that test it: {problem}")

    def _create_image(
        self, query: Mapping[str, str], body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None
    ) -> Optional[str]:
        """Pull or import an image; return what went wrong, None if nothing."""
        from .._docker.pull import create_image

        with self._connected() as engine:
            return create_image(engine, query, body, headers)

    def remove_image(self, name: str) -> None:
        """Remove an image.

        :raises EngineError: the engine cannot be reached.
        """
        with self._connected() as engine:
            engine.request("DELETE", f"/images/{quote(name)}")

    def run(
        self,
        image: str,
        command: Sequence[str],
        environment: Sequence[str] = (),
        entrypoint: Optional[str] = None,
        privileged: bool = False,
    ) -> Result:
        """Run a container without network and remove it; return how it ended.

        :param environment: variables, as ``NAME=VALUE``.
        :return: the exit status is that of the docker CLI, ``NOT_RUN`` for one, where no program was started.
        :raises EngineError: the engine cannot be reached.
        """
        host = {"Privileged": privileged, "NetworkMode": "none", "LogConfig": {"Type": "json-file"}}
        if privileged:
            # Whose users are remapped (dockerd's userns-remap) is given no privileges; elsewhere it says nothing new.
            host["UsernsMode"] = "host"
        spec: Dict[str, Any] = {"Image": image, "Cmd": list(command), "Env": list(environment), "HostConfig": host}
        if entrypoint:
            spec["Entrypoint"] = [entrypoint]
        with self._connected() as engine:
            headers = {"Content-Type": "application/json"}
            status, body = engine.request("POST", "/containers/create", body=json.dumps(spec).encode(), headers=headers)
            if status != 201:
                return Result(tuple(command), NOT_RUN, "", _message(body))
            container = str(_json(body)["Id"])
            try:
                return self._ended(engine, container, tuple(command))
            finally:
                self._remove(container)

    def _ended(self, engine: Conversation, container: str, command: Tuple[str, ...]) -> Result:
        """Start a container and wait for its end.

        :raises EngineError: how it ended is not known.
        """
        status, body = engine.request("POST", f"/containers/{container}/start")
        if status != 204:
            message = _message(body)
            not_there = "no such file or directory" in message or "executable file not found" in message
            return Result(command, _NOT_THERE if not_there else NOT_RUN, "", message)
        waited, ended = engine.request("POST", f"/containers/{container}/wait")
        logged, logs = engine.request("GET", f"/containers/{container}/logs?stdout=1&stderr=1")
        if (waited, logged) != (200, 200):
            answer = _message(ended if waited != 200 else logs)
            raise EngineError(f"{self.name}: the engine did not report how a container ended: {answer}")
        return Result(command, int(_json(ended)["StatusCode"]), *_streams(logs))

    def _remove(self, container: str) -> None:
        # The connection that ran it may be broken; what made that fail is worth more than that this fails too.
        with contextlib.suppress(EngineError), self._connected(_TIMEOUT) as engine:
            engine.request("DELETE", f"/containers/{container}?force=1&v=1")


def _streams(logs: bytes) -> Tuple[str, str]:
    """Return standard output and error of a container's logs."""
    from .._docker.client import demultiplexed

    found = demultiplexed(logs)
    stdout, stderr = (found.get(number, b"").decode(errors="replace") for number in (1, 2))
    return stdout, stderr


def _json(body: bytes) -> Dict[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _message(body: bytes) -> str:
    """Return the message of an engine's error, or what was answered instead."""
    return str(_json(body).get("message") or body[:300].decode(errors="replace").strip() or "it did not answer")
