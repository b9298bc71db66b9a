# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that decides what a build makes, and the key that two builds share if that is the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Mapping, Tuple

from .._source.record import digest
from .._source.tree import Tree

#: Changes whenever the same declaration and sources are to have another key, or a record another shape.
SCHEMA = 1


def digest_of(value: Any) -> str:
    """Return a digest of a value of JSON types: 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Inputs:
    """What a build is made of, apart from what BuildKit fetches meanwhile: see ``Source`` for that.

    :ivar fields: digests of single values, by what these are in the user's words, such as ``build arg VERSION``.
    :ivar trees: the directories that are sent, by their names as named contexts; the build context itself has none.
    :ivar doubts: sentences that say why another build may have another result all the same.
    """

    fields: Mapping[str, str]
    trees: Mapping[str, Tree]
    doubts: Tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """The key: 64 hex digits."""
        trees = {name: digest(tree) for name, tree in self.trees.items()}
        return digest_of([SCHEMA, dict(self.fields), trees])

    def and_field(self, words: str, value: Any) -> Inputs:
        """Return these inputs with one more.

        :param value: of JSON types.
        """
        return replace(self, fields={**self.fields, words: digest_of(value)})
