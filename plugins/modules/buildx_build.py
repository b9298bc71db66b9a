#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_build
short_description: Build an image for several platforms
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Builds a Dockerfile for one or several platforms with a builder's nodes, through C(docker buildx build), and puts
    the result into registries, the local engine, a directory or an archive.
  - BuildKit decides which steps have to run again. The task is changed when a result differs from what was in its
    place before.
  - What buildx would fail on late, or get wrong without an error, is refused before anything is built. This includes a
    platform that no node of the builder serves, which buildx would send to the first node.
  - After a push every tag is read back. All must stand for the same digest and have exactly the declared platforms.
requirements:
  - docker CLI with buildx 0.3 or later
extends_documentation_fragment:
  - buildfarm.multiarch.controller
  - buildfarm.multiarch.registry
attributes:
  check_mode:
    support: partial
    description: Predicts what can be told without building, and refuses bad input as a real run does.
    details:
      - A change is predicted where a result is missing, where an image in a registry has other platforms than
        O(platforms) or one in an engine has none of them, and where two O(tags) stand for different images. Whether
        the sources have changed otherwise can only be told by building, so no change is predicted then.
      - A local O(context) that does not exist is a warning, as an earlier task may be about to make it.
      - Nothing is built or started, so a platform that is not pinned is not refused where a node that is not running
        might serve it.
  diff_mode:
    support: full
    description: Shows digest and platforms of the images, and digests of files and directories.
  idempotent:
    support: partial
    description: Changes nothing where the build's result is what it was before.
    details:
      - The build runs each time, and takes less than a second where BuildKit has every step in its cache. It changes
        nothing then.
      - With O(provenance) or O(sbom) every push changes the index, as an attestation holds the time of the build.
      - Steps that run again, with O(no_cache) or after the cache was pruned, make other layers unless the Dockerfile
        is reproducible.
options:
  context:
    description:
      - A directory on the controller, or the URL of a git repository or of an archive.
      - A URL with a secret in it is refused, as it would stand in the process list and in the image's provenance. A
        secret is a password, a token in the place of the user's name, or one in the query.
    type: str
    required: true
  file:
    description:
      - The Dockerfile, absolute or relative to O(context).
      - If unset, C(Dockerfile) in O(context) is used, or C(dockerfile) if there is only that.
    type: str
  builder:
    description:
      - The builder.
      - If unset, E(BUILDX_BUILDER) is used, and buildx's current builder if that is unset too.
    type: str
  platforms:
    description:
      - The platforms to build for, such as V(linux/amd64) or V(linux/arm/v7). They are normalised.
      - If unset or empty, the builder's first node builds for its own platform. E(DOCKER_DEFAULT_PLATFORM) has no
        effect.
    type: list
    elements: str
  tags:
    description:
      - Names of the image, as C([REGISTRY[:PORT]/]NAME[:TAG]).
      - Needed for O(push) and O(load).
    type: list
    elements: str
  push:
    description:
      - Push the image to the registries of O(tags). The same as an entry of O(outputs) with C(type=registry).
    type: bool
    default: false
  load:
    description:
      - Load the image into the engine of the docker context in use. The same as an entry of O(outputs) with
        C(type=docker) and no C(dest).
      - Several platforms, O(provenance) and O(sbom) need an engine with the containerd image store.
    type: bool
    default: false
  outputs:
    description:
      - Further places for the result.
      - More than one, O(push) and O(load) counted, needs buildx 0.13 and BuildKit 0.13.
      - If there is none at all, the result stays in the builder's cache. A builder of the C(docker) driver puts it into
        its engine, as does one with driver option C(default-load=true).
    type: list
    elements: dict
    suboptions:
      type:
        description:
          - V(local) writes the files of the result into a directory, with a subdirectory for each platform where there
            are several. Files that are there already and not in the result stay.
          - V(tar) writes them into one tar file.
          - V(oci) and V(docker) write an image archive. V(docker) without O(outputs[].dest) is O(load).
          - V(image) keeps the image in the builder. V(registry) is O(push).
          - V(tar), V(oci) and V(docker) need all platforms to be on one node.
        type: str
        required: true
        choices: [local, tar, oci, docker, image, registry]
      dest:
        description:
          - Path of a directory for V(local), of a file for V(tar), V(oci) and V(docker). A file is replaced in one
            step, and only if its content differs.
        type: path
      options:
        description:
          - Further options of BuildKit's exporter, such as C(compression), C(oci-mediatypes) or C(rewrite-timestamp).
          - C(name) and C(push-by-digest) are not supported.
        type: dict
  build_args:
    description:
      - Values for C(ARG) instructions. Numbers are taken as they are; quote what YAML would make a boolean of.
      - They are visible in the process list and in the image's history, so they are no place for secrets.
      - E(SOURCE_DATE_EPOCH) counts as one of them where it is set and not given here.
    type: dict
  labels:
    description:
      - Labels of the image.
    type: dict
  target:
    description:
      - The stage of the Dockerfile to build. If unset, the last one.
    type: str
  no_cache:
    description:
      - Run all steps again.
    type: bool
    default: false
  pull:
    description:
      - Look for newer base images in their registries even if the builder has them.
    type: bool
    default: false
  provenance:
    description:
      - Provenance attestation, V(true), V(false), or its options such as V(mode=max). Anything but V(false) needs
        buildx 0.10.
    type: str
    default: "false"
  sbom:
    description:
      - SBOM attestation, V(true), V(false), or its options such as V(generator=IMAGE). Anything but V(false) needs
        buildx 0.10.
    type: str
    default: "false"
  timeout:
    description:
      - Seconds after which the build is ended. If unset, it may take as long as it takes.
    type: float
  progress:
    description:
      - What is shown while the build runs.
      - With V(auto), each step as it begins and ends. Nothing is shown in check mode, under C(no_log), or with C(async)
        of the task. Callbacks that write JSON to standard output get it on standard error.
      - With V(none), nothing. The result is the same.
    type: str
    choices: [auto, none]
    default: auto
notes:
  - What the environment adds is described in C(docs/environment.md) of the collection.
  - What O(tags) stand for is read from their registries before and after a push. A registry that refuses to be looked
    at before it, as Quay does where the repository does not exist yet, is taken to have nothing there, with a warning.
    After it that is a failure. Mirrors are not asked, as they may not know of the push yet.
  - Where two nodes push the same layer at the same moment, a registry of the distribution project (C(registry:2)) may
    refuse it to one of them. Such a push is tried again, two times at most.
  - The build ends with the task. Where ansible-playbook is interrupted, killed or cut off from the controller, what
    runs there and on the nodes is ended within 20 seconds.
  - If a build fails after it has pushed to some of O(tags), the error says what these stand for now.
seealso:
  - module: buildfarm.multiarch.buildx_builder
  - module: buildfarm.multiarch.image_verify
  - module: buildfarm.multiarch.buildx_imagetools_info
  - name: docker buildx build
    description: Reference of the command.
    link: https://docs.docker.com/reference/cli/docker/buildx/build/
"""

EXAMPLES = r"""
- name: Build an image for two platforms and push it
  buildfarm.multiarch.buildx_build:
    builder: farm
    context: /srv/app
    platforms:
      - linux/amd64
      - linux/arm64
    tags:
      - registry.example.com/team/app:1.4
      - registry.example.com/team/app:latest
    push: true
  register: app

- name: Show what was built where
  ansible.builtin.debug:
    msg: "{{ item.platform }} on {{ item.node }}{{ '' if item.native else ' (emulated)' }}: {{ item.size }} bytes"
  loop: "{{ app.image.platforms }}"
  loop_control:
    label: "{{ item.platform }}"

- name: Compile for three platforms and collect the programs in one directory
  buildfarm.multiarch.buildx_build:
    builder: farm
    context: https://github.com/example/tool.git#v2.1
    target: binaries
    platforms: [linux/amd64, linux/arm64, linux/riscv64]
    build_args:
      VERSION: "2.1"
    outputs:
      - type: local
        dest: /srv/release/tool

- name: Build for this machine only and load the image into its engine
  buildfarm.multiarch.buildx_build:
    context: /srv/app
    file: docker/Dockerfile.debug
    tags: [app:debug]
    load: true

- name: Push with provenance, and keep an archive of the same image
  buildfarm.multiarch.buildx_build:
    builder: amd64-only
    context: /srv/app
    platforms: [linux/amd64]
    tags: [registry.example.com/team/app:1.4-amd64]
    provenance: mode=max
    push: true
    outputs:
      - type: oci
        dest: /srv/archive/app-1.4.tar
        options:
          compression: zstd
"""

RETURN = r"""
image:
  description:
    - The image as it was read back. V(null) in check mode, and where the result is no image in a registry or engine.
  returned: success
  type: dict
  contains:
    tags:
      description: The names, as given in O(tags).
      type: list
      elements: str
      sample: ["registry.example.com/team/app:1.4"]
    digest:
      description:
        - Digest of the index, or of the manifest if there is only one.
        - Where only an engine has the image, what BuildKit reported. That is the engine's id of it with the C(docker)
          driver.
      type: str
      sample: sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567
    id:
      description: The engine's id of the image. V(null) where it was not loaded.
      type: str
      sample: sha256:337a25f749991193ba1924b1db939c2dd68254aedebd743c21500b37ade69ed7
    platforms:
      description:
        - The platforms' images. Of an image that only an engine has, the one platform that the engine shows.
      type: list
      elements: dict
      contains:
        platform:
          description: The platform, normalised.
          type: str
          sample: linux/arm64
        digest:
          description: Digest of the platform's manifest. V(null) where only an engine has it.
          type: str
          sample: sha256:8a9cf2058e53d6ed630517f4baf56cfbdcf6ae06d564417412bc82e1ecfef919
        size:
          description: Bytes of the configuration and of the compressed layers; in an engine, as that counts.
          type: int
          sample: 1048997
        node:
          description: Name of the builder's node that built it.
          type: str
          sample: arm1
        native:
          description: Whether the node's own processor runs the platform. V(null) where the node is no engine that
            answers.
          type: bool
          sample: true
outputs:
  description: Where the result went.
  returned: success
  type: list
  elements: dict
  contains:
    type:
      description: Type of the output.
      type: str
      sample: local
    dest:
      description: Absolute path. V(null) for what went to a registry or an engine.
      type: str
      sample: /srv/release/tool
    digest:
      description:
        - A SHA-256 of the content at RV(outputs[].dest), which tells whether it changed. V(null) without C(dest), or
          where nothing is there yet in check mode.
      type: str
      sample: sha256:9e2fef0a8d1d95402407ab3fe9ad380880ad950f4f7ce7d6154d45c405642053
metadata:
  description: What C(docker buildx build --metadata-file) wrote. Empty in check mode and with buildx before 0.6.
  returned: success
  type: dict
  sample:
    containerimage.digest: sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567
    image.name: registry.example.com/team/app:1.4
actions:
  description: The command, if the build changed something or is predicted to. Otherwise empty.
  returned: success
  type: list
  elements: list
  sample:
    - [docker, buildx, build, --builder, farm, --progress, plain, --platform, "linux/amd64,linux/arm64", --tag,
       registry.example.com/team/app:1.4, --output, type=registry, --provenance=false, --file, /srv/app/Dockerfile,
       /srv/app]
stderr:
  description: BuildKit's whole progress. The message holds only the failing step.
  returned: when the build failed
  type: str
  sample: "#5 ERROR: process \"/bin/sh -c make\" did not complete successfully: exit code: 2"
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.output import TYPES
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import PROGRESS, main

IMAGE = {
    "context": {"type": "str"},
    "file": {"type": "str"},
    "platforms": {"type": "list", "elements": "str"},
    "tags": {"type": "list", "elements": "str"},
    "push": {"type": "bool", "default": False},
    "load": {"type": "bool", "default": False},
    "outputs": {
        "type": "list",
        "elements": "dict",
        "options": {
            "type": {"type": "str", "required": True, "choices": list(TYPES)},
            "dest": {"type": "path"},
            "options": {"type": "dict"},
        },
    },
    "build_args": {"type": "dict"},
    "labels": {"type": "dict"},
    "target": {"type": "str"},
    "no_cache": {"type": "bool", "default": False},
    "pull": {"type": "bool", "default": False},
    "provenance": {"type": "str", "default": "false"},
    "sbom": {"type": "str", "default": "false"},
    "run": {
        "type": "dict",
        "options": {
            "command": {"type": "list", "elements": "str"},
            "expected": {"type": "str"},
            "expected_regex": {"type": "str"},
            "timeout": {"type": "float", "default": 120},
        },
    },
    "programs": {"type": "bool"},
    "timeout": {"type": "float"},
}
SPEC = {
    **IMAGE,
    "images": {"type": "list", "elements": "dict", "options": IMAGE},
    "builder": {"type": "str"},
    "gate": {"type": "bool", "default": True},
    "emulation": {"type": "str", "default": "prefer_native", "choices": ["prefer_native", "allow", "forbid"]},
    "builds_per_node": {"type": "int"},
    "progress": PROGRESS,
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run, seen=True)
