#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_verify
short_description: Assert what a multi-platform image is
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Reads an image's index from its registry and fails unless it has the wanted platforms and digest. Attestation
    manifests are no platforms.
  - Can look into each platform's image whether the programs that it starts are made for the platform, which is not
    proved by running them, as the processor of an engine or QEMU may run those of others.
  - Can run each platform's image, by its digest, on an engine that serves the platform, and compare what it prints.
    All platforms are tried at the same time.
  - One message names everything that is wrong, with what was found and what was wanted.
  - A platform that the index has several images for is a failure, as engines take the first without a word. So does
    O(run). Images for several versions of Windows are none.
requirements:
  - docker CLI with buildx 0.3 or later, where O(builder) is that of a docker context, and for O(run) and O(programs)
    where a platform is not pinned
  - docker (Python library), for O(run) and O(programs)
extends_documentation_fragment:
  - buildfarm.multiarch.controller
  - buildfarm.multiarch.registry
attributes:
  check_mode:
    support: full
    description: Does the same in check mode, including O(run) and O(programs), as it never changes anything.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
options:
  name:
    description:
      - The image, as C([REGISTRY[:PORT]/]NAME[:TAG][@DIGEST]).
    type: str
    required: true
  builder:
    description:
      - The builder whose buildkitd configuration says how registries are reached, and whose nodes run, or look into,
        the platforms that O(endpoints) does not name.
      - The node for a platform is found as for a build, pinned platforms first. Drivers V(docker-container) and
        V(docker) have nodes that can run an image.
      - If unset, E(BUILDX_BUILDER) is used. If that is unset too, registries are reached as buildx's current builder
        does.
    type: str
  platforms:
    description:
      - The wanted platforms. They are normalised.
      - If unset or empty, any will do, and O(run) and O(programs) try all that the image has.
    type: list
    elements: str
  exact:
    description:
      - Whether platforms beside O(platforms) are a failure.
    type: bool
    default: true
  digest:
    description:
      - The wanted digest of what O(name) stands for.
    type: str
  run:
    description:
      - Run each platform's image once, without a network.
      - It is pulled by its digest with the credentials of the controller. The container is removed afterwards, and the
        image too if the engine did not have it before.
      - An exit status other than 0 is a failure.
    type: dict
    suboptions:
      command:
        description:
          - The command, in the place of the image's own C(CMD). An C(ENTRYPOINT) of the image stays.
          - If unset or empty, the image's own.
        type: list
        elements: str
      expected:
        description:
          - What the standard output has to be. White space at both ends is ignored.
          - A program that succeeds and prints nothing is run a second time before that is called wrong, as engines
            under heavy load lose output.
          - C({platform}) stands for the platform, such as C(linux/arm64), and C({arch}) for its architecture, such as
            C(arm64).
        type: str
      expected_regex:
        description:
          - A Python regular expression that has to match somewhere in the standard output, with C({platform}) and
            C({arch}) as in O(run.expected). A program that prints nothing is run a second time as there.
        type: str
      timeout:
        description:
          - Seconds that the program may take, and that an engine may be silent during a request or a pull.
        type: float
        default: 120
  programs:
    description:
      - Whether to look at the programs that each Linux platform's image starts, and to fail where they are not made for
        the platform. By default they are examined where O(run) is set.
      - Those are the first word of C(ENTRYPOINT), or of C(CMD) where there is none, with O(run.command) in the place of
        C(CMD); it has to be a file that can be executed. Names are searched in the image's C(PATH), relative ones in
        its C(WORKDIR), and links are followed. Of a script it is the interpreter in its C(#!) line, and the program
        that C(env) finds there. Loaders of programs that are not static count too.
      - The first word of C(CMD) after an C(ENTRYPOINT) may be no program. It counts only where it is one.
      - Of C(["/bin/sh", "-c", "..."]), the shell form of C(CMD) and C(ENTRYPOINT), only C(/bin/sh) is examined.
      - A program is right by the header of its ELF file. An image of amd64 may have programs for 386, which all amd64
        systems run, but one of arm64 no programs for arm, which many arm64 processors do not. Variants, as
        V(linux/arm/v6) and V(linux/arm/v7), cannot be told apart.
      - Of other files, as WebAssembly, the architecture cannot be told, and they are no failure. A text without C(#!)
        is one, and so is an empty file.
      - A container is created and not started, and only the beginnings of files are read from it. Any engine can do so
        for any platform. Without O(run) it is the one in O(endpoints), or the node of O(builder), that is for the
        platform, or else the first one. Images are pulled and removed as for O(run).
      - An image whose programs are wrong is not run. V(false) is for those that have programs of another architecture
        on purpose, as an emulator's may.
    type: bool
  endpoints:
    description:
      - Engines to run platforms on, or to examine them, endpoints by platform. An endpoint is C(tcp://HOST:PORT),
        C(unix:///PATH), C(ssh://[USER@]HOST) or the name of a docker context.
    type: dict
notes:
  - An engine pulls by itself. A registry with plain HTTP or a private CA has to be known to each engine.
seealso:
  - module: buildfarm.multiarch.buildx_build
  - module: buildfarm.multiarch.buildx_imagetools_info
"""

EXAMPLES = r"""
- name: The image has exactly these platforms
  buildfarm.multiarch.image_verify:
    name: registry.example.com/team/app:1.4
    platforms: [linux/amd64, linux/arm64]

- name: Each platform runs, on the builder's node for it, and says what it was built for
  buildfarm.multiarch.image_verify:
    name: registry.example.com/team/app:1.4
    builder: farm
    platforms: [linux/amd64, linux/arm64]
    run:
      command: [app, --platform]
      expected: "{platform}"

- name: The programs of each platform's image are made for it, without running anything
  buildfarm.multiarch.image_verify:
    name: registry.example.com/team/app:1.4
    builder: farm
    programs: true

- name: What was tested is what is published
  buildfarm.multiarch.image_verify:
    name: registry.example.com/team/app:latest
    digest: "{{ app.image.digest }}"

- name: Run the arm64 image on one machine
  buildfarm.multiarch.image_verify:
    name: registry.example.com/team/app:1.4
    platforms: [linux/arm64]
    exact: false
    endpoints:
      linux/arm64: ssh://root@arm1.example.com
    run:
      command: [app, --version]
      expected_regex: '^app 1\.4 on {arch}$'
"""

RETURN = r"""
image:
  description: The image.
  returned: always, unless it could not be read
  type: dict
  contains:
    name:
      description: The image's full name.
      type: str
      sample: registry.example.com/team/app:1.4
    digest:
      description: Digest of the index, or of the manifest if there is only one.
      type: str
      sample: sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567
    platforms:
      description: The platforms' images, in the index's order.
      type: list
      elements: dict
      contains:
        platform:
          description: The platform, normalised.
          type: str
          sample: linux/arm64
        digest:
          description: Digest of the platform's manifest.
          type: str
          sample: sha256:8a9cf2058e53d6ed630517f4baf56cfbdcf6ae06d564417412bc82e1ecfef919
        size:
          description: Bytes of the configuration and of the compressed layers.
          type: int
          sample: 1048997
        node:
          description:
            - Name of the builder's node that ran or examined it, or that the platform is pinned to. V(null)
              without O(builder), and where O(endpoints) named the engine.
          type: str
          sample: arm1
        endpoint:
          description: The engine that ran or examined it. V(null) where none did.
          type: str
          sample: tcp://arm1.example.com:2376
        native:
          description:
            - Whether the own processor of the engine, or of the node's engine, runs it. V(null) where neither is known.
          type: bool
          sample: true
        programs:
          description:
            - The programs that it starts, in the order in which they are needed, see O(programs). V(null) where they
              were not examined.
          type: list
          elements: dict
          contains:
            path:
              description: The file in the image, links followed.
              type: str
              sample: /usr/bin/app
            architecture:
              description: What it is made for, as platforms name it. V(null) for a script, and where it cannot be told.
              type: str
              sample: arm64
        output:
          description: Its standard output without white space at both ends. V(null) where it was not run.
          type: str
          sample: linux/arm64
        rc:
          description: Its exit status. V(null) where it was not run.
          type: int
          sample: 0
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.declaration import RUN
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.verify import run

SPEC = {
    "name": {"type": "str", "required": True},
    "builder": {"type": "str"},
    "platforms": {"type": "list", "elements": "str"},
    "exact": {"type": "bool", "default": True},
    "digest": {"type": "str"},
    "run": RUN,
    "programs": {"type": "bool"},
    "endpoints": {"type": "dict"},
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run)
