# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine whose containers register handlers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Dict, Mapping, Optional, Sequence

from .._buildx.known_engines import addresses
from .._core.environment import register_engine_finder
from .._core.errors import FarmError
from .._core.runner import CommandError, Result, Runner
from .binfmt_misc import ENTRIES
from .image import EmulatorImage

#: Seconds; the image may have to be pulled.
_RUN_TIMEOUT = 600
#: The docker CLI's exit statuses where the engine did not run the container, and where that has no such program
#: (docker run, "Exit status").
NOT_RUN, _NOT_THERE = 125, 127


class Engine:
    """The engine that the docker CLI reaches.

    :param name: for messages, the host or the endpoint.
    :param docker: the CLI with the arguments that lead to the engine.
    :ivar report: of the emulator image that changed handlers last, None where none has.
    """

    def __init__(self, runner: Runner, name: str, docker: Sequence[str], docker_config: Optional[str] = None) -> None:
        register_engine_finder(addresses)
        self.name = name
        self.report: Optional[Result] = None
        self._runner = runner
        self._docker = tuple(docker)
        self._env = {"DOCKER_CONFIG": docker_config} if docker_config else {}

    def run(self, args: Sequence[str]) -> Result:
        """Run a docker command.

        :raises CommandError: there is no docker CLI, or it takes too long.
        """
        try:
            return self._runner((*self._docker, *args), env=self._env, timeout=_RUN_TIMEOUT)
        except CommandError as exc:
            hint = "install the docker CLI there" if exc.result.rc == 127 else "its registry may be out of reach"
            raise CommandError(f"{self.name}: docker {args[0]} was not run; {hint}", exc.result) from exc

    def checked(self, args: Sequence[str], failure: str) -> Result:
        """Run a docker command that must succeed.

        :raises CommandError: it did not.
        """
        result = self.run(args)
        if result.rc != 0:
            raise CommandError(f"{self.name}: {failure}", result)
        return result

    def info(self) -> Mapping[str, Any]:
        """Return the engine's own description of itself and its host.

        :raises CommandError: it cannot be reached.
        :raises FarmError: it can register nothing.
        """
        result = self.checked(("info", "--format", "{{json .}}"), f"the engine on {self.name} has to run")
        info: Dict[str, Any] = json.loads(result.stdout)
        if not info.get("ServerVersion"):
            # Docker 19.03 succeeds without an engine.
            errors = "; ".join(info.get("ServerErrors") or ["it did not answer"])
            raise CommandError(f"{self.name}: the engine on {self.name} has to run", replace(result, stderr=errors))
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
        # What this needs would delay all other tasks by some milliseconds.
        from concurrent.futures import ThreadPoolExecutor

        if self.run(("image", "inspect", image.name)).rc != 0:
            if not pull:
                return ()
            self._of_image(image, ("pull", image.name))
        with ThreadPoolExecutor() as pool:
            there = list(pool.map(lambda arch: self._has(image, arch), architectures))
        return [arch for arch, has in zip(architectures, there) if not has]

    def _has(self, image: EmulatorImage, arch: str) -> bool:
        argv = ("run", "--rm", "--network", "none", "--entrypoint", f"/usr/bin/{ENTRIES[arch]}", image.name)
        result = self.run((*argv, "--version"))
        if result.rc == NOT_RUN:
            raise CommandError(f"{self.name}: the emulators of image {image.name} were not run", result)
        return result.rc != _NOT_THERE

    def change_handlers(self, image: EmulatorImage, uninstall: Sequence[str], install: Sequence[str]) -> None:
        """Run the emulator image, pulled where it is missing; it exits with 0 whatever happens.

        :param uninstall: handlers that it removes.
        :param install: architectures that it registers handlers for.
        :raises CommandError: it did not run.
        """
        self.report = self._of_image(image, image.run_argv(uninstall, install))

    def list_handlers(self, image: EmulatorImage) -> Result:
        """Run the emulator image without arguments: it prints a JSON object with the handlers.

        :raises CommandError: it did not run.
        """
        return self._of_image(image, image.run_argv())

    def _of_image(self, image: EmulatorImage, args: Sequence[str]) -> Result:
        return self.checked(
            args,
            f"the emulator image {image.name} was not run; the engine on {self.name} has to run and be able to pull it",
        )
