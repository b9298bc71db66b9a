# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task declares of an engine: its listener, the settings of ``daemon.json``."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple, Union

from .._core.errors import FarmError
from .._core.files import read_bytes
from .._docker.names import TLS_NAMES
from .._host.systemd import UNIT_DIRECTORIES, service_name
from .daemon_config import NETWORK_KEYS

#: Sorts after others', ``systemctl edit``'s ``override.conf`` among them: their commands are the base of ours.
DROP_IN = "zz-buildfarm-listener.conf"
_SIOCGIFADDR = 0x8915
# Words that need no quoting in a unit file (systemd.syntax(7)).
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+-]*\Z")


@dataclass(frozen=True)
class Declaration:
    """What the user wants, checked and complete.

    :ivar state: of the listener: ``present``, ``absent``, or ``untouched`` where only ``daemon.json`` is declared; or
        ``confirmed`` or ``reverted``, which concern a provisional change.
    :ivar ca, certificate, key: PEM; None where they were not given.
    :ivar probe_timeout: seconds.
    :ivar provisional: whether a change has to be confirmed, and can be reverted until then.
    :ivar restores_config: whether what was set in ``daemon.json`` is taken out again.
    :ivar reports_missing_key: whether nothing is changed where the host lacks the certificate's key, instead of a
        failure.
    """

    host: str
    state: str
    unit: str
    daemon_config: Optional[Mapping[str, Any]]
    probe_timeout: float
    address: str = ""
    port: int = 0
    insecure: bool = False
    tls_directory: str = ""
    ca: Optional[bytes] = None
    certificate: Optional[bytes] = None
    key: Optional[bytes] = field(default=None, repr=False)
    provisional: bool = False
    reports_missing_key: bool = False
    restores_config: bool = False

    @property
    def present(self) -> bool:
        """Whether the engine has to listen."""
        return self.state == "present"

    @property
    def runs(self) -> bool:
        """Whether the engine has to run, with all of its settings in effect."""
        return self.state in ("present", "untouched")

    @property
    def uses_tls(self) -> bool:
        """Whether the engine has to listen with TLS."""
        return self.present and not self.insecure

    @property
    def url(self) -> str:
        """The ``-H`` value."""
        return f"tcp://[{self.address}]:{self.port}" if ":" in self.address else f"tcp://{self.address}:{self.port}"

    @property
    def local_address(self) -> str:
        """An address at which the host itself reaches the listener."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)

    @property
    def drop_in(self) -> str:
        """Path of the drop-in."""
        return os.path.join(UNIT_DIRECTORIES[0], self.unit + ".d", DROP_IN)

    def tls_path(self, name: str) -> str:
        """Path of one of ``ca``, ``cert`` and ``key``."""
        return os.path.join(self.tls_directory, name + ".pem")

    @property
    def own_files(self) -> Tuple[str, ...]:
        """The files that make up the listener; none where it is not the task's."""
        if self.state == "untouched":
            return ()
        return (self.drop_in, *map(self.tls_path, TLS_NAMES))

    @property
    def flags(self) -> Tuple[str, ...]:
        """What is added to the unit's command."""
        if self.insecure:
            # Without the explicit false, dockerd 26 and later waits 16 seconds at each start.
            return ("-H", self.url, "--tls=false")
        tls = (f"--tlscacert={self.tls_path('ca')}", f"--tlscert={self.tls_path('cert')}")
        return ("-H", self.url, "--tlsverify", *tls, f"--tlskey={self.tls_path('key')}")

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Read the options of docker_listener.

        :raises FarmError: one of them is malformed or excludes another.
        """
        state, insecure, config = params["state"], params["insecure"], params["daemon_config"]
        tls = {name: _pem(params[name]) for name in ("ca", "certificate", "key")}
        given = [name for name, value in tls.items() if value]
        if insecure and given:
            raise FarmError(f"insecure and {', '.join(given)} exclude each other: plain TCP uses no certificates")
        if state == "present":
            _check_config(config, "use address and port, ca, certificate and key, or insecure instead")
        if state in ("confirmed", "reverted") and config:
            raise FarmError(
                f"daemon_config and state {state} exclude each other: it concerns a change that has been made already; "
                "declare settings with state present, or with the module docker_daemon_config"
            )
        if params["restore_daemon_config"] and (state != "absent" or config):
            raise FarmError(
                "restore_daemon_config takes out of daemon.json what was set before; it goes with state absent, and"
                " without daemon_config"
            )
        port = (2375 if insecure else 2376) if params["port"] is None else params["port"]
        if not 0 < port < 65536:
            raise FarmError(f"port {port}: wanted 1 to 65535")
        address = _address(params)
        return cls(
            host=socket.gethostname(),
            state=state,
            unit=service_name(params["service"]),
            daemon_config=config,
            probe_timeout=params["probe_timeout"],
            address=str(address),
            port=port,
            insecure=insecure,
            tls_directory=_tls_directory(params["tls_directory"]),
            # Nobody but this host itself could try a listener on loopback.
            provisional=params["provisional"] and state == "present" and not address.is_loopback,
            reports_missing_key=params["missing_key"] == "report",
            restores_config=params["restore_daemon_config"],
            **tls,
        )

    @classmethod
    def of_daemon_config(cls, params: Mapping[str, Any]) -> Declaration:
        """Read the options of docker_daemon_config.

        :raises FarmError: one of them is malformed, or would make a listener.
        """
        config = params["daemon_config"]
        _check_config(config, "use the module docker_listener instead")
        return cls(socket.gethostname(), "untouched", service_name(params["service"]), config, params["probe_timeout"])


def _check_config(config: Optional[Mapping[str, Any]], remedy: str) -> None:
    """Refuse settings that make a listener.

    :raises FarmError: there are some.
    """
    refused = [key for key in NETWORK_KEYS if config and config.get(key) is not None]
    if refused:
        raise FarmError(
            f"daemon_config: {', '.join(refused)} cannot stand in daemon.json beside the flags that the unit's command "
            f"and the listener use, the engine would not start; {remedy}"
        )


def _address(params: Mapping[str, Any]) -> Union[ipaddress.IPv4Address, ipaddress.IPv6Address]:
    """Return the address to listen on.

    :raises FarmError: it is none, or the interface has none.
    """
    given = interface_address(params["interface"]) if params["interface"] else params["address"]
    default = "127.0.0.1" if params["insecure"] else "0.0.0.0"
    try:
        return ipaddress.ip_address((given or default).strip("[]"))
    except ValueError as exc:
        raise FarmError(f"address {given!r}: wanted an IPv4 or IPv6 address, as in 0.0.0.0 or ::") from exc


def _tls_directory(given: str) -> str:
    """Return a directory whose name can stand in a unit file as it is.

    :raises FarmError: it cannot.
    """
    directory = given.rstrip("/")
    if not _PLAIN_PATH.match(directory):
        raise FarmError(f"tls_directory {directory!r}: wanted an absolute path of letters, digits and . _ + - only")
    return directory


def interface_address(name: str) -> str:
    """Return the address of a network interface of this host: its first IPv4 address, else a global IPv6 address.

    Sources: netdevice(7) for the request, the kernel's ``net/ipv6/addrconf.c`` for the columns of ``if_inet6``.

    :raises FarmError: there is no such interface, or it has no address.
    """
    # An OSError says that there is no such interface, or that it has no IPv4 address.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, contextlib.suppress(OSError):
        answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        return socket.inet_ntoa(answer[20:24])
    for line in (read_bytes("/proc/net/if_inet6") or b"").decode().splitlines():
        digits, _index, _length, scope, _flags, interface = line.split()
        if interface == name and scope == "00":
            return str(ipaddress.IPv6Address(int(digits, 16)))
    known = ", ".join(sorted(interface for _index, interface in socket.if_nameindex()))
    raise FarmError(f"interface {name!r}: found none of this name that has an address; this host has {known}")


def _pem(text: Optional[str]) -> Optional[bytes]:
    return (text.strip() + "\n").encode() if text and text.strip() else None
