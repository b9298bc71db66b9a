# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pulling an image through an engine, with the credentials of the docker configuration."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode

from .._core.errors import FarmError
from .._core.runner import Runner
from .client import Conversation, message
from .credentials import pull_headers
from .mistrust import advice
from .reference import Reference


def pull(engine: Conversation, image: str, config_dir: Path, runner: Runner) -> None:
    """Have an engine pull an image.

    :param config_dir: the docker CLI's configuration directory.
    :raises FarmError: it could not; the message is the engine's.
    """
    reference = Reference.parse(image)
    query = {"fromImage": reference.repository, "tag": reference.digest or reference.tag}
    headers = pull_headers(config_dir, reference.registry, runner)
    status, answer = engine.request("POST", f"/images/create?{urlencode(query)}", headers=headers)
    if status != 200:
        raise _problem(message(answer))
    for line in answer.splitlines():
        # A failure after the first line of progress does not change the status any more.
        error = json.loads(line).get("error") if line.strip() else None
        if error:
            raise _problem(str(error))


def _problem(said: str) -> FarmError:
    return FarmError(said + advice(said, "the engine"))
