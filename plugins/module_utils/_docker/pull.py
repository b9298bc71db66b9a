# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that an engine gets: from a registry, with the credentials of the docker configuration, or from here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple
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
    query, headers = pulled(image, config_dir, runner)
    problem = create_image(engine, query, headers=headers)
    if problem:
        raise FarmError(problem)


def pulled(image: str, config_dir: Path, runner: Runner) -> Tuple[Dict[str, str], Dict[str, str]]:
    """Return what ``create_image`` is given to pull an image: the query and the headers.

    :raises FarmError: there is no such reference, or its credentials cannot be had.
    """
    reference = Reference.parse(image)
    query = {"fromImage": reference.repository, "tag": reference.digest or reference.tag}
    return query, pull_headers(config_dir, reference.registry, runner)


def create_image(
    engine: Conversation,
    query: Mapping[str, str],
    body: Optional[bytes] = None,
    headers: Optional[Mapping[str, str]] = None,
) -> Optional[str]:
    """Have an engine pull or import an image; return what went wrong, None if nothing.

    :param body: what is imported.
    """
    status, answer = engine.request("POST", f"/images/create?{urlencode(query)}", body=body, headers=headers)
    if status != 200:
        problem = message(answer) or f"it answered with HTTP {status}"
    else:
        # A failure after the first line of progress does not change the status any more.
        errors = (json.loads(line).get("error") for line in answer.splitlines() if line.strip())
        problem = next((str(error) for error in errors if error), "")
    return problem + advice(problem, "the engine") or None
