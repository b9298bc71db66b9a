# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which listeners a controller tries in one task."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.buildfarm.multiarch.plugins.filter.farm_probes import farm_probes


def _node(port: int = 2376, tls: bool = True, provisional: bool = True, **variables: str) -> Dict[str, Any]:
    return {"_listener_state": {"provisional": provisional, "listener": {"port": port, "tls": tls}}, **variables}


def test_nodes_with_certificates_and_without_are_apart() -> None:
    hostvars = {
        "a": _node(),
        "plain": _node(port=2375, tls=False),
        "b": _node(port=2400, ansible_host="192.0.2.7"),
        "c": _node(ansible_host="192.0.2.8", farm_address="2001:db8::8"),
        "d": _node(ansible_host="[2001:db8::9]"),
    }
    assert farm_probes(list(hostvars), hostvars) == [
        {
            "tls": True,
            "names": ["a", "b", "c", "d"],
            "endpoints": [
                "tcp://a:2376",
                "tcp://192.0.2.7:2400",
                "tcp://[2001:db8::8]:2376",
                "tcp://[2001:db8::9]:2376",
            ],
        },
        {"tls": False, "names": ["plain"], "endpoints": ["tcp://plain:2375"]},
    ]


def test_others_are_left_out() -> None:
    hostvars: Dict[str, Dict[str, Any]] = {
        "kept": _node(provisional=False),
        "failed": {"_listener_state": {"failed": True, "msg": "daemon.json: not JSON"}},
        "skipped": {"_listener_state": {"skipped": True}},
        "stopped-before": {},
    }
    assert farm_probes(list(hostvars), hostvars) == []


def test_all_that_are_declared() -> None:
    hostvars: Dict[str, Dict[str, Any]] = {
        "a": _node(port=2400, provisional=False),
        "own": {"listener_port": 2401},
        "plain": {"listener_insecure": True},
        "shell": {"listener_ssh": True, "ansible_user": "root"},
    }
    assert farm_probes(list(hostvars), hostvars, declared=True) == [
        {"tls": True, "names": ["a", "own"], "endpoints": ["tcp://a:2376", "tcp://own:2401"]},
        {"tls": False, "names": ["plain", "shell"], "endpoints": ["tcp://plain:2375", "ssh://root@shell"]},
    ]
