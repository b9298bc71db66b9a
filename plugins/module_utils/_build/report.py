# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of each image, in the shape in which the module returns it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional

from .._core.errors import FarmError
from .._core.plan import Plan
from .._platform.platform import Platform, runs_natively
from .built import BuiltImage
from .plan import PlannedImage
from .steps import Result, World


@dataclass(frozen=True)
class ImageOutcome:
    """What became of an image.

    :ivar planned: before it was built, or with what its destinations hold afterwards.
    :ivar image: as it was read back; None in check mode, and where it is in neither a registry nor an engine.
    :ivar error: why it was not built.
    :ivar natives: the platforms of the nodes' own processors by the nodes' names, as far as they are known.
    """

    planned: PlannedImage
    image: Optional[BuiltImage] = None
    result: Result = field(default_factory=Result)
    error: Optional[FarmError] = None
    natives: Mapping[str, Platform] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the image is called in messages."""
        return self.planned.subject.image.name

    @property
    def reported(self) -> Plan[World]:
        """The plan as it is reported: destinations that hold afterwards what they held before are no change."""
        plan = self.planned.plan
        return replace(plan, steps=()) if plan.after == plan.before else plan

    @property
    def outputs(self) -> List[Dict[str, Any]]:
        """Where the results went."""
        return [
            {
                "type": output.type,
                "dest": output.dest or None,
                "digest": (self.planned.plan.after.get(output.dest) or {}).get("digest"),
            }
            for output in (destination.output for destination in self.planned.subject.destinations)
        ]

    def as_dict(self) -> Dict[str, Any]:
        """Return the values as the module returns them."""
        subject = self.planned.subject
        unknown: Dict[str, Any] = {"tags": list(subject.image.tags), "digest": None, "id": None}
        image = self.image.as_dict() if self.image else unknown
        return {
            "name": self.name,
            **image,
            "platforms": [self._platform(one) for one in image.get("platforms") or self._planned_platforms()],
            "changed": bool(self.reported.steps) and not self.error,
            "built": subject.decision.builds,
            "reasons": list(subject.decision.reasons),
            "outputs": self.outputs,
            "retries": [attempt.as_dict() for attempt in self.result.lost],
            "error": self.error.message if self.error else None,
        }

    def _planned_platforms(self) -> List[Dict[str, Any]]:
        platforms = self.planned.subject.image.platforms
        return [{"platform": str(platform), "digest": None, "size": None} for platform in platforms]

    def _platform(self, image: Dict[str, Any]) -> Dict[str, Any]:
        """Return one platform with how it was built."""
        share = next(
            (one for one in self.result.shares if image["platform"] in [str(platform) for platform in one.platforms]),
            None,
        )
        build = self.planned.build
        planned = {str(platform): order[0] for platform, order in build.orders.items()} if build else {}
        node = planned.get(image["platform"])
        engine = self.natives.get(node) if node else None
        return {
            "node": node,
            "native": runs_natively(Platform.parse(image["platform"]), engine) if engine else None,
            **image,
            "seconds": round(share.built.seconds, 1) if share else None,
            "cached": share.built.cached if share else None,
            "steps": share.built.cached + share.built.run if share else None,
        }
