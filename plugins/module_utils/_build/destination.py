# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the results of a build end up: the declared outputs, resolved for one builder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Sequence, Tuple

from .._buildx.store import Instance
from .output import ENGINE, FILE, Output


@dataclass(frozen=True)
class Destination:
    """One output of a build on a certain builder.

    :ivar kind: what the result is there: one of the kinds of ``output``.
    :ivar context: docker context of the engine that takes the image; empty for the one in use, and for other kinds.
    """

    output: Output
    kind: str
    context: str = ""


class Location(NamedTuple):
    """Where one result of a build is.

    :ivar kind: REGISTRY, ENGINE or FILE, which is any path.
    :ivar name: the tag, or the path.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return self.name if self.kind == FILE else f"{self.kind} {self.name}"


def resolve(outputs: Sequence[Output], builder: Instance) -> Tuple[Destination, ...]:
    """Return where a builder puts the declared outputs, or what it does by default where none are declared."""
    resolved = []
    for output in outputs or _default_outputs(builder):
        kind = output.kind(builder.driver)
        resolved.append(Destination(output, kind, engine_context(output, builder) if kind == ENGINE else ""))
    return tuple(resolved)


def engine_context(output: Output, builder: Instance) -> str:
    """Return the docker context of the engine that an output puts an image into; empty for the one in use.

    A builder of the docker driver has its images in its own engine, and its node's endpoint is that engine's context.
    """
    if builder.driver == "docker" and builder.nodes:
        endpoint = builder.nodes[0].endpoint
        return "" if endpoint == "default" else endpoint
    return output.option("context")


def _default_outputs(builder: Instance) -> Tuple[Output, ...]:
    """Return what buildx does with a result that no output is declared for."""
    options = builder.nodes[0].driver_opts if builder.nodes else None
    if builder.driver == "docker":
        return (Output("image"),)
    return (Output("docker"),) if (options or {}).get("default-load") == "true" else ()
