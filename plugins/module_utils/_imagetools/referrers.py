# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What refers to an image from outside, as signatures do: finding it, and letting other repositories have it.

There are two ways. A manifest names its subject, and the registry lists it (OCI distribution specification, "Listing
Referrers"); for one that does not, clients keep the list as an index under a tag ("Referrers Tag Schema"). Or a tag is
named after the digest, as cosign does (its ``specs/SIGNATURE_SPEC.md``, "Storage").
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

from .._core.errors import FarmError
from .._core.parallel import each
from .._core.plan import Step
from .._docker.reference import Reference
from .._image.promote import bring
from .._registry.client import Registries
from .._registry.model import OCI_INDEX

#: What cosign's tags end with: signatures, attestations and SBOMs.
_SUFFIXES = ("sig", "att", "sbom")


@dataclass(frozen=True)
class Referrer:
    """A manifest that refers to another one, or a tag that is named after it.

    :ivar subject: the digest of what it is about.
    :ivar source: the manifest, with its digest.
    :ivar tag: that stands for it, empty where it is in the subject's list.
    :ivar entry: of the list, as it is there.
    """

    subject: str
    source: Reference
    tag: str = ""
    entry: str = ""

    def as_dict(self) -> Dict[str, Any]:
        """Return it as the module returns it."""
        return {"subject": self.subject, "digest": self.source.digest, "tag": self.tag or None}


@dataclass(frozen=True)
class Waiting:
    """A referrer that a repository does not have yet.

    :ivar target: any name of the repository; of a tag, the tag.
    """

    referrer: Referrer
    target: Reference


@dataclass(frozen=True)
class CopyReferrers(Step[Registries]):
    """Let repositories have what refers to the image, before a tag stands for that."""

    waiting: Tuple[Waiting, ...]

    @property
    def actions(self) -> List[List[str]]:
        return [
            ["push", str(one.target), one.referrer.source.digest]
            if one.referrer.tag
            else ["copy", str(one.referrer.source), one.target.repository]
            for one in self.waiting
        ]

    def apply(self, world: Registries) -> None:
        each(self.waiting, lambda one: bring(world, one.referrer.source, one.target), workers=4)
        lists: Dict[Tuple[str, str], List[Waiting]] = {}
        for one in self.waiting:
            if one.referrer.tag:
                _tag(world, one)
            else:
                lists.setdefault((one.target.repository, one.referrer.subject), []).append(one)
        for several in lists.values():
            _list(world, several)


def read_referrers(registries: Registries, names: Sequence[Reference]) -> Tuple[Referrer, ...]:
    """Return what refers to manifests, and what refers to that, once each.

    :param names: with digests.
    :raises FarmError: a registry cannot be read.
    """
    found: Dict[Tuple[str, str, str], Referrer] = {}
    asked: Set[str] = set()
    waiting = list(names)
    while waiting:
        asked.update(str(name) for name in waiting)
        several = each(waiting, lambda name: _about(registries, name))
        for one in (one for part in several for one in part):
            found.setdefault((one.subject, one.source.digest, one.tag), one)
        fresh = {str(one.source): one.source for one in found.values()}
        waiting = [source for name, source in fresh.items() if name not in asked]
    return tuple(found.values())


def lacking_referrers(
    registries: Registries, referrers: Sequence[Referrer], targets: Sequence[Reference]
) -> Tuple[Waiting, ...]:
    """Return what each repository does not have yet.

    :param targets: a name of each repository.
    :raises FarmError: a tag of a repository stands for something that the source does not have, or a registry cannot be
        read.
    """
    pairs = [(one, target) for target in targets for one in referrers if one.source.repository != target.repository]
    tagged = [(one, _named(target, one.tag)) for one, target in pairs if one.tag]
    subjects = {(target.repository, one.subject): target for one, target in pairs if not one.tag}
    keys = list(subjects)
    read = each(keys, lambda key: _listed(registries, subjects[key], key[1], to_push=True))
    there = {key: {str(entry.get("digest")) for entry in entries} for key, entries in zip(keys, read)}
    waiting = [
        Waiting(one, target)
        for one, target in pairs
        if not one.tag and one.source.digest not in there[target.repository, one.subject]
    ]
    wanting = each(tagged, lambda pair: _lacks_tag(registries, *pair))
    return (*waiting, *(Waiting(one, target) for (one, target), lacks in zip(tagged, wanting) if lacks))


def states(
    referrers: Sequence[Referrer], waiting: Sequence[Waiting], targets: Sequence[Reference]
) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return which of the referrers repositories have before and after, for the diff."""
    before: Dict[str, Any] = {}
    after: Dict[str, Any] = {}
    missing = {(one.target.repository, one.referrer) for one in waiting}
    for target in targets:
        key = f"referrers in {target.repository}"
        after[key] = sorted({one.tag or one.source.digest for one in referrers})
        gone = {one.tag or one.source.digest for one in referrers if (target.repository, one) in missing}
        before[key] = [name for name in after[key] if name not in gone]
    return before, after


def _about(registries: Registries, name: Reference) -> List[Referrer]:
    subject = name.digest
    listed = [
        Referrer(subject, name.at(str(entry["digest"])), entry=json.dumps(entry))
        for entry in _listed(registries, name, subject)
    ]
    # A list that clients keep may name what has been removed.
    there = each(listed, lambda one: registries.digest(one.source))
    tags = [f"{_flat(subject)}.{suffix}" for suffix in _SUFFIXES]
    digests = each(tags, lambda tag: registries.digest(_named(name, tag)))
    found = [one for one, digest in zip(listed, there) if digest]
    return found + [Referrer(subject, name.at(digest), tag) for tag, digest in zip(tags, digests) if digest]


def _listed(registries: Registries, name: Reference, subject: str, to_push: bool = False) -> List[Mapping[str, Any]]:
    raw = registries.referrers(name, subject, to_push)
    try:
        entries = json.loads(raw or b"{}").get("manifests") or []
        return [entry for entry in entries if isinstance(entry, dict) and entry.get("digest")]
    except (ValueError, AttributeError) as exc:
        raise FarmError(f"{name.repository}: the list of what refers to {subject} is no index") from exc


def _lacks_tag(registries: Registries, referrer: Referrer, target: Reference) -> bool:
    """Return whether a tag is not what it is in the source, nor more than that.

    :raises FarmError: it has something of its own, and lacks something.
    """
    held = registries.digest(target, to_push=True)
    if held in (None, referrer.source.digest):
        return held is None
    own, wanted = (_layers(registries, name) for name in (target.at(str(held)), referrer.source))
    if wanted <= own:
        return False
    if own <= wanted:
        return True
    raise FarmError(
        f"tag {target}: it has what {referrer.source} does not have, and lacks what that has, so neither can take the"
        f" other's place; nothing was changed. Sign again what is signed in one place only, or remove the tag"
    )


def _layers(registries: Registries, name: Reference) -> Set[str]:
    document = registries.manifest(name)
    raw = json.loads(document.content) if document else {}
    listed = raw.get("layers", raw.get("manifests"))
    return {name.digest} if listed is None else {str(one.get("digest")) for one in listed}


def _tag(registries: Registries, waiting: Waiting) -> None:
    source = waiting.referrer.source
    document = registries.manifest(source)
    if document is None:
        raise FarmError(f"{source} is gone from its registry; run again")
    registries.put(waiting.target, document.media_type, document.content)


def _list(registries: Registries, several: Sequence[Waiting]) -> None:
    """Let a repository list what it has got; a registry that lists by itself has done so already."""
    (first, *_more) = several
    target, subject = first.target, first.referrer.subject
    held = _listed(registries, target, subject, to_push=True)
    there = {str(entry["digest"]) for entry in held}
    fresh = [json.loads(one.referrer.entry) for one in several if one.referrer.source.digest not in there]
    if fresh:
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*held, *fresh]}
        registries.put(_named(target, _flat(subject)), OCI_INDEX, json.dumps(index).encode())


def _flat(digest: str) -> str:
    return digest.replace(":", "-")


def _named(name: Reference, tag: str) -> Reference:
    return Reference(name.registry, name.path, tag)
