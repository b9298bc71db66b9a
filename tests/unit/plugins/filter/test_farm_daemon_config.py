# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An engine's options with the mirrors of Docker Hub."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.filter.farm_daemon_config import FilterModule

CONFIG = {"live-restore": True}


@pytest.mark.parametrize(
    ("variables", "mirrors", "expected"),
    [
        ({}, [], {}),
        ({}, ["m", "o"], {"registry-mirrors": ["http://192.0.2.9:5000", "http://[2001:db8::1]:80"]}),
        ({"engine_registry_mirrors": '["https://a"]'}, ["m"], {"registry-mirrors": ["https://a"]}),
        # None removes the key.
        ({"engine_registry_mirrors": []}, ["m"], {"registry-mirrors": None}),
    ],
)
def test_mirrors(variables, mirrors, expected):
    hosts = {
        "n": variables,
        "m": {"ansible_host": "192.0.2.9"},
        "o": {"farm_address": "2001:db8::1", "mirror_port": 80},
    }
    config = FilterModule().filters()["farm_daemon_config"]
    assert config(CONFIG, hosts, "n", mirrors) == {**CONFIG, **expected}
    own = {"registry-mirrors": []}
    assert config(own, hosts, "n", mirrors) == own


def test_a_mirror_that_is_none():
    with pytest.raises(AnsibleFilterError, match="mirror_port"):
        FilterModule().filters()["farm_daemon_config"]({}, {"n": {}, "m": {"mirror_port": "x"}}, "n", ["m"])
