# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of a task with all that is found out about them before a node is asked for anything."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Sequence, Tuple

from .._buildx.cli import Version
from .._core.parallel import each
from .._key.fetcher import Fetcher
from .._key.store import Records
from .decision import Evidence, and_bases, decide, for_takers
from .declaration import ALWAYS, Declaration, Image
from .evidence import inputs_of, read_evidence, sources_of
from .farm import Farm
from .inputs import Contexts, and_all, and_linked, read_inputs
from .order import bases_of, in_order
from .plan import Subject, is_built_by_node
from .state import read_state


def find_subjects(
    declaration: Declaration, farm: Farm, version: Version, fetcher: Fetcher, records: Records
) -> List[Subject]:
    """Return the images of a task, each with what is there of it and with what is done about it.

    :param version: buildx's.
    :raises FarmError: something cannot be read, or images are built from each other.
    """
    images, bases = declaration.images, bases_of(declaration.images)
    contexts = Contexts(str(farm.store.directory / "buildfarm" / "contents"))

    def read(number: int) -> Tuple[Subject, Evidence]:
        image, there = images[number], farm.destinations[number]
        state = read_state(image, there, farm.registries, farm.contexts, lenient=True)
        by_node = is_built_by_node(declaration, image, farm, version)
        annotated = by_node and not image.has_docker_types
        inputs = inputs_of(image, there, annotated, contexts, farm.docker_config)
        for base in _linked(image, images):
            linked = and_all(read_inputs(base, contexts, farm.docker_config), base)
            inputs = {location: and_linked(one, base.title, linked) for location, one in inputs.items()}
        evidence = read_evidence(image, declaration.rebuild, state, inputs, annotated, records, farm.registries)
        return Subject(image, number, bases[number], there, by_node, annotated, state, inputs), evidence

    found = each(range(len(images)), read)
    sources = [source for _one, evidence in found for source in sources_of(declaration.rebuild, evidence)]
    changes = fetcher.changes(sources)
    subjects = [
        replace(one, decision=decide(one.image, declaration.rebuild, replace(evidence, changes=changes), one.annotated))
        for one, evidence in found
    ]
    for number in in_order(bases) if declaration.rebuild != ALWAYS else ():
        one = subjects[number]
        built = [subjects[base] for base in sorted(set(one.bases.values())) if subjects[base].decision.builds]
        # One that is gone may well come out as it was.
        differ = any(base.decision.certain and any(base.state.as_dict().values()) for base in built)
        decision = and_bases(one.image, one.decision, [base.image.name for base in built], differ)
        subjects[number] = replace(one, decision=decision)
    for number in reversed(in_order(bases)):
        one = subjects[number]
        takers = [other.image.name for other in subjects if other.decision.builds and _links(other, one)]
        if takers and not one.image.is_pushed:
            subjects[number] = replace(one, exported=True, decision=for_takers(one.image, one.decision, takers))
    return subjects


def _linked(image: Image, images: Sequence[Image]) -> List[Image]:
    """Return the images that are contexts of an image's build and in no registry, so that nothing tells of them."""
    found: List[Image] = []
    for _name, title in image.links:
        for base in images:
            if base.title == title and not base.is_pushed:
                found += [base, *_linked(base, images)]
    return found


def _links(image: Subject, base: Subject) -> bool:
    return any(title == base.image.title for _name, title in image.image.links)
