#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_plugin
short_description: Install the docker CLI's plugin buildx, or assert that it is there
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Installs one file, C(docker-buildx), from a URL with a checksum or from a file, upgrades it, or removes it.
  - A new file takes its place only after it has run on the host.
  - Without O(url) and O(src), nothing is installed. The module then asserts that some buildx is there, from the
    distribution's package for example, and returns it.
extends_documentation_fragment:
  - buildfarm.multiarch.controller
requirements:
  - nothing beyond Python; the docker CLI need not be there yet
attributes:
  check_mode:
    support: partial
    description: Can run in check mode and return changed status, diff and actions without modifying anything.
    details:
      - Nothing is downloaded or started then, so a URL that does not answer and a file for another architecture are
        found in the real run only, and RV(plugin.version) of a new file is not known.
  diff_mode:
    support: full
    description: Returns the checksum of the file before and after.
  idempotent:
    support: full
    description: A file with the wanted checksum is neither downloaded nor written again.
options:
  state:
    description: Whether the plugin is to be there.
    type: str
    choices: [present, absent]
    default: present
  url:
    description:
      - Where to download the plugin, C(http) or C(https), as from buildx's page of releases.
        Needs O(checksum). Proxies are taken from the environment.
      - Nothing is downloaded where O(path) has the checksum already.
    type: str
  src:
    description: Path of a file to install, on the host where the module runs.
    type: path
  checksum:
    description:
      - What the file has to be, C(sha256:) and 64 hexadecimal digits. Compared before the file takes its place.
    type: str
  path:
    description:
      - Where to install, or to look at with neither O(url) nor O(src). The name has to be C(docker-buildx).
      - If unset, C(cli-plugins/docker-buildx) in O(docker_config), for that user alone. For all users of a host use
        C(/usr/local/lib/docker/cli-plugins/docker-buildx).
    type: path
  version:
    description: The least version that will do, C(0.13) for example. An older plugin is refused.
    type: str
  timeout:
    description: Seconds that the server of O(url) may let pass without sending anything.
    type: float
    default: 60
notes:
  - docker looks in C(cli-plugins) of its configuration directory first, then in C(docker/cli-plugins) below
    C(/usr/local/lib), C(/usr/local/libexec), C(/usr/lib) and C(/usr/libexec).
seealso:
  - module: buildfarm.multiarch.buildx_builder
  - name: Releases of buildx
    description: Files and their checksums.
    link: https://github.com/docker/buildx/releases
"""

EXAMPLES = r"""
- name: Assert that the distribution's package is there and new enough
  buildfarm.multiarch.buildx_plugin:
    version: "0.13"

- name: Install a release for all users
  buildfarm.multiarch.buildx_plugin:
    url: https://github.com/docker/buildx/releases/download/v0.29.1/buildx-v0.29.1.linux-amd64
    checksum: sha256:0d4e4d9e9d3a8a0a2a2f1c6f6f2c8f2c4f2e3a5a6b7c8d9e0f1a2b3c4d5e6f70
    path: /usr/local/lib/docker/cli-plugins/docker-buildx

- name: Install a file that was copied to the host
  buildfarm.multiarch.buildx_plugin:
    src: /srv/dist/buildx-v0.29.1.linux-arm64

- name: Remove it again, so that the distribution's own is used
  buildfarm.multiarch.buildx_plugin:
    path: /usr/local/lib/docker/cli-plugins/docker-buildx
    state: absent
"""

RETURN = r"""
actions:
  description: What was or would be done, in order. C(download), C(write), C(chmod) or C(remove), and of what.
  returned: success
  type: list
  elements: list
  sample:
    - [download, "https://github.com/docker/buildx/releases/download/v0.29.1/buildx-v0.29.1.linux-amd64"]
    - [write, /usr/local/lib/docker/cli-plugins/docker-buildx]
plugin:
  description: The plugin; V(none) for O(state=absent).
  returned: success
  type: dict
  contains:
    path:
      description: Where it is.
      type: str
      sample: /usr/libexec/docker/cli-plugins/docker-buildx
    version:
      description: What it says of itself. V(none) in check mode for a file that is to be written.
      type: str
      sample: 0.13.1+ds1
    revision:
      description: The revision of its sources, or its packager's version. V(none) where it does not say one.
      type: str
      sample: 0.13.1+ds1-3
    checksum:
      description: Of the file.
      type: str
      sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    source:
      description: The URL (without password and query) or the file that was installed. V(none) if it was there.
      type: str
      sample: null
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._ansible import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._plugin import run_module

SPEC = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "url": {"type": "str"},
    "src": {"type": "path"},
    "checksum": {"type": "str"},
    "path": {"type": "path"},
    "version": {"type": "str"},
    "timeout": {"type": "float", "default": 60},
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run_module, mutually_exclusive=[("url", "src")])
