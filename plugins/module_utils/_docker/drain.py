# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mark on an engine whose node is drained: a volume with a label, which builds of every controller see.

The engine keeps it, so it outlives controllers, restarts and BuildKit's containers, and is not there on a new machine
of the same name. It takes no image, as a container would, and no subnet, as a network would; a label in ``daemon.json``
could not be set by who has the engine's API only. The list of marks is one request on a connection that is open anyway,
and unlike a request for one volume, that is no error in the engine's log where there is none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Optional
from urllib.parse import quote

from .client import MAXIMUM_ANSWER, Conversation

#: The volume, and the label that makes it a mark; its value is the reason.
VOLUME = "buildfarm_drained"
LABEL = "com.github.buildfarm.multiarch.drained"
_PATH = f"/volumes?filters={quote(json.dumps({'label': [LABEL]}))}"


@dataclass(frozen=True)
class Drained:
    """A node takes no new builds.

    :ivar since: RFC 3339, as the engine has it.
    :ivar reason: the user's, empty where none was given.
    """

    since: str
    reason: str

    def __str__(self) -> str:
        reason = " ".join(self.reason.split())
        return f"it is drained since {self.since}{f' ({reason})' if reason else ''}"


def read_drained(engine: Conversation) -> Optional[Drained]:
    """Return the mark of an engine, None where there is none, or the engine does not tell of its volumes."""
    status, body = engine.request("GET", _PATH, MAXIMUM_ANSWER)
    try:
        volumes = json.loads(body)["Volumes"] if status == 200 else None
        marks = [Drained(str(one.get("CreatedAt") or ""), str(one["Labels"][LABEL])) for one in volumes or ()]
    except (ValueError, KeyError, TypeError):
        return None
    return marks[0] if marks else None
