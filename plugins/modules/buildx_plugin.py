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
  - Installs one file, C(docker-buildx), from a release, a URL, a file or its sources, replaces it, or removes it.
  - A new file takes its place in one step, and only after it has proved to be what is wanted and has run on the host.
    Whatever goes wrong before, the plugin that was there stays.
  - With none of O(release), O(url), O(src) and O(build), nothing is installed. The module then asserts that some
    buildx is there, from the distribution's package for example, and returns it.
extends_documentation_fragment:
  - buildfarm.multiarch.controller
requirements:
  - Python 3.8 or later where it runs
  - nothing beyond Python; the docker CLI need not be there yet, but for O(build)
attributes:
  check_mode:
    support: partial
    description: Can run in check mode and return changed status, diff and actions without modifying anything.
    details:
      - Nothing is installed, built or started then, and of a release only the list of checksums is downloaded. So a URL
        that does not answer and a file for another architecture are found in the real run only, RV(plugin.version) of a
        new file is not known, and neither is whether an old docker CLI has to be told to run it.
  diff_mode:
    support: full
    description: Returns the checksum of the file before and after.
  idempotent:
    support: full
    description: A plugin that is what is wanted is neither downloaded nor built nor written again.
options:
  state:
    description: Whether the plugin is to be there.
    type: str
    choices: [present, absent]
    default: present
  release:
    description:
      - The release of buildx that the plugin has to be, V(0.29.1) for example, in the file for the host's own
        architecture. Another one is replaced, a newer one too.
      - Nothing is downloaded where the plugin that docker uses, or the one at O(path), is that release. With
        O(checksum), the file's checksum decides instead.
      - O(release), O(url), O(src) and O(build) are mutually exclusive.
    type: str
  mirror:
    description:
      - Where O(release) is downloaded from, laid out as on GitHub, C(v0.29.1/buildx-v0.29.1.linux-amd64) and
        C(v0.29.1/checksums.txt) below it.
    type: str
    default: https://github.com/docker/buildx/releases/download
  url:
    description:
      - Where to download the plugin, C(http) or C(https). Needs O(checksum).
      - Nothing is downloaded where O(path) has the checksum already.
    type: str
  src:
    description: Path of a file to install, on the host where the module runs.
    type: path
  build:
    description:
      - The sources of buildx, a directory on the host, or an address that C(docker build) knows as git's, with C(#TAG)
        or C(#COMMIT) behind it. The engine that docker talks to builds them with BuildKit, from their own Dockerfile,
        and has to reach what that is made from. For a git address it needs C(git) on its host.
      - An address with a secret in it is refused, as it would stand in the process list.
      - They are built where there is no plugin, or one older than O(minimum_version). A changed directory or a branch
        that went on is no reason to.
      - They are built with the buildx that is there already. Where there is none, a docker CLI before 23.0 is needed,
        which builds by itself.
    type: str
  checksum:
    description:
      - What the file of O(release), O(url) or O(src) has to be, C(sha256:) and 64 hexadecimal digits. Compared before
        the file takes its place. Without one of these it is refused.
      - For O(release) it is taken from the release's own C(checksums.txt) if unset. A checksum given here protects
        against a release that was tampered with, too.
    type: str
  path:
    description:
      - Where to install, or to look at. The name has to be C(docker-buildx).
      - If unset, C(cli-plugins/docker-buildx) in O(docker_config), for that user alone. For all users of a host use
        C(/usr/local/lib/docker/cli-plugins/docker-buildx).
    type: path
  minimum_version:
    description:
      - The least version that will do, V(0.13) for example. Nothing is installed where the plugin that docker uses, or
        the one at O(path), is as new as that.
      - Without a source to install from, an older plugin is an error.
    type: str
  timeout:
    description: Seconds that a server may let pass without sending anything.
    type: float
    default: 60
  retries:
    description:
      - How many requests in a row are repeated at a server that did not answer, broke off or had an error of its own,
        without sending more than before. A download goes on where it broke off if the server can do that. With V(0)
        there is one request.
    type: int
    default: 3
notes:
  - The docker CLI need not be there. Modules of this collection start buildx themselves, and find it where docker does
    or, after that, in E(PATH).
  - docker looks in the directories that C(cliPluginsExtraDirs) in its C(config.json) names, in C(cli-plugins) of its
    configuration directory, then in C(docker/cli-plugins) below C(/usr/local/lib), C(/usr/local/libexec), C(/usr/lib)
    and C(/usr/libexec). It takes the first file there is, and no other where that one does not run. A warning tells of
    a plugin that docker finds before the installed one, and of one that is hidden from now on.
  - Docker 19.03 runs plugins that call themselves experimental, as those of Docker's own packages of that time do, only
    where it is told so. The module then sets C(experimental) in C(config.json), unless E(DOCKER_CLI_EXPERIMENTAL) says
    it already. Other plugins and later versions do not need it, and nothing is changed for them.
  - Proxies are taken from the environment. Name and password for a server may stand in the URL.
seealso:
  - module: buildfarm.multiarch.buildx_builder
  - name: Releases of buildx
    description: Files and their checksums.
    link: https://github.com/docker/buildx/releases
"""

EXAMPLES = r"""
- name: Assert that the distribution's package is there and new enough
  buildfarm.multiarch.buildx_plugin:
    minimum_version: "0.13"

- name: Keep a release for all users
  buildfarm.multiarch.buildx_plugin:
    release: 0.29.1
    path: /usr/local/lib/docker/cli-plugins/docker-buildx

- name: Install a release, from a mirror, where the distribution's package is too old
  buildfarm.multiarch.buildx_plugin:
    minimum_version: "0.13"
    release: 0.29.1
    mirror: https://mirror.example.com/buildx

- name: Install one file from anywhere
  buildfarm.multiarch.buildx_plugin:
    url: https://files.example.com/docker-buildx
    checksum: sha256:0d4e4d9e9d3a8a0a2a2f1c6f6f2c8f2c4f2e3a5a6b7c8d9e0f1a2b3c4d5e6f70

- name: Install a file that was copied to the host
  buildfarm.multiarch.buildx_plugin:
    src: /srv/dist/buildx-v0.29.1.linux-arm64

- name: Let the engine build it
  buildfarm.multiarch.buildx_plugin:
    build: https://github.com/docker/buildx.git#v0.29.1

- name: Remove it again, so that the distribution's own is used
  buildfarm.multiarch.buildx_plugin:
    path: /usr/local/lib/docker/cli-plugins/docker-buildx
    state: absent
"""

RETURN = r"""
actions:
  description: What was or would be done, in order. C(download), C(build), C(write), C(chmod) or C(remove), and of what.
  returned: success
  type: list
  elements: list
  sample:
    - [download, "https://github.com/docker/buildx/releases/download/v0.29.1/buildx-v0.29.1.linux-amd64"]
    - [write, /usr/local/lib/docker/cli-plugins/docker-buildx]
plugin:
  description: The plugin; V(null) for O(state=absent).
  returned: success
  type: dict
  contains:
    path:
      description: Where it is.
      type: str
      sample: /usr/libexec/docker/cli-plugins/docker-buildx
    version:
      description: What it says of itself. V(null) in check mode for a file that is to be written.
      type: str
      sample: 0.13.1+ds1
    revision:
      description: The revision of its sources, or its packager's version. V(null) where it does not say one.
      type: str
      sample: 0.13.1+ds1-3
    checksum:
      description: Of the file. V(null) in check mode for a file that is to be written, where nothing declares it.
      type: str
      sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    source:
      description: What was installed, a URL with its secrets masked for example. V(null) if it was there.
      type: str
      sample: null
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._plugin.apply import run

SPEC = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "release": {"type": "str"},
    "mirror": {"type": "str", "default": "https://github.com/docker/buildx/releases/download"},
    "url": {"type": "str"},
    "src": {"type": "path"},
    "build": {"type": "str"},
    "checksum": {"type": "str"},
    "path": {"type": "path"},
    "minimum_version": {"type": "str"},
    "timeout": {"type": "float", "default": 60},
    "retries": {"type": "int", "default": 3},
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run, mutually_exclusive=[("release", "url", "src", "build")])
