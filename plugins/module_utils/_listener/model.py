# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making an engine listen on TCP: what the user declares, and what the host has."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import ipaddress
import itertools
import os
import re
import shlex
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.files import read_bytes
from .._core.runner import Runner
from .._host.systemd import (
    UNIT_DIRECTORIES,
    Service,
    UnitFiles,
    Variable,
    environment,
    exec_start,
    read_service,
    service_name,
    split_command,
)

#: The TLS files: authority, certificate and private key.
TLS_NAMES = ("ca", "cert", "key")
#: Sorts after others', ``systemctl edit``'s ``override.conf`` among them: their commands are the base of ours.
DROP_IN = "zz-buildfarm-listener.conf"
#: dockerd's own where it is told of none.
DEFAULT_SOCKET = "/var/run/docker.sock"
DEFAULT_CONFIG = "/etc/docker/daemon.json"
#: The keys of daemon.json that make a TCP listener; none of them can stand beside the flag of its name.
NETWORK_KEYS = ("hosts", "tls", "tlsverify", "tlscacert", "tlscert", "tlskey")
#: Other engines than the system's own that a host may have, and by which file each is known.
_OTHERS = {
    "Docker from a snap": "/var/snap/docker",
    "a rootless Docker engine": "/run/user/*/docker.sock",
}
_SIOCGIFADDR = 0x8915
#: A word of a command with its quotes.
_RAW_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:\\.|[^"\\])*"|'[^']*')+""")
#: Those of dockerd's flags that are looked for and take a value.
_VALUED = ("--host", "--config-file", "--tlscacert", "--tlscert", "--tlskey")
#: dockerd's short flags, except for ``-H``.
_SHORT = {
    "-D": "--debug",
    "-G": "--group",
    "-b": "--bridge",
    "-g": "--graph",
    "-l": "--log-level",
    "-p": "--pidfile",
    "-s": "--storage-driver",
}
# Words that need no quoting in a unit file (systemd.syntax(7)).
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+-]*\Z")


@dataclass(frozen=True)
class Declared:
    """What the user wants, checked and complete.

    :ivar state: ``present``, ``kept``, ``absent`` or ``previous``.
    :ivar ca, certificate, key: PEM; None where they were not given.
    :ivar probe_timeout: seconds.
    :ivar provisional: whether what a change replaces has to be kept for ``previous``.
    """

    host: str
    state: str
    unit: str
    address: str
    port: int
    insecure: bool
    tls_directory: str
    ca: Optional[bytes]
    certificate: Optional[bytes]
    key: Optional[bytes]
    daemon_config: Optional[Mapping[str, Any]]
    probe_timeout: float
    provisional: bool

    @property
    def present(self) -> bool:
        """Whether the engine has to listen."""
        return self.state == "present"

    @property
    def runs(self) -> bool:
        """Whether the engine has to run, with all of its settings in effect."""
        return self.state in ("present", "kept")

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
    def flags(self) -> Tuple[str, ...]:
        """What is added to the unit's command."""
        if self.insecure:
            # Without the explicit false, dockerd 26 and later waits 16 seconds at each start.
            return ("-H", self.url, "--tls=false")
        tls = (f"--tlscacert={self.tls_path('ca')}", f"--tlscert={self.tls_path('cert')}")
        return ("-H", self.url, "--tlsverify", *tls, f"--tlskey={self.tls_path('key')}")

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declared:
        """Read the module's options.

        :raises FarmError: one of them is malformed or excludes another.
        """
        insecure = params["insecure"]
        tls = {name: _pem(params[name]) for name in ("ca", "certificate", "key")}
        given = [name for name, value in tls.items() if value]
        if insecure and given:
            raise FarmError(f"insecure and {', '.join(given)} exclude each other: plain TCP uses no certificates")
        everywhere = "127.0.0.1" if insecure else "0.0.0.0"
        given_address = interface_address(params["interface"]) if params["interface"] else params["address"]
        try:
            address = ipaddress.ip_address((given_address or everywhere).strip("[]"))
        except ValueError as exc:
            raise FarmError(
                f"address {params['address']!r}: wanted an IPv4 or IPv6 address, as in 0.0.0.0 or ::"
            ) from exc
        port = params["port"] or (2375 if insecure else 2376)
        if not 0 < port < 65536:
            raise FarmError(f"port {port}: wanted 1 to 65535")
        directory = params["tls_directory"].rstrip("/")
        if not _PLAIN_PATH.match(directory):
            raise FarmError(f"tls_directory {directory!r}: wanted an absolute path of letters, digits and . _ + - only")
        config = params["daemon_config"]
        refused = [key for key in NETWORK_KEYS if config and config.get(key) is not None]
        if params["state"] in ("present", "kept") and refused:
            raise FarmError(
                f"daemon_config: {', '.join(refused)} cannot stand in daemon.json beside the flags that the unit's "
                "command and the listener use, the engine would not start; use address and port, ca, certificate and "
                "key, or insecure instead"
            )
        return cls(
            host=socket.gethostname(),
            state=params["state"],
            unit=service_name(params["service"]),
            address=str(address),
            port=port,
            insecure=insecure,
            tls_directory=directory,
            daemon_config=config,
            probe_timeout=params["probe_timeout"],
            # Nobody but this host itself could try a listener on loopback.
            provisional=params["provisional"] and params["state"] == "present" and not address.is_loopback,
            **tls,
        )


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


def options(words: Iterable[str], read: Callable[[str], str] = str) -> Iterator[Tuple[str, str, Tuple[str, ...]]]:
    """Yield the flags of dockerd's command line: name, value, and the words that it consists of.

    A value follows in the next word, after ``=``, or with ``-H``, which is called ``--host`` here, at once. All else is
    yielded as a flag too, whose value matters to nobody.

    :param read: makes a word's text of the word as it is written.
    """
    left = iter(words)
    for raw in left:
        word = read(raw)
        name, equals, value = word.partition("=")
        if word.startswith("-H"):
            name, equals, value = "--host", word[2:3], word[2:].lstrip("=")
        name = _SHORT.get(name, name)
        following = tuple(itertools.islice(left, 1)) if name in _VALUED and not equals else ()
        yield name, read(following[0]) if following else value, (raw, *following)


def hosts(arguments: Sequence[str]) -> Tuple[str, ...]:
    """Return the values of dockerd's ``-H``/``--host`` in any of the forms that its flags take."""
    return tuple(value for name, value, _words in options(arguments) if name == "--host")


def on_network(host: str) -> bool:
    """Say whether a value of ``-H`` opens a TCP port: one without a scheme does too.

    Source: moby ``opts/hosts.go``, ``parseDaemonHost``.
    """
    scheme, separator, _address = host.strip().partition("://")
    return scheme == "tcp" if separator else bool(scheme)


def is_network(name: str, value: str) -> bool:
    """Say whether a flag of dockerd, as ``options`` gives it, has to do with listening on TCP."""
    return name.startswith("--tls") or (name == "--host" and on_network(value))


def without_network(command: str) -> Tuple[str, Tuple[str, ...]]:
    """Return a command without what makes dockerd listen on TCP, and what that was; all else exactly as written.

    Those are ``-H`` with a TCP address and the flags that begin with ``--tls``, as far as variables do not bring them.
    """
    kept: List[str] = []
    removed: List[str] = []
    for name, value, words in options(_RAW_WORD.findall(command), _unquoted):
        (removed if is_network(name, value) and not value.startswith("$") else kept).extend(words)
    return (" ".join(kept) if removed else command), tuple(removed)


def _unquoted(raw: str) -> str:
    return "".join(shlex.split(raw))


@dataclass(frozen=True)
class Content:
    """A file as found: content None where there is none."""

    content: Optional[bytes] = None
    mode: int = 0o644
    modified: float = 0.0

    @classmethod
    def read(cls, path: str) -> Content:
        """Read a file.

        :raises OSError: it exists and cannot be read.
        """
        content = read_bytes(path)
        if content is None:
            return cls()
        status = os.stat(path)
        return cls(content, status.st_mode & 0o7777, status.st_mtime)


@dataclass(frozen=True)
class Found:
    """What the host has.

    :ivar command: the unit's ``ExecStart=`` without this module's drop-in, None where the engine is not installed.
    :ivar others: engines that are there instead, which this module does not manage.
    :ivar source: the file that the command stands in.
    :ivar variables: those that the unit's files give the command, also while the engine does not run.
    :ivar overriding: a drop-in that is applied after this module's and replaces the command.
    :ivar files: by path; only those that a plan may touch.
    :ivar tls_directory_mode: None where there is no such directory.
    :ivar now: seconds since the epoch.
    """

    service: Service
    command: Optional[str] = None
    others: Tuple[str, ...] = ()
    source: str = ""
    variables: Mapping[str, Variable] = field(default_factory=dict)
    overriding: Optional[str] = None
    config_path: str = DEFAULT_CONFIG
    files: Mapping[str, Content] = field(default_factory=dict)
    tls_directory_mode: Optional[int] = None
    now: float = 0.0

    def file(self, path: str) -> Content:
        """Return a file as found."""
        return self.files.get(path, Content())

    @property
    def local_command(self) -> str:
        """The command without a TCP listener of its own, which the declared one replaces."""
        return without_network(self.command or "")[0]

    @property
    def replaced(self) -> Tuple[str, ...]:
        """The flags of the command that make a TCP listener."""
        return without_network(self.command or "")[1]

    @property
    def words(self) -> Tuple[str, ...]:
        """The words of the local command, with its variables replaced."""
        return split_command(self.local_command, self.variables)


def read(declared: Declared, runner: Runner, directories: Sequence[str] = UNIT_DIRECTORIES) -> Found:
    """Look at the host: one systemctl call, the rest are files.

    :raises FarmError: systemd does not answer.
    :raises OSError: a file cannot be read.
    """
    service = read_service(runner, declared.unit)
    texts = list(UnitFiles.find(declared.unit, directories).texts())
    others = [(path, text) for path, text in texts if os.path.basename(path) != DROP_IN]
    source, command = exec_start(others) or ("", None)
    overriding = source.endswith(".conf") and os.path.basename(source) > DROP_IN
    variables = environment(others)
    flags = {flag: value for flag, value, _words in options(split_command(command or "", variables))}
    config_path = flags.get("--config-file") or DEFAULT_CONFIG
    tls = [declared.tls_path(name) for name in TLS_NAMES]
    directory = declared.tls_directory
    return Found(
        service=service,
        command=command,
        others=() if command else tuple(name for name, pattern in _OTHERS.items() if glob.glob(pattern)),
        source=source,
        variables=variables,
        overriding=source if overriding else None,
        config_path=config_path,
        files={path: Content.read(path) for path in (declared.drop_in, config_path, *tls)},
        tls_directory_mode=os.stat(directory).st_mode & 0o7777 if os.path.isdir(directory) else None,
        now=time.time(),
    )
