#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_context
short_description: Manage docker contexts, with their TLS material
version_added: 1.0.0
description:
  - Makes docker contexts present or absent, all those of a farm in one task.
  - A context names an engine and keeps the certificates to reach it. Buildx's C(docker-container) driver can reach an
    engine over TLS only through one.
  - The contexts are read and written where the docker CLI keeps them, the docker CLI itself is not called. Certificates
    and keys are compared byte by byte, so that renewed ones are noticed.
author:
  - The buildfarm.multiarch authors (@buildfarm)
extends_documentation_fragment:
  - buildfarm.multiarch.controller
requirements:
  - Python 3.8 or later where it runs
  - Docker CLI 19.03 or later for whoever uses the contexts. The module needs nothing.
attributes:
  check_mode:
    support: full
    description:
      - Source files that are missing are taken to be issued by then, and a context that needs them counts as changed.
        A real run fails on them.
      - Source files that an earlier task of the same check would renew are taken as they are.
  diff_mode:
    support: full
    description: Shows hosts and settings. Of certificates and keys it shows only whether they are the declared ones.
  idempotent:
    support: full
    description: A second run changes nothing.
options:
  state:
    description:
      - Whether the contexts are to be there.
    type: str
    choices: [present, absent]
    default: present
  contexts:
    description:
      - The contexts. Those that are not listed are left alone, unless O(purge=true).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - The context's name, at least two letters, digits and C(_.+-), beginning with a letter or a digit.
          - V(default) is docker's own. A name of a buildx builder is refused, as buildx would mix up the two.
        type: str
        required: true
      host:
        description:
          - The engine's URL, C(tcp://HOST:PORT), C(ssh://[USER@]HOST[:PORT]) or C(unix:///PATH). Required if
            O(state=present), ignored otherwise, as all further options are.
          - If C(tcp) comes without a port it is V(2376) with TLS, otherwise V(2375).
        type: str
      description:
        description:
          - What people are told about the context. An empty text clears it. If unset it is left alone.
        type: str
      ca:
        description:
          - File on this host with the CA's certificate that signed the engine's.
          - O(contexts[].ca), O(contexts[].cert) and O(contexts[].key) are one whole. If at least one is given, what
            else is stored is removed. If none is given, what is stored is left alone. They are refused with
            O(contexts[].insecure=true), and with a URL of another scheme than C(tcp).
          - Without it the host's own list of CAs decides.
        type: path
      cert:
        description:
          - File on this host with the client's certificate. Needs O(contexts[].key).
        type: path
      key:
        description:
          - File on this host with the key of O(contexts[].cert), without a password. Its copy can only be read by its
            owner.
        type: path
      skip_tls_verify:
        description:
          - Whether the engine's certificate is not verified. Whoever can answer in the engine's place can then read and
            change all that goes over the connection.
          - If unset it is left alone, and V(false) for a new context.
        type: bool
      insecure:
        description:
          - Whether C(tcp) without TLS is wanted. Stored TLS material is then removed.
          - Whoever reaches the port of such an engine is root on its host.
        type: bool
        default: false
  owner:
    description:
      - For whom contexts are made, a farm's name for example. Contexts that the module creates are marked with it in
        their metadata.
      - Contexts that are there already without such a mark stay without it, so they change nothing, and are never
        purged. A context that the module made for another owner becomes this one's.
    type: str
  purge:
    description:
      - Whether contexts that the module made for O(owner) are removed where they are not listed. With O(state=absent)
        all of them go.
      - One that a buildx builder still uses, or that the docker CLI uses at present, stays, and a warning says why.
    type: bool
    default: false
  builder:
    description:
      - A builder as RV(buildfarm.multiarch.buildx_builder#module:builder) says that it is. O(purge) looks at it in
        place of the stored one of that name, so that check mode knows what an earlier task would have changed.
    type: dict
notes:
  - The docker CLI 20.10 and later keeps the mark of O(owner) with C(docker context update), C(export) and C(import).
    A copy under another name, as C(docker context create --from) makes it, is whoever's who made it, and is not purged.
  - The context that the docker CLI uses at present cannot be removed.
seealso:
  - module: buildfarm.multiarch.docker_certificates
  - module: buildfarm.multiarch.docker_endpoint_info
  - module: buildfarm.multiarch.buildx_builder
  - module: buildfarm.multiarch.docker_listener
  - name: Docker contexts
    description: What contexts are.
    link: https://docs.docker.com/engine/manage-resources/contexts/
"""

EXAMPLES = r"""
- name: Reach two engines over mutual TLS
  buildfarm.multiarch.docker_context:
    contexts:
      - name: amd1
        host: tcp://amd1.example.com:2376
        ca: ~/.config/buildfarm/certificates/clients/client/ca.pem
        cert: ~/.config/buildfarm/certificates/clients/client/cert.pem
        key: ~/.config/buildfarm/certificates/clients/client/key.pem
      - name: arm1
        host: tcp://192.0.2.17:2376
        description: The arm64 machine under the stairs
        ca: ~/.config/buildfarm/certificates/clients/client/ca.pem
        cert: ~/.config/buildfarm/certificates/clients/client/cert.pem
        key: ~/.config/buildfarm/certificates/clients/client/key.pem

- name: Reach an engine over ssh
  buildfarm.multiarch.docker_context:
    contexts:
      - name: s390x
        host: ssh://builder@z15.example.com

- name: Reach an engine without TLS, in a network that nobody else is in
  buildfarm.multiarch.docker_context:
    contexts:
      - name: lab
        host: tcp://198.51.100.9:2375
        insecure: true

- name: Declare all contexts of a farm, and remove those of engines that have left it
  buildfarm.multiarch.docker_context:
    owner: farm
    purge: true
    contexts:
      - name: amd1
        host: ssh://builder@amd1.example.com

- name: Remove contexts
  buildfarm.multiarch.docker_context:
    state: absent
    contexts:
      - name: amd1
      - name: lab
"""

RETURN = r"""
contexts:
  description: The declared contexts, in this order. Empty if O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The context's name.
      type: str
      sample: amd1
    host:
      description: The engine's URL.
      type: str
      sample: tcp://amd1.example.com:2376
    description:
      description: What people are told about it.
      type: str
      sample: ""
    skip_tls_verify:
      description: Whether the engine's certificate is not verified.
      type: bool
      sample: false
    owner:
      description: For whom the module made it. V(null) if it did not, or was not told.
      type: str
      sample: farm
    tls:
      description: The context's own files, V(null) for one that it does not have. V(null) as a whole without TLS.
      type: dict
      sample:
        ca: /root/.docker/contexts/tls/1f0e.../docker/ca.pem
        cert: /root/.docker/contexts/tls/1f0e.../docker/cert.pem
        key: /root/.docker/contexts/tls/1f0e.../docker/key.pem
leftover:
  description:
    - Names of the contexts that the module made for O(owner), that are not listed, and that stay. Without O(purge)
      these are all of them, with it those that are in use.
  returned: success
  type: list
  elements: str
  sample: []
actions:
  description: What was, or in check mode would be, done. Each entry is a list of one sentence.
  returned: success
  type: list
  elements: list
  sample: [["create context 'amd1'"]]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._context.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._context.declaration import OPTIONS
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main

ARGUMENT_SPEC = {
    "docker_config": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "contexts": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "host": {"type": "str"},
            **OPTIONS,
        },
    },
    "owner": {"type": "str"},
    "purge": {"type": "bool", "default": False},
    "builder": {"type": "dict"},
}

if __name__ == "__main__":
    main(ARGUMENT_SPEC, run, required_if=[("purge", True, ["owner"])])
