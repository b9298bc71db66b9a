# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calling buildx, without the docker CLI, and reading what it prints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from .._core.environment import register_engine_finder
from .._core.errors import FarmError
from .._core.runner import CommandError, Result, Runner
from .._docker.config import PLUGIN, plugin_in_use
from .._platform.platform import Platform
from .access import registry_access
from .known_engines import addresses

Version = Tuple[int, int, int]

#: By which a plugin knows that it is not run on its own.
#: Source: docker/cli ``cli-plugins/manager``, from Docker 19.03 to 29.
_STARTED_BY = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"
#: The exit status of what could not be started, see ``Runner``.
_NOT_STARTED = 127
_VERSION = re.compile(r"\bv?(\d+)\.(\d+)(?:\.(\d+))?")
_BOOT_LINE = re.compile(r"#(\d+) (?:\[(?:(\S+) )?internal\] )?(.*)")
_BOOT_DONE = re.compile(r" \d+\.\d+s(?: done)?\Z")
#: The end of all steps, what a step prints, and that another node's turn to be shown has come.
_BOOT_NO_STEP = re.compile(r"DONE|CANCELED|\d+\.\d+ |\.\.\.\Z")
_FIELD = re.compile(r"(\S[^:]*):\s*(.*)\Z")


class Buildx:
    """The buildx of one docker configuration.

    :param runner: runs the commands.
    :param docker_config: option ``docker_config`` as the user gave it; None leaves docker's own choice alone.
    :param plugin: its program; a bare name is searched for in ``PATH``.
    """

    def __init__(self, runner: Runner, docker_config: Optional[str] = None, plugin: Path = Path(PLUGIN)) -> None:
        register_engine_finder(addresses)
        self._runner = runner
        self.env: Dict[str, str] = {"DOCKER_CONFIG": docker_config} if docker_config else {}
        self._plugin = plugin
        self._version: Optional[Version] = None
        #: Authorities of registries, PEM, that it trusts beside what this host trusts.
        self.authorities: Sequence[bytes] = ()

    @classmethod
    def of(cls, params: Mapping[str, Any], runner: Runner) -> Buildx:
        """Return the buildx that a module's parameters mean."""
        return cls(runner, params.get("docker_config"), plugin_in_use(params))

    @staticmethod
    def argv(args: Sequence[str]) -> List[str]:
        """Return the whole argument list of a buildx command, as a person with a docker CLI would run it.

        It is reported so on all controllers, and is what buildx is started with.
        """
        return ["docker", "buildx", *args]

    def run(
        self,
        args: Sequence[str],
        failure: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
        timeout: Optional[float] = None,
        stdin: Optional[str] = None,
        follow: Optional[Callable[[str], str]] = None,
        started: Optional[Callable[[int], object]] = None,
        cwd: Optional[str] = None,
    ) -> Result:
        """Run a buildx command.

        buildx is started as the docker CLI starts it, with the same arguments. The CLI need not be there; and it would
        start buildx twice, for its metadata and for the command, which takes more than half of most commands' time.

        :param failure: begins the message where the exit status is not 0; None returns any status.
        :param env: variables to add, secrets among them.
        :param timeout: seconds.
        :param follow: returns what is to be logged of a line of its progress.
        :param started: gets the command's process group.
        :param cwd: the directory that it is run in.
        :raises CommandError: it failed (with ``failure``), could not be started or took too long.
        """
        options: Dict[str, Any] = {
            "executable": str(self._plugin),
            "timeout": timeout,
            "stdin": stdin,
        }
        options.update({"follow": follow} if follow else {})
        options.update({"started": started} if started else {})
        options.update({"cwd": cwd} if cwd else {})
        try:
            with registry_access(self.env.get("DOCKER_CONFIG", ""), self.authorities) as access:
                wanted = {**self.env, **access, **(env or {}), _STARTED_BY: "docker"}
                result = self._runner(self.argv(args), env=wanted, **options)
        except CommandError as exc:
            if exc.result.rc == _NOT_STARTED:
                raise self._missing(exc.result) from exc
            raise
        if failure is not None and result.rc != 0:
            raise CommandError(failure, result)
        return result

    def version(self) -> Version:
        """Return the version of buildx, which is read once.

        :raises CommandError: there is none, or it does not run.
        """
        if self._version is None:
            result = self.run(["version"])
            if result.rc != 0:
                raise self._missing(result)
            self._version = parse_version(result.stdout)
        return self._version

    def _missing(self, result: Result) -> CommandError:
        return CommandError(
            f"{self._plugin}: no buildx that runs here; install the package docker-buildx (docker-buildx-plugin from"
            " Docker's own repository), or use the module buildfarm.multiarch.buildx_plugin",
            result,
        )

    def require(self, feature: str, floor: Version) -> None:
        """Refuse what this buildx cannot do yet.

        :param feature: what is requested, in the words of the user's declaration.
        :raises FarmError: buildx is older than the floor.
        """
        if self.version() < floor:
            raise FarmError(
                f"{feature} needs buildx {format_version(floor)} or later, found {format_version(self.version())};"
                " upgrade it, with the module buildfarm.multiarch.buildx_plugin for example"
            )


def parse_version(text: str) -> Version:
    """Read the version from what ``docker buildx version`` prints.

    A build without a version (from a bare source tree) counts as the newest.

    >>> parse_version("github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3")
    (0, 13, 1)
    """
    fields = text.split()
    match = _VERSION.match(fields[1]) if len(fields) > 1 else None
    if match is None:
        return (9999, 0, 0)
    return (int(match.group(1)), int(match.group(2)), int(match.group(3) or 0))


def format_version(version: Version) -> str:
    """Return a version as people write it."""
    return ".".join(str(part) for part in version)


@dataclass(frozen=True)
class NodeStatus:
    """One node as ``docker buildx inspect`` reports it.

    :ivar status: ``running``, ``stopped``, ``inactive`` (no container), or ``error``.
    :ivar platforms: pinned and detected ones together, in buildx's order.
    :ivar version: BuildKit's; empty where it does not run.
    :ivar error: why buildx cannot use the node; empty where it can.
    """

    name: str
    endpoint: str
    status: str
    platforms: Tuple[Platform, ...] = ()
    version: str = ""
    error: str = ""


@dataclass(frozen=True)
class Inspection:
    """A builder as ``docker buildx inspect`` reports it.

    :ivar error: of the builder as a whole; buildx exits with 0 all the same.
    """

    nodes: Tuple[NodeStatus, ...] = ()
    error: str = ""

    def node(self, name: str) -> Optional[NodeStatus]:
        """Return the node of that name, None if there is none."""
        return next((node for node in self.nodes if node.name == name), None)


def parse_inspect(text: str) -> Inspection:
    """Read what ``docker buildx inspect`` prints, of any version.

    Only lines at the margin are fields; labels, garbage collection rules and files are indented.
    An error of several lines goes on until the next known field.
    """
    head, _heading, rest = text.partition("\nNodes:\n")
    nodes = []
    for block in re.split(r"(?m)^(?=Name:)", rest):
        fields = _fields(block)
        if not fields.get("Name"):
            continue
        error = fields.get("Error", "")
        nodes.append(
            NodeStatus(
                name=fields["Name"],
                endpoint=fields.get("Endpoint", ""),
                status="error" if error else fields.get("Status", ""),
                platforms=_platforms(fields.get("Platforms", "")),
                version=fields.get("BuildKit version", fields.get("Buildkit", "")),
                error=error,
            )
        )
    return Inspection(tuple(nodes), _fields(head).get("Error", ""))


def without_secrets(text: str) -> str:
    """Return what ``docker buildx inspect`` prints without options (environments) and files (keys of registries)."""
    lines = []
    in_file = False
    for line in text.splitlines(keepends=True):
        in_file = line.startswith("File#") or (in_file and line.startswith((" ", "\t", ">")))
        if not in_file and not line.startswith("Driver Options:"):
            lines.append(line)
    return "".join(lines)


class BootProgress:
    """The progress of ``docker buildx inspect --bootstrap``, read line by line from its standard error.

    :ivar errors: why nodes did not start, by their names; the name is empty where a single node is started.
    """

    def __init__(self) -> None:
        self.errors: Dict[str, str] = {}
        self._nodes: Dict[str, str] = {}
        self._begun: Set[Tuple[str, str]] = set()

    def read(self, line: str) -> Optional[Tuple[str, str]]:
        """Take a line; return the node's name and the step that begins with it, None if none does.

        buildx prints a step again when it ends, and only then where it takes no time.
        """
        match = _BOOT_LINE.match(line)
        if match is None:
            return None
        number, name, text = match.groups()
        if text == "booting buildkit":
            self._nodes[number] = name or ""
        node = self._nodes.get(number)
        if node is None or _BOOT_NO_STEP.match(text):
            return None
        if text.startswith("ERROR: "):
            self.errors[node] = text[len("ERROR: ") :].strip()
            return None
        step = (node, _BOOT_DONE.sub("", text))
        if step in self._begun:
            return None
        self._begun.add(step)
        return step


def parse_boot_errors(text: str) -> Dict[str, str]:
    """Return why nodes did not start.

    :param text: the whole progress, see ``BootProgress``.
    """
    progress = BootProgress()
    for line in text.splitlines():
        progress.read(line)
    return progress.errors


_KNOWN_FIELDS = frozenset(
    (
        "Name",
        "Endpoint",
        "Driver",
        "Last Activity",
        "Driver Options",
        "Error",
        "Status",
        "Flags",
        "BuildKit daemon flags",
        "BuildKit version",
        "Buildkit",
        "Platforms",
        "Features",
        "Labels",
        "Devices",
    )
)


def _fields(block: str) -> Dict[str, str]:
    fields: Dict[str, str] = {}
    last = ""
    for line in block.splitlines():
        match = _FIELD.match(line)
        if match and (match.group(1) in _KNOWN_FIELDS or match.group(1).startswith(("GC Policy", "File#"))):
            last = match.group(1)
            fields[last] = match.group(2).strip()
        elif last == "Error" and line.strip():
            fields[last] += f" {line.strip()}"
    return fields


def _platforms(text: str) -> Tuple[Platform, ...]:
    found = []
    for item in text.split(","):
        try:
            found.append(Platform.parse(item.strip().rstrip("*")))
        except FarmError:
            # BuildKit may know platforms that this collection does not; they cannot have been requested.
            continue
    return tuple(dict.fromkeys(found))
