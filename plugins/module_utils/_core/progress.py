# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module says while it runs: lines in a file, which the action plugin reads and shows."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Callable, Optional

from .plain import plain
from .urls import mask

#: Characters of a line; AWX shows 1,024 bytes of an event.
_LONGEST = 300


class Progress:
    """Takes what is to be shown, from any thread.

    :param path: the file for it, which is created readable for its owner only; None for what nobody reads.
    :param hide: takes secrets out of a text that are known to the module only.
    """

    def __init__(self, path: Optional[str] = None, hide: Callable[[str], str] = str) -> None:
        self._hide = hide
        self._began = time.monotonic()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = None if path is None else os.open(path, flags, 0o600)

    def report(self, text: str) -> None:
        """Show a line, with the time that has passed; secrets in URLs are masked.

        What cannot be written is left out: nothing fails because it cannot be shown.
        """
        if self._file is None:
            return
        shown = " ".join(plain(mask(self._hide(text))).split())
        if len(shown) > _LONGEST:
            shown = shown[: _LONGEST - 1] + "…"
        line = json.dumps({"seconds": round(time.monotonic() - self._began, 1), "text": shown}) + "\n"
        # One write is one line, whatever other threads write.
        with contextlib.suppress(OSError):
            os.write(self._file, line.encode())


#: For what nobody watches.
SILENT = Progress()
