# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a build: its key and what that was made of, stored with its result.

With an image in a registry it is in annotations of what the tags stand for, the index or the only manifest. They are
part of its digest, so that nothing can separate the two, and other than labels no image inherits them that is built
from this one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._source.packing import inflated
from .._source.record import LARGEST, compact, differences, packed, words
from .inputs import SCHEMA, Inputs
from .sources import Source

_PREFIX = "io.github.buildfarm.multiarch."
KEY, SCHEMA_OF, INPUTS = f"{_PREFIX}key", f"{_PREFIX}schema", f"{_PREFIX}inputs"
#: Bytes of the record at most: whoever pulls the image reads them too.
ROOM = 32 * 1024 - 512
#: Characters of a digest that are recorded: enough to see a difference, too few to prove a guess of a value.
_SHORT = 8
#: What comes of reading a record that anybody may have written.
_BROKEN = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


class ForeignRecord(Exception):
    """A record that this version cannot read."""


@dataclass(frozen=True)
class Record:
    """What is stored of a build.

    :ivar fields: digests of single values, shortened, see ``Inputs``.
    :ivar trees: the directories that were sent, as ``compact`` wrote them.
    :ivar images: the digests of the image's manifests by platform, where it is an index.
    :ivar content: what the result was, where the record lies beside it.
    """

    key: str
    fields: Mapping[str, str]
    trees: Mapping[str, Any]
    sources: Tuple[Source, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    content: Optional[str] = None

    @classmethod
    def of(
        cls,
        inputs: Inputs,
        sources: Tuple[Source, ...],
        images: Mapping[str, str],
        content: Optional[str] = None,
    ) -> Record:
        """Return the record of a build, with as much of the directories as there is room for."""
        fields = {words: digest[:_SHORT] for words, digest in inputs.fields.items()}
        bare = cls(inputs.key, fields, {}, sources, images, content)
        room = (ROOM - len(bare._packed())) // max(1, len(inputs.trees))
        trees = {name: compact(tree, max(0, room)) for name, tree in inputs.trees.items()}
        return cls(inputs.key, fields, trees, sources, images, content)

    @property
    def annotations(self) -> Dict[str, str]:
        """The annotations that hold the record."""
        return {KEY: self.key, SCHEMA_OF: str(SCHEMA), INPUTS: self._packed()}

    @classmethod
    def from_annotations(cls, annotations: Mapping[str, str]) -> Optional[Record]:
        """Return the record in an image's annotations, None where there is none.

        :raises ForeignRecord: another version wrote it, or it is broken.
        """
        if KEY not in annotations:
            return None
        if annotations.get(SCHEMA_OF) != str(SCHEMA):
            raise ForeignRecord(f"schema {annotations.get(SCHEMA_OF)}, wanted {SCHEMA}")
        try:
            return cls._from_dict(annotations[KEY], json.loads(inflated(annotations.get(INPUTS, ""), LARGEST)))
        except _BROKEN as exc:
            raise ForeignRecord(f"broken: {exc}") from exc

    def to_json(self) -> bytes:
        """Return the record as the content of a file."""
        return json.dumps({"key": self.key, "schema": SCHEMA, **self._as_dict()}, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Record:
        """Read what ``to_json`` returned.

        :raises ForeignRecord: another version wrote it, or it is broken.
        """
        try:
            raw = json.loads(content)
            if raw["schema"] != SCHEMA:
                raise ForeignRecord(f"schema {raw['schema']}, wanted {SCHEMA}")
            return cls._from_dict(raw["key"], raw)
        except _BROKEN as exc:
            raise ForeignRecord(f"broken: {exc}") from exc

    def changes(self, inputs: Inputs) -> List[str]:
        """Return what differs between the recorded inputs and others, in words, most important first."""
        found: List[str] = []
        for name, tree in inputs.trees.items():
            where = f"{name}: " if name else ""
            if name in self.trees:
                try:
                    found += [where + text for text in words(differences(self.trees[name], tree))]
                except _BROKEN:
                    found.append(f"{where}the context differs from what its record can tell")
            else:
                found.append(f"named context {name} is new" if name else "the context is a directory now")
        found += [f"named context {name} is gone" for name in self.trees if name and name not in inputs.trees]
        for name in {**inputs.fields, **self.fields}:
            before, after = self.fields.get(name), inputs.fields.get(name, "")[:_SHORT]
            if before != (after or None):
                found.append(f"{name} {'changed' if before and after else 'is new' if after else 'is gone'}")
        return list(dict.fromkeys(found))

    def _as_dict(self) -> Dict[str, Any]:
        return {
            "fields": dict(self.fields),
            "trees": dict(self.trees),
            "sources": [source.as_list() for source in self.sources],
            "images": dict(self.images),
            **({"content": self.content} if self.content else {}),
        }

    @classmethod
    def _from_dict(cls, key: str, raw: Mapping[str, Any]) -> Record:
        """Read a record.

        :raises ValueError: it is broken, as with KeyError and TypeError.
        """
        sources = tuple(Source.from_list(values) for values in raw["sources"])
        return cls(key, dict(raw["fields"]), dict(raw["trees"]), sources, dict(raw["images"]), raw.get("content"))

    def _packed(self) -> str:
        return packed(self._as_dict())
