# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The authorities of private registries, as a part of a node's buildkitd configuration.

A node's configuration is what the whole farm knows a registry by: BuildKit in the node's container has it, and modules
read it from the builder's definition.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Mapping

from .._core.errors import FarmError
from .buildkitd import CONFIG_DIR, CONFIG_FILE, certificate_path, dump, names_registry, parse, toml_loads, toml_string

#: What a registry's declared authority is called in a node's configuration.
_FILE = "declared-ca.crt"
_REGISTRY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)(:[0-9]+)?\Z")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
#: A table that this module has written.
_OWN_TABLE = re.compile(
    rf'\n?\[registry\."[^"\n]+"\]\n  ca = \["{re.escape(CONFIG_DIR)}/certs/[^"\n]+/{re.escape(_FILE)}"\]\n'
)


def read_authorities(raw: Mapping[str, Any]) -> Dict[str, bytes]:
    """Return the authorities of registries, PEM, by the registries' names.

    :param raw: as a user declares them.
    :raises FarmError: a name is none of a registry, or there is no certificate.
    """
    found = {}
    for name, text in raw.items():
        if not _REGISTRY.match(str(name)):
            raise FarmError(f"registry {name!r}: wanted its name as images' names begin with it, HOST or HOST:PORT")
        if not _PEM.search(str(text)):
            raise FarmError(
                f"registry {name}: found no certificate; wanted that of its authority as PEM, the text and no path"
            )
        found[str(name)] = str(text).strip().encode() + b"\n"
    return found


def with_authorities(files: Mapping[str, bytes], authorities: Mapping[str, bytes]) -> Dict[str, bytes]:
    """Return what buildx has of a configuration with these authorities in the place of those declared before.

    What it says of a registry's ``ca`` itself, and of one with plain HTTP, stays.

    :param files: as ``buildkitd.config_files`` returns them.
    :param authorities: PEM by the registries' names.
    :raises FarmError: there is no TOML parser here to change the configuration with.
    """
    others = {path: content for path, content in files.items() if not path.endswith(f"/{_FILE}")}
    text = others.pop(CONFIG_FILE, b"").decode(errors="replace")
    loads = toml_loads()
    if loads is None:
        changed, added = _OWN_TABLE.sub("", text), dict(authorities)
        for name in added:
            _refuse_named(name, changed)
            changed += _table(name)
    else:
        tree = parse(text, loads)
        added = _add(tree, authorities)
        changed = dump(tree)
    files_of = {certificate_path(name, _FILE): content for name, content in added.items()}
    return {**others, **files_of, **({CONFIG_FILE: changed.encode()} if changed.strip() else {})}


def _add(tree: Dict[str, Any], authorities: Mapping[str, bytes]) -> Dict[str, bytes]:
    """Let a configuration name the authorities that are declared, and no others; returns those that it names."""
    registries = dict(tree.pop("registry", None) or {})
    for name, table in list(registries.items()):
        ours = f"{CONFIG_DIR}/{certificate_path(name, _FILE)}"
        if table.get("ca") == [ours]:
            registries[name] = {key: value for key, value in table.items() if key != "ca"}
            if not registries[name] and name not in authorities:
                del registries[name]
    added = {}
    for name, content in authorities.items():
        table = registries.get(name, {})
        if table.get("ca") or (table.get("http") and not table.get("insecure")):
            continue
        added[name] = content
        registries[name] = {**table, "ca": [f"{CONFIG_DIR}/{certificate_path(name, _FILE)}"]}
    if registries:
        tree["registry"] = registries
    return added


def _refuse_named(name: str, text: str) -> None:
    """Refuse an authority for a registry of which a configuration that cannot be parsed here says something itself.

    :raises FarmError: it does.
    """
    if names_registry(text, name):
        raise FarmError(
            f"registry {name}: laying its authority over what the buildkitd configuration says of it needs Python 3.11"
            " or the Python library tomli on this host (python3-tomli in Debian)"
        )


def _table(name: str) -> str:
    path = f"{CONFIG_DIR}/{certificate_path(name, _FILE)}"
    return f"\n[registry.{toml_string(name)}]\n  ca = [{toml_string(path)}]\n"
