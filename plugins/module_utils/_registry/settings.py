# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How registries are reached: what a builder's buildkitd configuration and docker's certificates say of them.

Source of the rules: moby/buildkit ``util/resolver/resolver.go`` and ``docs/buildkitd.toml.md``; for the directory of
certificates moby ``registry/registry.go`` (``loadTLSConfig``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._buildx.buildkitd import CONFIG_DIR, CONFIG_FILE, toml_loads
from .._buildx.store import Node
from .._core.errors import FarmError
from .._core.files import read_bytes
from .._docker.tls import PARTIAL_CHAIN

#: Where docker has the certificates of registries, one directory for each HOST or HOST:PORT.
_CERTIFICATES = Path("/etc/docker/certs.d")
_TABLE = re.compile(
    r"\s*(\[\[?)\s*registry\s*\.\s*(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[A-Za-z0-9_-]+)\s*(?:\.\s*(\w+)\s*)?\]"
)
_PAIR = re.compile(r"\s*([\w-]+|\"[\w-]+\")\s*=\s*(.*)")
_STRING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'")


@dataclass(frozen=True)
class Settings:
    """What is configured for one registry.

    :ivar http: whether it speaks plain HTTP, None where that is not configured.
    :ivar insecure: whether its certificate is not verified.
    :ivar authorities: certificates in PEM that it may be signed by, beside the system's.
    :ivar key_pairs: client certificates and their keys, in PEM.
    :ivar mirrors: registries to read from before it, with a path where they have one.
    """

    http: Optional[bool] = None
    insecure: bool = False
    authorities: Tuple[bytes, ...] = ()
    key_pairs: Tuple[Tuple[bytes, bytes], ...] = field(default=(), repr=False)
    mirrors: Tuple[str, ...] = ()


def of_nodes(nodes: Sequence[Node]) -> Dict[str, Settings]:
    """Return the nodes' settings for registries by the registries' names; of several nodes the first counts.

    :raises FarmError: a stored configuration is not TOML.
    """
    found: Dict[str, Settings] = {}
    for node in nodes:
        files = node.files or {}
        try:
            registries = _registries(files.get(CONFIG_FILE, b"").decode())
        except ValueError as exc:
            raise FarmError(f"node {node.name!r}: its buildkitd configuration is not TOML: {exc}") from exc
        for name, raw in registries.items():
            found.setdefault(name, _settings(raw, files))
    return found


def all_authorities(settings: Mapping[str, Settings]) -> Tuple[bytes, ...]:
    """Return the authorities of all registries, PEM: those that are configured, and in docker's directories.

    What cannot be read is left out: it may be another registry's, of which nothing is wanted.

    :param settings: by the registries' names.
    """
    found = [authority for one in settings.values() for authority in one.authorities]
    with contextlib.suppress(OSError):
        for path in sorted(_CERTIFICATES.glob("*/*.crt")):
            with contextlib.suppress(OSError):
                found.append(read_bytes(path) or b"")
    return tuple(dict.fromkeys(filter(_is_loadable, found)))


def _is_loadable(authority: bytes) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=authority.decode())
    except (OSError, ValueError):
        return False
    return True


def tls_context(registry: str, settings: Settings) -> ssl.SSLContext:
    """Return how a registry's TLS is spoken: its settings, docker's directory of certificates, the system's.

    The system's certificates are those of OpenSSL, and so of ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.

    :param registry: its host, with its port where the name has one.
    :raises FarmError: a configured certificate or key is none.
    """
    # Not create_default_context: since Python 3.13 that demands extensions of certificates that docker does without.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= PARTIAL_CHAIN
    # As in Go since 1.15, and so in docker and buildx.
    context.hostname_checks_common_name = False
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_default_certs()
    directory = _CERTIFICATES / registry
    try:
        for authority in (
            *settings.authorities,
            *(read_bytes(path) or b"" for path in sorted(directory.glob("*.crt"))),
        ):
            context.load_verify_locations(cadata=authority.decode())
        pairs = [(read_bytes(path) or b"", read_bytes(path.with_suffix(".key"))) for path in directory.glob("*.cert")]
        for certificate, key in (*settings.key_pairs, *pairs):
            _load_pair(context, certificate, key or b"")
    except (OSError, ValueError) as exc:
        raise FarmError(
            f"registry {registry}: a certificate or key for it, of the builder's buildkitd configuration or in "
            f"{directory}, cannot be used ({getattr(exc, 'reason', None) or exc}); wanted certificates and keys in PEM"
        ) from exc
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # OpenSSL reads these from a file only; this one is readable by its owner only, and gone in a moment.
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + b"\n" + key)
        file.flush()
        # The empty password stops OpenSSL from asking a terminal for that of an encrypted key.
        context.load_cert_chain(file.name, password="")


def _settings(raw: Mapping[str, Any], files: Mapping[str, bytes]) -> Settings:
    def content(path: Any) -> bytes:
        # buildx stores copies, and names them as the node's container sees them.
        return files.get(os.path.relpath(str(path), CONFIG_DIR), b"")

    pairs = [(content(pair.get("cert")), content(pair.get("key"))) for pair in raw.get("keypair") or ()]
    return Settings(
        http=raw.get("http"),
        insecure=bool(raw.get("insecure")),
        authorities=tuple(filter(None, (content(path) for path in raw.get("ca") or ()))),
        key_pairs=tuple(pair for pair in pairs if all(pair)),
        mirrors=tuple(str(mirror) for mirror in raw.get("mirrors") or ()),
    )


def _registries(text: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the tables of registries in a buildkitd configuration.

    :raises ValueError: it is not TOML.
    """
    loads = toml_loads()
    registries = (loads(text) if loads else {"registry": _read_tables(text)}).get("registry")
    tables = registries if isinstance(registries, dict) else {}
    return {name: table for name, table in tables.items() if isinstance(table, dict)}


def _read_tables(text: str) -> Dict[str, Dict[str, Any]]:
    """Read the tables of registries where Python has no parser for TOML: as buildx stores them, one key a line."""
    tables: Dict[str, Dict[str, Any]] = {}
    table: Optional[Dict[str, Any]] = None
    for line in _logical_lines(text):
        heading = _TABLE.match(line)
        if heading:
            table = tables.setdefault(_string(heading.group(2)), {})
            if heading.group(3):
                pair: Dict[str, Any] = {}
                table.setdefault(heading.group(3), []).append(pair)
                table = pair
        elif line.lstrip().startswith("["):
            table = None
        else:
            match = _PAIR.match(line)
            if match and table is not None:
                table[match.group(1).strip('"')] = _value(match.group(2))
    return tables


def _logical_lines(text: str) -> List[str]:
    """Return the lines of a text without comments, an array in one line."""
    lines: List[str] = []
    for line in text.splitlines():
        bare = re.sub(rf"({_STRING.pattern})|#.*", lambda match: match.group(1) or "", line)
        if lines and "=" in lines[-1]:
            outside = _STRING.sub("", lines[-1])
            if outside.count("[") > outside.count("]"):
                lines[-1] += bare
                continue
        lines.append(bare)
    return lines


def _value(text: str) -> Any:
    if text.startswith("["):
        return [_string(one) for one in _STRING.findall(text)]
    if text.startswith(("'", '"')):
        return _string(text)
    return {"true": True, "false": False}.get(text.strip())


def _string(text: str) -> str:
    match = _STRING.match(text)
    if match is None:
        return text.strip()
    return str(json.loads(match.group())) if text.startswith('"') else match.group()[1:-1]
