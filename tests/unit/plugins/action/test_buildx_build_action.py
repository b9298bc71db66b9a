# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the Ansible machine makes of the sources of images."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from ansible import context
from ansible_collections.buildfarm.multiarch.plugins.action.buildx_build import ActionModule
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError


class Action(ActionModule):
    """The action, without a host."""

    def __init__(self, options: Dict[str, Any], transport: str = "ssh") -> None:
        self._connection = types.SimpleNamespace(transport=transport)
        self._loader = types.SimpleNamespace(get_basedir=lambda: "/playbooks")
        self._task = types.SimpleNamespace(args=options, get_search_path=lambda: ["/playbooks"])


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tuple[str, str]:
    monkeypatch.setattr(context, "CLIARGS", {})
    for name in "ab":
        (tmp_path / name).mkdir()
    return str(tmp_path / "a"), str(tmp_path / "b")


def images(*options: Dict[str, Any]) -> Dict[str, List[Dict[str, Any]]]:
    return {"images": list(options)}


def test_sources_of_one_context_are_one(sources: Tuple[str, str]) -> None:
    first, second = sources
    both = images({"source": first, "context": "/srv/x"}, {"source": f"{second}/../a", "context": "/srv/x/"})
    assert len(Action(both)._sourced({})) == 2
    apart = images({"source": first, "context": "/srv/x"}, {"source": second, "context": "/srv/y"})
    assert [one.source for one in Action(apart)._sourced({})] == [first, second]
    mixed = images({"source": first, "context": "/srv/x"}, {"source": second, "context": "/srv/x/"})
    with pytest.raises(FarmError, match=f"^images: {first} and {second} are sources of one context, '/srv/x'; wanted"):
        Action(mixed)._sourced({})
    # There each is built from where it is.
    assert Action(mixed, transport="local")._sourced({}) == []


@pytest.mark.parametrize(
    ("given", "forced"),
    [(True, True), ("yes", True), (False, False), ("false", False), ("no", False), ("", False), (None, False)],
)
def test_force_may_be_a_text(sources: Tuple[str, str], given: Any, forced: bool) -> None:
    task = {"source": sources[0], "context": "/srv/x", "force": given}
    (one,) = Action(task)._sourced({})
    assert one.force is forced
    with pytest.raises(FarmError, match=r"^force 'maybe': wanted true or false"):
        Action({**task, "force": "maybe"})._sourced({})


def test_images_that_are_none_are_the_modules_to_refuse(sources: Tuple[str, str]) -> None:
    action = Action({"images": ["r.test/app"]})
    assert action._sourced({}) == [] and action._task.args == {"images": ["r.test/app"]}
