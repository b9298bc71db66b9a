# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build fetched: base images, frontends, git repositories and files from the web, each at what it was then.

BuildKit itself says what these were, in the provenance that it gives to buildx since 0.14, and in its progress. So no
Dockerfile has to be read here.

Sources: BuildKit ``util/purl/image.go`` (names of images in provenance), ``docs/attestations/slsa-definitions.md``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import parse_qs, unquote

from .._core.errors import FarmError
from .._core.urls import mask
from .._docker.reference import Reference
from .._platform.platform import Platform

IMAGE, GIT, HTTP = "image", "git", "http"

_PROVENANCE = "buildx.build.provenance"
_PACKAGE = "pkg:docker/"
#: As BuildKit prints an image; one without a tag was named by its digest.
_TAGGED = re.compile(r"(\S+:[^/@]+)@(sha256:[0-9a-f]{64})\Z")


@dataclass(frozen=True)
class Source:
    """One thing that a build fetched.

    :ivar kind: IMAGE, GIT or HTTP.
    :ivar name: an image's reference, or a URL.
    :ivar digest: of the image's index, the commit, or what the web server calls this version (``ETag``); empty where
        that is not known.
    :ivar platform: that the image was fetched for, empty where that is not known.
    :ivar manifest: the digest of the image for that platform, empty where that is not known.
    :ivar targets: the platforms that were built with it.
    """

    kind: str
    name: str
    digest: str = ""
    platform: str = ""
    manifest: str = ""
    targets: Tuple[str, ...] = ()

    def __str__(self) -> str:
        return {IMAGE: "base image", GIT: "git repository", HTTP: "file"}[self.kind] + f" {mask(self.name)}"

    def as_list(self) -> List[Any]:
        """Return the values as JSON types, for ``from_list``."""
        return [self.kind, self.name, self.digest, self.platform, self.manifest, list(self.targets)]

    @classmethod
    def from_list(cls, values: Sequence[Any]) -> Source:
        """Read what ``as_list`` returned.

        :raises ValueError: it is something else.
        """
        *texts, targets = values
        kind, name, digest, platform, manifest = (str(text) for text in texts)
        if kind not in (IMAGE, GIT, HTTP) or not isinstance(targets, list):
            raise ValueError(f"not a source: {values!r}")
        return cls(kind, name, digest, platform, manifest, tuple(str(target) for target in targets))


def read_sources(
    platforms: Sequence[Platform],
    metadata: Mapping[str, Any],
    printed: Iterable[Tuple[str, str]],
    named: Iterable[str],
    crosses: bool,
) -> Tuple[Source, ...]:
    """Return what one run of buildx fetched.

    An image that is named by its digest is never another one, and is left out. So is what BuildKit only did for another
    build at the same time.

    :param platforms: those that it built.
    :param metadata: what it wrote about them.
    :param printed: what its progress named: a platform or nothing, then ``REFERENCE@DIGEST`` or a URL.
    :param named: the images that its progress says it asked for; none where that is not known.
    :param crosses: whether a stage may be for another platform than the one that is built.
    """
    found: Dict[Source, List[str]] = {}
    for source, targets in _of_provenance(platforms, metadata) or _of_progress(platforms, printed, crosses):
        known = found.setdefault(source, [])
        known += [target for target in targets if target not in known]
    sources = tuple(replace(source, targets=tuple(targets)) for source, targets in found.items())
    own = {str(reference) for reference in map(_reference, named) if reference and not reference.digest}
    kept = tuple(source for source in sources if source.kind != IMAGE or not own or source.name in own)
    if len(kept) == len(sources):
        return kept
    # What is shown under another build's name may be missing under its own.
    missing = own - {source.name for source in kept}
    return kept + tuple(Source(IMAGE, name, targets=tuple(map(str, platforms))) for name in sorted(missing))


def _reference(text: str) -> Optional[Reference]:
    try:
        return Reference.parse(text)
    except FarmError:
        return None


def sources_of_bases(platforms: Sequence[Platform], bases: Mapping[str, str], crosses: bool) -> Tuple[Source, ...]:
    """Return the images that buildx was given by their digests, as their names will be asked for again.

    :param bases: by their names ``REFERENCE@DIGEST``.
    """
    found = []
    for name, image in bases.items():
        for target in map(str, platforms):
            of_platform = "" if crosses else target
            digest = Reference.parse(image).digest
            found.append(Source(IMAGE, str(Reference.parse(name)), digest, of_platform, targets=(target,)))
    return tuple(found)


def _of_provenance(platforms: Sequence[Platform], metadata: Mapping[str, Any]) -> List[Tuple[Source, Tuple[str, ...]]]:
    """Return the sources with the platforms that were built with them, nothing where buildx wrote no provenance."""
    found: List[Tuple[Source, Tuple[str, ...]]] = []
    for key, provenance in metadata.items():
        if not key.startswith(_PROVENANCE) or not isinstance(provenance, dict):
            continue
        platform = key[len(_PROVENANCE) :].lstrip("/")
        targets = (platform,) if platform else tuple(map(str, platforms))
        found += [(source, targets) for source in _materials(provenance)]
    return found


def _materials(provenance: Mapping[str, Any]) -> Iterator[Source]:
    """Yield what a provenance names, in its version 0.2 or 1."""
    definition = provenance.get("buildDefinition") or {}
    for item in provenance.get("materials") or definition.get("resolvedDependencies") or ():
        uri, digests = str(item.get("uri") or ""), item.get("digest") or {}
        if uri.startswith(_PACKAGE):
            source = _of_package(uri[len(_PACKAGE) :], f"sha256:{digests.get('sha256', '')}")
            if source:
                yield source
        elif "sha1" in digests:
            yield Source(GIT, uri, str(digests["sha1"]))
        elif "://" in uri and not uri.startswith("pkg:"):
            yield Source(HTTP, uri)


def _of_package(text: str, digest: str) -> Optional[Source]:
    """Return the image that a package URL names, None where it cannot be another one."""
    path, _mark, query = text.partition("?")
    qualifiers = parse_qs(query)
    if "digest" in qualifiers:
        return None
    name, _at, version = unquote(path).rpartition("@")
    try:
        reference = Reference.parse(f"{name}:{version}" if name else unquote(path))
    except FarmError:
        return None
    return Source(IMAGE, str(reference), digest, platform=(qualifiers.get("platform") or [""])[0])


def _of_progress(
    platforms: Sequence[Platform], printed: Iterable[Tuple[str, str]], crosses: bool
) -> List[Tuple[Source, Tuple[str, ...]]]:
    """Return the sources that the progress names.

    It says which platform an image was fetched for, if there are several, and not which one was built with it.
    """
    targets = tuple(map(str, platforms))
    found: List[Tuple[Source, Tuple[str, ...]]] = []
    for platform, name in printed:
        match = _TAGGED.match(name)
        if match is None:
            if "@sha256:" not in name:
                found.append((Source(GIT if ".git" in name else HTTP, name), targets))
            continue
        try:
            reference = Reference.parse(match.group(1))
        except FarmError:
            continue
        own = platform or (targets[0] if len(targets) == 1 else "")
        source = Source(IMAGE, str(reference), match.group(2), platform="" if crosses else own)
        found.append((source, (own,) if own in targets and not crosses else targets))
    return found
