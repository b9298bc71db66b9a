# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of a build as a context of others, where it is in no registry: an OCI layout on the controller.

All its platforms are in it, whatever nodes built them, and any node can be given it.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Sequence

from .contexts import LAYOUT
from .declaration import Image
from .joining import Joined
from .layout import Declared, image_in, join
from .output import Output


@dataclass(frozen=True)
class Link(Joined):
    """A result while its parts are built.

    :ivar path: the directory of the layout.
    """

    path: str

    @classmethod
    def of(cls, directory: str) -> Link:
        """Return the link of an image; it lasts as long as the directory."""
        return cls(os.path.join(tempfile.mkdtemp(dir=directory), "layout"))

    @property
    def output(self) -> Output:
        """What a node exports, its layers with the digests that they have where they are pushed."""
        return Output("oci", self.path)

    @property
    def beside(self) -> str:
        """The path of what is made."""
        return self.path

    def join(self, image: Image, parts: Sequence[str]) -> str:
        """Make the layout of what the nodes exported; returns what buildx takes for a context.

        :raises FarmError: it is no image, or not what the image declares.
        """
        layouts = [self.unpacked(part) for part in parts]
        if len(layouts) == 1:
            os.rename(layouts[0], self.path)
        else:
            join(layouts, self.path, Declared(image.platforms))
        return f"{LAYOUT}{self.path}@{image_in(self.path)}"
