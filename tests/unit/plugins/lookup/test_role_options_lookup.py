# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles' variables through the lookup, of the task's host and of another."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.buildfarm.multiarch.plugins.lookup.role_options import LookupModule


class Lookup(LookupModule):
    """The lookup with an option as Ansible sets it, for which the collection would have to be installed."""

    def __init__(self, host: Optional[str], variables: Any) -> None:
        super().__init__(loader=DataLoader(), templar=Templar(loader=DataLoader(), variables=variables))
        self._host = host

    def set_options(self, *_arguments: Any, **_options: Any) -> None:
        pass

    def get_option(self, option: str, hostvars: Any = None) -> Any:
        assert option == "host"
        return self._host


def look_up(*roles: str, variables: Any = None, host: Optional[str] = None) -> Any:
    return Lookup(host, variables or {}).run(roles, variables)


def test_one_dictionary_for_each_role() -> None:
    listener, emulators = look_up(
        "listener", "emulators", variables={"listener_port": "2377", "emulators_verify": "no"}
    )
    assert (listener["port"], listener["insecure"]) == (2377, False)
    assert emulators["verify"] is False


def test_without_variables_there_are_the_defaults() -> None:
    assert look_up("listener")[0]["port"] is None


def test_another_hosts_variables() -> None:
    variables = {"listener_port": 1, "hostvars": {"n2": {"listener_port": "2378"}}}
    assert look_up("listener", variables=variables, host="n2")[0]["port"] == 2378
    assert look_up("listener", variables=variables)[0]["port"] == 1


def test_what_cannot_be_meant_is_named() -> None:
    with pytest.raises(AnsibleLookupError, match="listener_port"):
        look_up("listener", variables={"listener_port": "many"})


def test_a_value_that_is_refused_shows_no_password_of_its_urls() -> None:
    with pytest.raises(AnsibleLookupError) as caught:
        look_up("engine", variables={"engine_daemon_config": '[{"http-proxy": "http://me:hush@proxy"}'})
    assert "http-proxy" in str(caught.value) and "hush" not in str(caught.value)
