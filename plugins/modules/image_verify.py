#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_verify
short_description: Assert what images are
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Reads images from their registries and fails unless they are what is declared of them. That takes no engine, no
    buildx and no builder, unless something is run or examined. Many images in one task are read side by side.
  - Attestation manifests are no platforms. What is no image, as a signature or BuildKit's cache, is a failure.
  - An index or a manifest that names a manifest which the registry does not have is a failure.
  - Can look into each platform's image whether the programs that it starts are made for the platform, which is not
    proved by running them, as the processor of an engine or QEMU may run those of others.
  - Can run each platform's image, by its digest, on an engine that serves the platform, and compare what it prints.
    All platforms are tried at the same time, those of four images at most.
  - One message names everything that is wrong with all images, a line for each, with what was found and what was
    wanted.
  - A platform that the index has several images for is a failure, as engines take the first without a word. So does
    O(run). Images for several versions of Windows are none.
requirements:
  - Python 3.8 or later where it runs
  - buildx 0.3 or later, where O(builder) is that of a docker context, and for O(run) and O(programs)
    where a platform is not pinned
  - docker (Python library), for O(run) and O(programs)
  - jmespath (Python library), for O(query)
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
      - Exactly one of O(name) and O(images) is required.
    type: str
  images:
    description:
      - The images of a task that is about several. What one of them does not set is as the task has it.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The image, as in O(name).
        type: str
        required: true
      platforms:
        description:
          - As O(platforms), which it goes before.
        type: list
        elements: str
      exact:
        description:
          - As O(exact), which it goes before.
        type: bool
      digest:
        description:
          - As O(digest), which it goes before.
        type: str
      media_types:
        description:
          - As O(media_types), which it goes before.
        type: str
        choices: [oci, docker]
      annotations:
        description:
          - As O(annotations), which it goes before.
        type: dict
      labels:
        description:
          - As O(labels), which it goes before.
        type: dict
      provenance:
        description:
          - As O(provenance), which it goes before.
        type: dict
        suboptions:
          builder:
            description:
              - As O(provenance.builder).
            type: str
          source:
            description:
              - As O(provenance.source).
            type: str
          revision:
            description:
              - As O(provenance.revision).
            type: str
          bases:
            description:
              - As O(provenance.bases).
            type: dict
      sbom:
        description:
          - As O(sbom), which it goes before.
        type: bool
      sbom_contents:
        description:
          - As O(sbom_contents), which it goes before.
        type: dict
        suboptions:
          format:
            description:
              - As O(sbom_contents.format).
            type: str
          packages:
            description:
              - As O(sbom_contents.packages).
            type: dict
          without:
            description:
              - As O(sbom_contents.without).
            type: dict
          min_packages:
            description:
              - As O(sbom_contents.min_packages).
            type: int
      max_size:
        description:
          - As O(max_size), which it goes before.
        type: str
      max_age:
        description:
          - As O(max_age), which it goes before.
        type: str
      blobs:
        description:
          - As O(blobs), which it goes before.
        type: bool
      query:
        description:
          - As O(query), which it goes before.
        type: list
        elements: str
      run:
        description:
          - As O(run), which it goes before.
        type: dict
        suboptions:
          command:
            description:
              - As O(run.command).
            type: list
            elements: str
          expected:
            description:
              - As O(run.expected).
            type: str
          expected_regex:
            description:
              - As O(run.expected_regex).
            type: str
          timeout:
            description:
              - As O(run.timeout).
            type: float
            default: 120
      programs:
        description:
          - As O(programs), which it goes before.
        type: bool
  builder:
    description:
      - The builder whose buildkitd configuration says how registries are reached, and whose nodes run, or look into,
        the platforms that O(endpoints) does not name.
      - Of the nodes that a platform is pinned to, the first takes it whose own processor runs it, or else the first,
        which emulates it. The node for a platform that is not pinned is found as for a build. Drivers
        V(docker-container) and V(docker) have nodes that can run an image.
      - If unset, E(BUILDX_BUILDER) is used. If that is unset too, registries are reached as buildx's current builder
        does.
    type: str
  wait:
    description:
      - Seconds in which an image may still come to what is wanted, for registries whose readers lag behind what was
        pushed. An image that is not there, parts of it that are not, and a O(digest) that differs are looked at again
        for so long.
      - V(0) looks once.
    type: float
    default: 5
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
  media_types:
    description:
      - Whose media types index, manifests, configs and layers have to have, C(application/vnd.oci.*) or
        C(application/vnd.docker.*).
    type: str
    choices: [oci, docker]
  annotations:
    description:
      - Annotations that the image has to have, values by names. A value of V(null) accepts any.
      - One that the index does not have is looked for on each platform's entry in the index, and on its manifest.
        Other annotations are no failure.
    type: dict
  labels:
    description:
      - Labels that each platform's image has to have, as in O(annotations).
    type: dict
  provenance:
    description:
      - Provenance that each platform's image has to have, as BuildKit attaches it. An empty dictionary accepts any.
    type: dict
    suboptions:
      builder:
        description:
          - A Python regular expression that has to match somewhere in the name of the builder.
        type: str
      source:
        description:
          - A Python regular expression that has to match somewhere in the address of the sources. The address is what
            the version control of the build context says, or else the address of a remote context.
        type: str
      revision:
        description:
          - The revision of the sources, for git the whole commit.
        type: str
      bases:
        description:
          - Images that it has to be built from, digests by names. A digest of V(null) accepts any.
          - The digest is the one that the name stood for, mostly that of an index.
        type: dict
  sbom:
    description:
      - Whether each platform's image has to have an SBOM (V(true)), or must have none (V(false)).
    type: bool
  sbom_contents:
    description:
      - What the SBOM has to say that each platform's image has then, with C(sbom=true) or without; with C(sbom=false)
        it has no effect. An empty dictionary accepts any.
      - The formats that are read are SPDX 2 and 3 and CycloneDX, as JSON, attached as BuildKit does. Of several SBOMs,
        as BuildKit makes for further stages of a Dockerfile, all packages count.
      - It is fetched for that. A O(query) then finds it as the C(predicate) of the image's C(statements).
    type: dict
    suboptions:
      format:
        description:
          - The format, with its version or without, such as V(SPDX), V(SPDX-2.3) or V(CycloneDX-1.6). Case does not
            count.
        type: str
      packages:
        description:
          - Packages that it has to name, versions by names. A version is compared as a text; V(null) accepts any. Of
            several of one name, one has to have it.
          - The names are the SBOM's; in CycloneDX with the group, if any, and C(/) before.
        type: dict
      without:
        description:
          - Packages that it must not name, versions by names. V(null) stands for all versions.
        type: dict
      min_packages:
        description:
          - How many packages it has to name at least, which tells an SBOM from an empty one. The same name in two
            versions counts twice.
        type: int
  max_size:
    description:
      - How much the config and the compressed layers of each platform's image may be together.
      - A number of bytes, or one with a unit, such as V(200MB) or V(1GiB).
    type: str
  max_age:
    description:
      - How long ago each platform's image may have been created, by its config.
      - A number of seconds, or one with a unit, such as V(12h) or V(30d). Reproducible builds often say 1970.
    type: str
  blobs:
    description:
      - Whether to look for every config and layer in the registry, attestations included. None is transferred.
      - Layers that registries need not have (C(nondistributable), C(foreign)) are left out. Without this, the manifests
        are looked for.
      - By default they are not looked for.
    type: bool
  query:
    description:
      - JMESPath expressions that have to be true of the image, so not C(false), C(null) or empty. What they find is
        RV(images[].results).
      - They are applied to what M(buildfarm.multiarch.buildx_imagetools_info) returns as
        RV(buildfarm.multiarch.buildx_imagetools_info#module:index) with
        O(buildfarm.multiarch.buildx_imagetools_info#module:details).
    type: list
    elements: str
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
      - An engine creates a container and does not start it, and only the beginnings of files are read from it. Any
        engine can do so for any platform. Without O(run) it is the one in O(endpoints), or the node of O(builder), that
        is for the platform, or else the first one. Images are pulled and removed as for O(run).
      - Without O(run), O(endpoints) and O(builder), and with builders whose nodes are no engines, no engine is needed.
        The image's layers are then read from the registry into temporary files. They have to be packed by gzip, bzip2,
        xz or not at all, or in a way that the controller's Python knows.
      - An image whose programs are wrong is not run. V(false) is for those that have programs of another architecture
        on purpose, as an emulator's may.
    type: bool
  endpoints:
    description:
      - Engines to run platforms on, or to examine them, endpoints by platform. An endpoint is C(tcp://HOST:PORT),
        C(unix:///PATH), C(ssh://[USER@]HOST) or the name of a docker context.
      - Without O(run) and O(programs) it has no effect.
    type: dict
notes:
  - What a container prints is read from a log of its own (C(json-file)), whatever the engine keeps by default.
  - An engine pulls by itself. A registry with plain HTTP or a private CA has to be known to each engine.
seealso:
  - module: buildfarm.multiarch.buildx_build
  - module: buildfarm.multiarch.buildx_imagetools_info
  - module: buildfarm.multiarch.buildx_imagetools
"""

EXAMPLES = r"""
- name: The image has exactly these platforms
  buildfarm.multiarch.image_verify:
    name: registry.example.com/team/app:1.4
    platforms: [linux/amd64, linux/arm64]

- name: Many images, of which one has a platform more
  buildfarm.multiarch.image_verify:
    platforms: [linux/amd64, linux/arm64]
    blobs: true
    max_size: 200MB
    images:
      - name: registry.example.com/team/app:1.4
      - name: registry.example.com/team/app:latest
        exact: false

- name: What the image is made of, and who built it
  buildfarm.multiarch.image_verify:
    name: registry.example.com/team/app:1.4
    media_types: oci
    max_age: 30d
    labels:
      org.opencontainers.image.vendor: Example
    provenance: {}
    sbom_contents:
      format: SPDX
      packages:
        openssl: null
      without:
        log4j-core: 2.14.1
    query:
      - length(manifests[].manifest.layers[]) < `20`

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
images:
  description: The images, in order, also when the task fails.
  returned: always, unless an option is wrong
  type: list
  elements: dict
  contains:
    name:
      description: The image's full name.
      type: str
      sample: registry.example.com/team/app:1.4
    digest:
      description: Digest of the index, or of the manifest if there is only one. V(null) where it could not be read.
      type: str
      sample: sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567
    media_type:
      description: Media type of that. V(null) where it could not be read.
      type: str
      sample: application/vnd.oci.image.index.v1+json
    kind:
      description:
        - What it is, as RV(buildfarm.multiarch.buildx_imagetools_info#module:index.kind). V(null) where it could not be
          read.
      type: str
      sample: image
    problems:
      description: What is wrong with it, a text for each.
      type: list
      elements: str
      sample: []
    results:
      description: What each O(query) found.
      type: list
      elements: raw
      sample: []
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
          description:
            - Bytes of the configuration and of the compressed layers. V(null) where the registry does not have the
              manifest.
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
        sbom:
          description: What its SBOMs are; V(null) where it has none, or O(sbom_contents) was not set.
          type: dict
          contains:
            formats:
              description: Their formats with versions, each once.
              type: list
              elements: str
              sample: [SPDX-2.3]
            packages:
              description: How many packages they name, see O(sbom_contents.min_packages).
              type: int
              sample: 112
        output:
          description: Its standard output without white space at both ends. V(null) where it was not run.
          type: str
          sample: linux/arm64
        rc:
          description: Its exit status. V(null) where it was not run.
          type: int
          sample: 0
image:
  description: The only one of RV(images).
  returned: always with O(name), unless an option is wrong
  type: dict
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.declaration import IMAGE
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.verify import run

SPEC = {
    "name": {"type": "str"},
    "images": {"type": "list", "elements": "dict", "options": {"name": {"type": "str", "required": True}, **IMAGE}},
    "builder": {"type": "str"},
    **IMAGE,
    "exact": {"type": "bool", "default": True},
    "endpoints": {"type": "dict"},
    "wait": {"type": "float", "default": 5},
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run, mutually_exclusive=[("name", "images")], required_one_of=[("name", "images")])
