# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that hold secrets, read for later tasks of a play."""

from __future__ import annotations

import base64
from typing import Any, Dict

from .errors import FarmError
from .files import read_bytes
from .runner import Runner


def run(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Dict[str, Any]:
    """Return the contents of files, Base64-encoded and by path: the logic of the module ``slurp_secrets``.

    :raises FarmError: a file cannot be read; outside check mode also if it is missing.
    """
    contents: Dict[str, str] = {}
    for path in params["paths"]:
        try:
            content = read_bytes(path)
        except OSError as exc:
            raise FarmError(f"{path}: {exc.strerror}; wanted a file that this task may read") from exc
        if content is not None:
            contents[path] = base64.b64encode(content).decode()
        elif not check_mode:
            raise FarmError(f"{path}: there is no such file; correct the path, or run again what writes it")
    return {"contents": contents}
