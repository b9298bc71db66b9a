# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tests may run side by side: two workers, each with a farm of its own.

All hosts share the machine's kernel and so its handlers, therefore whatever installs, removes or depends on handlers
runs on one worker, in the order of the files.
"""

from __future__ import annotations

import pytest

_OF_HANDLERS = {"articles", "arm64", "binfmt", "binfmt_packages", "binfmt_remote", "build", "builder"}
_OF_HANDLERS |= {"imagetools_info", "site", "verify"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test its group, before pytest-xdist reads it; groups are what that keeps together."""
    kind, file = item.path.parent.name, item.path.stem[len("test_") :]
    group = "handlers" if kind == "integration" and file in _OF_HANDLERS else kind
    item.add_marker(pytest.mark.xdist_group(group if group in ("handlers", "integration") else "no-farm"))
