# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A buildx that runs on this host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from .._buildx.cli import Version

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True)
class Plugin:
    """A plugin that runs on this host.

    :ivar path: of the file, links not followed.
    :ivar version: as it reports itself, ``v0.13.1`` or ``0.13.1+ds1`` for example.
    :ivar revision: of its sources, or its packager's own version; empty where it reports none.
    :ivar experimental: whether the CLI may run it only with experimental features.
    """

    path: str
    version: str
    revision: str
    experimental: bool = False

    def is_release(self, release: str) -> bool:
        """Return whether it is a release; a packager's suffix (``+ds1``) makes no difference."""
        return self.version.lstrip("v").partition("+")[0] == release

    def is_at_least(self, minimum: Version) -> bool:
        """Return whether it is as new as that; a build without a version counts as the newest."""
        found = parse_version(self.version)
        return found is None or found >= minimum


def parse_version(text: str) -> Optional[Version]:
    """Read a version such as ``v0.13.1`` or ``0.13.1+ds1``; None for a build that has none."""
    match = _VERSION.match(text)
    return (int(match.group(1)), int(match.group(2)), int(match.group(3) or 0)) if match else None
