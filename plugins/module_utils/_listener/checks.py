# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is refused before anything is changed: what does not fit the host, certificates that nobody would accept."""

from __future__ import annotations

import time
from typing import Tuple

from .._core.errors import FarmError
from .._docker import tls
from .._host.systemd import referenced
from .config_plan import merged_config
from .daemon_config import NETWORK_KEYS
from .declaration import DROP_IN, Declaration
from .dockerd import is_network, options
from .plan import Plan
from .state import State


def check(declaration: Declaration, state: State, predicting: bool) -> Tuple[str, ...]:
    """Refuse what cannot work before anything is changed; returns warnings.

    :param predicting: in check mode, where earlier tasks may not have done yet what this one builds upon.
    :raises FarmError: the declaration and the host do not fit together.
    """
    warnings = []
    if state.service.loaded == "masked":
        raise FarmError(
            f"{declaration.host}: {declaration.unit} is masked; unmask it (systemctl unmask {declaration.unit}) first"
        )
    if not declaration.runs:
        return ()
    if state.command is None:
        missing = f"{declaration.unit} is not installed on {declaration.host}"
        if state.others:
            raise FarmError(
                f"{missing}; found {' and '.join(state.others)}, and wanted an engine that systemd runs for the whole"
                " system, as the packages of distributions and of Docker have it; remove it, then apply the role"
                " buildfarm.multiarch.engine"
            )
        if not predicting:
            raise FarmError(f"{missing}; apply the role buildfarm.multiarch.engine first")
        warnings.append(f"{missing} yet: the drop-in's command and the state of daemon.json are predicted without it")
    if not declaration.present:
        return tuple(warnings)
    if state.overriding:
        raise FarmError(
            f"{declaration.host}: {state.overriding} replaces the command of {declaration.unit} after "
            f"{declaration.drop_in}; rename it so that it sorts before {DROP_IN}"
        )
    _check_command(declaration, state)
    if state.replaced:
        warnings.append(
            f"{declaration.host}: {' '.join(state.replaced)} in {state.source} is left out of the engine's command, in"
            " favour of this listener; remove it there, or it is back when this listener is removed"
        )
    given_up = [key for key in NETWORK_KEYS if key in merged_config(declaration, state)[1]]
    if given_up:
        warnings.append(
            f"{declaration.host}: {state.config_path} gives up {', '.join(given_up)} in favour of this listener, and"
            " does not get it back when this listener is removed"
        )
    if not declaration.insecure:
        _check_tls(declaration, state, predicting)
    else:
        warnings.append(
            f"{declaration.host}: the engine listens on {declaration.url} without TLS: "
            "whoever reaches this address is root on this host"
        )
    return tuple(warnings)


def _check_command(declaration: Declaration, state: State) -> None:
    """Refuse a TCP listener that a variable of the command brings, and that therefore cannot be left out.

    :raises FarmError: it does.
    """
    brought = [words for name, value, words in options(state.words) if is_network(name, value)]
    if not brought:
        return
    used = [(name, state.variables[name]) for name in referenced(state.local_command) if name in state.variables]
    origins = {
        f"{name} in {variable.source}": None
        for name, variable in used
        if any(words[-1] in variable.value for words in brought)
    }
    flags = " ".join(word for words in brought for word in words)
    raise FarmError(
        f"{declaration.host}: the command of {declaration.unit} already has {flags}, from the variable "
        f"{' and '.join(origins) or 'of ' + state.source}; remove it there, this task's options replace it"
    )


def _check_tls(declaration: Declaration, state: State, predicting: bool) -> None:
    """Refuse TLS material that the engine could not use.

    :raises FarmError: something is missing or does not fit.
    """
    missing = [name for name in ("ca", "certificate") if getattr(declaration, name) is None]
    if missing and not predicting:
        raise FarmError(
            f"{declaration.host}: {' and '.join(missing)} missing; give ca, certificate and key (module "
            "docker_certificates makes them), or insecure: true for plain TCP"
        )
    for name in ("ca", "certificate"):
        text = getattr(declaration, name)
        if text is not None and tls.first_certificate(text) is None:
            raise FarmError(f"{name}: found no PEM certificate in the text given")
    problem = state.material.ca
    if problem:
        raise FarmError(f"ca: not usable as certificate authority: {problem}")
    _check_key(declaration, state, predicting)


def _check_key(declaration: Declaration, state: State, predicting: bool) -> None:
    """Refuse a key that does not belong to the certificate, whether it is given or on the host.

    :raises FarmError: it does not.
    """
    key = declaration.key
    if key and b"-----BEGIN" not in key:
        raise FarmError(
            "key: found no PEM private key in the text given; wanted the text itself, not the name of a file"
        )
    if declaration.certificate and key:
        problem = state.material.key
        if problem:
            raise FarmError(f"key: it does not belong to the certificate given, or is encrypted: {problem}")
    elif needs_key(declaration, state) and not (predicting or declaration.reports_missing_key):
        raise FarmError(
            f"{declaration.host}: {declaration.tls_path('key')} is not the private key of the certificate given "
            f"({state.material.held_key}), and the option key is not set; give the key once, it may be left out while "
            "it stays the same"
        )


def needs_key(declaration: Declaration, state: State) -> bool:
    """Return whether the declared certificate's key is neither given nor on the host."""
    return bool(declaration.certificate and not declaration.key and state.material.held_key)


def check_certificate(declaration: Declaration, state: State, planned: Plan) -> None:
    """Refuse a certificate that no client would accept, before the engine is restarted with it.

    :raises FarmError: it is another authority's, or not for a server, or not valid now.
    """
    problem = state.material.certificate
    if planned.restarts and problem:
        clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        raise FarmError(
            f"{declaration.host}: certificate: no client that trusts the ca given would take it: {problem}; by this "
            f"host's clock it is {clock}; nothing was changed"
        )
