# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What buildx makes of a node's buildkitd configuration and flags when it creates the node.

Source of the rules: docker/buildx ``util/confutil/container.go`` (``LoadConfigFiles``) and ``builder/builder.go``
(``parseBuildkitdFlags``); the text is written as go-toml v1 writes it.
"""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .cache_limits import GC_KEYS, CacheLimits, sets_policy

CONFIG_FILE = "buildkitd.toml"
CONFIG_DIR = "/etc/buildkit"

_HOST_NETWORK = "network.host"
_ENTITLEMENT = "--allow-insecure-entitlement"
#: Lines for which a configuration cannot be taken as it is: buildx copies the files that they name.
_NAMES_FILES = re.compile(r"(?m)^\s*(ca|key|cert|\"ca\"|keypair)\s*=|^\s*\[+\s*registry.*keypair|^\s*registry\b")
#: A mirror of Docker Hub.
_MIRROR = re.compile(r"(https?)://([^/\s]+)/?\Z")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_CERTS_DIR = re.compile(r"[^a-zA-Z0-9.-]+")
_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}

Loads = Callable[[str], Mapping[str, Any]]


def toml_loads() -> Optional[Loads]:
    """Return a TOML parser: Python 3.11's own, or the library ``tomli``; None if there is neither."""
    try:
        from tomllib import loads
    except ImportError:
        try:
            from tomli import loads  # type: ignore[no-redef,unused-ignore]
        except ImportError:
            return None
    return loads  # type: ignore[no-any-return,unused-ignore]


def config_files(text: str, read: Callable[[str], bytes]) -> Dict[str, bytes]:
    """Return the files that buildx puts into ``/etc/buildkit`` for a buildkitd configuration.

    Certificates and keys of registries come along, below ``certs/``, and the configuration names the copies.

    :param text: the configuration, TOML.
    :param read: returns the content of a file that the configuration names.
    :raises FarmError: it is not TOML, or names a file that cannot be read.
    """
    loads = toml_loads()
    if loads is None:
        if _NAMES_FILES.search(text):
            raise FarmError(
                "the buildkitd configuration names certificates or keys of a registry; copying them needs Python 3.11"
                " or the Python library tomli on this host (python3-tomli in Debian)"
            )
        return {CONFIG_FILE: text.encode()}
    tree = parse(text, loads)
    files = _copy_registry_files(tree, read)
    files[CONFIG_FILE] = dump(tree).encode()
    return files


def with_cache_limits(text: str, limits: CacheLimits) -> str:
    """Return a buildkitd configuration with limits of the cache, unless it has a policy of its own.

    :param text: TOML, as a user writes it.
    """
    rules = limits.policy()
    if sets_policy(text) or not rules:
        return text
    return "\n".join([text.rstrip("\n") + "\n" if text.strip() else "", *map(_rule, rules)]).lstrip("\n")


def with_mirrors(text: str, mirrors: Sequence[str]) -> str:
    """Return a buildkitd configuration with mirrors of Docker Hub, unless it says something of Docker Hub itself.

    :param text: TOML, as a user writes it.
    :param mirrors: URLs, in the order in which they are tried.
    :raises FarmError: one is no URL of a mirror.
    """
    hosts = []
    for mirror in mirrors:
        match = _MIRROR.match(mirror)
        if match is None:
            raise FarmError(f"mirror {mirror!r}: wanted http://HOST[:PORT] or https://HOST[:PORT], as engines do")
        hosts.append((match.group(2), match.group(1) == "http"))
    if not hosts or names_registry(text, "docker.io"):
        return text
    tables = [f'[registry."docker.io"]\n  mirrors = {_value([host for host, _plain in hosts])}\n']
    tables += [
        f"[registry.{toml_string(host)}]\n  http = true\n"
        for host, plain in hosts
        if plain and not names_registry(text, host)
    ]
    return "\n".join([*([text.rstrip("\n") + "\n"] if text.strip() else []), *tables])


def names_registry(text: str, name: str) -> bool:
    """Return whether a configuration that may not be parsed here says something of a registry.

    :param text: TOML, as a user writes it.
    """
    return bool(re.search(rf"(?m)^[^#\n]*registry\s*\.\s*[\"']?{re.escape(name)}(?![\w.:-])", text))


def limited(files: Mapping[str, bytes], limits: CacheLimits) -> Dict[str, bytes]:
    """Return what buildx has of a configuration with other limits of the cache, all else as it is.

    :param files: as ``config_files`` returns them.
    :raises FarmError: there is no TOML parser here to change the configuration with.
    """
    text = files.get(CONFIG_FILE, b"").decode(errors="replace")
    loads = toml_loads()
    if loads is None:
        alone = with_cache_limits("", limits)
        if text.strip() and text != alone:
            raise FarmError(
                "changing the limits of the cache within a configuration that is there needs Python 3.11 or the Python"
                " library tomli on this host (python3-tomli in Debian), or buildkitd_config beside them"
            )
        return {CONFIG_FILE: alone.encode()} if alone else {}
    tree = parse(text, loads)
    worker = dict(tree.get("worker") or {})
    oci = {key: value for key, value in (worker.pop("oci", None) or {}).items() if key not in GC_KEYS}
    oci.update({"gcpolicy": limits.policy()} if limits.policy() else {})
    worker.update({"oci": oci} if oci else {})
    tree = {key: value for key, value in tree.items() if key != "worker"}
    tree.update({"worker": worker} if worker else {})
    others = {path: content for path, content in files.items() if path != CONFIG_FILE}
    return {**others, **({CONFIG_FILE: dump(tree).encode()} if tree else {})}


def same_config(left: Mapping[str, bytes], right: Mapping[str, bytes]) -> bool:
    """Return whether two sets of files mean the same; another spelling of the same TOML does not count."""
    if left == right:
        return True
    loads = toml_loads()
    if loads is None or set(left) != set(right) or CONFIG_FILE not in left:
        return False
    if any(left[path] != right[path] for path in left if path != CONFIG_FILE):
        return False
    try:
        return loads(left[CONFIG_FILE].decode()) == loads(right[CONFIG_FILE].decode())
    except ValueError:
        return False


def certificate_path(registry: str, name: str) -> str:
    """Return where buildx puts a registry's certificate or key, below ``/etc/buildkit``."""
    return "/".join(("certs", _CERTS_DIR.sub("_", registry), name))


def stored_flags(
    flags: Sequence[str], driver: str, driver_opts: Mapping[str, str], files: Mapping[str, bytes]
) -> Optional[Tuple[str, ...]]:
    """Return the flags that buildx stores for a node: it allows the host's network unless entitlements are given.

    buildx before 0.13 stored the flags as they were; for BuildKit it is the same.

    :param flags: as declared.
    """
    if driver not in ("docker-container", "kubernetes"):
        return tuple(flags) or None
    given = _leading_entitlements(flags)
    if driver == "docker-container" and driver_opts.get("network") == "host":
        missing = _HOST_NETWORK not in given
    else:
        missing = not given and _HOST_NETWORK not in _configured_entitlements(files)
    return (*flags, f"{_ENTITLEMENT}={_HOST_NETWORK}") if missing else tuple(flags)


def container_args(flags: Optional[Sequence[str]], files: Mapping[str, bytes]) -> Tuple[str, ...]:
    """Return the arguments of a node's container, as the docker-container driver gives them."""
    config = ("--config", f"{CONFIG_DIR}/{CONFIG_FILE}") if CONFIG_FILE in files else ()
    return (*config, *(flags or ()))


def _leading_entitlements(flags: Sequence[str]) -> List[str]:
    # buildx parses with a flag set that knows this flag only, and so stops at the first other one.
    found: List[str] = []
    rest = list(flags)
    while rest:
        flag = rest.pop(0)
        if flag == _ENTITLEMENT and rest:
            found.append(rest.pop(0))
        elif flag.startswith(f"{_ENTITLEMENT}="):
            found.append(flag.split("=", 1)[1])
        elif flag == "--" or (flag.startswith("-") and flag != "-"):
            break
    return found


def _configured_entitlements(files: Mapping[str, bytes]) -> Sequence[str]:
    loads = toml_loads()
    text = files.get(CONFIG_FILE, b"").decode(errors="replace")
    if loads is None:
        match = re.search(r"(?m)^\s*insecure-entitlements\s*=\s*\[([^\]]*)\]", text)
        return re.findall(r"[\"']([^\"']*)[\"']", match.group(1)) if match else ()
    found = parse(text, loads).get("insecure-entitlements")
    return found if isinstance(found, list) else ()


def parse(text: str, loads: Loads) -> Dict[str, Any]:
    """Return a configuration as a tree.

    :raises FarmError: it is not TOML.
    """
    try:
        return dict(loads(text))
    except ValueError as exc:
        raise FarmError(f"the buildkitd configuration is not TOML: {exc}") from exc


def _copy_registry_files(tree: Mapping[str, Any], read: Callable[[str], bytes]) -> Dict[str, bytes]:
    """Collect the files that registries name, and make the tree name their copies."""
    files: Dict[str, bytes] = {}

    def copy(registry: str, source: str) -> str:
        target = certificate_path(registry, os.path.basename(source))
        files[target] = read(source)
        return f"{CONFIG_DIR}/{target}"

    registries = tree.get("registry")
    for name, registry in registries.items() if isinstance(registries, dict) else ():
        if not isinstance(registry, dict):
            raise FarmError(f"the buildkitd configuration's registry {name!r} is not a table")
        if isinstance(registry.get("ca"), list):
            registry["ca"] = [copy(name, source) for source in registry["ca"]]
        for pair in registry.get("keypair") or ():
            pair.update({part: copy(name, pair[part]) for part in ("key", "cert") if pair.get(part)})
    return files


def _rule(rule: Mapping[str, Any]) -> str:
    """Write a rule as the end of a configuration, whatever that has of the same worker."""
    return "".join(["[[worker.oci.gcpolicy]]\n", *_dump_table(rule, "", 1)])


def dump(tree: Mapping[str, Any]) -> str:
    """Return the text of a configuration as buildx writes it."""
    return "".join(_dump_table(tree, "", 0))


def _dump_table(tree: Mapping[str, Any], prefix: str, depth: int) -> List[str]:
    """Write a table's own values, then its subtables, both by name."""
    indent = "  " * depth
    plain = sorted(key for key, value in tree.items() if not _is_table(value))
    lines = [f"{indent}{_key(key)} = {_value(tree[key])}\n" for key in plain]
    for key in sorted(key for key, value in tree.items() if _is_table(value)):
        path = f"{prefix}{_key(key)}"
        if isinstance(tree[key], dict):
            lines += [f"\n{indent}[{path}]\n", *_dump_table(tree[key], f"{path}.", depth + 1)]
        else:
            for item in tree[key]:
                lines += [f"\n{indent}[[{path}]]\n", *_dump_table(item, f"{path}.", depth + 1)]
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _key(key: str) -> str:
    return key if _BARE_KEY.match(key) else toml_string(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.1f}" if value == int(value) else repr(value)
    return str(value) if isinstance(value, int) else toml_string(str(value))


def toml_string(text: str) -> str:
    """Return a text as TOML has it, in quotes."""
    escaped = (_ESCAPES.get(char, char if char >= " " else f"\\u{ord(char):04X}") for char in text)
    return f'"{"".join(escaped)}"'
