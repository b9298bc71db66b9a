# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which hosts a run could not provide, and what it says of each."""

from __future__ import annotations

from typing import Any, Dict, Optional

import pytest
from ansible_collections.buildfarm.multiarch.plugins.filter.farm_missing import farm_missing

LOOKED = {"site_looked": {"ansible_facts": {"architecture": "x86_64"}}}


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({**LOOKED, "_emulators_handlers": {"skipped": True}}, None),
        ({"site_looked": {"unreachable": True, "msg": "No route\r\nto host\r\n"}}, "No route to host"),
        ({"site_looked": {"failed": True, "msg": "no Python"}}, "no Python"),
        ({**LOOKED, "site_failed": {"failed": True, "msg": "not JSON"}}, "not JSON"),
        (
            {**LOOKED, "_emulators_handlers": {"failed": True}, "site_failed": {"failed": True, "msg": "no QEMU"}},
            "no QEMU",
        ),
        ({**LOOKED, "site_failed": {"failed": True, "msg": "n: dockerd refuses n: it"}}, "dockerd refuses n: it"),
        (LOOKED, "it stopped answering; see above"),
        # Not in this run; its facts may be in a cache.
        ({"ansible_facts": {"architecture": "x86_64"}}, None),
    ],
)
def test_why_a_host_is_missing(variables: Dict[str, Any], reason: Optional[str]) -> None:
    assert farm_missing(["n", "n2"], {"n": variables, "n2": {}}) == ({} if reason is None else {"n": reason})
