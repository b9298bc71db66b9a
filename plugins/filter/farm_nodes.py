# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(farm_nodes): from inventory and facts to the nodes of a builder."""

from __future__ import annotations

DOCUMENTATION = r"""
name: farm_nodes
short_description: Derive a builder's nodes from the inventory
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Takes the names of the nodes and returns how a controller reaches each and which platforms are pinned to it.
  - Each node gets all wanted platforms that its processor runs. A platform that no processor runs goes to every node
    that may emulate it, see C(farm_node_emulates). M(buildfarm.multiarch.buildx_build) chooses among the nodes of a
    platform; plain C(docker buildx build) takes the first.
  - The order is that of the names, but nodes on which platforms are fixed that they have to emulate come last, so that
    C(docker buildx build) finds before them those that run the platforms natively.
  - What a processor runs is told by the engine, if that is built for another architecture than the kernel.
    A node whose architecture no images are made for gets no pins.
  - A node whose facts are not known, as it is down or left out by C(--limit), is left out, unless it has both
    C(farm_endpoint) and C(farm_node_platforms). Where C(--limit) leaves nodes out that might run a platform that none
    of the others runs by itself, pins are left as they are, and nothing more is emulated.
  - Hosts that cannot be nodes are refused, see P(buildfarm.multiarch.farm_node_names#filter).
  - Reads these variables of a node. C(farm_node_platforms) fixes its pins; a platform may be fixed on several nodes,
    and no other node emulates it then. With C(farm_node_emulates=false) it gets no platforms that it would have to
    emulate. C(farm_endpoint) replaces its endpoint.
    C(farm_address) is its name or address as the controllers see it, by default C(ansible_host), else its name in
    the inventory. C(listener_port), C(listener_insecure), C(listener_ssh) and C(listener_ssh_user) are the role
    C(listener)'s. C(farm_node_driver_opts), C(farm_node_buildkitd_config) and C(farm_node_cache) are laid over
    O(driver_opts), O(buildkitd_config) and O(cache). C(engine_registry_mirrors) and C(engine_registry_authorities)
    are the role C(engine)'s.
positional: _input
options:
  _input:
    description: Names of the nodes, as in the inventory.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - The variable C(hostvars). The fact C(architecture) of one node at least is needed, and used beside it is
        C(buildfarm.engine_architecture). M(buildfarm.multiarch.farm_facts) gathers both.
    type: dict
    required: true
  platforms:
    description:
      - The platforms that the farm has to serve.
      - By default the platforms of the nodes' own processors.
    type: list
    elements: str
  builder:
    description:
      - The builder's name. Nodes and contexts are named after it, so that several builders never share a container.
    type: str
    default: farm
  client:
    description:
      - Paths of the controller's certificate, as RV(buildfarm.multiarch.docker_certificates#module:clients) holds
        them. Used in RV(_value[].context), and in that of RV(_value[].node).
    type: dict
    default: {}
  driver_opts:
    description: Driver options of every node.
    type: dict
    default: {}
  buildkitd_config:
    description: The text of every node's C(buildkitd.toml).
    type: str
  cache:
    description: What the cache of every node may take.
    type: dict
  mirrors:
    description:
      - Hosts of the inventory that are mirrors of Docker Hub. Nodes without C(engine_registry_mirrors) use all of them.
      - A C(buildkitd.toml) that says something of C(docker.io) itself stays as it is.
    type: list
    elements: str
    default: []
  natives:
    description:
      - The platforms that engines have named, by the nodes' names, as M(buildfarm.multiarch.docker_endpoint_info)
        returns them. They count before facts, which are not needed then.
    type: dict
    default: {}
seealso:
  - module: buildfarm.multiarch.farm_facts
"""

EXAMPLES = r"""
- name: Show which node builds what
  ansible.builtin.debug:
    msg: "{{ groups['buildx_nodes'] | buildfarm.multiarch.farm_nodes(hostvars, ['linux/amd64', 'linux/arm64']) }}"

# With an amd64 host amd1 and an arm64 host arm1, the first element is
#   name: amd1
#   native: linux/amd64
#   emulated: []
#   node: {name: farm-amd1, endpoint: farm-amd1, platforms: [linux/amd64], driver_opts: {}, context: {...}}
#   context: {name: farm-amd1, host: "tcp://amd1:2376", description: "amd1, node of farm"}
"""

RETURN = r"""
_value:
  description: A dictionary for each node.
  type: list
  elements: dict
  contains:
    name:
      description: Its name in the inventory.
      type: str
    native:
      description: The platform of its processor, V(null) where that is none that images are made for.
      type: str
    emulated:
      description: Those of its pins that need QEMU.
      type: list
      elements: str
    node:
      description: The node for O(buildfarm.multiarch.buildx_builder#module:nodes).
      type: dict
    context:
      description:
        - The context for O(buildfarm.multiarch.docker_context#module:contexts); none where the endpoint needs no
          certificates.
      type: dict
"""

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.buildkitd import with_mirrors
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.pinning import (
    Assigned,
    Candidate,
    assign,
    emulators,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import (
    Platform,
    parse_all,
    platform_of_host,
)
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.inventory import (
    endpoint_of,
    mirrors_of,
    node_names,
)
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.role_options import as_list, option


def _candidate(name: str, variables: Mapping[str, Any], answered: Optional[str]) -> Optional[Candidate]:
    """Return what is known of a node, None where that is too little to declare it.

    :param answered: the platform that its engine has named; None where it was not asked.
    """
    facts = variables.get("ansible_facts", {})
    architecture = facts.get("architecture")
    fixed = option("farm_node_platforms", variables)
    if not (architecture or answered) and (fixed is None or not option("farm_endpoint", variables)):
        return None
    engine = (facts.get("buildfarm") or {}).get("engine_architecture")
    native = platform_of_host(architecture, engine) if architecture else None
    if answered:
        native = Platform.parse(answered)
    pins = None if fixed is None else parse_all(fixed)
    return Candidate(name, native, pins, option("farm_node_emulates", variables))


def _emulates(candidate: Candidate) -> bool:
    """Say whether a platform is fixed on a node that its processor does not run."""
    return candidate.native is not None and not all(candidate.runs(pin) for pin in candidate.pins or ())


def _assigned(
    candidates: Sequence[Candidate], platforms: Sequence[Platform], missing: bool, limited: bool
) -> List[Tuple[Assigned, bool]]:
    """Return each node with its pins, and whether they are those that it gets with all other nodes.

    :param missing: whether there are more nodes, which may have pins all the same.
    :param limited: whether those may only be left out of this run.
    """
    free = [node for node in candidates if node.pins is None]
    served = {pin for node in candidates for pin in node.pins or ()}
    native = [one for one in platforms if any(node.runs(one) for node in free)]
    if not missing or served.union(native).issuperset(platforms):
        return [(node, True) for node in assign(candidates, platforms or None)]
    if limited:
        return [(node, node.name not in {one.name for one in free}) for node in assign(candidates, native)]
    return [(node, True) for node in assign(candidates, platforms if emulators(candidates) else native)]


def _node(
    assigned: Assigned,
    decided: bool,
    name: str,
    variables: Mapping[str, Any],
    builder: str,
    client: Mapping[str, str],
    driver_opts: Mapping[str, str],
    buildkitd_config: Optional[str],
    cache: Optional[Mapping[str, Any]],
    mirrors: Optional[Sequence[str]],
) -> Dict[str, Any]:
    endpoint, tls = endpoint_of(assigned.name, variables)
    paths = {key: client[f"{key}_path"] for key in ("ca", "cert", "key") if f"{key}_path" in client}
    context = {"host": endpoint, "description": f"{assigned.name}, node of {builder}", **paths}
    node = {
        "name": name,
        "endpoint": name if tls else endpoint,
        **({"platforms": [str(pin) for pin in assigned.pins]} if decided else {}),
        "driver_opts": {**driver_opts, **option("farm_node_driver_opts", variables)},
    }
    config = option("farm_node_buildkitd_config", variables) or buildkitd_config
    if mirrors is not None:
        config = with_mirrors(config or "", mirrors)
    if config is not None:
        node["buildkitd_config"] = config
    own = option("farm_node_cache", variables)
    if cache is not None or own is not None:
        node["cache"] = {**(cache or {}), **(own or {})}
    authorities = option("engine_registry_authorities", variables)
    if authorities:
        node["registry_authorities"] = authorities
    if tls:
        node["context"] = context
    return {
        "name": assigned.name,
        "native": str(assigned.native) if assigned.native else None,
        "emulated": [str(pin) for pin in assigned.emulated],
        "node": node,
        "context": {"name": name, **context} if tls else None,
    }


def farm_nodes(
    names: Sequence[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    platforms: Optional[Sequence[str]] = None,
    builder: str = "farm",
    client: Optional[Mapping[str, str]] = None,
    driver_opts: Optional[Mapping[str, str]] = None,
    buildkitd_config: Optional[str] = None,
    cache: Optional[Mapping[str, Any]] = None,
    mirrors: Sequence[str] = (),
    natives: Optional[Mapping[str, str]] = None,
) -> List[Dict[str, Any]]:
    """Return the nodes of a builder; see DOCUMENTATION."""
    try:
        names = list(names)
        found = [_candidate(name, hostvars[name], (natives or {}).get(name)) for name in names]
        known = sorted((candidate for candidate in found if candidate is not None), key=_emulates)
        if names and not known:
            raise FarmError(
                f"the facts of no node are known ({', '.join(names)}); gather them with the module"
                " buildfarm.multiarch.farm_facts, as the playbook site does, and look why that failed"
            )
        node_of = dict(zip(names, node_names(builder, names)))
        limited = any(hostvars[candidate.name].get("ansible_limit") for candidate in known)
        pins = _assigned(known, parse_all(as_list(platforms or [])), len(known) < len(found), limited)
        return [
            _node(
                node,
                decided,
                node_of[node.name],
                hostvars[node.name],
                builder,
                client or {},
                driver_opts or {},
                buildkitd_config,
                cache,
                mirrors_of(hostvars[node.name], mirrors, hostvars),
            )
            for node, decided in pins
        ]
    except FarmError as exc:
        raise AnsibleFilterError(exc.message) from exc


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_nodes": farm_nodes}
