# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""OCI layouts: an image each, as nodes export their shares, joined to one directory or archive.

Sources: the OCI image specification (image-layout.md); for the names in ``index.json`` and which entries stay, BuildKit
``client/ociindex/ociindex.go``; for the order and the modes in an archive, containerd ``images/archive/exporter.go``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._core.archives import Member
from .._core.errors import FarmError
from .._core.files import read_bytes, write_atomically
from .._docker.reference import Reference
from .._image.compose import Composed, Part, compose
from .._image.index import Index, resolved
from .._platform.platform import Platform
from .._registry.model import Document, checked_digest, digest_of

#: The time of an export, which differs between two exports of one image.
CREATED = "org.opencontainers.image.created"
_NAME, _TAG = "io.containerd.image.name", "org.opencontainers.image.ref.name"
_BLOBS = os.path.join("blobs", "sha256")
_INDEX, _VERSION = "index.json", "oci-layout"
#: What an archive may write: nothing outside of a layout.
_MEMBER = re.compile(r"(?:blobs/sha256/[0-9a-f]{64}|index\.json|oci-layout)\Z")


@dataclass(frozen=True)
class Declared:
    """What a joined image has to be.

    :ivar index: annotations of its index.
    :ivar descriptors: annotations of the descriptors in its index.
    :ivar layout: annotations of the index's descriptor in the layout.
    """

    platforms: Tuple[Platform, ...]
    names: Tuple[Reference, ...] = ()
    index: Tuple[Tuple[str, str], ...] = ()
    descriptors: Tuple[Tuple[Optional[Platform], str, str], ...] = ()
    layout: Tuple[Tuple[str, str], ...] = ()

    @property
    def by_platform(self) -> Dict[Optional[Platform], Dict[str, str]]:
        """The annotations of descriptors by their platforms, those of None for all."""
        found: Dict[Optional[Platform], Dict[str, str]] = {}
        for platform, key, value in self.descriptors:
            found.setdefault(platform, {})[key] = value
        return found


def join(layouts: Sequence[str], target: str, declared: Declared, default_tag: str = "") -> None:
    """Make one layout of several, whose blobs move into it.

    :param target: the directory to be made.
    :param default_tag: the name of an image without names; empty for none.
    :raises FarmError: a layout is broken, or what they hold together is not what is declared.
    """
    found = [_read(layout) for layout in layouts]
    parts = [part for part, _created in found]
    composed = compose(
        parts, declared.platforms, index_annotations=dict(declared.index), descriptor_annotations=declared.by_platform
    )
    for layout, part in zip(layouts, parts):
        if part.document.digest not in (composed.digest, *composed.children):
            # The index of a share, which nothing names any more.
            os.unlink(_blob(layout, part.document.digest))
        add_blobs(layout, target)
    write_atomically(_blob(target, composed.digest), composed.content)
    write_atomically(os.path.join(target, _VERSION), b'{"imageLayoutVersion":"1.0.0"}')
    entries = _entries(composed, declared, max(created for _part, created in found), default_tag)
    _write_entries(target, entries)


def add_blobs(layout: str, target: str) -> None:
    """Move the blobs of a layout into another one, which need not exist; those that are there stay."""
    os.makedirs(os.path.join(target, _BLOBS), exist_ok=True)
    folder = os.path.join(layout, _BLOBS)
    for name in os.listdir(folder):
        destination = os.path.join(target, _BLOBS, name)
        if not os.path.exists(destination):
            os.replace(os.path.join(folder, name), destination)


def names_in(entry: Mapping[str, Any]) -> List[str]:
    """Return the names of the image that an entry of ``index.json`` is about.

    buildx 0.13 writes all of them where later versions write a tag.
    """
    name, tag = _named(entry)
    return str(name or tag or "").split(",")


def keep_others(layout: str, target: str) -> None:
    """Add to a layout's ``index.json`` the entries of another one that have other names; their blobs are there only.

    :raises FarmError: one of them is broken.
    """
    if not os.path.lexists(os.path.join(target, _INDEX)):
        return
    own, others = _manifests(layout), _manifests(target)
    names = [_named(entry) for entry in own]
    _write_entries(layout, [entry for entry in others if _named(entry) not in names] + own)


def write_index(layout: str, target: str) -> None:
    """Let a layout hold what another one does, whose blobs it has.

    :raises OSError: it cannot be written.
    """
    for name in (_VERSION, _INDEX):
        write_atomically(os.path.join(target, name), read_bytes(os.path.join(layout, name)) or b"")


def pack(layout: str, path: str) -> None:
    """Write a layout as an archive, the same bytes for the same content."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("blobs", _BLOBS, *(os.path.join(_BLOBS, one) for one in _blobs(layout)), _INDEX, _VERSION):
            source = os.path.join(layout, name)
            entry = tarfile.TarInfo(name)
            if os.path.isdir(source):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
                continue
            entry.size, entry.mode = os.path.getsize(source), 0o444
            with open(source, "rb") as stream:
                archive.addfile(entry, stream)


def unpack(path: str, layout: str) -> None:
    """Write what an archive holds of an image into a directory.

    :raises FarmError: it is no archive.
    """
    os.makedirs(os.path.join(layout, _BLOBS))
    try:
        with tarfile.open(path, "r:", tarinfo=Member) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() and _MEMBER.match(member.name) else None
                if stream:
                    with open(os.path.join(layout, member.name), "wb") as target:
                        shutil.copyfileobj(stream, target, 1 << 20)
    except tarfile.TarError as exc:
        raise FarmError(f"{path}: buildx exported it as an OCI archive, and it is none: {exc}") from exc


def image_in(layout: str) -> str:
    """Return the digest of the image of a layout that has one: of its only manifest, else of its index.

    BuildKit takes a manifest for any platform, as it does of a build that says for none what it is for.

    :raises FarmError: the layout is broken, or has none or several.
    """
    part, _created = _read(layout)
    images = Index.parse(part.document).manifests
    return images[0].digest if len(images) == 1 else part.document.digest


def _read(layout: str) -> Tuple[Part, str]:
    """Return the image that a node exported, and when.

    :raises FarmError: the layout is broken, or has none or several.
    """
    entries = _manifests(layout)
    if len({str(entry.get("digest")) for entry in entries}) != 1:
        raise FarmError(f"{layout}: {len(entries)} entries in {_INDEX}; wanted one image, as BuildKit exports it")
    digest = str(entries[0]["digest"])
    content = _document(layout, digest)
    if content is None:
        raise FarmError(f"{layout}: {_INDEX} names {digest}, which is not in it")
    document = Document(digest, str(entries[0].get("mediaType") or ""), content)

    def blob(of: str) -> Optional[bytes]:
        return _document(layout, of)

    created = (entries[0].get("annotations") or {}).get(CREATED)
    manifests = resolved(Index.parse(document), blob, blob).manifests
    platforms = tuple(entry.platform for entry in manifests if entry.platform)
    return Part(document, platforms, manifests[0].os_version if manifests else ""), str(created or "")


def _manifests(layout: str) -> List[Mapping[str, Any]]:
    path = os.path.join(layout, _INDEX)
    content = read_bytes(path)
    if content is None:
        raise FarmError(f"{path} is missing; wanted an OCI layout")
    try:
        return [dict(entry) for entry in json.loads(content).get("manifests") or ()]
    except (ValueError, TypeError, AttributeError) as exc:
        raise FarmError(f"{path} is no index of an OCI layout: {exc}; remove it, or choose another dest") from exc


def _entries(composed: Composed, declared: Declared, created: str, default_tag: str) -> List[Mapping[str, Any]]:
    """Return the entries of ``index.json``: the image by each of its names."""
    common = {**({CREATED: created} if created else {}), **dict(declared.layout)}
    named: List[Dict[str, str]] = [{_NAME: str(name), _TAG: name.tag} for name in declared.names]
    return [
        {
            "mediaType": composed.media_type,
            "digest": composed.digest,
            "size": len(composed.content),
            "annotations": dict(sorted({**common, **name}.items())),
        }
        for name in named or [{_TAG: default_tag} if default_tag else {}]
    ]


def _named(entry: Mapping[str, Any]) -> Tuple[Any, Any]:
    annotations = entry.get("annotations") or {}
    return annotations.get(_NAME), annotations.get(_TAG)


def _write_entries(layout: str, entries: Sequence[Mapping[str, Any]]) -> None:
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": list(entries)}
    write_atomically(os.path.join(layout, _INDEX), json.dumps(index).encode())


def _blobs(layout: str) -> List[str]:
    return sorted(os.listdir(os.path.join(layout, _BLOBS)))


def _document(layout: str, digest: str) -> Optional[bytes]:
    """Return a small blob of a layout that a node exported, None where there is none.

    :raises FarmError: the digest is none, or not that of what is there.
    """
    content = read_bytes(_blob(layout, digest))
    if content is not None and digest_of(content) != digest:
        raise FarmError(f"{layout}: what it has as {digest} is something else; build it again")
    return content


def _blob(layout: str, digest: str) -> str:
    return os.path.join(layout, _BLOBS, checked_digest(digest, layout).rpartition(":")[2])
