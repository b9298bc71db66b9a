# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Comparing what a registry has of an image with what is wanted of it; one line for each difference."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from typing import Any, List, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .contents import Contents, Part
from .declaration import Wanted, WantedProvenance
from .index import Index
from .sbom import sbom_problems

_FAMILIES = {"oci": "application/vnd.oci.", "docker": "application/vnd.docker."}


def problems(wanted: Wanted, contents: Contents) -> List[str]:
    """Return how an image differs from what is wanted, empty if it does not; see ``query_results`` for queries."""
    if contents.kind != "image":
        return [f"it is no image but {_KIND_NAMES[contents.kind]} ({contents.index.media_type})"]
    found = []
    if wanted.digest and wanted.digest != contents.index.digest:
        found.append(f"its digest is {contents.index.digest}, wanted {wanted.digest}")
    found += [f"it names {digest}, which the registry does not have" for digest in contents.gone]
    found += platform_problems(wanted, contents.index)
    found += _media_type_problems(wanted.media_types, contents)
    found += _annotation_problems(wanted.annotations, contents)
    for part in contents.images:
        if part.document is not None:
            found += [f"{part.entry.platform}: {problem}" for problem in _part_problems(wanted, part)]
    return found


_KIND_NAMES = {
    "artifact": "an artifact",
    "attestation": "an attestation",
    "cache": "a cache of BuildKit",
    "sbom": "an SBOM",
    "signature": "a signature",
}


def may_pass(wanted: Wanted, contents: Optional[Contents]) -> bool:
    """Return whether an image differs in a way that a registry whose readers lag behind may mend by itself."""
    if contents is None or contents.gone:
        return True
    return bool(wanted.digest) and wanted.digest != contents.index.digest


def query_results(wanted: Wanted, document: Mapping[str, Any]) -> Tuple[List[Any], List[str]]:
    """Return what each query finds in an image, and a problem for each that is not true.

    :param document: all that was read of the image.
    """
    results, found = [], []
    for query in wanted.queries:
        try:
            result = query.search(document)
        except FarmError as exc:
            result = None
            found.append(exc.message)
        else:
            if not result:
                found.append(f"query {query.text!r} finds {result!r}, wanted something that is true")
        results.append(result)
    return results, found


def platform_problems(wanted: Wanted, index: Index) -> List[str]:
    """Return how the platforms of an index differ from those that are wanted."""
    found = [
        f"{platform} is there {len(digests)} times, of which engines take the first: {', '.join(digests)}"
        for platform, digests in index.repeated.items()
    ]
    missing = [str(platform) for platform in wanted.platforms if platform not in index.platforms]
    unexpected = [str(platform) for platform in index.platforms if platform not in wanted.platforms]
    if not wanted.platforms or not wanted.exact:
        unexpected = []
    if missing or unexpected:
        differences = (("missing", missing), ("unexpected", unexpected))
        parts = [f"{kind} {', '.join(platforms)}" for kind, platforms in differences if platforms]
        there = ", ".join(str(platform) for platform in index.platforms) or "none"
        names = ", ".join(str(item) for item in wanted.platforms)
        found.append(f"{', '.join(parts)} (platforms found: {there}; wanted: {names})")
    elif not index.platforms:
        found.append("it has no image for any platform")
    return found


def _media_type_problems(family: Optional[str], contents: Contents) -> List[str]:
    if not family:
        return []
    found = {contents.index.digest: contents.index.media_type}
    found.update((part.entry.digest, part.entry.media_type) for part in contents.images)
    for part in contents.images:
        found.update((str(blob.get("digest")), str(blob.get("mediaType"))) for blob in part.blobs)
    return [
        f"{digest} is {media_type}, wanted {_FAMILIES[family]}*"
        for digest, media_type in found.items()
        if not media_type.startswith(_FAMILIES[family])
    ]


def _annotation_problems(annotations: Mapping[str, Optional[str]], contents: Contents) -> List[str]:
    own, found = dict(contents.index.annotations), []
    for name, value in annotations.items():
        if name in own:
            if value not in (None, own[name]):
                found.append(f"annotation {name} is {own[name]!r}, wanted {value!r}")
            continue
        for part in contents.images:
            if part.document is not None:
                problem = _difference("annotation", name, value, part.annotations)
                found += [f"{part.entry.platform}: {problem}"] if problem else []
    return found


def _part_problems(wanted: Wanted, part: Part) -> List[str]:
    found = [_difference("label", name, value, part.labels) for name, value in wanted.labels.items()]
    if wanted.max_size is not None and part.size > wanted.max_size:
        found.append(f"its config and layers have {part.size} bytes, wanted {wanted.max_size} at most")
    if wanted.max_age is not None:
        found.append(_age_problem(part.created, wanted.max_age))
    if wanted.sbom is not None and wanted.sbom != any(one.is_sbom for one in part.attestations):
        found.append("it has no SBOM, wanted one" if wanted.sbom else "it has an SBOM, wanted none")
    if wanted.sbom_contents:
        documents = part.sboms
        missing = [] if wanted.sbom else ["it has no SBOM, wanted one"]
        found += sbom_problems(wanted.sbom_contents, documents) if documents else missing
    if wanted.provenance:
        found += _provenance_problems(wanted.provenance, part)
    return [problem for problem in found if problem]


def _provenance_problems(wanted: WantedProvenance, part: Part) -> List[Optional[str]]:
    provenance = part.provenance
    if provenance is None:
        return ["it has no provenance, wanted some"]
    found: List[Optional[str]] = []
    for name, value, pattern in (
        ("builder", provenance.builder, wanted.builder),
        ("source", provenance.source, wanted.source),
    ):
        if pattern is not None and not re.search(pattern, value):
            found.append(f"its provenance names the {name} {value!r}, wanted a match of {pattern!r}")
    if wanted.revision is not None and wanted.revision != provenance.revision:
        found.append(f"its provenance names the revision {provenance.revision!r}, wanted {wanted.revision!r}")
    for base, digest in wanted.bases.items():
        built_from = provenance.bases.get(base)
        if built_from is None:
            names = ", ".join(provenance.bases) or "none"
            found.append(f"its provenance names no base image {base} (base images found: {names})")
        elif digest not in (None, built_from):
            found.append(f"it was built from {base} at {built_from}, wanted {digest}")
    return found


def _age_problem(created: str, limit: float) -> Optional[str]:
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:?\d\d)\Z", created)
    if not match:
        return f"its config says {created!r} of when it was created, wanted a time"
    zone = match.group(2).replace(":", "").replace("Z", "+0000")
    when = datetime.strptime(match.group(1) + zone, "%Y-%m-%dT%H:%M:%S%z").astimezone(timezone.utc)
    age = time.time() - when.timestamp()
    return f"it was created at {created}, {age:.0f} s ago, wanted {limit:.0f} s at most" if age > limit else None


def _difference(kind: str, name: str, wanted: Optional[str], found: Mapping[str, Any]) -> Optional[str]:
    if name not in found:
        return f"it has no {kind} {name}, wanted {'one' if wanted is None else repr(wanted)}"
    if wanted not in (None, found[name]):
        return f"{kind} {name} is {found[name]!r}, wanted {wanted!r}"
    return None
