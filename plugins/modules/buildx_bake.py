#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_bake
short_description: Build the targets of a bake definition
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Builds targets and groups of a bake definition, in HCL, JSON or Compose files, with all nodes of a builder.
  - The definition is evaluated once, by C(docker buildx bake --print). Each of its targets is then an image as in
    O(buildfarm.multiarch.buildx_build#module:images), with the same choice of nodes, the same gate before its tags, the
    same decision what has to be built and the same results. So what is said of that module holds here.
  - Targets are built side by side, each after those that it links to with C(target:) in its C(contexts), or whose tags
    its Dockerfile names.
  - What a definition uses of the controller beyond O(chdir) has to be in O(allow), whatever the version of buildx.
requirements:
  - Python 3.8 or later where it runs
  - buildx 0.3 or later
extends_documentation_fragment:
  - buildfarm.multiarch.controller
  - buildfarm.multiarch.registry
attributes:
  check_mode:
    support: partial
    description: Evaluates the definition and decides as a real run does, and builds nothing.
    details:
      - As of M(buildfarm.multiarch.buildx_build), a change is predicted where something is built that differs from what
        was built before. What is built because it cannot be told whether it changed is predicted to be the same.
      - Where O(chdir) or O(files) do not exist yet, as an earlier task may be about to make them, nothing is predicted,
        with a warning.
  diff_mode:
    support: full
    description: Shows digest and platforms of the images, and digests of files and directories.
  idempotent:
    support: partial
    description: Builds nothing where all that decides the results is what it was.
    details:
      - A target whose result stays in the builder's cache is built each time, which changes nothing. One that others
        link to is not, unless one of these is.
      - A definition that gives another value each time, as with the function C(timestamp), is built each time.
options:
  chdir:
    description:
      - The working directory on the controller, to which paths of O(files), and of a definition's contexts, outputs,
        caches, secrets and keys are relative. As with C(docker buildx bake) it is not the directory of the file.
      - By default the directory that the task runs in, so it should be given.
    type: path
  files:
    description:
      - The files of the definition, merged in their order, as HCL (C(.hcl)), JSON (C(.json)) or Compose files.
      - If unset, buildx's own choice in O(chdir), which depends on its version, as C(compose.yaml) and then
        C(docker-bake.hcl) and C(docker-bake.override.hcl).
      - With O(url) they are in that, or on the controller after C(cwd://).
    type: list
    elements: str
  url:
    description:
      - The URL of a git repository, as C(URL#REF:DIRECTORY), or of an archive that has the definition. Relative
        contexts of its targets are in it, too. It is read by a node of O(builder).
      - A directory of an archive cannot be a context, nor can one of a git repository with a query in its URL.
      - A URL with a secret in it is refused. buildx takes a token from E(BUILDX_BAKE_GIT_AUTH_TOKEN) in the task's
        environment, which needs buildx 0.14.
      - What a remote definition says about this controller counts as much as what a local one does, so O(allow) is
        what it may use beyond O(chdir).
    type: str
  targets:
    description:
      - The targets and groups to build. By default the group or target C(default).
    type: list
    elements: str
  vars:
    description:
      - Values of the definition's variables, before those of variables of the same names in the task's environment.
      - A secret of a target that is taken from the environment may name one of them. Their values are not logged, and
        not returned with the task's options.
      - They reach buildx in its environment. What a definition does with them may be visible, as build arguments are.
    type: dict
  set:
    description:
      - Values that override the definition's, as a dictionary with keys C(TARGET.KEY) or as a list of texts
        C(TARGET.KEY=VALUE). C(TARGET) may have wildcards.
      - A list as a value stands for several. A plus sign at the end of a key, as in C(app.tags+), adds instead, which
        needs buildx 0.15.
    type: raw
  allow:
    description:
      - What targets may use, V(fs.read=PATH), V(fs.write=PATH), V(fs=PATH) for both, V(network.host),
        V(security.insecure), V(device), V(device=NAME) and V(ssh). A path stands for all below it, V(*) for all paths.
      - O(chdir) may be read and written in any case. Contexts, Dockerfiles, secrets from files, ssh keys and local
        caches are read, outputs and local caches written. Symbolic links are followed.
      - V(ssh) is for the agent of E(SSH_AUTH_SOCK), V(network.host) also for C(network = "host").
      - It is enforced here, with each version of buildx. BuildKit must allow V(network.host), V(security.insecure) and
        devices as well, with C(--allow-insecure-entitlement) in
        O(buildfarm.multiarch.buildx_builder#module:nodes[].buildkitd_flags).
    type: list
    elements: str
  push:
    description:
      - Push all targets that are wanted, as C(docker buildx bake --push).
    type: bool
    default: false
  load:
    description:
      - Load all targets that are wanted into the engine of the docker context in use, as C(docker buildx bake --load).
    type: bool
    default: false
  no_cache:
    description:
      - Run all steps of all targets again.
    type: bool
    default: false
  pull:
    description:
      - Look for newer base images in their registries even if the builder has them.
    type: bool
    default: false
  provenance:
    description:
      - Provenance attestation of all targets, as O(buildfarm.multiarch.buildx_build#module:provenance). Not together
        with C(attest) of this type in a target.
      - There is none unless it is declared, here or in the definition. C(docker buildx bake) adds one to what it
        pushes.
    type: str
  sbom:
    description:
      - SBOM attestation, likewise, as O(buildfarm.multiarch.buildx_build#module:sbom).
    type: str
  programs:
    description:
      - Whether to look at the programs that the images of all targets that are pushed start, and to leave the tags
        where they are if these are not made for their platforms, as
        O(buildfarm.multiarch.buildx_build#module:programs) does.
    type: bool
    default: false
  timeout:
    description:
      - Seconds after which the build of a target is ended. If unset, it may take as long as it takes.
    type: float
  builder:
    description:
      - The builder.
      - If unset, E(BUILDX_BUILDER) is used, and buildx's current builder if that is unset too.
    type: str
  gate:
    description:
      - Whether the tags of a target move only once all its platforms are in the registry and have passed their checks,
        as O(buildfarm.multiarch.buildx_build#module:gate).
    type: bool
    default: true
  emulation:
    description:
      - Which nodes build a platform, as O(buildfarm.multiarch.buildx_build#module:emulation).
    type: str
    choices: [prefer_native, allow, forbid]
    default: prefer_native
  builds_per_node:
    description:
      - How many builds a node is given at the same time, as O(buildfarm.multiarch.buildx_build#module:builds_per_node).
    type: int
  rebuild:
    description:
      - Which targets are built, as O(buildfarm.multiarch.buildx_build#module:rebuild).
    type: str
    default: when_changed
    choices: [when_changed, always, never]
  remote_inputs:
    description:
      - Whether git repositories and files from the web count for O(rebuild), as
        O(buildfarm.multiarch.buildx_build#module:remote_inputs).
    type: str
    default: check
    choices: [check, ignore]
  progress:
    description:
      - What is shown while targets are built, as O(buildfarm.multiarch.buildx_build#module:progress).
    type: str
    choices: [auto, none]
    default: auto
notes:
  - What the environment adds is described in C(docs/environment.md) of the collection. Variables of a definition take
    their values from it, as with C(docker buildx bake).
  - A target with C(target:NAME) in its C(contexts) is built from what NAME is built to in the same run. Where NAME is
    pushed, it is its image in the registry, by digest. Where it is not, the nodes export it to the controller and are
    given it as an OCI layout, so that each node has all platforms of it, whatever node built them. That is sent
    whenever a target is built that links to it. It needs buildx 0.10 and BuildKit 0.11.
  - A linked target that says no platforms is built for that of the first node, and is used for all. As with buildx, its
    files should not depend on the platform then.
  - Targets with C(call) are not built, see RV(call). Options of the call other than its method have no effect.
  - Where several targets have the same tag, one may put it somewhere. Others that keep their results in the cache are
    built without it; two that push or load it are an error.
  - A target with C(policy), or another field that is not known here, is refused. buildx before 0.17 does not tell the
    C(network) of a target, so a definition with one is refused there.
  - C(cache-to) of a target with several platforms makes a cache for each, as
    O(buildfarm.multiarch.buildx_build#module:cache_to).
seealso:
  - module: buildfarm.multiarch.buildx_build
  - module: buildfarm.multiarch.buildx_builder
  - name: Bake file reference
    description: The fields of targets, groups and variables.
    link: https://docs.docker.com/build/bake/reference/
  - name: docker buildx bake
    description: Reference of the command.
    link: https://docs.docker.com/reference/cli/docker/buildx/bake/
"""

EXAMPLES = r"""
- name: Build what the project's definition says, and push it
  buildfarm.multiarch.buildx_bake:
    builder: farm
    chdir: /srv/project
    files: [docker-bake.hcl]
    push: true
  register: baked

- name: Show what was built where, and why
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.reasons | join('; ') or 'as it was' }}"
  loop: "{{ baked.images }}"
  loop_control:
    label: "{{ item.name }}"

- name: Release two groups with a version, for two platforms
  buildfarm.multiarch.buildx_bake:
    builder: farm
    chdir: /srv/project
    files: [docker-bake.hcl, release.hcl]
    targets: [images, tools]
    vars:
      VERSION: "1.4"
      REGISTRY: registry.example.com/team
    set:
      "*.platform": [linux/amd64, linux/arm64]
      app.args.CHANNEL: stable
    push: true
    programs: true

- name: Build the services of a Compose file
  buildfarm.multiarch.buildx_bake:
    builder: farm
    chdir: /srv/compose
    files: [compose.yaml]
    targets: [web]
    set:
      web.tags: registry.example.com/team/web:2
    push: true

- name: Build with sources beside the project, into a directory of releases
  buildfarm.multiarch.buildx_bake:
    builder: farm
    chdir: /srv/project
    files: [docker-bake.hcl]
    targets: [binaries]
    allow:
      - fs.read=/srv/assets
      - fs.write=/srv/release

- name: Build a definition that is in a git repository
  buildfarm.multiarch.buildx_bake:
    builder: farm
    url: https://github.com/example/project.git#v2.1
    targets: [app]
    set:
      app.tags: registry.example.com/team/app:2.1
    push: true

- name: Check the Dockerfiles of all targets and build nothing
  buildfarm.multiarch.buildx_bake:
    chdir: /srv/project
    files: [docker-bake.hcl]
    set:
      "*.call": check
  register: checked
  failed_when: not (checked.call.values() | map(attribute='passed') is all)
"""

RETURN = r"""
images:
  description: What became of each target, those that O(targets) means first, then those that they link to.
  returned: always, unless nothing was built as an option or the definition is wrong
  type: list
  elements: dict
  contains:
    name:
      description: The target's name, after expansion of a matrix.
      type: str
      sample: app
    tags:
      description: The image's names. Empty where the target keeps its result in the cache.
      type: list
      elements: str
      sample: ["registry.example.com/team/app:1.4"]
    digest:
      description:
        - Digest of the index, or of the manifest if there is only one. V(null) in check mode, where it failed, and
          where the result is in neither a registry nor an engine.
      type: str
      sample: sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567
    id:
      description: The engine's id of the image. V(null) where it was not loaded.
      type: str
      sample: sha256:337a25f749991193ba1924b1db939c2dd68254aedebd743c21500b37ade69ed7
    changed:
      description: Whether one of its results differs from what was in its place before.
      type: bool
      sample: true
    built:
      description: Whether it was built, or would be, in whole or for the platforms that were missing.
      type: bool
      sample: true
    reasons:
      description: Why it was built or its tags were written, the most important reason first. Empty where nothing was
        done about it.
      type: list
      elements: str
      sample: ["src/main.c changed", "build arg VERSION changed"]
    platforms:
      description:
        - The platforms' images, with how each was built. In check mode, RV(images[].platforms[].node) is the node that
          would build it.
      type: list
      elements: dict
      contains:
        platform:
          description: The platform, normalised.
          type: str
          sample: linux/arm64
        digest:
          description: Digest of the platform's manifest. V(null) where it is in no registry, where the image failed,
            and in check mode where something would be done.
          type: str
          sample: sha256:8a9cf2058e53d6ed630517f4baf56cfbdcf6ae06d564417412bc82e1ecfef919
        size:
          description: Bytes of the configuration and of the compressed layers. V(null) as the digest, but known of what
            is in an engine.
          type: int
          sample: 1048997
        node:
          description: Name of the builder's node that built it. V(null) where it was not built.
          type: str
          sample: farm-arm1
        native:
          description: Whether the node's own processor runs the platform. V(null) where that is not known.
          type: bool
          sample: true
        seconds:
          description: Seconds that the build took, with the transfer of the context and the push. V(null) where it was
            not built, as the two below.
          type: float
          sample: 12.3
        steps:
          description: How many steps the build had, of all platforms that the node built together.
          type: int
          sample: 5
        cached:
          description: How many of them were in the cache.
          type: int
          sample: 4
    outputs:
      description: Where the result went.
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
            - A SHA-256 of the content at RV(images[].outputs[].dest), which tells whether it changed. V(null) without
              C(dest), or where nothing is there yet in check mode.
          type: str
          sample: sha256:9e2fef0a8d1d95402407ab3fe9ad380880ad950f4f7ce7d6154d45c405642053
    retries:
      description: The builds that nodes did not finish because they went away.
      type: list
      elements: dict
      contains:
        node:
          description: The node's name.
          type: str
          sample: farm-amd2
        platforms:
          description: What it was building.
          type: list
          elements: str
          sample: [linux/amd64]
        reason:
          description: What buildx printed last.
          type: str
          sample: "ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF"
    error:
      description: Why it failed. V(null) where it did not.
      type: str
      sample: null
call:
  description: What C(call) found of the targets that have it, by their names.
  returned: success
  type: dict
  sample: {"app": {"method": "check", "passed": true, "result": {"warnings": []}}}
actions:
  description:
    - The commands, each on the node that is the first choice for it, and the tags (C(push)) and archives (C(join))
      that are written afterwards, of images that the build changed or is predicted to. Contexts that are other targets
      are left out.
  returned: success
  type: list
  elements: list
  sample:
    - [docker, buildx, build, --builder, farm-amd1, --progress, plain, --platform, linux/amd64, --output,
       "type=image,name=registry.example.com/team/app,push=true", --provenance=false, --file, /srv/project/Dockerfile,
       /srv/project]
    - [push, "registry.example.com/team/app:1.4"]
found:
  description:
    - What the tags and paths of the image hold, V(null) for nothing. An image has C(digest) and C(platforms), a file
      or a directory C(digest).
  returned: when a build succeeded, and its result is not what is declared
  type: dict
  sample:
    registry registry.example.com/team/app:1.4:
      digest: sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567
      platforms: [linux/amd64]
stderr:
  description: What buildx printed, of a definition that it refuses or of the first build that failed.
  returned: when buildx failed
  type: str
  sample: "ERROR: failed to find target app"
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._bake.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.declaration import HOW
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.live_module import PROGRESS, main

SPEC = {
    "chdir": {"type": "path"},
    "files": {"type": "list", "elements": "str"},
    "url": {"type": "str"},
    "targets": {"type": "list", "elements": "str"},
    "vars": {"type": "dict"},
    "set": {"type": "raw"},
    "allow": {"type": "list", "elements": "str"},
    "push": {"type": "bool", "default": False},
    "load": {"type": "bool", "default": False},
    "no_cache": {"type": "bool", "default": False},
    "pull": {"type": "bool", "default": False},
    "provenance": {"type": "str"},
    "sbom": {"type": "str"},
    "programs": {"type": "bool", "default": False},
    "timeout": {"type": "float"},
    **HOW,
    "progress": PROGRESS,
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run, unshown=["vars"])
