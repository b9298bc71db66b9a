# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an inventory calls nodes and where they are reached, as names and addresses that everything else takes."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import validate_name
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.model import is_name
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.role_options import option

#: The volume of a node is a directory, whose name has 255 characters at most, ``buildx_buildkit_`` and ``_state`` among
#: them.
_LONGEST = 200


def node_names(builder: str, hosts: Sequence[str]) -> List[str]:
    """Return the names that the hosts' nodes have in a builder, in order.

    :raises FarmError: a host's name cannot stand for a node, or two come to the same one.
    """
    validate_name(builder, "builder")
    found: Dict[str, str] = {}
    names = []
    for host in hosts:
        names.append(_node_name(builder, host))
        # buildx makes the names of nodes lower case.
        other = found.setdefault(names[-1].lower(), host)
        if other != host:
            raise FarmError(
                f"hosts {other!r} and {host!r} of the inventory: both would be node {names[-1].lower()!r} of builder"
                f" {builder!r}; rename one of them"
            )
    return names


def _node_name(builder: str, host: str) -> str:
    if not (is_name(host) or _is_ip(host)):
        raise FarmError(
            f"host {host!r} of the inventory: a node's name goes into its certificate and its container's name, and is"
            " a host name (letters, digits, - . _) or an IP address without a zone; rename the host, and put what it is"
            " reached by into ansible_host"
        )
    name = f"{builder}-{host.replace(':', '-')}"
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 13]}-{hashlib.sha256(name.lower().encode()).hexdigest()[:12]}"


def address_of(host: str, variables: Mapping[str, Any]) -> str:
    """Return the name or address by which controllers reach a host, an IPv6 address without brackets.

    :param variables: the host's; ``farm_address`` comes before ``ansible_host``, and that before its name.
    :raises FarmError: it is neither a host name nor an IP address.
    """
    source = next((name for name in ("farm_address", "ansible_host") if variables.get(name)), None)
    text = variables[source] if source else host
    address = bare(text)
    if not (_is_ip(address) or _is_host(address)):
        raise FarmError(
            f"host {host!r} of the inventory: {source or 'its name'} is {text!r}; wanted the host name or the IP"
            " address (without a zone, which means something on one host only) by which controllers reach it; put that"
            " into farm_address"
        )
    return address


def tcp_endpoint(host: str, variables: Mapping[str, Any], port: int) -> str:
    """Return the endpoint at which controllers reach a host's listener.

    :raises FarmError: as ``address_of``.
    """
    address = address_of(host, variables)
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def endpoint_of(name: str, variables: Mapping[str, Any]) -> Tuple[str, bool]:
    """Return a node's endpoint, and whether it is reached with certificates.

    :raises FarmError: as ``address_of``.
    """
    endpoint = option("farm_endpoint", variables)
    if endpoint:
        return str(endpoint), False
    if option("listener_ssh", variables):
        address = address_of(name, variables)
        host = f"[{address}]" if ":" in address else address
        user = option("listener_ssh_user", variables) or variables.get("ansible_user")
        port = variables.get("ansible_port")
        return "ssh://" + (f"{user}@" if user else "") + host + (f":{port}" if port else ""), False
    insecure = option("listener_insecure", variables)
    port = option("listener_port", variables) or (2375 if insecure else 2376)
    return tcp_endpoint(name, variables, port), not insecure


def mirrors_of(
    variables: Mapping[str, Any], hosts: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]
) -> Optional[List[str]]:
    """Return the URLs of the mirrors of Docker Hub that a node uses, None where nothing is declared of them.

    :param variables: the node's; ``engine_registry_mirrors`` comes before the inventory's mirrors.
    :param hosts: names of the mirrors in the inventory.
    :raises FarmError: a variable cannot be meant.
    """
    own = option("engine_registry_mirrors", variables)
    if own is not None or not hosts:
        return own if own is None else [str(url) for url in own]
    endpoints = [tcp_endpoint(host, hostvars[host], option("mirror_port", hostvars[host])) for host in hosts]
    return [endpoint.replace("tcp://", "http://", 1) for endpoint in endpoints]


def bare(address: str) -> str:
    """Return an address without the brackets of an IPv6 address in a URL, and a name without the root's dot."""
    text = str(address).strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return text[:-1] if text.endswith(".") else text


def _is_host(text: str) -> bool:
    try:
        return ":" not in text and bool(Endpoint.parse(f"tcp://{text}").host)
    except FarmError:
        return False


def _is_ip(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False
