# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every changing module returns: the state before, the state after, and the steps between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple


@dataclass(frozen=True)
class Outcome:
    """The result of a module, the same in check mode and in a real run.

    :ivar before: the managed state as found, JSON types only and without secrets.
    :ivar after: the managed state as declared.
    :ivar actions: redacted argument lists (or one-element lists naming an API call or a file operation)
        of all that was or would be done, in order. Empty means unchanged.
    :ivar values: the module's own return values, ``builder`` for example.
    :ivar warnings: sentences for the user.
    """

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    actions: Sequence[Sequence[str]] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was or would be done."""
        return bool(self.actions)

    def as_result(self) -> Dict[str, Any]:
        """Return the task's result; ``diff`` is made of ``before`` and ``after``."""
        actions: List[List[str]] = [list(action) for action in self.actions]
        return {
            **self.values,
            "changed": self.changed,
            "actions": actions,
            "diff": {"before": dict(self.before), "after": dict(self.after)},
        }
