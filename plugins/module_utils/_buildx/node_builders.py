# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A builder's nodes as builders of one node each, so that a build goes to the node that it is meant for.

buildx takes the first node of a builder that offers a platform, and cannot be told another one. In a store of their
own, for the time of one task, the nodes are builders of the same drivers, options and names. As BuildKit's containers
are named after nodes, these builders use the containers and the caches that are there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Dict, Iterator

from .._core.files import read_bytes, write_atomically
from .._core.scratch import scratch_directory
from .store import Instance, Store

#: By this BuildKit knows the controller, and what it has sent before. Source: docker/buildx ``util/confutil/node.go``.
_CONTROLLER_ID = ".buildNodeID"


@contextlib.contextmanager
def node_builders(store: Store, builder: Instance) -> Iterator[Dict[str, str]]:
    """Make a builder of each node, named as the node; they are gone at the end.

    :returns: environment variables for the buildx that is to use them.
    """
    with scratch_directory("buildx-nodes-") as folder:
        own = Store(Path(folder))
        (own.directory / "instances").mkdir()
        for node in builder.nodes:
            single = replace(builder, name=node.name, nodes=(node,))
            write_atomically(own.path(node.name), single.to_json(), 0o600)
        write_atomically(own.directory / _CONTROLLER_ID, _controller_id(store), 0o600)
        yield {"BUILDX_CONFIG": folder}


def _controller_id(store: Store) -> bytes:
    """Return what BuildKit knows this controller by, a new one where buildx has not been used yet.

    With another one in each task BuildKit would be sent every build context as a whole.
    """
    path = store.directory / _CONTROLLER_ID
    with contextlib.suppress(OSError):
        found = read_bytes(path)
        if found:
            return found
    made = secrets.token_hex(8).encode()
    with contextlib.suppress(OSError):
        os.makedirs(store.directory, mode=0o700, exist_ok=True)
        write_atomically(path, made, 0o600)
    return made
