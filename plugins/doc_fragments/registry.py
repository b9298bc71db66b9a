# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How modules reach registries."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment C(buildfarm.multiarch.registry)."""

    DOCUMENTATION = r"""
options: {}
notes:
  - Credentials for registries are those of E(DOCKER_AUTH_CONFIG), or else of C(docker login) in O(docker_config),
    credential helpers included. They are read when a registry demands some.
  - A registry is contacted as the buildkitd configuration of the builder says with C(http), C(insecure), C(ca),
    C(keypair) and C(mirrors) in C([registry."HOST"]); the first of its nodes that configures a registry counts.
    Otherwise it has to speak TLS, unless its address is a loopback one.
  - Certificates are trusted that the controller trusts (or E(SSL_CERT_FILE) holds), that are in
    C(/etc/docker/certs.d/HOST[:PORT]/*.crt) there, or that are C(ca) in the buildkitd configuration, where
    O(buildfarm.multiarch.buildx_builder#module:nodes[].registry_authorities) and the variable
    C(engine_registry_authorities) of the role P(buildfarm.multiarch.engine#role) put them. The last two count for a
    registry's token service, too, and for the buildx that is run.
  - E(HTTPS_PROXY), E(HTTP_PROXY) and E(NO_PROXY) are heeded as docker and buildx do.
  - Registries that are busy (429, 5xx) or cut a connection get a request up to five times, within two minutes, and
    C(Retry-After) is heeded up to 30 seconds.
"""
