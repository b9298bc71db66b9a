# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Targets of an evaluated bake definition as images of ours: each field is translated, or refused.

Lists of outputs, caches, attestations, secrets and keys are text until buildx 0.18, and objects from 0.19 or 0.20 on.
Source: docker/buildx ``bake/bake.go``, ``util/buildflags/``.
"""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

from .._build.contexts import IMAGE, LAYOUT, TARGET, is_url
from .._build.declaration import Image
from .._build.fields import attributes_of, pairs_of, text_of
from .._build.output import TYPES
from .._core.environment import expanded
from .._core.errors import FarmError
from .allow import DEVICE, INSECURE, NETWORK, READ, SSH, WRITE, Need

#: Before a path that is the controller's in a remote definition, too.
_LOCAL = "cwd://"
_GIT = re.compile(r"\A(git://|ssh://|git@|github\.com/)|\.git(#|\Z)")
#: Results that are images, which tags name.
_IMAGES = ("registry", "image", "docker", "oci")
_CACHE_ONLY = "cacheonly"
#: Fields that say nothing about the result.
_IGNORED = ("description", "inherits", "matrix", "name")
_DEFAULT_FILE = "Dockerfile"
#: From which buildx takes what BuildKit knows as the secret for a definition's own git repository.
_GIT_TOKEN, _GIT_SECRET = "BUILDX_BAKE_GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN"


@dataclass(frozen=True)
class Place:
    """Where a definition's relative paths lead.

    :ivar directory: the working directory, absolute.
    :ivar source: the URL of a remote definition, whose relative contexts are in it; empty for one of this controller.
    :ivar variables: values that the task gives to variables, which secrets may name.
    """

    directory: str
    source: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    def path(self, text: str) -> str:
        """Return the absolute path of something on this controller."""
        text = text[len(_LOCAL) :] if text.startswith(_LOCAL) else text
        return expanded(text) if text.startswith("~") else os.path.normpath(os.path.join(self.directory, text))

    def context(self, text: str) -> Tuple[str, bool]:
        """Return a context's absolute path or URL, and whether it is on this controller.

        :raises FarmError: it is a directory of a remote definition that cannot be addressed.
        """
        if text == "-":
            raise FarmError(
                "context '-' is the standard input, which a task does not have; wanted a directory or a URL"
            )
        if text.startswith(_LOCAL):
            return self.path(text), True
        if self.source:
            return (text if is_url(text) else self._below_source(text)), False
        # As for buildx, a directory wins over a URL that looks the same.
        path = self.path(text)
        return (text, False) if is_url(text) and not os.path.isdir(path) else (path, True)

    def _below_source(self, text: str) -> str:
        inner = os.path.normpath(text)
        if inner == ".":
            return self.source
        if not _GIT.search(self.source) or "?" in self.source:
            raise FarmError(
                f"context {text!r} is a directory of {self.source}, which only a git repository with the address "
                f"URL#REF has; check the sources out first, and name that directory as chdir"
            )
        url, _mark, fragment = self.source.partition("#")
        ref, _colon, directory = fragment.partition(":")
        return f"{url}#{ref}:{os.path.normpath(os.path.join(directory, inner.lstrip('/')))}"


@dataclass(frozen=True)
class Target:
    """A target of a definition.

    :ivar params: the options of an image that it stands for, as ``Image.from_params`` takes them.
    :ivar links: the targets that are contexts of its build, by the contexts' names.
    :ivar needs: what it uses that has to be allowed.
    """

    name: str
    params: Mapping[str, Any]
    links: Mapping[str, str]
    needs: Tuple[Need, ...]

    @property
    def call(self) -> str:
        """What is done with it instead of building, empty to build."""
        return str(self.params.get("call") or "")

    @classmethod
    def from_printed(cls, name: str, raw: Mapping[str, Any], place: Place) -> Target:
        """Read a target as ``docker buildx bake --print`` prints it.

        :raises FarmError: it has a field, or a value, that an image of ours cannot have.
        """
        try:
            return _Reader(raw, place).read(name)
        except FarmError as exc:
            raise exc.about(f"target {name}") from exc


class _Reader:
    """Reads one target."""

    def __init__(self, raw: Mapping[str, Any], place: Place) -> None:
        self._raw = {key: value for key, value in raw.items() if value is not None and key not in _IGNORED}
        self._place = place
        self._params: Dict[str, Any] = {}
        self._links: Dict[str, str] = {}
        self._needs: List[Need] = []

    def read(self, name: str) -> Target:
        """Return the target."""
        for key, value in self._raw.items():
            if key not in _FIELDS:
                raise FarmError(
                    f"{key} is nothing that this module can build; remove it from the definition, or build the target "
                    f"with docker buildx bake"
                )
            _FIELDS[key](self, value)
        self._sources()
        if self._place.source and os.environ.get(_GIT_TOKEN):
            token = {"id": _GIT_SECRET, "env": _GIT_TOKEN}
            self._params["secrets"] = [*self._params.get("secrets", ()), token]
        if not self._names_an_image():
            # They would have no effect.
            self._params.pop("tags", None)
        return Target(name, self._params, self._links, tuple(dict.fromkeys(self._needs)))

    def _need(self, right: str, value: str, use: str) -> None:
        self._needs.append(Need(right, value, use))

    def _names_an_image(self) -> bool:
        outputs = self._raw.get("output")
        kinds = [output["type"] for output in self._params.get("outputs", ())]
        return not outputs or any(kind in _IMAGES for kind in kinds)

    def _sources(self) -> None:
        """Read context and Dockerfile, which depend on each other."""
        context, is_local = self._place.context(str(self._raw.get("context") or "."))
        self._params["context"] = context
        if is_local:
            self._need(READ, context, f"context {context}")
        file, inline = str(self._raw.get("dockerfile") or _DEFAULT_FILE), self._raw.get("dockerfile-inline")
        if inline:
            self._params["dockerfile_inline"] = inline
            return
        if file == "-" or (is_url(file) and not file.startswith(_LOCAL)):
            raise FarmError(f"dockerfile {file!r}: wanted the path of a file, or dockerfile-inline")
        if file.startswith(_LOCAL):
            file, is_here = self._place.path(file), True
        else:
            file, is_here = (os.path.normpath(os.path.join(context, file)), True) if is_local else (file, False)
        if is_here:
            self._need(READ, file, f"dockerfile {file}")
        # Without it there may be one with a lower-case name.
        usual = os.path.join(context, _DEFAULT_FILE) if is_local else _DEFAULT_FILE
        self._params["file"] = None if file == usual else file

    def _contexts(self, raw: Mapping[str, Any]) -> None:
        found: Dict[str, str] = {}
        for name, value in raw.items():
            text = text_of(f"contexts: {name}", value)
            if text.startswith(TARGET):
                self._links[str(name)] = text[len(TARGET) :]
            elif text.startswith(IMAGE):
                found[str(name)] = text
            elif text.startswith(LAYOUT):
                path, rest = re.split("(?=[:@])", f"{text[len(LAYOUT) :]}@", maxsplit=1)
                found[str(name)] = f"{LAYOUT}{self._place.path(path)}{rest[:-1]}"
                self._need(READ, self._place.path(path), f"context {name} {self._place.path(path)}")
            else:
                found[str(name)], is_local = self._place.context(text)
                if is_local:
                    self._need(READ, found[str(name)], f"context {name} {found[str(name)]}")
        self._params["contexts"] = found

    def _outputs(self, raw: Sequence[Any]) -> None:
        found = []
        for entry in raw:
            options = self._attributes("output", _as_output(entry))
            kind, dest = options.pop("type", ""), options.pop("dest", "")
            if kind == _CACHE_ONLY:
                continue
            if kind not in TYPES:
                raise FarmError(f"output: unknown type {kind!r}; wanted {', '.join((*TYPES, _CACHE_ONLY))}")
            if dest == "-" or (kind == "tar" and not dest):
                raise FarmError(f"output {kind}: the standard output cannot be used from Ansible; wanted dest=PATH")
            name = options.pop("name", "")
            if name and kind in _IMAGES and not self._raw.get("tags"):
                self._params["tags"] = [*self._params.get("tags", ()), *name.split(",")]
            output: Dict[str, Any] = {"type": kind, "options": options}
            if dest:
                output["dest"] = self._place.path(dest)
                self._need(WRITE, output["dest"], f"output {output['dest']}")
            if output not in found:
                found.append(output)
        self._params["outputs"] = found

    def _caches(self, option: str, key: str, right: str, raw: Sequence[Any]) -> None:
        found: List[Any] = []
        for entry in raw:
            if isinstance(entry, str) and "=" not in entry:
                found.append(entry)
                continue
            cache = self._attributes(option, entry)
            if cache.get("type") == "local" and cache.get(key):
                cache[key] = self._place.path(cache[key])
                self._need(right, cache[key], f"{option} {cache[key]}")
            found.append(cache)
        self._params[option.replace("-", "_")] = found

    def _secrets(self, raw: Sequence[Any]) -> None:
        found = []
        for entry in raw:
            given = self._attributes("secret", entry)
            name, kind = given.get("id", ""), given.get("type", "")
            src, variable = given.get("src") or given.get("source") or "", given.get("env") or ""
            if kind == "env" and not variable:
                src, variable = "", src or name
            if not src and not variable:
                known = name in self._place.variables or name in os.environ
                src, variable = ("", name) if known else (name, "")
            secret: Dict[str, Any] = {"id": name}
            if variable in self._place.variables:
                secret["value"] = self._place.variables[variable]
            elif variable:
                secret["env"] = variable
            else:
                secret["src"] = self._place.path(src)
                self._need(READ, secret["src"], f"secret {name} {secret['src']}")
            found.append(secret)
        self._params["secrets"] = found

    def _ssh(self, raw: Sequence[Any]) -> None:
        found = []
        for entry in raw:
            if isinstance(entry, Mapping):
                name, paths = str(entry.get("id") or "default"), list(entry.get("paths") or ())
            else:
                name, _equals, rest = str(entry).partition("=")
                paths = [path for path in rest.split(",") if path]
            paths = [self._place.path(str(path)) for path in paths]
            for path in paths:
                self._need(READ, path, f"ssh {name} {path}")
            if not paths:
                self._need(SSH, "", f"ssh {name}, the agent")
            found.append(f"{name}={','.join(paths)}" if paths else name)
        self._params["ssh"] = found

    def _attestations(self, raw: Sequence[Any]) -> None:
        # The last one of a type counts.
        found = {one.get("type", ""): one for one in (self._attributes("attest", entry) for entry in raw)}
        self._params["attest"] = list(found.values())

    def _entitlements(self, raw: Sequence[Any]) -> None:
        for entry in raw:
            right, _equals, value = str(entry).partition("=")
            if right not in (NETWORK, INSECURE, DEVICE):
                raise FarmError(f"entitlements: {entry!r}: wanted {NETWORK}, {INSECURE} or {DEVICE}")
            self._need(right, value, f"entitlement {entry}")
        self._allow(str(entry) for entry in raw)

    def _network(self, raw: Any) -> None:
        self._params["network"] = str(raw)
        if raw == "host":
            self._need(NETWORK, "", "network host")
            self._allow(iter((NETWORK,)))

    def _allow(self, entries: Iterator[str]) -> None:
        self._params["allow"] = list(dict.fromkeys((*self._params.get("allow", ()), *entries)))

    def _call(self, raw: Any) -> None:
        method, _comma, _options = str(raw).partition(",")
        self._params["call"] = {"build": "", "lint": "check"}.get(method, method)

    def _pairs(self, option: str, raw: Mapping[str, Any]) -> None:
        """Read what may have values that are unset."""
        self._params[option] = {str(key): value for key, value in raw.items() if value is not None}

    @staticmethod
    def _attributes(subject: str, raw: Any) -> Dict[str, str]:
        if isinstance(raw, str):
            # The last one counts, as of what --push adds.
            raw = dict(pairs_of(subject, next(csv.reader([raw]), [])))
        return dict(attributes_of(subject, raw))


def _as_output(raw: Any) -> Any:
    """Return an output with its type; text without any attribute is the path of a directory."""
    if isinstance(raw, str) and len(next(csv.reader([raw]), [])) == 1 and not raw.startswith("type="):
        return {"type": "tar", "dest": raw} if raw == "-" else {"type": "local", "dest": raw}
    return raw


def _same(option: str) -> Callable[[_Reader, Any], None]:
    """Return the reader of a field that means the same as one of our options."""
    return lambda reader, value: reader._params.update({option: value})  # pylint: disable=protected-access


def _nothing(_reader: _Reader, _value: Any) -> None:
    """Leave a field to what is read in the end."""


#: How each field is read.
_FIELDS: Mapping[str, Callable[[_Reader, Any], None]] = {
    "context": _nothing,
    "dockerfile": _nothing,
    "dockerfile-inline": _nothing,
    "contexts": _Reader._contexts,
    "args": lambda reader, value: reader._pairs("build_args", value),
    "labels": lambda reader, value: reader._pairs("labels", value),
    "annotations": _same("annotations"),
    "tags": _same("tags"),
    "platforms": _same("platforms"),
    "target": _same("target"),
    "cache-from": lambda reader, value: reader._caches("cache-from", "src", READ, value),
    "cache-to": lambda reader, value: reader._caches("cache-to", "dest", WRITE, value),
    "output": _Reader._outputs,
    "secret": _Reader._secrets,
    "ssh": _Reader._ssh,
    "attest": _Reader._attestations,
    "no-cache": _same("no_cache"),
    "no-cache-filter": _same("no_cache_filter"),
    "pull": _same("pull"),
    "network": _Reader._network,
    "shm-size": _same("shm_size"),
    "ulimits": _same("ulimits"),
    "entitlements": _Reader._entitlements,
    "extra-hosts": _same("add_hosts"),
    "call": _Reader._call,
}


def targets_of(printed: Mapping[str, Mapping[str, Any]], place: Place, requested: Sequence[str]) -> Tuple[Target, ...]:
    """Return the targets of a definition, those that are wanted first.

    :raises FarmError: a target has a field that an image of ours cannot have, or links to none.
    """
    names = [*requested, *(name for name in printed if name not in requested)]
    found = tuple(Target.from_printed(name, printed[name], place) for name in names)
    for target in found:
        missing = [other for other in target.links.values() if other not in printed]
        if missing:
            raise FarmError(f"target {target.name}: contexts: target:{missing[0]} is no target of the definition")
    return found


def images_of(targets: Sequence[Target], requested: Sequence[str], common: Mapping[str, Any]) -> Tuple[Image, ...]:
    """Return the images that targets stand for.

    A tag of several targets is that of one which puts it somewhere; those that keep their results in the builder's
    cache lose it.

    :param common: further options of each image.
    :raises FarmError: a target cannot be an image of ours.
    """
    owned = {tag for target in targets if target.params.get("outputs") for tag in target.params.get("tags") or ()}
    images = []
    for target in targets:
        params = {**common, **target.params, "title": target.name, "links": target.links}
        is_wanted = target.name in requested
        if not params.get("outputs"):
            tags = [tag for tag in params.get("tags") or () if is_wanted and tag not in owned]
            params["tags"], owned = tags, owned.union(tags)
        try:
            images.append(Image.from_params({**params, "only_linked": not is_wanted}))
        except FarmError as exc:
            raise exc.about(f"target {target.name}") from exc
    return tuple(images)
