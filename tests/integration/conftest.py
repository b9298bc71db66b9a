"""The farm that the integration tests share.

`BUILDFARM_FARM=NAME` uses a farm that is up already, and leaves it; otherwise one
called "test" is started for the session and ended after it, or one for each of
pytest-xdist's workers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_runs import CHECKOUT, LiveFarm
from hosts import Host

#: The real arm64 machine is slow: only where it is asked for.
_ARM64 = [Host("arm1", "arm64")] if os.environ.get("ARM64", "") not in ("", "0") else []
collect_ignore = [] if _ARM64 else ["test_arm64.py"]
#: Engines 20.10, 26.1 and 28.5, controllers with buildx 0.13 and 0.29, and bare hosts.
HOSTS = [
    Host("ctl", "trixie+workstation"),
    Host("ctlnew", "forky+controller"),
    Host("old1", "bookworm+engine"),
    Host("mid1", "trixie+engine"),
    Host("mid2", "trixie+engine"),
    Host("new1", "forky+engine"),
    Host("barectl", "trixie"),
    Host("bare1", "trixie"),
    Host("bare2", "trixie"),
    Host("bare3", "trixie"),
    Host("bare4", "trixie"),
    # Nothing is ever installed on it.
    Host("pristine", "trixie"),
    *_ARM64,
]


_COLLECTIONS = CHECKOUT / ".build/collections"


def _link() -> None:
    """Make the checkout importable, by Ansible and by the tests of what no module does alone."""
    link = _COLLECTIONS / "ansible_collections/buildfarm/multiarch"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(CHECKOUT, target_is_directory=True)
    sys.path.insert(0, str(_COLLECTIONS))


_link()


@pytest.fixture(scope="session")
def collections() -> Path:
    """A collections path through which Ansible finds this checkout."""
    return _COLLECTIONS


_running: list[LiveFarm] = []


@pytest.fixture(scope="session")
def farm(collections: Path) -> Iterator[LiveFarm]:
    """The running farm."""
    with LiveFarm.running("test", HOSTS, collections, given=os.environ.get("BUILDFARM_FARM", "")) as live:
        _running.append(live)
        yield live


@pytest.fixture(scope="module", autouse=True)
def tidied(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no file's tests find what those of another one have left; packages have builders that their files share."""
    yield
    if _running and request.path.parent == Path(__file__).parent:
        _running[0].tidy()
