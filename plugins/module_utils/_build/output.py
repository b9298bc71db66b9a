# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outputs of a build as a task declares them.

Source of the exporters' options and behaviour: BuildKit README "Output", buildx ``build/opt.go`` and
``util/buildflags/export.go``.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple

from .._core.environment import expanded
from .._core.errors import FarmError
from .._platform.platform import Platform
from .fields import joined, text_of

TYPES = ("local", "tar", "oci", "docker", "image", "registry")

REGISTRY, ENGINE, TREE, ARCHIVE, FILE, CACHE = "registry", "engine", "tree", "archive", "file", "cache"

_NEEDS_DEST = ("local", "tar", "oci")
_OWN_OPTIONS = {
    "type": "use the output's option type",
    "dest": "use the output's option dest",
    "name": "use the module's option tags",
    "push-by-digest": "it is not supported, as no tag would name the image",
}


@dataclass(frozen=True)
class Output:
    """One ``--output`` of a build.

    :ivar dest: an absolute path; empty for what goes to a registry or an engine.
    :ivar options: further options of the exporter, in order of their names.
    """

    type: str
    dest: str = ""
    options: Tuple[Tuple[str, str], ...] = ()

    @classmethod
    def from_params(cls, raw: Mapping[str, Any]) -> Output:
        """Read one entry of the option ``outputs``.

        :raises FarmError: it lacks what its type needs, or has what it cannot have.
        """
        kind, dest, given = raw["type"], raw.get("dest") or "", raw.get("options") or {}
        options = {str(key).lower(): text_of(f"output {kind}, option {key}", value) for key, value in given.items()}
        for key, advice in _OWN_OPTIONS.items():
            if key in options:
                raise FarmError(f"output {kind}: option {key!r} does not belong into options; {advice}")
        if kind in _NEEDS_DEST and not dest:
            raise FarmError(
                f"output {kind}: dest is missing; wanted the path of a {'directory' if kind == 'local' else 'file'}"
            )
        if dest == "-":
            raise FarmError(f"output {kind}: dest '-' (standard output) cannot be used from Ansible; wanted a path")
        if kind in ("image", "registry") and dest:
            raise FarmError(f"output {kind}: it goes to the builder or a registry and has no dest; found {dest!r}")
        if kind == "registry" and options.get("push", "true") != "true":
            raise FarmError("output registry: push=false contradicts it; use type image")
        path = expanded(dest) if dest else ""
        return cls(kind, path, tuple(sorted(options.items())))

    def option(self, name: str) -> str:
        """Return an option's value, empty where it is not given."""
        return dict(self.options).get(name, "")

    @property
    def pushes(self) -> bool:
        """Whether the result goes to a registry."""
        return self.type == "registry" or (self.type == "image" and self.option("push") == "true")

    @property
    def has_docker_types(self) -> bool:
        """Whether an image that is pushed has Docker's media types, which have no annotations."""
        return self.pushes and self.option("oci-mediatypes") == "false"

    def kind(self, driver: str) -> str:
        """Return what the result is with a builder of this driver: REGISTRY, ENGINE, TREE, ARCHIVE, FILE or CACHE."""
        if self.pushes:
            return REGISTRY
        if self.type == "image":
            return ENGINE if driver == "docker" else CACHE
        if not self.dest:
            return ENGINE
        if self.type == "local":
            return TREE
        if self.type in ("oci", "docker"):
            return ARCHIVE
        return FILE

    @property
    def is_file(self) -> bool:
        """Whether the result is one file, written by buildx as soon as it starts."""
        return bool(self.dest) and self.type != "local" and self.option("tar") != "false"

    @property
    def parent(self) -> str:
        """The directory that has the result; a file is written where a link leads."""
        return os.path.dirname(os.path.realpath(self.dest) if self.is_file else self.dest)

    @property
    def is_shared(self) -> bool:
        """Whether the result is a directory in which images of other names stay."""
        return self.type == "oci" and bool(self.dest) and not self.is_file

    def record_name(self, names: Sequence[str]) -> str:
        """Return what the record of the result is stored by: its path, and for images that share it their names too."""
        if not self.is_shared or not names:
            return self.dest
        return f"{self.dest}.{hashlib.sha256(' '.join(sorted(names)).encode()).hexdigest()[:12]}"

    def by_digest(self, tags: Sequence[str], repositories: Sequence[str]) -> Output:
        """Return this output as one node's share of an image whose tags are written later: it carries its own name.

        Without a tag BuildKit pushes by digest only. OCI media types are what annotations need, see BuildKit's
        ``docs/annotations.md``.
        """
        options = dict(self.options)
        if self.pushes:
            options.update({"name": ",".join(repositories), "push": "true", "push-by-digest": "true"})
            options.update({"name-canonical": "true", "oci-mediatypes": options.get("oci-mediatypes", "true")})
            return Output("image", "", tuple(sorted(options.items())))
        if self.type in ("oci", "docker", "image") and tags:
            options["name"] = ",".join(tags)
        return Output(self.type, self.dest, tuple(sorted(options.items())))

    def as_part(self) -> Output:
        """Return an image archive as one node's part of it: a file.

        It is none of the directories that buildx can export, as buildx 0.13 mixes these up with other outputs of a run.
        """
        return Output(self.type, self.dest, tuple((key, value) for key, value in self.options if key != "tar"))

    def below(self, platform: Platform) -> Output:
        """Return a local output as one platform's share of it: in the directory that BuildKit gives the platform."""
        if self.type != "local":
            return self
        return Output(self.type, os.path.join(self.dest, str(platform).replace("/", "_")), self.options)

    def argument(self, dest: Optional[str] = None) -> str:
        """Return the value of ``--output``, quoted as buildx's CSV parser wants it.

        :param dest: replaces the declared path.
        """
        path = dest or self.dest
        fields = [f"type={self.type}", *([f"dest={path}"] if path else [])]
        return joined(fields + [f"{key}={value}" for key, value in self.options])

    def check_dest(self, lenient: bool = False) -> Tuple[str, ...]:
        """Make sure that the result can be written, before anything is built.

        :param lenient: a directory that is missing is what an earlier task would have made.
        :returns: warnings.
        :raises FarmError: something else has its path, or there is no directory for it.
        """
        if not self.dest:
            return ()
        is_dir = os.path.isdir(self.dest)
        parent = self.parent
        if self.is_file and is_dir:
            raise FarmError(f"output {self.type}: dest {self.dest} is a directory; wanted the path of a file")
        if not self.is_file and os.path.lexists(self.dest) and not is_dir:
            raise FarmError(f"output {self.type}: dest {self.dest} is a file; wanted the path of a directory")
        if self.is_file and not os.path.isdir(parent):
            if lenient and not os.path.lexists(parent):
                return (f"output {self.type}: dest {self.dest}: there is no directory {parent} yet",)
            raise FarmError(f"output {self.type}: dest {self.dest}: there is no directory {parent}; create it first")
        if not os.access(self.dest if is_dir else _existing(parent), os.W_OK):
            raise FarmError(f"output {self.type}: dest {self.dest} cannot be written by this user")
        return ()


def check_combination(outputs: Sequence[Output], tags: Sequence[str], platforms: int, attested: bool) -> None:
    """Refuse outputs that buildx refuses whatever the builder, or that have no effect.

    :param platforms: how many are declared.
    :param attested: whether the image gets attestations.
    :raises FarmError: naming the output and the way out.
    """
    for output in outputs:
        if output.pushes and not tags:
            raise FarmError("push: tags are missing; an image needs a name with its registry to be pushed")
        if output.type == "docker" and not output.dest and not tags:
            raise FarmError("load: tags are missing; the image would have no name in the engine")
        if output.type == "docker" and output.dest and (platforms > 1 or attested):
            why = f"{platforms} platforms" if platforms > 1 else "attestations"
            raise FarmError(
                f"output docker to {output.dest}: this format holds one manifest, and {why} need an index; use type oci"
            )
    dests = [output.dest for output in outputs if output.dest]
    for dest in dests:
        if dests.count(dest) > 1:
            raise FarmError(f"outputs: {dest} is the dest of two outputs; give each its own")


def _existing(path: str) -> str:
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path
