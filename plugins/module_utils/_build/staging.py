# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results that are files: written beside their destinations first, so that a failed build costs nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack

from .content import content_digest
from .output import Output


def stage(stack: ExitStack, output: Output) -> str:
    """Return a path on the file system of an output's destination, in a directory that is removed with the stack.

    buildx empties a file before it builds: a failed build would cost the last good result.
    """
    folder, name = output.parent, os.path.basename(output.dest)
    if not output.is_file:
        # A directory that is there may be a mount, which a rename cannot cross.
        folder = output.dest if os.path.isdir(output.dest) else folder
        os.makedirs(folder, exist_ok=True)
    return os.path.join(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.")), "result")


def install(output: Output, staged: str) -> None:
    """Move a finished file to its destination, unless the same content is there."""
    if content_digest(output, staged) == content_digest(output, output.dest):
        return
    destination = os.path.realpath(output.dest)
    if os.path.exists(destination):
        shutil.copymode(destination, staged)
    os.replace(staged, destination)
