# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans: steps in order, and what is undone where one of them fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.plan import Plan, Step


@dataclass(frozen=True)
class Note(Step[List[str]]):
    """Notes what is done with it; one named 'broken' fails after it has begun."""

    name: str

    @property
    def action(self) -> List[str]:
        return ["note", self.name]

    def apply(self, world: List[str]) -> None:
        world.append(f"apply {self.name}")
        if self.name == "broken":
            raise FarmError("broken")

    def revert(self, world: List[str]) -> None:
        world.append(f"revert {self.name}")


def test_steps_are_carried_out_in_order_and_none_is_undone() -> None:
    world: List[str] = []
    Plan({}, {}, (Note("a"), Note("b"))).apply(world)
    assert world == ["apply a", "apply b"]


def test_a_failure_undoes_what_had_begun_the_last_first() -> None:
    world: List[str] = []
    with pytest.raises(FarmError, match="broken"):
        Plan({}, {}, (Note("a"), Note("broken"), Note("c"))).apply(world)
    assert world == ["apply a", "apply broken", "revert broken", "revert a"]


def test_the_outcome_is_that_of_the_steps_whether_they_were_carried_out_or_not() -> None:
    plan: Plan[List[str]] = Plan({"x": 1}, {"x": 2}, (Note("a"), Note("b")), ("mind this",))
    predicted = plan.outcome(resource="r")
    plan.apply([])
    assert predicted == plan.outcome(resource="r")
    assert [list(action) for action in predicted.actions] == [["note", "a"], ["note", "b"]]
    assert (predicted.before, predicted.after, predicted.warnings) == ({"x": 1}, {"x": 2}, ("mind this",))
    assert predicted.values == {"resource": "r"}
    assert not Plan({"x": 1}, {"x": 1}).outcome().changed
