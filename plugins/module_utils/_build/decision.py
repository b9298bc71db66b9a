# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an image is built, for which platforms, and why: from what there is, and from what it is made of.

Everything that is asked for has been asked for before: nothing here reads or changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from .._image.index import Index
from .._key.fetcher import Change
from .._key.inputs import Inputs
from .._key.record import Record
from .._key.sources import Source
from .._platform.platform import Platform
from .declaration import ALWAYS, NEVER, WHEN_CHANGED, Image
from .destination import Location
from .output import REGISTRY
from .state import State, Told

#: A record, none, or why the one that is there cannot be read.
Found = Union[Record, str, None]


@dataclass(frozen=True)
class Evidence:
    """What there is of an image, and what became of what it was made of.

    :ivar inputs: of each result.
    :ivar records: likewise.
    :ivar gone: of the indexes in the state, by digest, the platforms of which a repository lacks a part.
    :ivar changes: of what the recorded builds fetched, that which is not the same any more, with how it is said.
    """

    state: State
    inputs: Mapping[Location, Inputs]
    records: Mapping[Location, Found] = field(default_factory=dict)
    gone: Mapping[str, Sequence[Platform]] = field(default_factory=dict)
    changes: Mapping[Source, Change] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """What an image takes over from the one that is in the registry.

    :ivar tag: that stands for it.
    :ivar whole: it is taken over as it is, byte by byte.
    """

    tag: str
    digest: str
    platforms: Tuple[Platform, ...]
    record: Record
    whole: bool


@dataclass(frozen=True)
class Decision:
    """What is done about an image.

    :ivar platforms: those that are built; with none declared, that of the node.
    :ivar publishes: whether tags are written.
    :ivar kept: what of the image is not built again.
    :ivar certain: whether the result cannot be what is there.
    :ivar reasons: sentences, most important first; none where there is nothing to do.
    """

    builds: bool
    platforms: Tuple[Platform, ...] = ()
    publishes: bool = False
    kept: Optional[Kept] = None
    certain: bool = False
    reasons: Tuple[str, ...] = ()

    @property
    def acts(self) -> bool:
        """Whether anything is done."""
        return self.builds or self.publishes


NOTHING = Decision(False)


def decide(image: Image, rebuild: str, evidence: Evidence, annotated: bool) -> Decision:
    """Return what is done about an image.

    :param rebuild: ALWAYS, NEVER if there is a result, or WHEN_CHANGED.
    :param annotated: whether what its tags stand for holds the record, so that a part of it can be built alone.
    """
    results = evidence.state.results
    if rebuild == ALWAYS:
        return _whole(image, ["the option rebuild is always"], certain=False)
    if not results and image.only_linked:
        return NOTHING
    if not results:
        return _whole(image, ["its result stays in the builder's cache, which tells nothing"], certain=False)
    beside = [location for location in results if not (annotated and location.kind == REGISTRY)]
    reasons: List[str] = []
    certain = False
    for location in beside:
        found, differs = _of_result(location, results[location], rebuild, evidence)
        reasons += found
        certain = certain or differs
    in_registry = _of_registry(image, rebuild, evidence) if annotated and evidence.state.registry else NOTHING
    # Other results are of all platforms at once.
    if not reasons and not (beside and in_registry.builds):
        return in_registry
    joined = tuple(dict.fromkeys((*in_registry.reasons, *reasons)))
    return _whole(image, joined, certain or in_registry.certain)


def and_bases(image: Image, decision: Decision, built: Sequence[str], differ: bool) -> Decision:
    """Return what is done about an image whose bases of the same list are built in the same run.

    :param built: the names of these bases.
    :param differ: whether one of them is to become another image than the one that is there.
    """
    reasons = tuple(f"base image {name} is built in this run" for name in built)
    if not built:
        return decision
    return _whole(image, (*reasons, *decision.reasons), decision.certain or differ)


def for_takers(image: Image, decision: Decision, takers: Sequence[str]) -> Decision:
    """Return what is done about an image that is in no registry, and whose result builds of the same run take.

    :param takers: the names of the images that are built so.
    """
    if decision.builds and decision.platforms == image.platforms:
        return decision
    return _whole(image, (*decision.reasons, *(f"{name} is built from it" for name in takers)), decision.certain)


def _whole(image: Image, reasons: Sequence[str], certain: bool) -> Decision:
    return Decision(True, image.platforms, True, None, certain, tuple(reasons))


def _of_result(location: Location, found: Told, rebuild: str, evidence: Evidence) -> Tuple[List[str], bool]:
    """Return why a result with a record beside it is built, and whether it cannot be the same then."""
    in_registry = location.kind == REGISTRY
    shown = location.name if in_registry else str(location)
    if found is None:
        return [f"nothing is there under {shown}" if in_registry else f"{shown} is not there yet"], True
    if rebuild == NEVER:
        return [], False
    record = evidence.records.get(location)
    if not isinstance(record, Record):
        return [f"{shown}: {_no_record(record)}"], False
    changes = _declared_changes(record, evidence.inputs[location])
    changes += [change for _source, change in _moved(record, evidence)]
    if record.content != found["digest"]:
        # Files that were added to a directory stay there.
        changes.insert(0, Change(f"{shown} is not what was built there", False))
    return [change.words for change in changes], any(change.certain for change in changes)


def _of_registry(image: Image, rebuild: str, evidence: Evidence) -> Decision:
    """Return what is done about an image whose tags stand for documents that hold its record."""
    found = {name: index for name, index in evidence.state.registry.items() if index}
    tags = {tag: found[tag] for tag in image.tags if tag in found}
    if not tags:
        return _whole(image, [f"nothing is there under {', '.join(image.tags)}"], certain=True)
    tag, record = _candidate(tags, rebuild, evidence)
    if not isinstance(record, Record):
        if rebuild == NEVER:
            return NOTHING
        return _whole(image, [f"{tag}: {_no_record(record)}"], certain=True)
    inputs, index = evidence.inputs[Location(REGISTRY, tag)], found[tag]
    if rebuild == WHEN_CHANGED:
        changes = _declared_changes(record, inputs)
        if changes:
            return _whole(image, [change.words for change in changes], any(change.certain for change in changes))
    stale = _stale(image, rebuild, record, index, evidence)
    reasons = [change.words for change in dict.fromkeys(change for several in stale.values() for change in several)]
    certain = any(change.certain for several in stale.values() for change in several)
    kept = tuple(platform for platform in image.platforms if platform not in stale)
    if not kept:
        return _whole(image, reasons, certain)
    extra = [platform for platform in index.platforms if platform not in image.platforms]
    wrong = [other for other in evidence.state.registry if other not in found or found[other].digest != index.digest]
    others = [f"{platform} is not wanted any more" for platform in extra] + [_of_tag(one, found, tag) for one in wrong]
    if not stale and not others:
        return NOTHING
    return Decision(
        builds=bool(stale),
        platforms=tuple(platform for platform in image.platforms if platform in stale),
        publishes=True,
        kept=Kept(tag, index.digest, kept, record, whole=not stale and not extra),
        certain=certain or bool(others),
        reasons=tuple(reasons + others),
    )


def _candidate(found: Mapping[str, Index], rebuild: str, evidence: Evidence) -> Tuple[str, Found]:
    """Return the tag whose image is compared, and its record: one of the same key, else the first with a record."""
    records = {tag: evidence.records.get(Location(REGISTRY, tag)) for tag in found}
    same = [
        tag
        for tag, record in records.items()
        if isinstance(record, Record) and record.key == evidence.inputs[Location(REGISTRY, tag)].key
    ]
    recorded = [tag for tag, record in records.items() if isinstance(record, Record)]
    tag = (same or recorded or list(found))[0]
    return tag, records[tag]


def _stale(
    image: Image, rebuild: str, record: Record, index: Index, evidence: Evidence
) -> Dict[Platform, List[Change]]:
    """Return the platforms that are built again, and why."""
    present = {entry.platform: entry.digest for entry in index.manifests if entry.platform}
    gone = evidence.gone.get(index.digest, ())
    stale: Dict[Platform, List[Change]] = {}
    for platform in image.platforms:
        name = str(platform)
        found: List[Change] = []
        if platform not in present or platform in gone:
            found.append(Change(f"{name} is missing in the registry", platform not in present))
        elif record.images and record.images.get(name) != present[platform]:
            found.append(Change(f"{name} is another image than the one that was built", True))
        if rebuild == WHEN_CHANGED:
            found += [change for source, change in _moved(record, evidence) if name in source.targets]
        if found:
            stale[platform] = found
    return stale


def _declared_changes(record: Record, inputs: Inputs) -> List[Change]:
    """Return in what declaration and files differ from what was recorded, or why that cannot be told."""
    found: List[Change] = []
    if record.key != inputs.key:
        found += [Change(words, True) for words in record.changes(inputs) or ["what it is made of changed"]]
    return found + [Change(f"{doubt}, so whether anything changed cannot be told", False) for doubt in inputs.doubts]


def _moved(record: Record, evidence: Evidence) -> List[Tuple[Source, Change]]:
    return [(source, evidence.changes[source]) for source in record.sources if source in evidence.changes]


def _of_tag(tag: str, found: Mapping[str, Index], candidate: str) -> str:
    if tag not in found:
        return f"tag {tag} is missing"
    return f"tag {tag} stands for another image than {candidate}"


def _no_record(found: Union[str, None]) -> str:
    if found:
        return f"its record of how it was built cannot be read ({found})"
    return "there is no record of how it was built"
