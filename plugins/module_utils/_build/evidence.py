# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read to decide about images: their results, and the records of these."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

from .._core.parallel import each
from .._docker.reference import Reference
from .._image.index import Index, attestation_subject
from .._key.inputs import Inputs
from .._key.record import ForeignRecord, Record
from .._key.sources import Source
from .._key.store import Records
from .._platform.platform import Platform
from .._registry.client import Registries
from .decision import Evidence, Found
from .declaration import ALWAYS, WHEN_CHANGED, Image
from .destination import Destination, Location
from .inputs import Contexts, and_all, and_checks, and_exporter, read_inputs
from .output import ENGINE, FILE, REGISTRY
from .state import State


def inputs_of(
    image: Image, destinations: Sequence[Destination], annotated: bool, contexts: Contexts, docker_config: Path
) -> Dict[Location, Inputs]:
    """Return what each result is made of.

    :param annotated: whether what the image's tags stand for holds its record.
    :raises FarmError: something cannot be read.
    """
    inputs = read_inputs(image, contexts, docker_config)
    found: Dict[Location, Inputs] = {}
    for destination in destinations:
        output = destination.output
        if destination.kind == REGISTRY:
            pushed = and_checks(and_exporter(inputs, output), image)
            made = pushed if annotated else and_all(pushed, image)
            found.update({Location(REGISTRY, tag): made for tag in (*image.tags, *image.copies)})
        elif destination.kind == ENGINE:
            made = and_all(and_exporter(inputs, output), image)
            found.update({Location(ENGINE, tag): made for tag in image.tags})
        elif output.dest:
            found[Location(FILE, output.dest)] = and_all(and_exporter(inputs, output), image)
    return found


def read_evidence(
    image: Image,
    rebuild: str,
    state: State,
    inputs: Mapping[Location, Inputs],
    annotated: bool,
    records: Records,
    registries: Registries,
) -> Evidence:
    """Return what there is of an image, without what became of what it fetched.

    :param annotated: whether what its tags stand for holds its record.
    :raises FarmError: a registry cannot be read.
    """
    if rebuild == ALWAYS:
        return Evidence(state, inputs)
    found: Dict[Location, Found] = {}
    for location in state.results:
        try:
            if annotated and location.kind == REGISTRY:
                index = state.registry[location.name]
                found[location] = Record.from_annotations(dict(index.annotations)) if index else None
            else:
                found[location] = records.read(image.record_name(location))
        except ForeignRecord as exc:
            found[location] = str(exc)
    indexes = {index.digest: index for index in state.registry.values() if annotated and index}
    gone = {digest: _gone(registries, image.references, index) for digest, index in indexes.items()}
    return Evidence(state, inputs, found, gone)


def sources_of(rebuild: str, evidence: Evidence) -> Tuple[Source, ...]:
    """Return what has to be asked for again: what the builds fetched whose records have the key of today."""
    if rebuild != WHEN_CHANGED:
        return ()
    return tuple(
        source
        for location, record in evidence.records.items()
        if isinstance(record, Record) and record.key == evidence.inputs[location].key
        for source in record.sources
    )


def _gone(registries: Registries, tags: Sequence[Reference], index: Index) -> Tuple[Platform, ...]:
    """Return the platforms of which one of the repositories lacks the image or an attestation."""
    subjects = {entry.digest: entry.platform for entry in index.manifests if entry.platform}
    parts: List[Tuple[Platform, str]] = [(platform, digest) for digest, platform in subjects.items()]
    for entry in index.attestations:
        platform = subjects.get(attestation_subject(entry))
        if platform:
            parts.append((platform, entry.digest))
    repositories = {tag.repository: tag for tag in tags}.values()
    wanted = [(platform, name.at(digest)) for platform, digest in parts for name in repositories]
    present = each(wanted, lambda pair: registries.manifest(pair[1]) is not None)
    return tuple(dict.fromkeys(platform for (platform, _name), there in zip(wanted, present) if not there))
