# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that let tags stand for an image, or remove them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.parallel import each
from .._core.plan import Plan, Step
from .._docker.reference import Reference
from .._image.compose import Composed, Part, compose
from .._image.index import Index, attestation_subject
from .._image.promote import bring, lacking, read_whole
from .._image.publish import publish, read_part
from .._platform.platform import Platform
from .._registry.client import Registries
from .._registry.model import DOCKER_MANIFEST, Document, digest_of
from .declaration import Declaration, Source
from .referrers import CopyReferrers, Referrer, Waiting, lacking_referrers, read_referrers, states
from .removal import remove_tag


@dataclass(frozen=True)
class State:
    """What registries have.

    :ivar tags: digests that the declared tags stand for, None for nothing.
    :ivar image: that the tags are to stand for, None where they are to be gone.
    :ivar origins: where each manifest that it consists of is found, with its digest.
    :ivar lacking: what repositories do not have of it yet: each origin with a name of the repository.
    :ivar referrers: what refers to it and to what it consists of; None where that is not to be copied.
    :ivar unreferred: those of them that repositories do not have yet.
    """

    tags: Mapping[Reference, Optional[str]]
    image: Optional[Composed] = None
    origins: Tuple[Reference, ...] = ()
    lacking: Tuple[Tuple[Reference, Reference], ...] = ()
    referrers: Optional[Tuple[Referrer, ...]] = None
    unreferred: Tuple[Waiting, ...] = ()


@dataclass(frozen=True)
class CopyManifests(Step[Registries]):
    """Let repositories have what the image consists of; what stays there after a failure has no tag."""

    pairs: Tuple[Tuple[Reference, Reference], ...]

    @property
    def actions(self) -> List[List[str]]:
        return [["copy", str(source), target.repository] for source, target in self.pairs]

    def apply(self, world: Registries) -> None:
        each(self.pairs, lambda pair: bring(world, *pair), workers=4)


@dataclass(frozen=True)
class MoveTags(Step[Registries]):
    """Let tags stand for the image."""

    tags: Tuple[Reference, ...]
    image: Composed

    @property
    def actions(self) -> List[List[str]]:
        return [["push", str(tag), self.image.digest] for tag in self.tags]

    def apply(self, world: Registries) -> None:
        publish(world, self.tags, self.image)


@dataclass(frozen=True)
class RemoveTag(Step[Registries]):
    """Remove a tag, and nothing else that stands for the same."""

    tag: Reference

    @property
    def action(self) -> List[str]:
        return ["remove", str(self.tag)]

    def apply(self, world: Registries) -> None:
        remove_tag(world, self.tag)


def read_state(declaration: Declaration, registries: Registries) -> State:
    """Read what the declared tags stand for, and make the image of its sources.

    :raises RegistryRefused: the credentials do not suffice.
    :raises FarmError: a source is not there or does not fit, or a registry cannot be read.
    """
    found = each(declaration.tags, lambda tag: registries.digest(tag, to_push=True))
    tags = dict(zip(declaration.tags, found))
    if not declaration.sources:
        return State(tags)
    if declaration.is_copy:
        source = declaration.sources[0].reference
        image = read_whole(registries, source)
        origins = tuple(source.at(digest) for digest in image.children)
    else:
        image, origins = _composed(declaration, registries)
    waiting = [tag for tag, digest in tags.items() if digest != image.digest]
    by_digest = {origin.digest: origin for origin in origins}
    pairs: List[Tuple[Reference, Reference]] = []
    for target in _repositories(waiting):
        missing = lacking(registries, target, list(by_digest))
        pairs += [
            (by_digest[digest], target) for digest in missing if by_digest[digest].repository != target.repository
        ]
    if not declaration.referrers:
        return State(tags, image, origins, tuple(pairs))
    own = [declaration.sources[0].reference.at(image.digest)] if declaration.is_copy else []
    referrers = read_referrers(registries, list(dict.fromkeys((*own, *origins))))
    unreferred = lacking_referrers(registries, referrers, _repositories(declaration.tags))
    return State(tags, image, origins, tuple(pairs), referrers, unreferred)


def _repositories(tags: Sequence[Reference]) -> List[Reference]:
    """Return a tag of each repository."""
    return list({tag.repository: tag for tag in tags}.values())


def plan(declaration: Declaration, state: State) -> Plan[Registries]:
    """Return the steps that make the tags what is declared of them."""
    image = state.image
    wanted = image.digest if image else None
    before = {str(tag): digest for tag, digest in state.tags.items()}
    after = dict.fromkeys(before, wanted)
    waiting = tuple(tag for tag in declaration.tags if state.tags[tag] != wanted)
    steps: List[Step[Registries]] = []
    if image is None:
        steps += [RemoveTag(tag) for tag in waiting]
    else:
        steps += [CopyManifests(state.lacking)] if state.lacking else []
        # Who pulls may want to see that it is signed.
        steps += [CopyReferrers(state.unreferred)] if state.unreferred else []
        steps += [MoveTags(waiting, image)] if waiting else []
    if state.referrers:
        had, has = states(state.referrers, state.unreferred, _repositories(declaration.tags))
        return Plan({**before, **had}, {**after, **has}, tuple(steps))
    return Plan(before, after, tuple(steps))


def _composed(declaration: Declaration, registries: Registries) -> Tuple[Composed, Tuple[Reference, ...]]:
    """Return the image that consists of the sources, and where its manifests are.

    :raises FarmError: a source is not there, or they or the annotations do not fit together.
    """
    read = each(declaration.sources, lambda source: _part(registries, source))
    parts: List[Part] = []
    taken: Dict[Platform, Tuple[str, Reference]] = {}
    for source, part in zip(declaration.sources, read):
        digests = {entry.platform: entry.digest for entry in _images(part)}
        fresh = []
        for platform in source.platforms or part.platforms:
            digest = digests.get(platform, part.document.digest)
            known, where = taken.setdefault(platform, (digest, source.reference))
            if where is source.reference:
                fresh.append(platform)
            elif known != digest:
                raise FarmError(
                    f"sources: {where} and {source.reference} both have an image for {platform}, {known} and {digest}; "
                    f"name the platforms that are to be taken of each"
                )
        parts += [_chosen(part, fresh)] if fresh else []
    annotated = [platform for platform in declaration.platform_annotations if platform]
    strange = sorted(str(platform) for platform in annotated if platform not in taken)
    if strange:
        raise FarmError(
            f"platform_annotations: the sources have no image for {', '.join(strange)} (platforms found: "
            f"{', '.join(map(str, taken))}); name one of these, or remove the annotations"
        )
    annotations = _annotations(declaration, parts)
    docker = all(entry.media_type == DOCKER_MANIFEST for part in parts for entry in _images(part))
    composed = compose(
        parts,
        tuple(taken),
        index_annotations=annotations,
        descriptor_annotations=declaration.platform_annotations,
        docker_types=docker and not annotations and not any(declaration.platform_annotations.values()),
    )
    places = {
        digest: source.reference.at(digest)
        for source, part in reversed(list(zip(declaration.sources, read)))
        for digest in (part.document.digest, *(entry.digest for entry in _entries(part)))
    }
    return composed, tuple(places[digest] for digest in composed.children)


def _part(registries: Registries, source: Source) -> Part:
    """Read a source, with the platforms that are taken of it.

    :raises FarmError: it is not there, is no image, or lacks one of them.
    """
    digest = registries.digest(source.reference)
    if digest is None:
        registry = source.reference.registry
        raise FarmError(f"image {source.reference}: the registry {registry} has none of this name; was it pushed?")
    try:
        part = read_part(registries, source.reference, digest)
        if not part.platforms:
            raise FarmError(
                f"image {source.reference}: it is for no platform, wanted an image; it can only be copied, by itself "
                f"and without annotations"
            )
        return _chosen(part, source.platforms) if source.platforms else part
    except FarmError as exc:
        raise exc.about(f"image {source.reference}") from exc


def _chosen(part: Part, platforms: Sequence[Platform]) -> Part:
    """Return the images of a part for some platforms, with their attestations; a part with no others as it is.

    :raises FarmError: it has none for one of them.
    """
    missing = [str(platform) for platform in platforms if platform not in part.platforms]
    if missing:
        there = ", ".join(map(str, part.platforms)) or "none"
        raise FarmError(f"no image for {', '.join(missing)} (platforms found: {there})")
    raw = json.loads(part.document.content)
    if "manifests" not in raw or set(platforms) == set(part.platforms):
        return part
    index = Index.parse(part.document)
    images = {entry.digest for entry in index.manifests if entry.platform in platforms}
    about = {entry.digest for entry in index.attestations if attestation_subject(entry) in images}
    # One manifest may be there for several platforms; they are in the order of the list.
    listed = {digest: [entry for entry in index.manifests if entry.digest == digest] for digest in images}
    raw["manifests"] = [
        one
        for one in raw["manifests"]
        if one["digest"] in about or (one["digest"] in images and listed[one["digest"]].pop(0).platform in platforms)
    ]
    content = json.dumps(raw, indent=2).encode()
    chosen = tuple(platform for platform in part.platforms if platform in platforms)
    return Part(Document(digest_of(content), part.document.media_type, content), chosen)


def _entries(part: Part) -> Sequence[Any]:
    index = Index.parse(part.document)
    return (*index.manifests, *index.attestations)


def _images(part: Part) -> Sequence[Any]:
    return Index.parse(part.document).manifests


def _annotations(declaration: Declaration, parts: Sequence[Part]) -> Dict[str, str]:
    """Return the annotations of the index: those of an only source that is one, and what the task says of them."""
    (first, *more) = parts
    raw = json.loads(first.document.content)
    own = raw.get("annotations") if not more and "manifests" in raw else None
    merged: Dict[str, Optional[str]] = {**(own or {}), **declaration.annotations}
    return {name: value for name, value in merged.items() if value is not None}
