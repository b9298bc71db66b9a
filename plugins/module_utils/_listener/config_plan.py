# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``daemon.json`` is to hold: the settings merged, without what the engine would not start with."""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._docker.names import DEFAULT_SOCKET
from . import daemon_config
from .daemon_config import NETWORK_KEYS
from .declaration import Declaration
from .dockerd import hosts, on_network, options
from .state import State


def merged_config(declaration: Declaration, state: State) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return the values of daemon.json as they are, and with what is declared.

    :raises FarmError: it is not a JSON object.
    """
    current = daemon_config.parse(state.file(state.config_path).content, state.config_path)
    return current, daemon_config.merge(current, declaration.daemon_config or {})


def plan_config(declaration: Declaration, state: State) -> Optional[bytes]:
    """Return daemon.json as declared; the file's own bytes where the values are the same, None where none is needed.

    :raises FarmError: it is not JSON, or the engine would not start with it and its command.
    """
    held = state.file(state.config_path).content
    if not declaration.runs and not declaration.daemon_config:
        return held
    current, merged = merged_config(declaration, state)
    if declaration.present:
        _check_hosts(declaration, state, merged.get("hosts"))
        merged = {key: value for key, value in merged.items() if key not in NETWORK_KEYS}
    _check_conflicts(declaration, state, merged)
    return held if merged == current else daemon_config.render(merged)


def _check_hosts(declaration: Declaration, state: State, listed: Any) -> None:
    """Refuse to take ``hosts``, which cannot stand beside ``-H`` flags, out of daemon.json where a socket would go.

    :raises FarmError: it names a socket that neither the unit's command nor the declared listener opens, or is no list.
    """
    names = [listed] if isinstance(listed, str) else listed or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or "," in "".join(names):
        raise FarmError(
            f"{declaration.host}, {state.config_path}: 'hosts' is {json.dumps(listed)}, wanted a list of addresses, as"
            ' in ["unix:///var/run/docker.sock"]; correct it, or remove it with daemon_config: {hosts: null}'
        )
    usual = {"", "fd://", "unix://", "unix://" + DEFAULT_SOCKET, "unix:///run/docker.sock", *hosts(state.words)}
    lost = [name for name in names if not on_network(name) and name not in usual]
    if lost:
        raise FarmError(
            f"{declaration.host}, {state.config_path}: 'hosts' cannot stand beside the -H flags of the unit's command,"
            f" the engine would not start, and {', '.join(lost)} would be lost without it; move that to the unit's"
            " command (-H in a drop-in), or give it up with daemon_config: {hosts: null}"
        )


def _check_conflicts(declaration: Declaration, state: State, values: Mapping[str, Any]) -> None:
    """Refuse what would stand in daemon.json and as a flag too: no engine starts with both, and not all can validate.

    A flag that may be given more than once has a key in the plural (moby ``daemon/config``,
    ``findConfigurationConflicts``). What has to do with listening is left to tasks that declare a listener.

    :raises FarmError: something does.
    """
    values = {key: value for key, value in values.items() if declaration.runs and key not in NETWORK_KEYS}
    both = []
    for name, _value, _words in options(state.words):
        option = name.lstrip("-") if name.startswith("--") else ""
        both += [(key, name) for key in (option, option + "s", option[:-1] + "ies") if option and key in values]
    if both:
        keys, flags = ", ".join(dict(both)), " ".join(dict(both).values())
        raise FarmError(
            f"{declaration.host}, {state.config_path}: {keys} would stand there beside {flags} in the command of"
            f" {declaration.unit} ({state.source}); the engine does not start with both, keep one of them"
        )
