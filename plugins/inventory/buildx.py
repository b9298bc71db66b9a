# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory plugin C(buildx): the machines behind builders, docker contexts and endpoints."""

from __future__ import annotations

DOCUMENTATION = r"""
name: buildx
short_description: The machines of build farms, from builders, docker contexts and endpoints
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Makes a host of each machine that a buildx builder of this machine has a node on, that a docker context leads to, or
    that is among O(endpoints). Groups them by builder, platform, architecture, driver and status.
  - Reads buildx's and docker's files where Ansible runs, and asks the engines. A machine that does not answer is a host
    with C(buildfarm_status=unreachable).
  - Where no builders are stored, as in an execution environment, O(endpoints) are enough. The BuildKit containers on
    the engines tell which nodes there are, and the marks that M(buildfarm.multiarch.buildx_builder) leaves on engines,
    or else the containers' names, tell which builders they belong to.
  - Uses a YAML file whose name ends in C(buildx.yml) or C(buildx.yaml).
requirements:
  - C(ssh) for engines over ssh, and the docker CLI with buildx for nodes of the drivers V(remote) and V(kubernetes).
    Otherwise nothing, no docker CLI and no Python library.
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: The name of this plugin, by which it knows its own files.
    type: str
    required: true
    choices: [buildfarm.multiarch.buildx]
  builders:
    description: Whether the nodes of the builders count that are stored here.
    type: bool
    default: true
  contexts:
    description: Whether docker contexts count that no builder uses. The context V(default) is none of them.
    type: bool
    default: true
  endpoints:
    description:
      - Engines that count in any case, as names of docker contexts, the context V(default) among them, and URLs
        C(tcp://HOST:PORT), C(ssh://[USER@]HOST[:PORT][/SOCKET]) or C(unix:///PATH). May be templates.
    type: list
    elements: str
    default: []
  ca:
    description:
      - File with the CA's certificate, for the C(tcp) URLs among O(endpoints). Contexts have their own.
      - If O(ca), O(cert) and O(key) are unset, C(tcp) URLs are contacted without TLS.
      - A relative path is taken from the directory of the inventory file. May be a template.
    type: str
  cert:
    description: File with the client's certificate, as O(ca).
    type: str
  key:
    description: File with the key of O(cert), as O(ca).
    type: str
  docker_config:
    description:
      - The docker CLI's configuration directory, where the contexts and buildx's builders are.
      - If unset, E(DOCKER_CONFIG) is used, and C(~/.docker) if that is unset too. buildx's builders are in
        E(BUILDX_CONFIG) where that is set.
      - A relative path is taken from the directory of the inventory file. May be a template.
    type: str
  timeout:
    description: Seconds that an engine may take to answer. All are asked side by side.
    type: float
    default: 10
  contact:
    description:
      - Whether engines are asked. Without, only what is stored here is known, and the status of all is V(unknown).
    type: bool
    default: true
  detect:
    description:
      - Whether BuildKit in the nodes' containers is asked which platforms it runs, and for its version. This starts a
        program in each container.
    type: bool
    default: true
  hostnames:
    description:
      - Jinja2 expressions over a host's variables. The first that gives a name that no other host has is its name.
      - By default it is the host name, or the address, in the endpoint's URL, the same for all ways to a machine. It is
        V(localhost) for this machine's own engine, the URL for any other socket, and the node's name if there is no
        URL.
    type: list
    elements: str
    default: []
  filters:
    description:
      - Which hosts to take, one rule after the other. The first whose condition is true decides, and a host for which
        none is true is taken.
    type: list
    elements: dict
    default: []
    suboptions:
      include:
        description: A Jinja2 expression over the host's variables. A host for which it is true is taken.
        type: str
      exclude:
        description: A Jinja2 expression over the host's variables. A host for which it is true is left out.
        type: str
  group_by:
    description:
      - What hosts are grouped by. The groups are named after O(group_prefix), this word and the value,
        C(buildx_builder_farm), C(buildx_platform_linux_arm64), C(buildx_architecture_arm64),
        C(buildx_driver_docker_container) and C(buildx_status_running) for example.
    type: list
    elements: str
    choices: [builder, platform, architecture, driver, status]
    default: [builder, platform, architecture, driver, status]
  group_prefix:
    description: What the names of those groups begin with.
    type: str
    default: buildx_
  strict:
    description:
      - If V(true), a machine that cannot be reached, a builder that cannot be read, and an invalid entry of O(compose),
        O(groups), O(keyed_groups) or O(hostnames) is a failure.
      - Otherwise the first is a status, the second a warning, and the others are passed over.
notes:
  - "The variables of a host, beside C(ansible_host) and, as far as an C(ssh) URL has them, C(ansible_user) and
    C(ansible_port):"
  - C(buildfarm_status) is V(running), V(stopped), V(missing) or V(paused), the best of the containers of its nodes. It
    is V(unused) where an engine answers and has no node, V(drained) where it takes no builds
    (M(buildfarm.multiarch.buildx_drain)), V(unreachable) where C(buildfarm_error) says why, and V(unknown) where nobody
    was asked.
  - C(buildfarm_endpoint) is the engine's URL, C(buildfarm_endpoints) are all that lead to the machine, and
    C(buildfarm_contexts) the docker contexts.
  - C(buildfarm_builders) and C(buildfarm_drivers) are names. C(buildfarm_nodes) has a dictionary for each node, with
    C(builder), C(builder_from) (V(store), V(mark), V(name) or V(none)), C(current), C(name), C(driver), C(endpoint),
    C(platforms) (the pins), C(detected), C(status), C(version), C(error), and C(controllers), which marked it; of a
    stored one C(driver_opts) and C(buildkitd_flags) too.
  - C(buildfarm_platform) and C(buildfarm_architecture) are the processor's. C(buildfarm_platforms) is what is built
    there, of each node the pinned platforms, else what BuildKit detects, else the processor's; C(buildfarm_emulated)
    has those of them that need QEMU.
  - C(buildfarm_engine_version), C(buildfarm_certificate_expires) and C(buildfarm_drained), why it is drained.
  - C(ansible_connection) is V(local) for this machine's own engine. A variable that O(compose) sets has its value.
  - What other programs and people have written, names and messages, is never taken for a template.
  - What is cached is what was found. Filters, names, groups and variables are made anew each time, and a change of an
    option that decides what is found has it found anew.
seealso:
  - module: buildfarm.multiarch.buildx_builder_info
  - module: buildfarm.multiarch.docker_endpoint_info
  - plugin: buildfarm.multiarch.native_platform
    plugin_type: test
"""

EXAMPLES = r"""
# farm.buildx.yml: the machines of all builders and contexts of this controller
plugin: buildfarm.multiarch.buildx

---
# From anywhere, as in an execution environment: engines, and certificates that a credential brings
plugin: buildfarm.multiarch.buildx
endpoints:
  - tcp://amd1.example.com:2376
  - ssh://builder@arm1.example.com
ca: "{{ lookup('ansible.builtin.env', 'FARM_CA') }}"
cert: "{{ lookup('ansible.builtin.env', 'FARM_CERT') }}"
key: "{{ lookup('ansible.builtin.env', 'FARM_KEY') }}"

---
# The nodes of one builder that answer, as hosts of the collection's playbooks
plugin: buildfarm.multiarch.buildx
contexts: false
filters:
  - include: "'farm' in buildfarm_builders and buildfarm_status != 'unreachable'"
  - exclude: true
compose:
  ansible_user: "'admin'"
groups:
  buildx_nodes: true
  arm: "'linux/arm64' is buildfarm.multiarch.native_platform(buildfarm_platform)"
keyed_groups:
  - key: buildfarm_engine_version.split('.')[0]
    prefix: engine
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/buildx-inventory
cache_timeout: 600
"""

import os
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.environment import expanded
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.config import config_dir
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import TlsFiles
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.names import TLS_NAMES
from ansible_collections.buildfarm.multiarch.plugins.module_utils._inventory.gather import Sources, gather
from ansible_collections.buildfarm.multiarch.plugins.module_utils._inventory.model import groups_of, hosts_of
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.unsafe import make_unsafe

Variables = Dict[str, Any]
#: Of what is cached; another number makes caches of other versions of this plugin stale.
_LAYOUT = 1


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Ansible's entry point."""

    NAME = "buildfarm.multiarch.buildx"

    def verify_file(self, path: str) -> bool:
        """Return whether a file may be one of this plugin's."""
        return bool(super().verify_file(path)) and path.endswith(("buildx.yml", "buildx.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add hosts and groups to the inventory; see DOCUMENTATION."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            found = self._found(path, cache)
            if self.get_option("strict"):
                _refuse_trouble(found)
            self._populate({name: make_unsafe(variables) for name, variables in found["hosts"].items()})
        except FarmError as exc:
            raise AnsibleParserError(exc.message) from exc

    def _found(self, path: str, cache: bool) -> Dict[str, Any]:
        """Return what there is, out of the cache where that has it."""
        wanted = self._wanted(path)
        caching = self.get_option("cache")
        key = self.get_cache_key(path)
        found: Optional[Dict[str, Any]] = None
        if caching and cache:
            try:
                found = self._cache[key]
            except KeyError:
                found = None
            # It may be of another version of the file, or of this plugin.
            if not isinstance(found, dict) or found.get("wanted") != wanted:
                found = None
        if found is None:
            found = {**_gathered(wanted), "wanted": wanted}
            if caching:
                self._cache[key] = found
        for warning in found["warnings"]:
            self.display.warning(warning)
        return found

    def _wanted(self, path: str) -> Dict[str, Any]:
        """Return the options that decide what is found, rendered, as JSON types."""
        self.templar.available_variables = self._vars
        folder = os.path.dirname(os.path.abspath(path))
        paths = {name: self._rendered(name) for name in (*TLS_NAMES, "docker_config")}
        wanted = {name: _absolute(text, folder) if text else None for name, text in paths.items()}
        return {
            **wanted,
            "layout": _LAYOUT,
            # Where builders are is not among the options, but the same question to a cache.
            "places": [str(config_dir(wanted)), str(Store.of(wanted).directory)],
            "endpoints": [Endpoint.parse(str(text)).text for text in self._rendered("endpoints") or ()],
            **{name: self.get_option(name) for name in ("builders", "contexts", "contact", "detect", "timeout")},
        }

    def _rendered(self, option: str) -> Any:
        value = self.templar.template(self.get_option(option))
        # What a template gives may be tagged, which no cache keeps.
        return [str(one) for one in value] if isinstance(value, list) else value and str(value)

    def _populate(self, hosts: Mapping[str, Variables]) -> None:
        taken: Dict[str, str] = {}
        for default, variables in hosts.items():
            if self._is_taken(default, variables):
                name = self._name(default, variables, taken)
                taken[name] = default
                self._add(name, variables)

    def _add(self, name: str, variables: Variables) -> None:
        strict = self.get_option("strict")
        self.inventory.add_host(name)
        for variable, value in variables.items():
            self.inventory.set_variable(name, variable, value)
        for raw in groups_of(variables, self.get_option("group_by"), self.get_option("group_prefix")):
            group = self.inventory.add_group(self._sanitize_group_name(str(raw)))
            self.inventory.add_child(group, name)
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)

    def _is_taken(self, name: str, variables: Variables) -> bool:
        for number, rule in enumerate(self.get_option("filters"), start=1):
            kinds = sorted(rule)
            if kinds not in (["exclude"], ["include"]):
                raise FarmError(
                    f"filters, rule {number}: found {', '.join(kinds) or 'nothing'}, wanted include or exclude"
                )
            try:
                if self._holds(rule[kinds[0]], variables):
                    return kinds == ["include"]
            except Exception as exc:
                raise FarmError(f"filters, rule {number}: host {name!r} cannot be judged: {exc}") from exc
        return True

    def _holds(self, condition: Any, variables: Variables) -> bool:
        value = self._compose(condition, variables) if isinstance(condition, str) else condition
        # Jinja2 takes every text for true that is not empty, and so does this, but for the word.
        return bool(value) and str(value).lower() != "false"

    def _name(self, default: str, variables: Variables, taken: Mapping[str, str]) -> Any:
        for expression in self.get_option("hostnames"):
            try:
                name = self._compose(expression, variables)
            except Exception as exc:
                if self.get_option("strict"):
                    raise FarmError(f"hostnames, {expression!r}: {default!r} gets no name: {exc}") from exc
                continue
            if name and str(name) not in taken:
                return make_unsafe(str(name))
        if default in taken:
            raise FarmError(
                f"hostnames: {taken[default]!r} has got the name {default!r}, which is that of another host; give"
                " expressions that name each host for itself"
            )
        return make_unsafe(default)


def _absolute(path: str, folder: str) -> str:
    return expanded(path if path.startswith("~") else os.path.join(folder, path))


def _gathered(wanted: Mapping[str, Any]) -> Dict[str, Any]:
    """Find out what there is, as JSON types."""
    warnings: List[str] = []
    files = {kind: Path(wanted[kind]) for kind in TLS_NAMES if wanted[kind]}
    sources = Sources(
        builders=wanted["builders"],
        contexts=wanted["contexts"],
        endpoints=tuple(Endpoint.parse(text) for text in wanted["endpoints"]),
        tls=TlsFiles(**files) if files else None,
        contact=wanted["contact"],
        detect=wanted["detect"],
    )
    engines = gather(sources, wanted, run, warnings.append)
    return {"hosts": hosts_of(engines), "warnings": warnings}


def _refuse_trouble(found: Mapping[str, Any]) -> None:
    """Raise an error for what is a status or a warning otherwise."""
    away: Iterable[str] = (
        f"{name}: {variables['buildfarm_error']}"
        for name, variables in found["hosts"].items()
        if variables["buildfarm_status"] == "unreachable"
    )
    trouble = [*found["warnings"], *away]
    if trouble:
        raise FarmError(f"{' | '.join(trouble)}; mend this, or leave strict out")
