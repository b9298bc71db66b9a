# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Multi-platform builds: everything that can be refused is refused before, and the result is read after.

BuildKit decides what has to be built again. Whether a build changed anything is decided here, by comparing what its
outputs hold before and after.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from contextlib import ExitStack
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .declaration import Declaration
from .._buildx.cli import Buildx
from .._docker.context_store import ContextStore
from .._docker.config import config_dir
from .._core.environment import NO_ENGINE
from .._core.errors import FarmError
from .._image.describe import PlatformImage, in_registry, natives
from .._buildx.placement import Placement, find_builder, place
from .output import ENGINE, REGISTRY, Output, identity
from .._core.outcome import Outcome
from .._platform.platform import runs_natively
from .._docker.reference import Reference
from .._registry.client import Registries
from .._registry.auth import refused
from .results import Results, engine_context, engine_name, keeps_indexes, names, read_engine, read_registry
from .._core.runner import CommandError, Runner
from .._buildx.store import Instance, Store
from .._core.urls import mask

#: Of a program that the runner ended.
_ENDED = 124
_SHOWN_LINES = 30
#: What begins BuildKit's summary: a dashed line, or the place in the Dockerfile.
_BLOCK = re.compile(r"------\Z|\S+:\d+\Z")
#: The registry's answer to a node whose layer another node was just pushing as well: for a moment it finds nothing in
#: the layer's link, which it empties to write it (distribution/distribution#4489, seen with 2.8.3).
_PUSHED_AT_ONCE = re.compile(r"ERROR: .*failed to push .*\n.*provided digest did not match uploaded content")
_PUSHES = 3
#: Registries word their refusals differently; these are containerd's, which buildx passes on.
_REFUSED = re.compile(
    r"401 Unauthorized|403 Forbidden|authorization failed|failed to authorize|access denied|insufficient_scope"
    r"|no basic auth credentials|denied: |unauthorized: ",
    re.IGNORECASE,
)
_METADATA, _ATTESTATIONS, _SEVERAL_OUTPUTS = (0, 6, 0), (0, 10, 0), (0, 13, 0)

State = Dict[str, Optional[Dict[str, Any]]]


def build(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Build an image or files as the task's options say: the logic of ``buildx_build``.

    :raises FarmError: nothing was changed, or the message says what was.
    """
    declared = Declaration.from_params(params)
    warnings = declared.check_files(lenient=check_mode)
    buildx = Buildx.of(params, runner)
    builder = find_builder(buildx, Store.of(params), declared.builder)
    _check_versions(buildx, declared)
    if not _concerns_engine(declared.outputs or _default_outputs(builder), builder):
        buildx.env.update(NO_ENGINE)
    placement = place(buildx, builder, declared.platforms, start=not check_mode)
    # What was just pushed is in the registry itself, whatever a mirror has.
    registries = Registries.of(params, builder.nodes, mirrors=False)
    job = _Job(declared, buildx, runner, builder, placement, registries)
    job.check_outputs()
    before = job.read(lenient=True)
    if check_mode:
        return job.outcome(before.as_state(), job.predict(before), None, {}, warnings + before.warnings)
    metadata = job.run(before)
    after = job.read()
    job.verify(after)
    image = job.describe(after, metadata, ContextStore(config_dir(params)))
    return job.outcome(before.as_state(), after.as_state(), image, metadata, warnings + before.warnings)


class _Job:
    """A build that is ready to run.

    :ivar outputs: the declared ones, or what the builder's driver does where none are declared.
    """

    def __init__(
        self,
        declared: Declaration,
        buildx: Buildx,
        runner: Runner,
        builder: Instance,
        placement: Placement,
        registries: Registries,
    ) -> None:
        self.declared = declared
        self.buildx = buildx
        self.runner = runner
        self.builder = builder
        self.placement = placement
        self.registries = registries
        self.outputs = declared.outputs or _default_outputs(builder)

    def _of_kind(self, *kinds: str) -> List[Output]:
        return [output for output in self.outputs if output.kind(self.builder.driver) in kinds]

    def check_outputs(self) -> None:
        """Refuse the outputs that this builder cannot make of these platforms.

        :raises FarmError: naming the output, why, and the way out.
        """
        nodes = self.placement.names
        for output in self.outputs:
            if len(nodes) > 1 and output.type in ("oci", "tar", "docker"):
                raise FarmError(
                    f"output {output.type}: the platforms go to several nodes of builder {self.builder.name!r} "
                    f"({', '.join(nodes)}), whose results buildx joins only in a registry (push) or in a directory "
                    f"(type local); choose one of these, or a builder with one node"
                )
        of_docker = self.builder.driver == "docker"
        contexts = {engine_context(output, self.builder) for output in self._of_kind(ENGINE)}
        contexts |= {engine_context(Output("image"), self.builder)} if of_docker else set()
        demand = self._demands_indexes(of_docker)
        for context in sorted(contexts) if demand else ():
            if not keeps_indexes(self.runner, self.buildx.env, context):
                raise FarmError(
                    f"builder {self.builder.name!r}: {demand} is more than the image store of "
                    f"{engine_name(context)} can do; push instead, or use a builder of the docker-container "
                    f"driver, or switch that engine to the containerd image store"
                )

    def _demands_indexes(self, of_docker: bool) -> str:
        """Say what of this build only the containerd image store can do, empty if nothing."""
        if len(self.declared.platforms) > 1:
            return f"an image of {len(self.declared.platforms)} platforms"
        if self.declared.attested:
            return "an image with attestations"
        archives = [output.type for output in self.outputs if output.type in ("oci", "docker") and output.dest]
        return f"an archive of type {archives[0]}" if of_docker and archives else ""

    def read(self, lenient: bool = False) -> Results:
        """Read what the outputs hold.

        :param lenient: take a repository that may not be looked into for one that does not exist yet, with a warning.
        :raises FarmError: a place cannot be read.
        """
        pushes = self._of_kind(REGISTRY)
        engine = {}
        for output in self._of_kind(ENGINE):
            context = engine_context(output, self.builder)
            engine.update(read_engine(self.runner, self.buildx.env, context, self.declared.tags))
        registry, warnings = read_registry(self.registries, self.declared.tags, lenient) if pushes else ({}, ())
        files = {output.dest: identity(output, output.dest) for output in self.outputs if output.dest}
        return Results(registry, engine, files, warnings)

    def arguments(self, outputs: Sequence[str], more: Sequence[str] = ()) -> List[str]:
        """Return buildx's arguments.

        :param outputs: values of ``--output``.
        :param more: arguments that differ from run to run, which are not reported.
        """
        declared = self.declared
        args = ["build", "--builder", self.builder.name, "--progress", "plain", *more]
        if declared.platforms:
            args += ["--platform", ",".join(str(platform) for platform in declared.platforms)]
        for option, values in (
            ("--tag", declared.tags),
            ("--build-arg", [f"{key}={value}" for key, value in declared.build_args]),
            ("--label", [f"{key}={value}" for key, value in declared.labels]),
            ("--output", outputs),
        ):
            for value in values:
                args += [option, value]
        args += ["--target", declared.target] if declared.target else []
        args += ["--no-cache"] if declared.no_cache else []
        args += ["--pull"] if declared.pull else []
        # Before 0.10 buildx knows no attestations, and makes none.
        if declared.provenance != "false" or self.buildx.version() >= _ATTESTATIONS:
            args.append(f"--provenance={declared.provenance}")
        args += [f"--sbom={declared.sbom}"] if declared.sbom != "false" else []
        args += ["--file", declared.file] if declared.file else []
        return [*args, declared.context]

    def predict(self, before: Results) -> State:
        """Say what can be said without building: what is not there will be, what has other platforms will change."""
        wanted = set(self.declared.platforms)
        digests = {index.digest for index in before.registry.values() if index}
        differing = {
            f"registry {tag}"
            for tag, index in before.registry.items()
            if index and ((wanted and set(index.platforms) != wanted) or len(digests) > 1)
        }
        # An engine tells of one platform only, whatever it keeps.
        differing |= {
            f"engine {tag}"
            for tag, image in before.engine.items()
            if image and wanted and not wanted.issuperset(image.platforms)
        }
        built = {"digest": None, "platforms": names(self.declared.platforms)}
        return {
            name: built if value is None or name in differing else value for name, value in before.as_state().items()
        }

    def run(self, before: Results) -> Dict[str, Any]:
        """Build, put results that are files into their places, and return buildx's metadata.

        :raises FarmError: the build failed; the message says what it left behind.
        """
        with ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="buildx-build-"))
            # buildx empties a file before it builds: a failed build would cost the last good result.
            staged = {
                output: os.path.join(stack.enter_context(_beside(output.dest)), "result")
                for output in self.outputs
                if output.is_file
            }
            metadata_file = os.path.join(scratch, "metadata.json")
            more = ["--metadata-file", metadata_file] if self.buildx.version() >= _METADATA else []
            args = self.arguments([output.argument(staged.get(output)) for output in self.declared.outputs], more)
            try:
                self._run(args)
            except CommandError as exc:
                raise self._failure(exc, before) from exc
            for output, path in staged.items():
                _put(output, path)
            return _read_metadata(metadata_file)

    def _run(self, args: Sequence[str]) -> None:
        """Build, and push again what a registry refused only because two nodes pushed the same layer at once.

        :raises CommandError: the build failed.
        """
        ends = None if self.declared.timeout is None else time.monotonic() + self.declared.timeout
        for left in reversed(range(_PUSHES)):
            timeout = None if ends is None else max(0.0, ends - time.monotonic())
            try:
                self.buildx.run(args, failure="build", timeout=timeout)
                return
            except CommandError as exc:
                if not left or not _PUSHED_AT_ONCE.search(exc.result.stderr):
                    raise

    def verify(self, after: Results) -> None:
        """Compare what the outputs hold now with what was asked for.

        :raises FarmError: something is missing, or two tags differ.
        """
        wanted = names(self.declared.platforms)
        digests = {index.digest for index in after.registry.values() if index}
        wrong = [f"{name}: nothing there" for name, value in after.as_state().items() if value is None]
        for tag, index in after.registry.items():
            found = names(index.platforms) if index else []
            if index and wanted and found != wanted:
                wrong.append(f"registry {tag}: found {', '.join(found)}, wanted {', '.join(wanted)}")
            if index and len(digests) > 1:
                wrong.append(f"registry {tag}: {index.digest}, which is not what the other tags stand for")
        if wrong:
            raise FarmError(
                f"buildx reported a success, but its result is not what was asked for: {'; '.join(wrong)}; "
                f"does something else push to the same names? A new run repairs it",
                found=after.as_state(),
            )

    def describe(self, after: Results, metadata: Mapping[str, Any], contexts: ContextStore) -> Optional[Dict[str, Any]]:
        """Return the image that was built, None where it is in no place that can be read."""
        index = next(iter(after.registry.values()), None)
        local = next(iter(after.engine.values()), None)
        found = index or local
        if found is None:
            return None
        nodes = self.placement.nodes
        if not self.declared.platforms:
            # Then the first node builds for its own.
            nodes = dict.fromkeys(found.platforms, self.builder.nodes[0])
        engines = natives([node for node in self.builder.nodes if node in nodes.values()], contexts)
        digest: Optional[str] = found.digest
        if index:
            reference = Reference.parse(self.declared.tags[0])
            images = in_registry(self.registries, reference, index, nodes, engines)
        elif local:
            node = nodes.get(local.platform)
            native = runs_natively(local.platform, engines[node.name]) if node and node.name in engines else None
            images = (PlatformImage(local.platform, None, local.size, node.name if node else None, native),)
            digest = str(metadata.get("containerimage.digest") or "") or None
        return {
            "tags": list(self.declared.tags),
            "digest": digest,
            "id": local.digest if local else None,
            "platforms": [image.as_dict() for image in images],
        }

    def outcome(
        self,
        before: State,
        after: State,
        image: Optional[Dict[str, Any]],
        metadata: Mapping[str, Any],
        warnings: Tuple[str, ...],
    ) -> Outcome:
        """Return the module's outcome; unchanged where the outputs hold what they held."""
        outputs = [
            {"type": output.type, "dest": output.dest or None, "digest": (after.get(output.dest) or {}).get("digest")}
            for output in self.outputs
        ]
        values = {"image": image, "outputs": outputs, "metadata": metadata}
        return Outcome(before, after, [self._action()] if after != before else [], values, warnings)

    def _action(self) -> List[str]:
        argv = self.buildx.argv(self.arguments([output.argument() for output in self.declared.outputs]))
        return [mask(word) for word in argv]

    def _failure(self, error: CommandError, before: Results) -> FarmError:
        said = mask(error.result.stderr)
        details = {**error.details, "cmd": self._action()}
        left = self._left_behind(before)
        if _REFUSED.search(_last_lines(said, 3)):
            what = "refused the credentials of the docker configuration, or wants some where there are none"
            registry = _refusing_registry(said, self.declared.tags)
            return refused(registry, what, _last_lines(said, 1) + left, **details)
        subject = f"building {self.declared.context} with builder {self.builder.name!r} failed"
        if error.result.rc == _ENDED and self.declared.timeout:
            subject = f"building {self.declared.context} took longer than {self.declared.timeout:g} s and was ended"
        return FarmError(f"{subject}: {failing_step(said)}{left}", **details)

    def _left_behind(self, before: Results) -> str:
        """Say which places a failed build has changed all the same (docker/buildx#4058, #177)."""
        try:
            now, then = self.read(lenient=True).as_state(), before.as_state()
        except FarmError as exc:
            return f"; whether it changed a tag could not be read: {exc.message}"
        changed = [
            f"{name} is now {value['digest']} ({', '.join(value.get('platforms') or ())})"
            for name, value in now.items()
            if value and value != then.get(name)
        ]
        return f"; it left behind: {'; '.join(changed)}; a new run continues from there" if changed else ""


def failing_step(said: str) -> str:
    """Return from BuildKit's plain progress what failed: the step's output and its place in the Dockerfile.

    BuildKit ends a failed build with the failing steps between dashed lines, the Dockerfile's lines, and the error.
    """
    lines = said.strip().splitlines()
    start = next((number for number, line in enumerate(lines) if _BLOCK.match(line)), None)
    if start is None:
        errors = [number for number, line in enumerate(lines) if "ERROR" in line]
        start = errors[-1] if errors else max(0, len(lines) - 3)
    shown = lines[start:]
    if len(shown) > _SHOWN_LINES:
        shown = ["…", *shown[-_SHOWN_LINES:]]
    return "\n".join(shown) or "nothing said"


def _refusing_registry(said: str, tags: Sequence[str]) -> str:
    """Return the registry that a failed build's last words are about."""
    words = _last_lines(said, 3)
    registries = [Reference.parse(tag).registry for tag in tags]
    urls = re.findall(r"https?://([^/\s\"]+)/v2/", words)
    named = [registry for registry in registries if registry in words]
    return str((urls + named + registries + ["of a base image"])[0])


def _last_lines(text: str, count: int) -> str:
    return "\n".join(text.strip().splitlines()[-count:])


def _beside(dest: str) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=os.path.dirname(dest), prefix=f".{os.path.basename(dest)}.")


def _put(output: Output, path: str) -> None:
    """Move a finished file to its place, unless the same is there."""
    if identity(output, path) == identity(output, output.dest):
        return
    place_of_it = os.path.realpath(output.dest)
    if os.path.exists(place_of_it):
        shutil.copymode(place_of_it, path)
    os.replace(path, place_of_it)


def _read_metadata(path: str) -> Dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            raw = json.load(stream)
    except (FileNotFoundError, ValueError):
        return {}  # an older buildx, or a build that makes no image
    return raw if isinstance(raw, dict) else {}


def _default_outputs(builder: Instance) -> Tuple[Output, ...]:
    """Return what buildx does with a result that no output is declared for."""
    first = builder.nodes[0].driver_opts if builder.nodes else None
    if builder.driver == "docker":
        return (Output("image"),)
    return (Output("docker"),) if (first or {}).get("default-load") == "true" else ()


def _concerns_engine(outputs: Sequence[Output], builder: Instance) -> bool:
    """Say whether a build has to do with an engine that is not one of the builder's nodes by its own endpoint."""
    return builder.driver == "docker" or any(output.kind(builder.driver) == ENGINE for output in outputs)


def _check_versions(buildx: Buildx, declared: Declaration) -> None:
    if len(declared.outputs) > 1:
        buildx.require("more than one output", _SEVERAL_OUTPUTS)
    if declared.attested:
        buildx.require("provenance or sbom", _ATTESTATIONS)
