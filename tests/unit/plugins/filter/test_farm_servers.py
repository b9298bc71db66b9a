# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Dict, List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.filter.farm_servers import farm_servers


@pytest.mark.parametrize(
    ("variables", "servers"),
    [
        ({"ansible_facts": {"nodename": "n1"}}, [{"name": "n1", "sans": []}]),
        (
            {"ansible_host": "192.0.2.7", "farm_address": "192.0.2.7", "ansible_facts": {"nodename": "host7"}},
            [{"name": "n1", "sans": ["host7", "192.0.2.7"]}],
        ),
        (
            {"farm_names": ["n1", "*.example.com"], "ansible_facts": {"nodename": "localhost.localdomain"}},
            [{"name": "n1", "sans": ["*.example.com"]}],
        ),
        ({"ansible_facts": {"nodename": "not a name"}}, [{"name": "n1", "sans": []}]),
        ({"ansible_host": "192.0.2.7"}, [{"name": "n1"}]),
        (
            {"ansible_host": "[2001:db8::5]", "farm_address": "n1.", "ansible_facts": {"nodename": "n1"}},
            [{"name": "n1", "sans": ["2001:db8::5"]}],
        ),
        ({"ansible_facts": {"nodename": "n1"}, "listener_certificate": "-----BEGIN"}, []),
    ],
)
def test_names_of_a_node(variables: Dict[str, Any], servers: List[Dict[str, Any]]) -> None:
    assert farm_servers(["n1"], {"n1": variables}) == servers


def test_what_the_engine_has_goes_along() -> None:
    listener: Dict[str, Any] = {"ca": "CA", "certificate": "CERT"}
    for found, expected in ((listener, listener), ({"ca": "CA", "certificate": None}, {"ca": "CA"}), (None, {})):
        facts = {"nodename": "n1", "buildfarm": {"listener": found}}
        assert farm_servers(["n1"], {"n1": {"ansible_facts": facts}}) == [{"name": "n1", "sans": [], **expected}]
