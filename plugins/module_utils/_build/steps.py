# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carrying a build out: one run of buildx, with files staged so that a failure costs nothing that was there."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Sequence

from .._buildx.cli import Buildx, Version
from .._buildx.progress import BuildProgress
from .._core.plan import Step
from .._core.progress import SILENT, Progress
from .._core.runner import CommandError
from .._core.urls import mask
from .content import content_digest
from .declaration import Declaration
from .output import Output

#: buildx's first versions with ``--metadata-file`` and with attestations.
_METADATA, ATTESTATIONS = (0, 6, 0), (0, 10, 0)
#: The registry's answer to a node whose layer another node was just pushing as well: for a moment it finds nothing in
#: the layer's link, which it empties to write it (distribution/distribution#4489, seen with 2.8.3).
_CONCURRENT_PUSH = re.compile(r"ERROR: .*failed to push .*\n.*provided digest did not match uploaded content")
_ATTEMPTS = 3


@dataclass
class Execution:
    """What a build is carried out with, and what it returns.

    :ivar progress: takes what is shown while it runs.
    :ivar metadata: what buildx wrote about the image; empty before the build, and where buildx writes none.
    """

    buildx: Buildx
    progress: Progress = SILENT
    metadata: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Build(Step[Execution]):
    """Run ``docker buildx build``.

    :ivar builder: the builder's name.
    :ivar version: buildx's, which decides on the options that it is given.
    """

    declaration: Declaration
    builder: str
    version: Version

    @property
    def action(self) -> List[str]:
        """The command with the declared outputs, secrets in URLs masked."""
        outputs = [output.argument() for output in self.declaration.outputs]
        return [mask(word) for word in Buildx.argv(self.arguments(outputs))]

    def apply(self, world: Execution) -> None:
        """Build, move the files of the result to their destinations, and store buildx's metadata in ``world``.

        :raises CommandError: the build failed.
        """
        with ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="buildx-build-"))
            staged = {output: _stage(stack, output) for output in self.declaration.outputs if output.is_file}
            metadata_file = os.path.join(scratch, "metadata.json")
            outputs = [output.argument(staged.get(output)) for output in self.declaration.outputs]
            unreported = ["--metadata-file", metadata_file] if self.version >= _METADATA else []
            self._run(world, self.arguments(outputs, unreported))
            for output, path in staged.items():
                _install(output, path)
            world.metadata = _read_metadata(metadata_file)

    def arguments(self, outputs: Sequence[str], unreported: Sequence[str] = ()) -> List[str]:
        """Return buildx's arguments.

        :param outputs: values of ``--output``.
        :param unreported: arguments that differ from run to run.
        """
        declaration = self.declaration
        args = ["build", "--builder", self.builder, "--progress", "plain", *unreported]
        if declaration.platforms:
            args += ["--platform", ",".join(str(platform) for platform in declaration.platforms)]
        for option, values in (
            ("--tag", declaration.tags),
            ("--build-arg", [f"{key}={value}" for key, value in declaration.build_args]),
            ("--label", [f"{key}={value}" for key, value in declaration.labels]),
            ("--output", outputs),
        ):
            for value in values:
                args += [option, value]
        args += ["--target", declaration.target] if declaration.target else []
        args += ["--no-cache"] if declaration.no_cache else []
        args += ["--pull"] if declaration.pull else []
        # Before 0.10 buildx knows no attestations, and makes none.
        if declaration.provenance != "false" or self.version >= ATTESTATIONS:
            args.append(f"--provenance={declaration.provenance}")
        args += [f"--sbom={declaration.sbom}"] if declaration.sbom != "false" else []
        args += ["--file", declaration.file] if declaration.file else []
        return [*args, declaration.context]

    def _run(self, world: Execution, args: Sequence[str]) -> None:
        """Run buildx, and again where a registry refused only because two nodes pushed the same layer at once.

        :raises CommandError: the build failed, or took longer than declared with all attempts together.
        """
        limit = self.declaration.timeout
        deadline = None if limit is None else time.monotonic() + limit
        for attempts_left in reversed(range(_ATTEMPTS)):
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                world.buildx.run(args, failure="build", timeout=timeout, follow=self._reporter(world.progress))
                return
            except CommandError as exc:
                if not attempts_left or not _CONCURRENT_PUSH.search(exc.result.stderr):
                    raise

    def _reporter(self, progress: Progress) -> Callable[[str], str]:
        """Return what takes the lines of buildx's progress; none of them is for the system's log."""
        build = BuildProgress()
        name = (self.declaration.tags or (self.declaration.context,))[0].rpartition("/")[2]

        def report(line: str) -> str:
            event = build.read(line)
            if event:
                progress.report(" ".join(filter(None, (name, event.platform, str(event)))))
            return ""

        return report


def _stage(stack: ExitStack, output: Output) -> str:
    """Return a path beside an output's destination, in a directory that is removed at the end.

    buildx empties a file before it builds: a failed build would cost the last good result.
    """
    folder, name = os.path.split(output.dest)
    return os.path.join(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.")), "result")


def _install(output: Output, staged: str) -> None:
    """Move a finished file to its destination, unless the same content is there."""
    if content_digest(output, staged) == content_digest(output, output.dest):
        return
    destination = os.path.realpath(output.dest)
    if os.path.exists(destination):
        shutil.copymode(destination, staged)
    os.replace(staged, destination)


def _read_metadata(path: str) -> Dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            raw = json.load(stream)
    except (FileNotFoundError, ValueError):
        return {}  # an older buildx, or a build that makes no image
    return raw if isinstance(raw, dict) else {}
