# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in which something is noted of a context, one for each; none is needed, so old ones are removed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import List, Optional, Tuple

#: Contexts of which something is noted; the one that was used longest ago is forgotten first.
CONTEXTS = 64


def note_path(store_dir: str, subject: str, kind: str) -> str:
    """Return the path of the file of one kind for a subject, a context's path for one."""
    # No part of a path may be longer than 255 bytes, so it is not the subject itself.
    return os.path.join(store_dir, f"{hashlib.sha256(subject.encode('utf-8', 'surrogateescape')).hexdigest()}.{kind}")


def forget(store_dir: str, kind: str, most: Optional[int] = None) -> None:
    """Remove the oldest files of one kind where there are too many.

    :param most: how many stay, None for as many as contexts are known of.
    :raises OSError: the directory cannot be read.
    """
    found: List[Tuple[float, str]] = []
    with os.scandir(store_dir) as listed:
        for one in listed:
            if one.name.endswith(f".{kind}"):
                with contextlib.suppress(OSError):
                    found.append((one.stat().st_mtime, one.path))
    for _moment, path in sorted(found, reverse=True)[CONTEXTS if most is None else most :]:
        with contextlib.suppress(OSError):
            os.unlink(path)
