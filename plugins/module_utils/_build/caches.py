# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where builds take cached steps from and put them, with a name of its own for each platform.

Whatever writes a cache replaces what its name stood for. A node writes the steps of its platforms only, so under one
name the last node's would be all that is left (docker/buildx#1044).

Source of types and attributes: BuildKit README "Export cache", buildx ``util/buildflags/cache.go``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from .._buildx.cli import Version
from .._core.environment import expanded, option
from .._core.errors import FarmError
from .._core.urls import mask, secret_in
from .._docker.reference import Reference
from .._platform.platform import Platform
from .fields import attributes_of, joined

FROM, TO = "cache_from", "cache_to"
#: The attribute that names a cache of a type, and what BuildKit takes where it is not given.
_NAMES = {"gha": ("scope", "buildkit"), "s3": ("name", "buildkit"), "azblob": ("name", "buildkit")}
_TYPES = ("registry", "local", "inline", *_NAMES)
_SECRETS = ("secret_access_key", "session_token", "token", "ghtoken")
#: The same in a text, whatever else is wrong with that.
_SECRET = re.compile(rf"(?:^|[,\"])\s*({'|'.join(_SECRETS)})\s*=", re.IGNORECASE)
#: What buildx takes from the environment of a job on GitHub for a cache of type ``gha``: its token, and a URL.
_TOKEN, _URLS = "ACTIONS_RUNTIME_TOKEN", ("ACTIONS_CACHE_URL", "ACTIONS_RESULTS_URL")
_GITHUB: Version = (0, 6, 0)
#: With BuildKit 0.11 (moby/buildkit#3024).
_SEVERAL: Version = (0, 10, 0)


@dataclass(frozen=True)
class Cache:
    """One entry of ``cache_from`` or ``cache_to``.

    :ivar attributes: all but the type.
    """

    option: str
    type: str
    attributes: Tuple[Tuple[str, str], ...] = ()

    @classmethod
    def from_param(cls, option: str, raw: Any) -> Cache:
        """Read an entry, a dictionary or text; text without ``=`` is a reference in a registry.

        :raises FarmError: it is no cache that BuildKit knows, has no name, or has a secret in it.
        """
        named = _SECRET.search(raw) if isinstance(raw, str) else None
        if named:
            raise _exposed(option, named.group(1).lower())
        subject = f"{option}: {mask(raw)}" if isinstance(raw, str) else option
        if isinstance(raw, str) and "=" not in raw:
            raw = {"type": "registry", "ref": raw}
        if isinstance(raw, Mapping):
            subject = f"{option}, type {raw.get('type')}"
        found = dict(attributes_of(subject, raw))
        kind = found.pop("type", "")
        if kind not in _TYPES:
            raise FarmError(f"{option}: unknown type {kind!r}; wanted {', '.join(_TYPES)}")
        for name, value in found.items():
            if name in _SECRETS:
                raise _exposed(f"{option}, type {kind}", name)
            if secret_in(value):
                raise _exposed(f"{option}, type {kind}: {name}", secret_in(value))
        cache = cls(option, kind, tuple(found.items()))
        naming = cache._name
        if naming and not cache._value:
            raise FarmError(f"{option}, type {kind}: {naming[0]} is missing, which names the cache")
        if kind == "registry":
            Reference.parse(cache._value)
        elif kind == "local":
            cache = cache._named(expanded(cache._value))
        return cache

    @property
    def _name(self) -> Optional[Tuple[str, str]]:
        """The attribute that names it with the default, None where nothing does."""
        if self.type == "registry":
            return "ref", ""
        if self.type == "local":
            return ("src" if self.option == FROM else "dest"), ""
        return _NAMES.get(self.type)

    @property
    def _value(self) -> str:
        name, default = self._name or ("", "")
        return dict(self.attributes).get(name, default)

    def _named(self, value: str) -> Cache:
        attribute, _default = self._name or ("", "")
        return Cache(self.option, self.type, tuple({**dict(self.attributes), attribute: value}.items()))

    def of(self, platform: Platform) -> Cache:
        """Return the same with the name that is a platform's own; an inline cache is in the image itself."""
        suffix = str(platform).replace("/", "-")
        value = self._value
        if self.type == "inline":
            return self
        if self.type == "local":
            return self._named(f"{value}/{suffix}")
        if self.type != "registry":
            return self._named(f"{value}-{suffix}")
        reference = Reference.parse(value)
        return self if reference.digest else self._named(f"{reference.repository}:{reference.tag}-{suffix}")

    @property
    def argument(self) -> str:
        """The value of ``--cache-from`` or ``--cache-to``."""
        return joined([f"type={self.type}", *(f"{key}={value}" for key, value in self.attributes)])


@dataclass(frozen=True)
class Caches:
    """The caches of an image's builds.

    :ivar platforms: all of the image's. With more than one each has a name of its own.
    """

    sources: Tuple[Cache, ...] = ()
    targets: Tuple[Cache, ...] = ()
    platforms: Tuple[Platform, ...] = ()

    @classmethod
    def from_params(cls, params: Mapping[str, Any], platforms: Sequence[Platform]) -> Caches:
        """Read the options ``cache_from`` and ``cache_to``.

        :raises FarmError: an entry is wrong.
        """
        return cls(_caches(FROM, params.get(FROM)), _caches(TO, params.get(TO)), tuple(platforms))

    def requirements(self) -> List[Tuple[str, Version]]:
        """Return what not every buildx has, in the user's words, and its first version with that."""
        found = [("a cache of type gha", _GITHUB)] if any(one.type == "gha" for one in self._all) else []
        named = [one for one in self.targets if one.type != "inline"]
        if len(self.targets) > 1 or (named and len(self.platforms) > 1):
            found.append(("cache_to for more than one platform or cache", _SEVERAL))
        return found

    def problems(self) -> Tuple[str, ...]:
        """Return what of this controller the caches need and is not there, as sentences.

        buildx leaves out a cache of type ``gha`` without a word where it has no token or no URL for it.
        """
        of_github = [dict(one.attributes) for one in self._all if one.type == "gha"]
        has_url = any(option(name) for name in _URLS) or all(one.get("url") or one.get("url_v2") for one in of_github)
        missing = [] if option(_TOKEN) else [_TOKEN]
        missing += [] if has_url else [" or ".join(_URLS)]
        if not of_github or not missing:
            return ()
        return (
            (
                f"a cache of type gha: the task's environment has no {' and no '.join(missing)}, so that buildx would "
                f"leave the cache out; wanted those of a job on GitHub"
            ),
        )

    @property
    def _all(self) -> Tuple[Cache, ...]:
        return self.sources + self.targets

    def arguments(self, platforms: Sequence[Platform], writes: bool = True) -> List[str]:
        """Return the arguments of a build of some of the image's platforms.

        All platforms' caches are read, as they share steps and may have been built on other nodes.

        :param writes: whether it puts its steps into caches.
        """
        several = len(self.platforms) > 1
        sources = [one for cache in self.sources for one in (cache, *map(cache.of, self.platforms if several else ()))]
        targets = [one for cache in self.targets for one in (map(cache.of, platforms) if several else (cache,))]
        args: List[str] = []
        for name, caches in (("--cache-from", sources), ("--cache-to", targets if writes else [])):
            for value in dict.fromkeys(one.argument for one in caches):
                args += [name, value]
        return args


def _exposed(subject: str, secret: str) -> FarmError:
    return FarmError(
        f"{subject}: {secret} would stand in the process list; give it to buildx in the task's environment, or to"
        f" BuildKit in the environment of the builder's nodes"
    )


def _caches(option: str, raw: Optional[Sequence[Any]]) -> Tuple[Cache, ...]:
    """Return the caches of an option; a text without ``=`` may name several, with commas between them."""
    entries: List[Any] = []
    for entry in raw or ():
        entries += entry.split(",") if isinstance(entry, str) and "=" not in entry else [entry]
    return tuple(Cache.from_param(option, entry) for entry in entries)
