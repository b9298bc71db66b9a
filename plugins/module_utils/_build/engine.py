# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images in the engine of a docker context, read through its API; the docker CLI is not needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from .._core.errors import FarmError
from .._docker.client import conversation
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .._platform.platform import Platform

_CONTAINERD = "io.containerd.snapshotter.v1"


@dataclass(frozen=True)
class EngineImage:
    """An image in an engine's store.

    :ivar digest: the engine's id of the image.
    :ivar size: bytes, as the engine counts them.
    """

    digest: str
    platform: Platform
    size: Optional[int]

    @property
    def platforms(self) -> Tuple[Platform, ...]:
        """The one platform that the engine reports."""
        return (self.platform,)

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> EngineImage:
        """Read the engine's description of an image (``GET /images/NAME/json``)."""
        platform = Platform.make(raw["Os"], raw["Architecture"], raw.get("Variant") or "")
        return cls(raw["Id"], platform, raw.get("Size"))


def engine_name(context: str) -> str:
    """Return how messages name the engine of a docker context; empty for the one in use."""
    return f"the engine of docker context {context!r}" if context else "the engine of the docker context in use"


def read_images(contexts: ContextStore, context: str, tags: Sequence[str]) -> Dict[str, Optional[EngineImage]]:
    """Return what tags stand for in an engine, None for each that it does not have.

    :param context: docker context of the engine; empty for the one in use.
    :raises FarmError: the engine cannot be read.
    """
    answers = zip(tags, _get(contexts, context, [f"/images/{quote(tag, safe='/:')}/json" for tag in tags]))
    return {tag: None if raw is None else EngineImage.parse(raw) for tag, raw in answers}


def stores_indexes(contexts: ContextStore, context: str) -> bool:
    """Return whether an engine's image store takes several platforms under one name, as containerd's does.

    :param context: docker context of the engine; empty for the one in use.
    :raises FarmError: the engine cannot be read.
    """
    (info,) = _get(contexts, context, ["/info"])
    return any(_CONTAINERD in pair for pair in (info or {}).get("DriverStatus") or ())


def _get(contexts: ContextStore, context: str, paths: Sequence[str]) -> Tuple[Optional[Mapping[str, Any]], ...]:
    """Return what an engine has at paths of its API, None for each that it does not have."""
    documents: List[Optional[Mapping[str, Any]]] = []
    if not paths:
        return ()
    try:
        with conversation(_endpoint(contexts, context), contexts) as engine:
            for path in paths:
                status, body = engine.request("GET", path)
                if status not in (200, 404):
                    raise FarmError(f"HTTP {status} for {path}: {body.decode(errors='replace').strip()}")
                documents.append(json.loads(body) if status == 200 else None)
    except (FarmError, ValueError) as exc:
        raise FarmError(f"{engine_name(context)} could not be asked: {exc}") from exc
    return tuple(documents)


def _endpoint(contexts: ContextStore, context: str) -> Endpoint:
    if not context:
        in_use = contexts.current_endpoint()
        # A URL is the environment's own engine; only the context of that name knows the TLS material for it.
        context = "default" if "://" in in_use else in_use
    return Endpoint("context", context)
