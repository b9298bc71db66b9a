#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_endpoint_info
short_description: Find out what Docker engines there are behind endpoints, and why others cannot be reached
version_added: 1.0.0
description:
  - Asks many engines at once for their version, architecture and platform, over the way that docker and buildx take.
    Proxies of the environment are for registries, engines are contacted directly.
  - Tells how a connection is secured, when the engine's certificate ends, and in one sentence why an engine cannot be
    reached.
  - Takes no longer than O(timeout), whatever hosts and firewalls do.
author:
  - The buildfarm.multiarch authors (@buildfarm)
extends_documentation_fragment:
  - buildfarm.multiarch.controller
requirements:
  - Python 3.8 or later where it runs
  - C(ssh) for endpoints over ssh. Otherwise nothing, no docker CLI and no Python library.
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: N/A
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  endpoints:
    description:
      - Names of docker contexts, and URLs C(tcp://HOST:PORT), C(ssh://[USER@]HOST[:PORT][/SOCKET]) or C(unix:///PATH).
      - The context V(default) is what E(DOCKER_HOST), E(DOCKER_TLS_VERIFY) and E(DOCKER_CERT_PATH) say, otherwise
        C(unix:///var/run/docker.sock).
      - ssh prompts for nothing. The host's key must be known, and login must work without a password.
    type: list
    elements: str
    required: true
  ca:
    description:
      - File on this host with the CA's certificate, for the C(tcp) URLs among O(endpoints). Contexts have their own.
      - If O(ca), O(cert) and O(key) are unset, C(tcp) URLs are contacted without TLS.
    type: path
  cert:
    description:
      - File on this host with the client's certificate, for the C(tcp) URLs.
    type: path
  key:
    description:
      - File on this host with the key of O(cert).
    type: path
  timeout:
    description:
      - Seconds for all endpoints together, as they are queried at the same time.
    type: float
    default: 5
  require_reachable:
    description:
      - Whether the task fails unless all engines are reached. The message then names each that is not, and why.
    type: bool
    default: false
seealso:
  - module: buildfarm.multiarch.docker_context
  - module: buildfarm.multiarch.docker_listener
  - module: buildfarm.multiarch.farm_report
  - module: buildfarm.multiarch.buildx_builder_info
  - module: buildfarm.multiarch.buildx_drain
  - plugin: buildfarm.multiarch.buildx
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Look at the farm's engines
  buildfarm.multiarch.docker_endpoint_info:
    endpoints:
      - amd1
      - arm1
      - ssh://builder@z15.example.com
  register: engines

- name: Go on only if all engines are there and certificates last for another week
  buildfarm.multiarch.docker_endpoint_info:
    endpoints: "{{ groups['buildx_nodes'] | buildfarm.multiarch.farm_node_names }}"
    require_reachable: true
  register: engines
  failed_when: >-
    engines is failed
    or engines.endpoints | map(attribute='certificate_days_left') | select('number') | select('lt', 7) | length > 0

- name: Check that an engine lets nobody in without a certificate
  buildfarm.multiarch.docker_endpoint_info:
    endpoints:
      - tcp://amd1.example.com:2376
    ca: ~/.docker/ca.pem
    cert: ~/.docker/cert.pem
    key: ~/.docker/key.pem
  register: engine
  failed_when: engine.endpoints[0].tls != 'mutual'
"""

RETURN = r"""
endpoints:
  description: What was found, in the order of O(endpoints).
  returned: success, and failure because of O(require_reachable)
  type: list
  elements: dict
  contains:
    endpoint:
      description: The endpoint, normalised.
      type: str
      sample: amd1
    reachable:
      description: Whether an engine answered.
      type: bool
      sample: true
    version:
      description: The engine's version. V(null) as all further facts of an engine that was not reached.
      type: str
      sample: 28.5.2
    api_version:
      description: The newest version of the API that it speaks.
      type: str
      sample: "1.51"
    os:
      description: The operating system its containers run on, V(linux) or V(windows).
      type: str
      sample: linux
    architecture:
      description: Its processor, as platforms name it.
      type: str
      sample: arm64
    platform:
      description: Its native platform. V(null) if BuildKit knows none for it.
      type: str
      sample: linux/arm64
    tls:
      description:
        - V(mutual) if the engine takes only clients with a certificate.
        - V(server) if it has a certificate of its own, but takes anyone.
        - V(none) without TLS, so with C(unix) and C(ssh) too.
      type: str
      sample: mutual
    tls_verified:
      description:
        - Whether the engine's certificate was verified, which only a context can turn off. V(null) without TLS.
      type: bool
      sample: true
    certificate_subject:
      description:
        - Whom the engine's certificate names. V(null) without TLS, and if the certificate is not verified.
      type: str
      sample: CN=amd1
    certificate_expires:
      description:
        - When the engine's certificate ends, in UTC. V(null) as RV(endpoints[].certificate_subject).
      type: str
      sample: "2027-01-30T12:00:00Z"
    certificate_days_left:
      description:
        - Whole days until then. V(null) as RV(endpoints[].certificate_subject).
      type: int
      sample: 364
    drained:
      description:
        - In words since when and why the engine's node takes no builds, see M(buildfarm.multiarch.buildx_drain).
          V(null) if it does.
      type: str
      sample: it is drained since 2026-03-01T10:20:30Z (kernel update)
    error:
      description:
        - Why the engine was not reached, and what to do. V(null) if it was.
        - Of a client's certificate that the engine refused it says what is wrong with it, as far as O(ca) and the
          certificate itself show it here. Engines tell little of that.
      type: str
      sample: "engine amd1 (tcp://amd1:2376): connection refused; is the engine running and listening there?"
    error_kind:
      description:
        - V(refused), V(timeout), V(unreachable) and V(unresolved) for the network.
        - V(untrusted), V(expired), V(not_yet_valid) and V(name) for what is wrong with the engine's certificate,
          V(client_certificate) if the engine wants one and got none or another, V(tls) for all else of TLS.
        - V(name) is also that of a certificate without a subject alternative name, and V(untrusted) that of one which
          docker and buildx, as Go programs, refuse although OpenSSL would take it.
        - V(files) for unusable local files.
        - V(context) for a missing or damaged context, V(socket) for a missing or forbidden socket, V(ssh) for ssh.
        - V(answer) for something that answers and is no engine.
        - V(null) if the engine was reached.
      type: str
      sample: refused
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint_info import endpoint_info

ARGUMENT_SPEC = {
    "docker_config": {"type": "path"},
    "endpoints": {"type": "list", "elements": "str", "required": True},
    "ca": {"type": "path"},
    "cert": {"type": "path"},
    "key": {"type": "path", "no_log": False},
    "timeout": {"type": "float", "default": 5},
    "require_reachable": {"type": "bool", "default": False},
}

if __name__ == "__main__":
    main(ARGUMENT_SPEC, endpoint_info, required_together=[("cert", "key")])
