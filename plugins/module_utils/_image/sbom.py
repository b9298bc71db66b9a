# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What bills of materials (SBOMs) say of an image: their format, and the packages that they name.

Sources: SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/, clauses 6.1, 7.1 and 7.3), SPDX 3.0 (classes CreationInfo and
Package), CycloneDX 1.6 (``specVersion``, ``components``). BuildKit takes what its scanner writes, and puts files and
relationships of its own beside (BuildKit ``docs/attestations/sbom.md``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

#: A package's name and version; the latter empty where the document does not say.
Package = Tuple[str, str]
#: Packages that are named at most where one is missing.
_NAMED = 5


@dataclass(frozen=True)
class Sbom:
    """What one document says.

    :ivar format: with its version, as ``SPDX-2.3``; empty where it is none that is known.
    """

    format: str
    packages: FrozenSet[Package]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Sbom:
        """Read a document, as it is the predicate of a statement."""
        if document.get("bomFormat") == "CycloneDX":
            parts = _components(document.get("components"))
            return cls(f"CycloneDX-{document.get('specVersion') or ''}".rstrip("-"), frozenset(parts))
        graph = _objects(document.get("@graph"))
        if graph:
            versions = sorted(str(one["specVersion"]) for one in graph if one.get("specVersion"))
            found = (one for one in graph if str(one.get("type")).rpartition("_")[2] == "Package")
            named = (_package(one, "software_packageVersion") for one in found)
            return cls(f"SPDX-{versions[-1]}" if versions else "SPDX", frozenset(one for one in named if one[0]))
        named = (_package(one, "versionInfo") for one in _objects(document.get("packages")))
        return cls(str(document.get("spdxVersion") or ""), frozenset(one for one in named if one[0]))


@dataclass(frozen=True)
class WantedSbom:
    """What the bills of materials of each platform's image have to say.

    :ivar format: of each of them; one without a version accepts any of that.
    :ivar packages: that have to be in one of them, with their versions; None for a version accepts any.
    :ivar without: that must be in none of them, likewise.
    :ivar count: how many packages they have to name at least.
    """

    format: Optional[str] = None
    packages: Mapping[str, Optional[str]] = field(default_factory=dict)
    without: Mapping[str, Optional[str]] = field(default_factory=dict)
    count: int = 0


def packages_of(documents: Sequence[Sbom]) -> FrozenSet[Package]:
    """Return all packages that are named, each once."""
    return frozenset(one for document in documents for one in document.packages)


def sbom_problems(wanted: WantedSbom, documents: Sequence[Sbom]) -> List[str]:
    """Return how bills of materials differ from what is wanted of them; there is at least one."""
    found = [
        f"its SBOM is {text or 'in no format that is known'}, wanted {wanted.format}"
        for text in sorted({document.format for document in documents})
        if wanted.format and not f"{text}-".lower().startswith(f"{wanted.format}-".lower())
    ]
    named = packages_of(documents)
    versions: Dict[str, List[str]] = {}
    for name, version in sorted(named):
        versions.setdefault(name, []).append(version)
    for name, required in wanted.packages.items():
        if name not in versions:
            found.append(f"its SBOM names no package {name} ({_some(versions)})")
        elif required is not None and required not in versions[name]:
            there = ", ".join(one or "of no version" for one in versions[name])
            found.append(f"its SBOM names the package {name} {there}, wanted {required}")
    for name, refused in wanted.without.items():
        wrong = [one for one in versions.get(name, ()) if refused in (None, one)]
        found += [f"its SBOM names the package {' '.join(filter(None, (name, one)))}, wanted none" for one in wrong]
    if len(named) < wanted.count:
        found.append(f"its SBOM names {len(named)} packages, wanted {wanted.count} at least")
    return found


def _some(versions: Mapping[str, Any]) -> str:
    names = list(versions)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"packages found: {', '.join(names[:_NAMED]) or 'none'}{more}"


def _components(listed: Any) -> Iterator[Package]:
    """Yield what CycloneDX names, with what is within it."""
    for one in _objects(listed):
        name, version = _package(one, "version")
        # Maven's have their names in two parts.
        whole = f"{one['group']}/{name}" if one.get("group") else name
        if name and one.get("type") != "file":
            yield whole, version
        yield from _components(one.get("components"))


def _package(raw: Mapping[str, Any], version: str) -> Package:
    said = str(raw.get(version) or "")
    return str(raw.get("name") or ""), "" if said in ("NOASSERTION", "NONE") else said


def _objects(listed: Any) -> List[Mapping[str, Any]]:
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
