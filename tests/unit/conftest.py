# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes ``ansible_collections.buildfarm.multiarch`` importable from a plain checkout.

A checkout that already lies in such a tree, as ``ansible-test units`` demands, is imported from where it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

COLLECTION = Path(__file__).resolve().parents[2]
NAME = ("ansible_collections", "buildfarm", "multiarch")


def _link_tree(parent: Path) -> None:
    """Make ``parent/ansible_collections/buildfarm/multiarch`` a link to the checkout.

    The empty ``__init__.py`` keeps the tree ahead of the collections that PyPI's ``ansible`` installs.
    """
    link = parent.joinpath(*NAME)
    link.parent.mkdir(parents=True, exist_ok=True)
    (parent / NAME[0] / "__init__.py").touch()
    try:
        link.symlink_to(COLLECTION, target_is_directory=True)
    except FileExistsError:
        if link.resolve() != COLLECTION:
            link.unlink()
            link.symlink_to(COLLECTION, target_is_directory=True)


def _tree() -> Path:
    """Return the directory to import from, the one that holds ``ansible_collections``."""
    if COLLECTION.parts[-3:] == NAME:
        return COLLECTION.parents[2]
    tree = COLLECTION / ".build" / "collections"
    _link_tree(tree)
    return tree


# ansible-test's own importer reads the same directory, first or second makes no difference then.
sys.path.insert(0, str(_tree()))


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests write need not outlive this machine."""
    monkeypatch.setattr("os.fsync", lambda _handle: None)


def pytest_configure(config: pytest.Config) -> None:
    """Take ansible-test's plugin out that forks for each test, and makes each fixture of the session anew in it."""
    forked = config.pluginmanager.get_plugin("ansible_forked")
    if forked:
        config.pluginmanager.unregister(forked)
