# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making images of others, copying them, and removing tags: the logic of ``buildx_imagetools``."""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping, Optional

from .._buildx.cli import Buildx
from .._core.outcome import Outcome
from .._core.runner import Runner
from .._image.compose import Composed
from .._image.state import reached_registries
from .declaration import Declaration
from .plan import plan, read_state


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Let tags stand for an image that is made of others, or remove them.

    :raises FarmError: nothing was changed, or the message says what was.
    """
    declaration = Declaration.from_params(params)
    registries = reached_registries(params, Buildx.of(params, runner))
    state = read_state(declaration, registries)
    planned = plan(declaration, state)
    if not check_mode:
        planned.apply(registries)
    referrers = None if state.referrers is None else [one.as_dict() for one in state.referrers]
    return planned.outcome(image=_as_dict(state.image), referrers=referrers)


def _as_dict(image: Optional[Composed]) -> Optional[Dict[str, Any]]:
    if image is None:
        return None
    document = json.loads(image.content)
    return {
        "digest": image.digest,
        "media_type": image.media_type,
        "platforms": [
            {"platform": str(entry.platform), "digest": entry.digest} for entry in image.entries if entry.platform
        ],
        "document": document,
    }
