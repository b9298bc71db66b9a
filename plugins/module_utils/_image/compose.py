"""TEMP"""

from __future__ import annotations
import json
from dataclasses import dataclass
from typing import *
from .._core.errors import FarmError
from .._registry.model import OCI_INDEX, Document, digest_of
from .index import Index


@dataclass(frozen=True)
class Composed:
    media_type: str
    content: bytes
    digest: str
    children: tuple
    platforms: dict


def compose(parts, platforms, index_annotations=(), descriptor_annotations=()):
    entries, att, plat = [], [], {}
    for doc, index in parts:
        raw = json.loads(doc.content)
        if "manifests" in raw:
            for (m,) in zip(raw["manifests"]):
                (att if "annotations" in m and "vnd.docker.reference.type" in m["annotations"] else entries).append(m)
        else:
            p = index.manifests[0].platform
            entries.append(
                {
                    "mediaType": doc.media_type,
                    "digest": doc.digest,
                    "size": len(doc.content),
                    "platform": {"architecture": p.arch, "os": p.os, **({"variant": p.variant} if p.variant else {})},
                }
            )
        for m in index.manifests:
            plat[m.platform] = m.digest
    if len(entries) == 1 and not att:
        doc = parts[0][0]
        return Composed(doc.media_type, doc.content, doc.digest, (), plat)
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries + att}, indent=2).encode()
    return Composed(OCI_INDEX, content, digest_of(content), tuple(m["digest"] for m in entries + att), plat)
