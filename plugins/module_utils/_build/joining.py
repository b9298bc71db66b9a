# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image archive of what several nodes build: each exports its share, and all are joined before the archive moves."""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Iterator, Sequence

from .._core.errors import FarmError
from .content import content_digest
from .declaration import Image
from .layout import Declared, add_blobs, join, keep_others, pack, unpack, write_index
from .output import Output
from .staging import install, stage

#: What buildx calls an image without a name in a directory (docker/buildx, BuildKit ``client/solve.go``).
_NAMELESS = "latest"
#: Images of one list may share a directory, whose index each of them reads and then replaces.
_INSTALLING = threading.Lock()


class Joined:
    """What is made of the parts that nodes export; all that this takes lies beside it."""

    @property
    def beside(self) -> str:
        """The path of what is made."""
        raise NotImplementedError

    def new_part(self) -> str:
        """Return the path of a new file, as which a node exports its share."""
        return os.path.join(self.new_directory(), "part")

    def new_directory(self) -> str:
        """Return a new directory."""
        return tempfile.mkdtemp(dir=os.path.dirname(self.beside))

    def unpacked(self, part: str) -> str:
        """Return a directory with what is in a part, which is removed.

        :raises FarmError: it is no archive.
        """
        directory = self.new_directory()
        unpack(part, directory)
        # So that no more than one share is there twice.
        os.unlink(part)
        return directory


@dataclass(frozen=True)
class Archive(Joined):
    """One output of type ``oci`` while its parts are built.

    :ivar staged: where the joined archive is made, beside the destination.
    """

    output: Output
    staged: str

    @classmethod
    def of(cls, stack: ExitStack, output: Output) -> Archive:
        """Return the archive of an output; what is staged is removed with the stack."""
        return cls(output, stage(stack, output))

    @property
    def beside(self) -> str:
        """The path of what is made."""
        return self.staged

    def join(self, image: Image, parts: Sequence[str]) -> None:
        """Make the archive of what the nodes exported; its destination stays as it is.

        :raises FarmError: that is not what the image declares.
        """
        options = image.options
        declared = Declared(
            image.platforms,
            image.references,
            options.index_annotations,
            options.descriptor_annotations,
            options.annotations.layout,
        )
        with self._written():
            layouts = [self.unpacked(part) for part in parts]
            if not self.output.is_file:
                join(layouts, self.staged, declared, _NAMELESS)
                return
            layout = self.new_directory()
            join(layouts, layout, declared)
            pack(layout, self.staged)

    def install(self) -> None:
        """Let the destination hold what was joined, unless it does already.

        In a directory what other names stand for stays, as with buildx, and the index is replaced last, which names
        all else.

        :raises FarmError: the destination is no such archive.
        """
        with self._written():
            if self.output.is_file:
                install(self.output, self.staged)
                return
            dest = self.output.dest
            with _INSTALLING:
                keep_others(self.staged, dest)
                differs = content_digest(self.output, self.staged) != content_digest(self.output, dest)
                # Also where the index is the same: blobs may be gone.
                add_blobs(self.staged, dest)
                if differs:
                    write_index(self.staged, dest)

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise FarmError(
                f"output oci: {self.output.dest} could not be written: {exc}; what was there before is what it holds"
            ) from exc
