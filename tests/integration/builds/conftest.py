"""The builders that the tests of this package share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_runs import LiveFarm
from building import BuildFarm, build_farm


@pytest.fixture(scope="package")
def images(farm: LiveFarm) -> Iterator[BuildFarm]:
    """Both controllers with their builders."""
    with build_farm(farm) as made:
        yield made
