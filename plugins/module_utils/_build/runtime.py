# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ``RUN`` instructions of a build run with: network, hosts, limits, privileges.

Source: docker/buildx ``commands/build.go``, ``build/opt.go``, ``build/utils.go``; for the versions its release notes.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from .._buildx.cli import Version
from .._core.errors import FarmError
from .fields import pairs_of, text_of

NETWORKS = ("default", "host", "none")
_GATEWAY = "host-gateway"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z")
_ENTITLEMENT = re.compile(r"(network\.host|security\.insecure|device(=\S+)?)\Z")
_SIZE = re.compile(r"\d+(\.\d+)?\s*([bkmgt]|[kmgt]i?b)?\Z", re.IGNORECASE)
_LIMIT = re.compile(r"-?\d+(:-?\d+)?\Z")
_LIMITS = "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
_PATH = re.compile(r"[^\s-]\S*\Z")

_PARITY: Version = (0, 7, 0)
_HOST_GATEWAY: Version = (0, 10, 0)
_DEVICES: Version = (0, 21, 0)


@dataclass(frozen=True)
class Runtime:
    """What steps run with; empty fields are BuildKit's own choice.

    :ivar add_hosts: names and addresses; a name may be there more than once.
    :ivar ulimits: names with ``SOFT[:HARD]``.
    """

    network: str = ""
    allow: Tuple[str, ...] = ()
    add_hosts: Tuple[Tuple[str, str], ...] = ()
    ulimits: Tuple[Tuple[str, str], ...] = ()
    shm_size: str = ""
    cgroup_parent: str = ""

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Runtime:
        """Read a task's options.

        :raises FarmError: an option's value is wrong.
        """
        return cls(
            network=_network(params.get("network")),
            allow=tuple(dict.fromkeys(_entitlement(item) for item in params.get("allow") or ())),
            add_hosts=tuple(_host(*pair) for pair in pairs_of("add_hosts", params.get("add_hosts"), "=:")),
            ulimits=tuple(_ulimit(*pair) for pair in pairs_of("ulimits", params.get("ulimits"))),
            shm_size=_matching("shm_size", params.get("shm_size"), _SIZE, "a size in bytes, or such as 64m or 1g"),
            cgroup_parent=_matching("cgroup_parent", params.get("cgroup_parent"), _PATH, "a control group's path"),
        )

    @property
    def names_gateway(self) -> bool:
        """Whether a name stands for the node itself."""
        return any(address == _GATEWAY for _name, address in self.add_hosts)

    def requirements(self) -> List[Tuple[str, Version]]:
        """Return what not every buildx has, in the user's words, and its first version with that."""
        parity = ("ulimits", "shm_size", "cgroup_parent")
        found = [(name, _PARITY) for name in parity if getattr(self, name)]
        if self.names_gateway:
            found.append((f"add_hosts with {_GATEWAY}", _HOST_GATEWAY))
        if any(item.startswith("device") for item in self.allow):
            found.append(("allow: device", _DEVICES))
        return found

    def arguments(self) -> List[str]:
        """Return the arguments of ``docker buildx build``."""
        single = (("--network", self.network), ("--shm-size", self.shm_size), ("--cgroup-parent", self.cgroup_parent))
        listed: Sequence[Tuple[str, Sequence[str]]] = (
            ("--allow", self.allow),
            ("--add-host", [f"{name}:{address}" for name, address in self.add_hosts]),
            ("--ulimit", [f"{name}={value}" for name, value in self.ulimits]),
        )
        args = [word for name, value in single if value for word in (name, value)]
        return args + [word for name, values in listed for value in values for word in (name, value)]


def _network(value: Optional[str]) -> str:
    if value and value not in NETWORKS:
        raise FarmError(
            f"network {value!r}: wanted {', '.join(NETWORKS)}; another network is the builder's, as driver option "
            f"network of its nodes (buildx_builder, driver_opts)"
        )
    return value or ""


def _entitlement(raw: Any) -> str:
    text = text_of("allow", raw)
    if not _ENTITLEMENT.match(text):
        raise FarmError(f"allow: {text!r}: wanted network.host, security.insecure, device or device=NAME")
    return text


def _host(name: str, address: str) -> Tuple[str, str]:
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        wanted = _GATEWAY if bare == _GATEWAY else str(ipaddress.ip_address(bare))
    except ValueError as exc:
        raise FarmError(f"add_hosts: {name}: {address!r} is neither an IP address nor {_GATEWAY}") from exc
    if not _HOST.match(name):
        raise FarmError(f"add_hosts: {name!r} is no name of a host")
    return name, wanted


def _ulimit(name: str, value: str) -> Tuple[str, str]:
    if name not in _LIMITS:
        raise FarmError(f"ulimits: unknown limit {name!r}; wanted one of {', '.join(_LIMITS)}")
    if not _LIMIT.match(value):
        raise FarmError(f"ulimits: {name}: {value!r}: wanted SOFT or SOFT:HARD, numbers of which -1 is no limit")
    return name, value


def _matching(subject: str, value: Optional[str], pattern: re.Pattern[str], wanted: str) -> str:
    if value and not pattern.match(value):
        raise FarmError(f"{subject} {value!r}: wanted {wanted}")
    return value or ""
