# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tests may run side by side: workers, each with a farm of its own, that take one file after the other.

All hosts share the machine's kernel and so its handlers, therefore whatever installs, removes or depends on handlers
runs on one worker, in the order of the files.
"""

from __future__ import annotations

import pytest

_OF_HANDLERS = {"articles", "arm64", "build", "imagetools_info", "site", "verify"}
_OF_HANDLERS |= {"binfmt", "binfmt_packages", "binfmt_remote"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test its group, before pytest-xdist reads it; groups are what that keeps together."""
    file = item.path.stem[len("test_") :]
    group = file if "integration" in item.path.relative_to(item.config.rootpath).parts else "no-farm"
    item.add_marker(pytest.mark.xdist_group("handlers" if group in _OF_HANDLERS else group))
