# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker contexts as declared: reading what a user writes, and refusing what cannot be meant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from .._core.environment import expanded
from .._core.errors import FarmError
from .._docker.endpoint import PLAIN_PORT, TLS_PORT, Endpoint, context_name
from .._docker.names import TLS_NAMES

#: What can be declared of a context beside its name and its engine, as options of a module.
OPTIONS: Dict[str, Dict[str, Any]] = {
    "description": {"type": "str"},
    "ca": {"type": "path"},
    "cert": {"type": "path"},
    "key": {"type": "path", "no_log": False},
    "skip_tls_verify": {"type": "bool"},
    "insecure": {"type": "bool", "default": False},
}


@dataclass(frozen=True)
class ContextSpec:
    """A context that is declared to be present; None is left as it is.

    :ivar host: the engine's URL.
    :ivar tls: the files of the whole TLS material by name (``ca``, ``cert``, ``key``); none removes what is stored.
    :ivar insecure: whether plain TCP is requested.
    """

    name: str
    host: Endpoint
    description: Optional[str] = None
    skip_tls_verify: Optional[bool] = None
    tls: Optional[Mapping[str, Path]] = None
    insecure: bool = False

    @classmethod
    def from_params(cls, item: Mapping[str, Any]) -> ContextSpec:
        """Read one entry of the module's option ``contexts``.

        :raises FarmError: its values are wrong, or contradict each other.
        """
        name = context_name(item["name"])
        files = {kind: Path(expanded(item[kind])) for kind in TLS_NAMES if item.get(kind)}
        insecure = bool(item.get("insecure"))
        host = _host(name, item, bool(files))
        if files and (host.scheme != "tcp" or insecure):
            other = "insecure=true" if insecure else f"a {host.scheme} host"
            raise FarmError(
                f"context {name!r}: {', '.join(files)} make no sense with {other}; leave out one of the two"
            )
        if ("cert" in files) != ("key" in files):
            raise FarmError(f"context {name!r}: cert and key belong together; give both or none")
        return cls(
            name=name,
            host=host,
            description=item.get("description"),
            skip_tls_verify=item.get("skip_tls_verify"),
            tls=files if files or insecure else None,
            insecure=insecure,
        )


@dataclass(frozen=True)
class Declaration:
    """The contexts of one docker configuration as declared.

    :ivar absent: the names of contexts that are to be absent.
    :ivar owner: for whom contexts are made that are not there yet.
    :ivar purge: whether contexts that were made for the owner, and are not declared, are removed unless they are used.
    :ivar builder: a builder as module ``buildx_builder`` returns it; it stands for the stored one of that name.
    """

    present: Tuple[ContextSpec, ...] = ()
    absent: Tuple[str, ...] = ()
    owner: Optional[str] = None
    purge: bool = False
    builder: Optional[Mapping[str, Any]] = None

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Return what a module's parameters declare.

        :raises FarmError: the declaration cannot be meant.
        """
        present: Tuple[ContextSpec, ...] = ()
        absent: Tuple[str, ...] = ()
        if params["state"] == "present":
            present = tuple(ContextSpec.from_params(item) for item in params["contexts"])
        else:
            absent = tuple(context_name(item["name"]) for item in params["contexts"])
        refuse_repeats([*(spec.name for spec in present), *absent])
        return cls(present, absent, params["owner"], params["purge"], params["builder"])

    @property
    def names(self) -> Tuple[str, ...]:
        """The names of all declared contexts, in order."""
        return (*(spec.name for spec in self.present), *self.absent)


def refuse_repeats(names: Sequence[str]) -> None:
    """Refuse contexts that are declared more than once.

    :raises FarmError: there are such.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise FarmError(f"contexts declared more than once: {', '.join(repeated)}; wanted one entry each")


def _host(name: str, item: Mapping[str, Any], with_tls: bool) -> Endpoint:
    if not item.get("host"):
        raise FarmError(f"context {name!r}: host is missing; wanted the engine's URL, tcp://HOST:2376 for example")
    host = Endpoint.parse(item["host"], TLS_PORT if with_tls or item.get("skip_tls_verify") else PLAIN_PORT)
    if host.scheme == "context":
        raise FarmError(f"context {name!r}: host {host.text!r} is no URL; wanted tcp://, unix:// or ssh://")
    return host
