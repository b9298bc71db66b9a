# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command ``docker buildx build``: one run of it, with files staged so that a failure costs nothing."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .._buildx.cli import Buildx, Version
from .._buildx.progress import BuildProgress, StepEvent
from .._buildx.settling import Settling
from .._core.runner import CommandError
from .._core.scratch import scratch_directory
from .._core.urls import mask
from .._docker.reference import Reference
from .._key.sources import Source, read_sources, sources_of_bases
from .._platform.platform import Platform
from .contexts import IMAGE
from .declaration import Image
from .inputs import crosses
from .output import Output
from .staging import install, stage

#: buildx's first version with ``--metadata-file``.
METADATA = (0, 6, 0)
#: And with ``--build-context``.
_CONTEXTS = (0, 8, 0)
#: The registry's answer to a node whose layer another node was just pushing as well: for a moment it finds nothing in
#: the layer's link, which it empties to write it (distribution/distribution#4489, seen with 2.8.3).
_CONCURRENT_PUSH = re.compile(r"ERROR: .*failed to push .*\n.*provided digest did not match uploaded content")
_PUSHES = 3


@dataclass(frozen=True)
class Built:
    """What one run of buildx made.

    :ivar metadata: what buildx wrote about the image; empty where it writes none.
    :ivar seconds: that it took, with the transfer of the context and the push.
    :ivar cached: how many steps of the Dockerfile were in the cache.
    :ivar run: how many were run.
    :ivar sources: what was fetched.
    """

    metadata: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cached: int = 0
    run: int = 0
    sources: Tuple[Source, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of the image, empty where there is none."""
        return str(self.metadata.get("containerimage.digest") or "")


@dataclass(frozen=True)
class Build:
    """A run of ``docker buildx build``.

    :ivar platforms: those of the image that are built by this run.
    :ivar version: buildx's, which decides on the options that it is given.
    :ivar outputs: where its results go.
    :ivar tags: given to buildx; none where the tags are written afterwards.
    """

    image: Image
    platforms: Tuple[Platform, ...]
    version: Version
    outputs: Tuple[Output, ...]
    tags: Tuple[str, ...]

    def action(self, builder: str) -> List[str]:
        """Return the command as it is reported, with the declared outputs, secrets in URLs masked.

        :param builder: the builder's name.
        """
        outputs = [output.argument() for output in self.outputs]
        return [mask(word) for word in Buildx.argv(self.arguments(builder, outputs))]

    def run(
        self,
        buildx: Buildx,
        builder: str,
        bases: Mapping[str, str],
        env: Mapping[str, str],
        report: Callable[[StepEvent], object],
        started: Optional[Callable[[int], object]] = None,
        parts: Mapping[str, str] = MappingProxyType({}),
        sent_as: str = "",
    ) -> Built:
        """Build, and move the files of the result to their destinations.

        :param bases: images as buildx takes them for contexts, by the names that the Dockerfile has for them.
        :param env: variables for buildx.
        :param report: takes each step as it begins and ends.
        :param started: gets the command's process group.
        :param parts: by destination, the files of outputs that are only a part of what it gets.
        :param sent_as: the last part of the path by which a local context is sent.
        :raises CommandError: the build failed.
        """
        progress = BuildProgress()

        def follow(line: str) -> str:
            event = progress.read(line)
            if event:
                report(event)
            return ""

        began = time.monotonic()
        with ExitStack() as stack:
            scratch = stack.enter_context(scratch_directory("buildx-build-"))
            files = [output for output in self.outputs if output.is_file and output.dest not in parts]
            staged = {output: stage(stack, output) for output in files}
            metadata_file = os.path.join(scratch, "metadata.json")
            outputs = [output.argument(staged.get(output) or parts.get(output.dest)) for output in self.outputs]
            unreported = ["--metadata-file", metadata_file] if self.version >= METADATA else []
            passed = bases if self.version >= _CONTEXTS else {}
            for name, base in passed.items():
                unreported += ["--build-context", f"{name}={base}"]
            options = {"env": {**env, **self.image.options.environment()}, "follow": follow, "started": started}
            arguments = self.arguments(builder, outputs, unreported)
            if sent_as:
                arguments[-1] = os.path.join(scratch, sent_as)
                os.symlink(self.image.context, arguments[-1])
            self._run(buildx, arguments, **options)
            for output, path in staged.items():
                install(output, path)
            seconds, metadata = time.monotonic() - began, _read_metadata(metadata_file)
            may_cross = crosses(self.image)
            sources = read_sources(self.platforms, metadata, progress.fetched, progress.named, may_cross)
            sources += sources_of_bases(self.platforms, _pushed(passed), may_cross)
            return Built(metadata, seconds, progress.cached, progress.run, sources)

    def arguments(self, builder: str, outputs: Sequence[str], unreported: Sequence[str] = ()) -> List[str]:
        """Return buildx's arguments.

        :param outputs: values of ``--output``.
        :param unreported: arguments that differ from run to run.
        """
        image = self.image
        args = ["build", "--builder", builder, "--progress", "plain", *unreported]
        if self.platforms:
            args += ["--platform", ",".join(str(platform) for platform in self.platforms)]
        for option, values in (("--tag", self.tags), ("--output", outputs)):
            for value in values:
                args += [option, value]
        whole = set(self.platforms) == set(image.platforms)
        with_index = bool(self.tags) or (whole and not image.tags)
        args += image.options.arguments(self.version, self.platforms, with_index, whole)
        args += ["--file", image.file] if image.file else []
        return [*args, image.context]

    def _run(self, buildx: Buildx, args: Sequence[str], **options: Any) -> None:
        """Run buildx, and again where a registry refused only because two nodes pushed the same layer at once.

        It is run again, too, once BuildKit is up where it was just starting again.

        :raises CommandError: the build failed, or took longer than declared with all attempts together.
        """
        limit, stdin = self.image.timeout, self.image.options.dockerfile or None
        deadline = None if limit is None else time.monotonic() + limit
        settling, pushes_left = Settling(), _PUSHES
        while True:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                buildx.run(args, failure="build", timeout=timeout, stdin=stdin, **options)
                return
            except CommandError as exc:
                if settling.again(exc.result):
                    continue
                pushes_left -= 1
                if not pushes_left or not _CONCURRENT_PUSH.search(exc.result.stderr):
                    raise


def _pushed(bases: Mapping[str, str]) -> Dict[str, str]:
    """Return the contexts that are images in registries, by the names under which they are found there."""
    found = {}
    for name, value in bases.items():
        if value.startswith(IMAGE):
            image, named = Reference.parse(value[len(IMAGE) :]), Reference.parse(name)
            # A link has a name of its own.
            is_named = named.repository == image.repository
            found[str(named if is_named else replace(image, digest=""))] = str(image)
    return found


def _read_metadata(path: str) -> Dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            raw = json.load(stream)
    except (FileNotFoundError, ValueError):
        return {}  # an older buildx, or a build that makes no image
    return raw if isinstance(raw, dict) else {}
