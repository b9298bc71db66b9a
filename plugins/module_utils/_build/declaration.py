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
from .._core.quantities import some_seconds
from .._docker.reference import Reference
from .._image.declaration import ImageChecks
from .._platform.platform import Platform, parse_all
from .._source.sources import Sources
from .contexts import located
from .destination import Location
from .options import BuildOptions
from .output import FILE, Output, check_combination

#: Where buildx reads a Dockerfile from its standard input.
STDIN = "-"
#: Which images are built: those that changed, all, or those of which there is none.
WHEN_CHANGED, ALWAYS, NEVER = "when_changed", "always", "never"
REBUILD = (WHEN_CHANGED, ALWAYS, NEVER)
#: The options of the modules that build that say how, whatever the images.
HOW: Mapping[str, Any] = {
    "builder": {"type": "str"},
    "gate": {"type": "bool", "default": True},
    "emulation": {"type": "str", "default": "prefer_native", "choices": ["prefer_native", "allow", "forbid"]},
    "builds_per_node": {"type": "int"},
    "rebuild": {"type": "str", "default": "when_changed", "choices": list(REBUILD)},
    "remote_inputs": {"type": "str", "default": "check", "choices": ["check", "ignore"]},
}


@dataclass(frozen=True)
class Image:
    """What is to be built of one build context, normalised.

    :ivar context: an absolute path, or a git or http URL.
    :ivar file: the Dockerfile's absolute path; for a URL its path in the context; empty for buildx's choice.
    :ivar copies: names in other repositories that stand for the same image once its tags do.
    :ivar checks: what each platform's image is put to before its tags move; None for nothing.
    :ivar timeout: seconds, None for as long as it takes.
    :ivar sources: what the context is to become; None where it is what is there.
    :ivar title: what it is called, where that is neither its tag nor its context.
    :ivar links: contexts of its build that are results of other images of the list: names, and titles of these.
    :ivar only_linked: whether it is there for images that link to it, and is not wanted by itself.
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
    sources: Optional[Sources] = None
    title: str = ""
    links: Tuple[Tuple[str, str], ...] = ()
    only_linked: bool = False

    @property
    def name(self) -> str:
        """What the image is called in messages: its title, its first tag, or its context."""
        return self.title or (self.tags[0] if self.tags else self.context)

    @property
    def short_name(self) -> str:
        """The last part of its name, for lines that have little room."""
        return self.name.rpartition("/")[2]

    @property
    def is_pushed(self) -> bool:
        """Whether it goes to a registry."""
        return any(output.pushes for output in self.outputs)

    @property
    def has_docker_types(self) -> bool:
        """Whether it is pushed with Docker's media types, which have no annotations."""
        return any(output.has_docker_types for output in self.outputs)

    @property
    def references(self) -> Tuple[Reference, ...]:
        """The tags, as registries know them."""
        return tuple(Reference.parse(tag) for tag in self.tags)

    @property
    def copy_references(self) -> Tuple[Reference, ...]:
        """The names of the copies, as registries know them."""
        return tuple(Reference.parse(name) for name in self.copies)

    def record_name(self, location: Location) -> str:
        """Return what the record of the result at a location is stored by."""
        names = [str(reference) for reference in self.references]
        found = (output.record_name(names) for output in self.outputs if Location(FILE, output.dest) == location)
        return next(found, str(location))

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
        timeout = params.get("timeout")
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
            timeout=None if timeout is None else some_seconds("timeout", timeout),
            sources=Sources.from_dict(params["sources"]) if params.get("sources") else None,
            title=params.get("title") or "",
            links=tuple(sorted((params.get("links") or {}).items())),
            only_linked=bool(params.get("only_linked")),
        )
        check_combination(outputs, tags, len(platforms), image.options.attested)
        for reference in image.copy_references:
            if reference in image.references:
                raise FarmError(f"copy_to: {reference} is one of tags; leave it out of one of the two")
        return image

    def dockerfile(self) -> str:
        """Return the text of the Dockerfile, nothing where it is not on this controller."""
        if self.options.dockerfile or self.sources:
            return self.options.dockerfile or (self.sources.dockerfile if self.sources else "")
        if self.is_remote or not os.path.isfile(self.file):
            return ""
        try:
            with open(self.file, encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError:
            return ""  # buildx will say so

    def check_files(self, lenient: bool = False) -> Tuple[str, ...]:
        """Make sure that context, Dockerfile and the directories of the results are there.

        :param lenient: what is missing is what an earlier task would have made.
        :returns: warnings.
        :raises FarmError: naming what is missing.
        """
        if lenient and not self.is_remote and not self.sources and not os.path.lexists(self.context):
            return (f"context {self.context}: nothing there yet, so what is built of it cannot be predicted",)
        if not self.sources:
            self._check_context()
        warnings = tuple(warning for output in self.outputs for warning in output.check_dest(lenient))
        problems = self.options.problems()
        if problems and not lenient:
            raise FarmError("; ".join(problems))
        return (*warnings, *problems)

    def _check_context(self) -> None:
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


@dataclass(frozen=True)
class Declaration:
    """A task's options, normalised.

    :ivar builder: its name; None for the one that buildx uses where none is named.
    :ivar gate: whether tags move only once every platform is there and has passed its checks.
    :ivar emulation: which nodes may build what their processors do not run, see ``eligible``.
    :ivar per_node: how many builds a node takes at the same time; 0 leaves it to the nodes.
    :ivar rebuild: which images are built, see ``decide``.
    :ivar checks_remote: whether git repositories and files from the web count as inputs that may change.
    :ivar is_list: whether its images are a list, and the result is one; else there is one image.
    """

    images: Tuple[Image, ...]
    builder: Optional[str]
    gate: bool
    emulation: str
    per_node: int
    rebuild: str = WHEN_CHANGED
    checks_remote: bool = True
    is_list: bool = True

    @property
    def platforms(self) -> Tuple[Platform, ...]:
        """The platforms of all images, without repeats."""
        return tuple(dict.fromkeys(platform for image in self.images for platform in image.platforms))

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Read a task's options.

        :raises FarmError: an option's value is wrong by itself, or two contradict each other.
        """
        listed, call = params.get("images"), params.get("call") or "build"
        if listed is not None and call != "build":
            raise FarmError(f"call: {call} is of one Dockerfile, and images are several; give each a task of its own")
        _refuse_own(params, listed or ())
        images = tuple(_image(raw) for raw in listed) if listed is not None else (Image.from_params(params),)
        return cls.of(images, params, is_list=listed is not None)

    @classmethod
    def of(cls, images: Tuple[Image, ...], params: Mapping[str, Any], is_list: bool = True) -> Declaration:
        """Return the declaration of images, with the options that say how they are built.

        :raises FarmError: an option's value is wrong by itself, or two contradict each other.
        """
        references = [one for image in images for one in (*image.references, *image.copy_references)]
        for reference in references:
            if references.count(reference) > 1:
                raise FarmError(f"images: {reference} is the tag of two of them; give each its own")
        files = [output.dest for image in images for output in image.outputs if output.is_file]
        for dest in files:
            if files.count(dest) > 1:
                raise FarmError(f"images: {dest} is the dest of two of them; give each its own")
        per_node = params.get("builds_per_node") or 0
        if per_node < 0:
            raise FarmError(f"builds_per_node: {per_node} is less than one")
        return cls(
            images=images,
            builder=chosen_builder(params),
            gate=bool(params.get("gate", True)),
            emulation=params.get("emulation") or "prefer_native",
            per_node=per_node,
            rebuild=params.get("rebuild") or WHEN_CHANGED,
            checks_remote=params.get("remote_inputs") != "ignore",
            is_list=is_list,
        )

    def check_files(self, lenient: bool = False) -> Tuple[str, ...]:
        """Make sure that contexts, Dockerfiles and the directories of the results are there; returns warnings.

        :raises FarmError: naming what is missing.
        """
        return tuple(warning for image in self.images for warning in image.check_files(lenient))


def _refuse_own(params: Mapping[str, Any], listed: Sequence[Mapping[str, Any]]) -> None:
    """Refuse options of a single image beside a list, for whose images they would mean nothing.

    :param listed: entries as Ansible hands them over, with all the options that an image can have.
    :raises FarmError: there are such.
    """
    options = dict.fromkeys(name for image in listed for name in image)
    own = [name for name in options if name not in HOW and str(params.get(name) or False).lower() != "false"]
    if own:
        raise FarmError(
            f"images: found {', '.join(own)} beside it, which the images of a list have each for itself; give each of"
            " them its own"
        )


def _image(raw: Mapping[str, Any]) -> Image:
    """Read an entry of the option ``images``."""
    try:
        return Image.from_params(raw)
    except FarmError as exc:
        named = (raw.get("tags") or [raw.get("context")])[0]
        raise exc.about(f"image {named}") from exc


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
