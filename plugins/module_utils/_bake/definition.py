# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evaluating a bake definition: what ``docker buildx bake --print`` makes of it.

It is evaluated once, as functions such as ``timestamp`` give another value each time. Sources: docker/buildx
``commands/bake.go``, ``bake/bake.go``.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any, List, Mapping, Tuple

from .._build.failure import failing_step
from .._buildx.cli import Buildx, Version
from .._core.errors import FarmError
from .._core.runner import CommandError
from .._core.urls import mask
from .declaration import Bake

#: buildx's first version whose result has the networks of targets.
_NETWORK: Version = (0, 17, 0)
_PRINT: Version = (0, 2, 0)
_NETWORK_SET = re.compile(r"""(?m)(?:^|[{,])\s*["']?network["']?\s*[=:]""")
#: Maps whose keys the user has named, in HCL and JSON, and as blocks of a Compose file.
_MAP = re.compile(
    r"""(?mx) ["']? \b(?:args|labels|(?:additional_)?contexts)\b ["']? \s* [=:] \s* \{ (?:[^{}] | \$\{[^{}]*\})* \}
    | ^ ([ \t]*) (?:args|labels|(?:additional_)?contexts) : [ \t]* \n (?: \1 [ \t]+ .* \n? )*"""
)
#: The names of files that buildx reads where none is given: ``defaultFilenames``.
_DEFAULT_FILES = (
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
)
_DEFAULT = "default"


@dataclass(frozen=True)
class Definition:
    """An evaluated definition.

    :ivar targets: as buildx prints them, by their names.
    :ivar requested: the names of those that are wanted; the others are linked to.
    """

    targets: Mapping[str, Mapping[str, Any]]
    requested: Tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Definition:
        """Read what ``docker buildx bake --print`` has printed.

        :raises ValueError: it is no definition.
        """
        raw = json.loads(text)
        targets = {str(name): dict(target) for name, target in (raw.get("target") or {}).items()}
        groups = {str(name): list(group.get("targets") or ()) for name, group in (raw.get("group") or {}).items()}
        # A target of that name may come without its group.
        requested = _members(groups, _DEFAULT, ())
        # In an order of ours, as that of Compose files differs from run to run.
        return cls(targets, tuple(sorted(set(requested).intersection(targets))))


def evaluate(bake: Bake, buildx: Buildx) -> Definition:
    """Return the targets that a task wants, with those that they link to.

    :raises FarmError: buildx cannot read the definition, or would leave out something that decides the result.
    """
    buildx.require("bake", _PRINT)
    if buildx.version() < _NETWORK and _sets_network(bake):
        buildx.require("network of a bake target", _NETWORK)
    failure = "the bake definition could not be evaluated"
    try:
        done = buildx.run(bake.arguments(), failure=failure, env=bake.variables, cwd=bake.directory)
    except CommandError as exc:
        # Without what buildx tells of reading the files.
        said = failing_step(mask(exc.result.stderr))
        raise FarmError(f"{failure}: {said}", **exc.details) from exc
    try:
        return Definition.parse(done.stdout)
    except (ValueError, AttributeError, TypeError) as exc:
        raise CommandError(f"buildx printed no bake definition ({exc})", done) from exc


def check_directory(bake: Bake) -> str:
    """Return why a definition cannot be evaluated as something is missing on this controller, empty if nothing is."""
    if not os.path.isdir(bake.directory):
        return f"chdir {bake.directory}: there is no such directory on this controller"
    missing = [path for path in bake.local_files if not os.path.isfile(path)]
    return f"files: nothing at {', '.join(missing)} on this controller" if missing else ""


def _members(groups: Mapping[str, List[str]], name: str, above: Tuple[str, ...]) -> List[str]:
    """Return the targets of a group and of the groups in it; a name that is no group is a target's."""
    if name not in groups or name in above:
        return [name]
    return [one for member in groups[name] for one in _members(groups, member, (*above, name))]


def _sets_network(bake: Bake) -> bool:
    """Return whether a definition sets the network of a target, which buildx before 0.17 does not print."""
    # TARGET.ATTRIBUTE, and of attributes that are maps TARGET.ATTRIBUTE.KEY.
    if any(text.partition("=")[0].split(".")[1] == "network" for text in bake.overrides):
        return True
    if not bake.files and not bake.source:
        paths = [os.path.join(bake.directory, name) for name in _DEFAULT_FILES]
    else:
        paths = list(bake.local_files)
    return any(_NETWORK_SET.search(_MAP.sub("", _text(path))) for path in paths)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""  # buildx says so
