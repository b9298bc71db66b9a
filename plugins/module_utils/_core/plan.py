# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans: what a module is going to change, as steps that know how they are reported, carried out and undone.

A module is four functions: ``Declaration.from_params`` reads what is wanted, ``read_state`` what is there, ``plan``
compares the two without touching anything, and ``run`` carries the plan out unless in check mode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, List, Mapping, Tuple, TypeVar

from .outcome import Outcome

#: What steps act upon: a runner, a client of an engine, a directory.
World = TypeVar("World")


class Step(Generic[World]):
    """One change; subclasses are frozen dataclasses that hold all that it takes."""

    @property
    def action(self) -> List[str]:
        """What is reported of the step, without secrets: an argument list, or one text that names the operation."""
        raise NotImplementedError

    @property
    def actions(self) -> List[List[str]]:
        """All that is reported of the step: its action. A step that does several things at once has one for each."""
        return [self.action]

    def apply(self, world: World) -> None:
        """Carry the step out.

        :raises FarmError: it failed.
        """
        raise NotImplementedError

    def revert(self, world: World) -> None:
        """Undo the step, also where it was carried out in part; by default there is nothing to undo."""


@dataclass(frozen=True)
class Plan(Generic[World]):
    """Ordered steps from one state to another.

    :ivar before: the managed state as found, JSON types only and without secrets.
    :ivar after: the managed state as declared.
    :ivar warnings: sentences for the user.
    """

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    steps: Tuple[Step[World], ...] = ()
    warnings: Tuple[str, ...] = field(default=())

    def apply(self, world: World) -> None:
        """Carry out the steps in order.

        :raises FarmError: a step failed; it and the steps before it have been reverted, the last one first.
        """
        begun: List[Step[World]] = []
        try:
            for step in self.steps:
                begun.append(step)
                step.apply(world)
        except BaseException:
            for step in reversed(begun):
                step.revert(world)
            raise

    def outcome(self, **values: Any) -> Outcome:
        """Return what the module reports of this plan, the same whether it was carried out or not.

        :param values: the module's own return values.
        """
        actions = [action for step in self.steps for action in step.actions]
        return Outcome(self.before, self.after, actions, values, self.warnings)
