# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles' variables through the lookup, of the task's host and of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import jinja2
import pytest
import yaml
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


@pytest.mark.parametrize(
    ("bind", "listens", "reached"),
    [
        ("", ":5000", "localhost:5000"),
        ("192.0.2.1", "192.0.2.1:5000", "192.0.2.1:5000"),
        ("2001:db8::1", "[2001:db8::1]:5000", "[2001:db8::1]:5000"),
        ("[::]", "[::]:5000", "[::]:5000"),
    ],
)
def test_a_mirror_may_listen_on_any_kind_of_address(bind: str, listens: str, reached: str) -> None:
    role = Path(__file__).resolve().parents[4] / "roles/mirror"
    variables = yaml.safe_load((role / "vars/main.yml").read_text())
    tasks = yaml.safe_load((role / "tasks/main.yml").read_text())
    known = {"_mirror_options": {"bind": bind, "port": 5000}}

    def rendered(text: str) -> str:
        return jinja2.Environment(autoescape=False).from_string(text).render(known)

    known["_mirror_address"] = rendered(variables.get("_mirror_address", ""))
    assert rendered(variables["_mirror_config"]["http"]["addr"]) == listens
    (url,) = [task["ansible.builtin.uri"]["url"] for task in tasks if "ansible.builtin.uri" in task]
    assert rendered(url) == f"http://{reached}/v2/"


def test_a_value_that_is_refused_shows_no_password_of_its_urls() -> None:
    with pytest.raises(AnsibleLookupError) as caught:
        look_up("engine", variables={"engine_daemon_config": '[{"http-proxy": "http://me:hush@proxy"}'})
    assert "http-proxy" in str(caught.value) and "hush" not in str(caught.value)
