# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build makes of a directory and its Dockerfile, told by the host that has them, wherever it is decided upon."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional

from .ignore import CannotTell, ignore_file, rules_of
from .known import KnownContents
from .tree import Tree, dump, load, read_tree


@dataclass(frozen=True)
class Sources:
    """A build context with what belongs to it.

    :ivar tree: what a build is sent of it, None where that is not certain.
    :ivar doubt: why not.
    :ivar dockerfile: the text of the Dockerfile, empty where it is in no file.
    :ivar files: digests of the Dockerfile and of the ignore file, by their names in the context or their paths.
    """

    tree: Optional[Tree]
    doubt: str = ""
    dockerfile: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls, context: str, dockerfile: Optional[str], every_xattr: bool = True, notes: Optional[str] = None
    ) -> Sources:
        """Read a directory.

        :param dockerfile: its path; None where it is no file of this host.
        :param every_xattr: see ``read_tree``.
        :param notes: a directory for notes of what was read, so that it need not be read again; None for none.
        :raises FarmError: BuildKit would refuse the ignore file.
        """
        files: Dict[str, str] = {}
        text = b""
        for path in (dockerfile, ignore_file(context, dockerfile)):
            content = _content(path) if path else None
            if path and content is not None:
                files[_name(path, context)] = hashlib.sha256(content).hexdigest()
                text = content if path == dockerfile else text
        shown = text.decode("utf-8", "replace")
        known = KnownContents(notes, context) if notes else None
        try:
            tree = read_tree(context, rules_of(context, dockerfile), every_xattr, known)
        except CannotTell as exc:
            return cls(None, exc.message, shown, files)
        if known:
            known.store()
        return cls(tree, "", shown, files)

    def as_dict(self) -> Dict[str, Any]:
        """Return the values as JSON types, for ``from_dict`` on another host."""
        tree = None if self.tree is None else dump(self.tree)
        return {"tree": tree, "doubt": self.doubt, "dockerfile": self.dockerfile, "files": dict(self.files)}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Sources:
        """Read what ``as_dict`` returned."""
        tree = None if raw["tree"] is None else load(raw["tree"])
        return cls(tree, raw["doubt"], raw["dockerfile"], raw["files"])


def _name(path: str, context: str) -> str:
    """Return a file's name as it is in the context, so that a change of it is told once."""
    name = os.path.relpath(path, context)
    return path if name.startswith("..") else name


def _content(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return None  # buildx will say so
