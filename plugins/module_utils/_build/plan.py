# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a build: one run of buildx, and what can be predicted of its result without running it."""

from __future__ import annotations

from .._buildx.cli import Version
from .._core.plan import Plan
from .declaration import Declaration
from .state import Report, State, names
from .steps import Build, Execution


def plan(declaration: Declaration, builder: str, version: Version, state: State) -> Plan[Execution]:
    """Return the plan of a build, whose only step is to build.

    BuildKit decides what has to be built again, so there always is that step. It is a change where a destination
    holds something else afterwards, which is predicted as far as it can be.

    :param builder: the builder's name.
    :param version: buildx's.
    """
    step = Build(declaration, builder, version)
    return Plan(state.as_dict(), predict(declaration, state), (step,), state.warnings)


def predict(declaration: Declaration, state: State) -> Report:
    """Return what destinations will hold at least: an image where there is none, and the declared platforms."""
    wanted = set(declaration.platforms)
    digests = {index.digest for index in state.registry.values() if index}
    differing = {
        f"registry {tag}"
        for tag, index in state.registry.items()
        if index and ((wanted and set(index.platforms) != wanted) or len(digests) > 1)
    }
    # An engine reports one platform only, whatever it has.
    differing |= {
        f"engine {tag}"
        for tag, image in state.engine.items()
        if image and wanted and not wanted.issuperset(image.platforms)
    }
    built = {"digest": None, "platforms": names(declaration.platforms)}
    return {name: built if value is None or name in differing else value for name, value in state.as_dict().items()}
