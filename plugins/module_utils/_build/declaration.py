# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build task declares, checked as far as that goes without asking buildx, an engine or a registry."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from .._buildx.store import chosen_builder
from .._core.environment import expanded
from .._core.errors import FarmError
from .._docker.reference import Reference
from .._image.declaration import ImageChecks
from .._platform.platform import Platform, parse_all
from .contexts import located
from .options import BuildOptions
from .output import Output, check_combination

#: Where buildx reads a Dockerfile from its standard input.
STDIN = "-"


@dataclass(frozen=True)
class Image:
    """What is to be built of one build context, normalised.

    :ivar context: an absolute path, or a git or http URL.
    :ivar file: the Dockerfile's absolute path; for a URL its path in the context; empty for buildx's choice.
    :ivar copies: names in other repositories that stand for the same image once its tags do.
    :ivar checks: what each platform's image is put to before its tags move; None for nothing.
    :ivar timeout: seconds, None for as long as it takes.
    """

    context: str
    is_remote: bool
    file: str
    platforms: Tuple[Platform, ...]
    tags: Tuple[str, ...]
    copies: Tuple[str, ...]
    outputs: Tuple[Output, ...]
    options: BuildOptions
    checks: Optional[ImageChecks]
    timeout: Optional[float]

    @property
    def name(self) -> str:
        """What the image is called in messages: its first tag, else its context."""
        return self.tags[0] if self.tags else self.context

    @property
    def short_name(self) -> str:
        """The last part of its name, for lines that have little room."""
        return self.name.rpartition("/")[2]

    @property
    def references(self) -> Tuple[Reference, ...]:
        """The tags, as registries know them."""
        return tuple(Reference.parse(tag) for tag in self.tags)

    @property
    def copy_references(self) -> Tuple[Reference, ...]:
        """The names of the copies, as registries know them."""
        return tuple(Reference.parse(name) for name in self.copies)

    @property
    def repositories(self) -> Tuple[str, ...]:
        """The repositories of the tags, without repeats."""
        return tuple(dict.fromkeys(reference.repository for reference in self.references))

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Image:
        """Read the options of one image.

        :raises FarmError: an option's value is wrong by itself, or two contradict each other.
        """
        if not params.get("context"):
            raise FarmError("context is missing; wanted a directory, or the URL of a git repository or an archive")
        context, is_remote = located(params["context"])
        platforms = parse_all(params.get("platforms") or ())
        tags = _tags(params.get("tags") or ())
        outputs = tuple(Output.from_params(raw) for raw in params.get("outputs") or ())
        outputs += (Output("registry"),) if params.get("push") and not any(item.pushes for item in outputs) else ()
        outputs += (Output("docker"),) if params.get("load") and Output("docker") not in outputs else ()
        image = cls(
            context=context,
            is_remote=is_remote,
            file=STDIN if params.get("dockerfile_inline") else _file(params.get("file"), context, is_remote),
            platforms=platforms,
            tags=tags,
            copies=_tags(params.get("copy_to") or (), "copy_to"),
            outputs=outputs,
            options=BuildOptions.from_params(params),
            checks=ImageChecks.from_params(params),
            timeout=params.get("timeout"),
        )
        check_combination(outputs, tags, len(platforms), image.options.attested)
        return image

    def check_files(self, lenient: bool = False) -> Tuple[str, ...]:
        """Make sure that context, Dockerfile and the directories of the results are there.

        :param lenient: what is missing is what an earlier task would have made.
        :returns: warnings.
        :raises FarmError: naming what is missing.
        """
        if lenient and not self.is_remote and not os.path.lexists(self.context):
            return (f"context {self.context}: nothing there yet, so what is built of it cannot be predicted",)
        if not self.is_remote and not os.path.isdir(self.context):
            found = "a file, not a directory" if os.path.lexists(self.context) else "nothing there"
            raise FarmError(
                f"context {self.context}: {found} on this controller; wanted a directory, or the URL of a git "
                f"repository or an archive"
            )
        if self.file and os.path.isabs(self.file) and not os.path.isfile(self.file):
            raise FarmError(
                f"context {self.context}: no Dockerfile at {self.file}; put one there, or name it with the option file"
            )
        for output in self.outputs:
            output.check_dest()
        problems = self.options.problems()
        if problems and not lenient:
            raise FarmError("; ".join(problems))
        return problems


@dataclass(frozen=True)
class Declaration:
    """A task's options, normalised.

    :ivar builder: its name; None for the one that buildx uses where none is named.
    :ivar gate: whether tags move only once every platform is there and has passed its checks.
    :ivar emulation: which nodes may build what their processors do not run, see ``eligible``.
    :ivar per_node: how many builds a node takes at the same time; 0 leaves it to the nodes.
    """

    images: Tuple[Image, ...]
    builder: Optional[str]
    gate: bool
    emulation: str
    per_node: int

    @property
    def platforms(self) -> Tuple[Platform, ...]:
        """The platforms of all images, without repeats."""
        return tuple(dict.fromkeys(platform for image in self.images for platform in image.platforms))

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Read a task's options.

        :raises FarmError: an option's value is wrong by itself, or two contradict each other.
        """
        listed = params.get("images")
        images = tuple(_image(raw) for raw in listed) if listed is not None else (Image.from_params(params),)
        references = [one for image in images for one in (*image.references, *image.copy_references)]
        for reference in references:
            if references.count(reference) > 1:
                raise FarmError(f"images: {reference} is the tag of two of them; give each its own")
        per_node = params.get("builds_per_node") or 0
        if per_node < 0:
            raise FarmError(f"builds_per_node: {per_node} is less than one")
        return cls(
            images=images,
            builder=chosen_builder(params),
            gate=bool(params.get("gate", True)),
            emulation=params.get("emulation") or "prefer_native",
            per_node=per_node,
        )

    def check_files(self, lenient: bool = False) -> Tuple[str, ...]:
        """Make sure that contexts, Dockerfiles and the directories of the results are there; returns warnings.

        :raises FarmError: naming what is missing.
        """
        return tuple(warning for image in self.images for warning in image.check_files(lenient))


def _image(raw: Mapping[str, Any]) -> Image:
    """Read an entry of the option ``images``."""
    try:
        return Image.from_params(raw)
    except FarmError as exc:
        named = (raw.get("tags") or [raw.get("context")])[0]
        raise FarmError(f"image {named}: {exc.message}", **exc.details) from exc


def _file(file: Optional[str], context: str, is_remote: bool) -> str:
    """Return the Dockerfile's path, for a local context absolute."""
    if is_remote:
        return file or ""
    if file:
        return os.path.join(context, expanded(file) if file.startswith("~") else file)
    lower = os.path.join(context, "dockerfile")
    usual = os.path.join(context, "Dockerfile")
    return lower if os.path.isfile(lower) and not os.path.isfile(usual) else usual


def _tags(texts: Sequence[str], option: str = "tags") -> Tuple[str, ...]:
    found: Dict[Reference, str] = {}
    for text in texts:
        reference = Reference.parse(text)
        if reference.digest:
            raise FarmError(f"{option}: {text!r} has a digest, which only a finished build can; wanted NAME[:TAG]")
        found.setdefault(reference, text)
    return tuple(found.values())
