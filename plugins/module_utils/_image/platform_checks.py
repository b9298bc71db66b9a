# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Putting the image of each platform to its checks, each on its own engine, all at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Optional

from .._core.errors import FarmError
from .._core.parallel import each
from .._docker.context_store import ContextStore
from .._docker.reference import Reference
from .._platform.platform import Platform
from .check import CheckResult, check_image
from .declaration import ImageChecks
from .engines import Engine


@dataclass(frozen=True)
class CheckedPlatform:
    """What the checks of one platform's image found.

    :ivar engine: where, None for what was examined by its layers in the registry.
    :ivar problem: what is wrong, None if nothing.
    """

    platform: Platform
    engine: Optional[Engine]
    result: CheckResult
    problem: Optional[str]

    def __str__(self) -> str:
        where = f" on {self.engine}" if self.engine else ""
        return f"{self.platform}{where}: {self.problem or 'nothing wrong'}"


def check_platforms(
    checks: ImageChecks,
    images: Mapping[Platform, Reference],
    engines: Mapping[Platform, Engine],
    contexts: ContextStore,
) -> List[CheckedPlatform]:
    """Check the image of each platform on its engine, all at the same time.

    :param images: by digest.
    :param engines: for the platforms that are checked; others are not.
    """

    def check(platform: Platform) -> CheckedPlatform:
        engine = engines[platform]
        try:
            result = _check(checks, images[platform], platform, engine, contexts)
        except FarmError as exc:
            return CheckedPlatform(platform, engine, CheckResult(), exc.message)
        return CheckedPlatform(platform, engine, result, checks.problem(platform, result))

    return each(engines, check)


def _check(
    checks: ImageChecks, image: Reference, platform: Platform, engine: Engine, contexts: ContextStore
) -> CheckResult:
    """Check one platform's image, and again where the engine lost what it printed.

    What a busy engine has not copied two seconds after the exit, it drops: handleContainerExit in moby's
    daemon/monitor.go, from Docker 20.10 to 29.

    :raises FarmError: the engine cannot check it.
    """
    result = check_image(engine.endpoint, contexts, image, platform, checks.checks)
    silent = result.run is not None and result.run.rc == 0 and not result.run.stdout
    if silent and checks.problem(platform, result):
        result = check_image(engine.endpoint, contexts, image, platform, checks.checks)
    return result
