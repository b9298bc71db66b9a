#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_build
short_description: Build images for several platforms
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Builds one or many Dockerfiles for one or several platforms with all nodes of a builder, through
    C(docker buildx build), and puts the results into registries, the local engine, directories or archives.
  - Each platform of each image is built on one of the nodes that serve it, the same one each time, so that its cache is
    warm. The nodes build side by side and push by digest. Once every platform is in the registry and has passed its
    checks, each tag is written once, as one complete index, see O(gate).
  - A node that goes away costs its share. Its platforms are built again on the next node, two times at most. One whose
    engine has just come back is waited for until its BuildKit runs again, 20 seconds at most.
  - An image is built if what it is made of changed since its tags were written, or if something of it is missing, see
    O(rebuild). The task says why in RV(images[].reasons). BuildKit decides which steps have to run again. The task is
    changed when a result differs from what was in its place before.
  - What buildx would fail on late, or get wrong without an error, is refused before anything is built. This includes a
    platform that no node of the builder serves, which buildx would send to the first node.
requirements:
  - Python 3.8 or later where it runs
  - buildx 0.3 or later
extends_documentation_fragment:
  - buildfarm.multiarch.controller
  - buildfarm.multiarch.registry
attributes:
  check_mode:
    support: partial
    description: Decides as a real run does what is built and why, and refuses bad input as that does.
    details:
      - A change is predicted where something is built that differs from what was built before, or where a tag is
        written. What is only built because it cannot be told whether it changed, or with O(rebuild=always), is
        predicted to be the same.
      - A local O(context) that does not exist is a warning, as an earlier task may be about to make it. So is a
        directory for O(outputs[].dest).
      - Nothing is built or started, so a platform that is not pinned is not refused where a node that is not running
        might serve it.
  diff_mode:
    support: full
    description: Shows digest and platforms of the images, and digests of files and directories.
  idempotent:
    support: partial
    description: Builds nothing where all that decides the result is what it was.
    details:
      - Where an image is built all the same, as with O(rebuild=always), nothing is changed if BuildKit has every step
        in its cache.
      - With O(provenance) or O(sbom) every build changes the index, as an attestation holds the time of the build.
      - Steps that run again, with O(no_cache) or after the cache was pruned, make other layers unless the Dockerfile
        is reproducible.
options:
  context: &context
    description:
      - A directory on the controller, or the URL of a git repository or of an archive.
      - A URL with a secret in it is refused, as it would stand in the process list and in the image's provenance. A
        secret is a password, a token in the place of the user's name, or one in the query.
      - Needed, here or in each of O(images).
    type: str
  source: &source
    description:
      - A directory on the Ansible machine that O(context) is made equal to if something is built of it, as
        M(buildfarm.multiarch.build_context) does it. Whether anything changed is told on the Ansible machine, so that
        nothing is sent where nothing is built.
      - A relative one is looked for in the working directory of C(ansible-playbook), beside the variables files of
        C(-e @FILE), beside the playbook, beside the inventory, and where Ansible looks for the files of a role.
      - Where the controller is the Ansible machine, with connection C(local), it is built from where it is, and
        O(context) is not used. Otherwise images of one O(context) have one source.
    type: path
  force: &force
    description:
      - Whether what O(source) does not have is removed from O(context) also where it was not sent there, as in
        O(buildfarm.multiarch.build_context#module:force).
    type: bool
    default: false
  sources: &sources
    description:
      - What the module's part on the Ansible machine tells of O(source). A task does not set it.
    type: dict
  file: &file
    description:
      - The Dockerfile, absolute or relative to O(context).
      - If unset, C(Dockerfile) in O(context) is used, or C(dockerfile) if there is only that.
    type: str
  dockerfile_inline: &dockerfile_inline
    description:
      - The text of a Dockerfile, instead of O(file). It is given to buildx on its standard input.
      - With a URL as O(context) it needs buildx 0.9, and in a push of several nodes without O(gate) 0.17.
    type: str
  contexts: &contexts
    description:
      - Further build contexts, by the names that C(FROM), C(COPY --from) and C(RUN --mount) of the Dockerfile have for
        them. A name that is an image's replaces that image, as C(docker-image://alpine:edge) under C(alpine:3.20) does.
      - A value is a directory on the controller, the URL of a git repository, C(docker-image://IMAGE), or
        C(oci-layout://DIRECTORY[:TAG][@DIGEST]), a directory on the controller as well. An HTTP URL that is no git
        repository is a single file named C(context); archives are not unpacked, and BuildKit 0.25 refuses it.
      - C(target:NAME), the result of another target, exists in bake files only and is refused.
      - Needs buildx 0.8, and for C(oci-layout://) buildx 0.10 and BuildKit 0.11.
    type: dict
  platforms: &platforms
    description:
      - The platforms to build for, such as V(linux/amd64) or V(linux/arm/v7). They are normalised.
      - If unset or empty, the builder's first node builds for its own platform; while that is drained, this is refused.
        E(DOCKER_DEFAULT_PLATFORM) has no effect.
    type: list
    elements: str
  tags: &tags
    description:
      - Names of the image, as C([REGISTRY[:PORT]/]NAME[:TAG]).
      - Needed for O(push) and O(load).
    type: list
    elements: str
  push: &push
    description:
      - Push the image to the registries of O(tags). The same as an entry of O(outputs) with C(type=registry).
    type: bool
    default: false
  load: &load
    description:
      - Load the image into the engine of the docker context in use. The same as an entry of O(outputs) with
        C(type=docker) and no C(dest).
      - Several platforms, O(provenance) and O(sbom) need an engine with the containerd image store.
    type: bool
    default: false
  outputs: &outputs
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
          - V(tar), V(oci) and V(docker) are built on a node that serves all platforms. Where there is none, V(tar) and
            V(docker) are refused, and V(oci) is joined of what the nodes export, which needs O(gate) where the image is
            pushed as well.
        type: str
        required: true
        choices: [local, tar, oci, docker, image, registry]
      dest:
        description:
          - Path of a directory for V(local), of a file for V(tar), V(oci) and V(docker). A file is replaced in one
            step, and only if its content differs.
          - With C(tar=false) in O(outputs[].options) it is the path of a directory for V(oci), in which images of other
            names stay.
        type: path
      options:
        description:
          - Further options of BuildKit's exporter, such as C(compression), C(oci-mediatypes) or C(rewrite-timestamp).
          - C(name) and C(push-by-digest) are not supported.
        type: dict
  build_args: &build_args
    description:
      - Values for C(ARG) instructions. Numbers are taken as they are; quote what YAML would make a boolean of.
      - They are visible in the process list and in the image's history, so they are no place for secrets.
      - E(SOURCE_DATE_EPOCH) counts as one of them where it is set and not given here.
    type: dict
  labels: &labels
    description:
      - Labels of the image.
    type: dict
  annotations: &annotations
    description:
      - Annotations of the image, as a dictionary or as a list of texts C(KEY=VALUE).
      - What is annotated is written before the key, as C(TYPE:KEY). C(manifest), the default, is the manifest of each
        platform; C(manifest-descriptor) is what the index says of it; C(index) is the index; C(index-descriptor) is
        what the layout of an output V(oci) says of the index. Several types have commas between them.
      - C(manifest[PLATFORM]) and C(manifest-descriptor[PLATFORM]) are for one of O(platforms).
      - An image without an index, of one platform and without attestations, cannot have C(index) and
        C(manifest-descriptor). Docker's media types have no annotations.
      - Needs buildx 0.12. For C(index) without O(gate) in a push of several nodes it needs 0.16, before which buildx
        drops it.
    type: raw
  copy_to: &copy_to
    description:
      - Names in other repositories, of this registry or of others, that are to stand for the same image, by its digest,
        with its attestations. Each is C([REGISTRY[:PORT]/]NAME[:TAG]).
      - They get it after O(tags), so only once all platforms have passed their checks. Like a tag, a copy that stands
        for something else is a change.
      - Needs the gate, see O(gate).
    type: list
    elements: str
  target: &target
    description:
      - The stage of the Dockerfile to build. If unset, the last one.
    type: str
  no_cache: &no_cache
    description:
      - Run all steps again.
    type: bool
    default: false
  no_cache_filter: &no_cache_filter
    description:
      - Run all steps of these stages of the Dockerfile again. Not together with O(no_cache).
      - Needs buildx 0.8.
    type: list
    elements: str
  cache_from: &cache_from
    description:
      - Caches from which steps are taken that have been run before, each a dictionary or text as in the command line.
      - A dictionary has C(type) (V(registry), V(local), V(gha), V(s3), V(azblob)) and the attributes of BuildKit's
        cache backends, such as C(ref) for V(registry) and C(src) for V(local). Text without an equals sign is a
        reference in a registry.
      - With more than one of O(platforms) the caches that O(cache_to) makes of the same name for each of them are read
        too. One that is missing is no error.
      - Credentials for V(s3), V(azblob) and V(gha) are refused here, as they would stand in the process list.
        buildx takes those of V(s3) and V(gha) from the task's environment.
      - V(gha) needs buildx 0.6, and of the environment of a job on GitHub E(ACTIONS_RUNTIME_TOKEN) and
        E(ACTIONS_CACHE_URL) or E(ACTIONS_RESULTS_URL). That they are missing is refused, as buildx
        would leave the cache out without an error.
    type: list
    elements: raw
  cache_to: &cache_to
    description:
      - Caches into which the steps of this build are put, as in O(cache_from). V(local) has C(dest) instead of C(src),
        and V(inline) puts the cache into the image. C(mode=max) has the steps of all stages and not only those of the
        result.
      - With more than one of O(platforms) each platform gets a cache of its own, as a node would overwrite that of
        another. Its name ends in the platform, as C(REF-linux-arm64) for a reference, C(DEST/linux-arm64) for a
        directory, and likewise C(scope) of V(gha) and C(name) of V(s3) and V(azblob).
      - What is put into a cache is not read again unless O(cache_from) says so.
      - For more than one platform or cache it needs buildx 0.10 and BuildKit 0.11. Builders of the C(docker) driver
        have V(inline) only, unless the engine has the containerd image store.
    type: list
    elements: raw
  secrets: &secrets
    description:
      - Secrets that C(RUN --mount=type=secret) of the Dockerfile can read. They are in no image, no cache and no
        argument list.
      - Another value of a secret runs no step again.
      - Each has one of O(secrets[].src), O(secrets[].env) and O(secrets[].value).
    type: list
    elements: dict
    suboptions:
      id:
        description:
          - The name that the Dockerfile has for it.
        type: str
        required: true
      src:
        description:
          - Path of a file on the controller, of 500 KiB at most.
        type: path
      env:
        description:
          - Name of a variable in the environment of the task. Needs buildx 0.6.
        type: str
      value:
        description:
          - The secret itself. It goes to buildx in a variable, so it has 128 KiB at most. Needs buildx 0.6.
        type: str
  ssh: &ssh
    description:
      - What C(RUN --mount=type=ssh) of the Dockerfile can use. V(default) is the ssh agent that E(SSH_AUTH_SOCK) names;
        V(ID=PATH) is one of another name, or a private key without a passphrase on the controller. Several paths have
        commas between them.
    type: list
    elements: str
  network: &network
    description:
      - The network of C(RUN) instructions. V(host) is that of the node, or of its BuildKit's container, and needs a
        BuildKit that allows C(network.host). V(none) is none at all.
      - If unset, that of BuildKit.
    type: str
    choices: [default, host, none]
  allow: &allow
    description:
      - What the Dockerfile may use beyond the usual, V(network.host), V(security.insecure), or V(device) and
        V(device=NAME).
      - BuildKit must allow it too, with C(--allow-insecure-entitlement) in
        O(buildfarm.multiarch.buildx_builder#module:nodes[].buildkitd_flags).
      - V(device) needs buildx 0.21.
    type: list
    elements: str
  add_hosts: &add_hosts
    description:
      - Further names of hosts for C(RUN) instructions, as a dictionary of names and IP addresses or as a list of texts
        C(NAME:ADDRESS) or C(NAME=ADDRESS), in which a name may have several.
      - The address V(host-gateway) is that of the engine's host. It needs buildx 0.10 and a builder of the C(docker)
        driver, the only one for which buildx knows it.
    type: raw
  ulimits: &ulimits
    description:
      - Limits of C(RUN) instructions, as a dictionary of names and values such as V(1024:2048), or as a list of texts
        C(NAME=SOFT[:HARD]).
      - Needs buildx 0.7.
    type: raw
  shm_size: &shm_size
    description:
      - Size of C(/dev/shm) for C(RUN) instructions, in bytes or with a unit, as in V(128m).
      - Needs buildx 0.7.
    type: str
  cgroup_parent: &cgroup_parent
    description:
      - The control group of the node below which C(RUN) instructions run.
      - Needs buildx 0.7. 0.11.0 takes no notice of it.
    type: str
  pull: &pull
    description:
      - Look for newer base images in their registries even if the builder has them.
    type: bool
    default: false
  provenance: &provenance
    description:
      - Provenance attestation, V(true), V(false), or its options such as V(mode=max). Anything but V(false) needs
        buildx 0.10.
    type: str
    default: "false"
  sbom: &sbom
    description:
      - SBOM attestation, V(true), V(false), or its options such as V(generator=IMAGE). Anything but V(false) needs
        buildx 0.10.
    type: str
    default: "false"
  attest: &attest
    description:
      - Attestations as the command line has them, each a dictionary or text, such as V(type=provenance,mode=max). The
        same as O(provenance) and O(sbom), so each type is declared in one of the two.
      - C(disabled=true) declares that there is none.
    type: list
    elements: raw
  run: &run
    description:
      - Run each platform's image once, without a network, on the engine of the node that built it, before any tag
        moves. A failure leaves the tags where they are.
      - It works as O(buildfarm.multiarch.image_verify#module:run). Needs O(gate), O(push), a builder of the
        C(docker-container) driver and the Python library docker.
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
          - C({platform}) stands for the platform, such as C(linux/arm64), and C({arch}) for its architecture, such as
            C(arm64).
        type: str
      expected_regex:
        description:
          - A Python regular expression that has to match somewhere in the standard output, with C({platform}) and
            C({arch}) as in O(run.expected).
        type: str
      timeout:
        description:
          - Seconds that the program may take, and that an engine may be silent while it is asked or pulls.
        type: float
        default: 120
  programs: &programs
    description:
      - Whether to look at the programs that each platform's image starts, and to leave the tags where they are if these
        are not made for the platform, as O(buildfarm.multiarch.image_verify#module:programs) does. By default they are
        looked at where O(run) is set.
    type: bool
  timeout: &timeout
    description:
      - Seconds after which the build is ended. If unset, it may take as long as it takes.
    type: float
  images:
    description:
      - Many images, built side by side. Each has the options that it would have in a task of its own; those that say
        how images are built, such as O(builder) and O(gate), are the task's.
      - An image whose Dockerfile names a tag of another one, in C(FROM) for example, is built after that one and from
        what was just built. Needs buildx 0.8.
      - One image's failure does not stop the others, but those that are built from it. The task fails in the end and
        names all that failed.
      - Not together with the options of a single image, which have no effect on those of a list and are refused.
    type: list
    elements: dict
    suboptions:
      context: *context
      source: *source
      force: *force
      sources: *sources
      file: *file
      dockerfile_inline: *dockerfile_inline
      contexts: *contexts
      platforms: *platforms
      tags: *tags
      push: *push
      load: *load
      outputs: *outputs
      build_args: *build_args
      labels: *labels
      annotations: *annotations
      target: *target
      no_cache: *no_cache
      no_cache_filter: *no_cache_filter
      cache_from: *cache_from
      cache_to: *cache_to
      secrets: *secrets
      ssh: *ssh
      network: *network
      allow: *allow
      add_hosts: *add_hosts
      ulimits: *ulimits
      shm_size: *shm_size
      cgroup_parent: *cgroup_parent
      pull: *pull
      provenance: *provenance
      sbom: *sbom
      attest: *attest
      run: *run
      programs: *programs
      copy_to: *copy_to
      timeout: *timeout
  builder:
    description:
      - The builder.
      - If unset, E(BUILDX_BUILDER) is used, and buildx's current builder if that is unset too.
    type: str
  gate:
    description:
      - Whether O(tags) move only once all platforms are in the registry and have passed their checks. Whatever fails
        before, a build, a check or the connection, the tags stand for what they stood for.
      - V(false) builds as buildx does, in one run of it for all platforms. buildx chooses the nodes and moves the tags.
      - Builders of the C(docker) driver, and buildx before 0.6, build like that in any case.
      - A tag that the registry does not let move is an error, unless it stands for the same image already. Registries
        cannot be asked for that, so it is seen after the build, when the tag is written.
    type: bool
    default: true
  emulation:
    description:
      - Which nodes build a platform. V(prefer_native) means those whose processors run it, and those that emulate it
        where there are none. V(allow) means all that serve it, V(forbid) only those whose processors run it.
      - Of nodes that do not tell their processor, as those of the C(remote) driver, their pins are believed.
      - Has no effect where buildx chooses the nodes, see O(gate).
    type: str
    choices: [prefer_native, allow, forbid]
    default: prefer_native
  rebuild:
    description:
      - V(when_changed) builds an image only if the result could be another one, V(always) builds it, and V(never)
        builds only what is not there.
      - Compared are the directories as BuildKit is sent them, without what C(.dockerignore) excludes and without times
        and owners; the Dockerfile; all options that decide the result, such as O(build_args), O(labels), O(target) and
        the options of O(outputs); the names of O(secrets) and O(ssh), never their values; O(run) and O(programs); and
        proxies of the docker configuration. Base images, frontends, git repositories and files from the web are asked
        whether they are what the last build fetched. A base image that was built anew for other platforms only is
        none that changed.
      - Labels and annotations C(org.opencontainers.image.created), C(.revision), C(.source) and C(.version) say where
        an image is from. They are no reason to build it again, and stay those that it was built with.
      - Not compared are nodes, caches, O(timeout), and the versions of buildx and BuildKit.
      - What these were at the last build is recorded with its result. In a registry that is an annotation of what the
        O(tags) stand for, so that any controller can tell. The record holds names of files and arguments, and no
        values, only short digests of them. Beside files and directories it is a file C(DEST.buildfarm.json), and
        C(DEST.DIGEST.buildfarm.json), with a digest of its names, for an image in a directory that it shares. Of images
        in engines, with Docker's media types and without O(gate) this controller keeps it.
      - A tag that is missing, or stands for another image, is written without a build where another one of O(tags)
        stands for what is wanted. A platform that is missing is built alone.
      - What cannot be told is built, such as with O(no_cache), and where a web server gives a file no C(ETag). So is an
        image C(FROM) another one of O(images) that is built in the same run. RV(images[].reasons) say so.
      - With buildx before 0.14, which does not tell which platforms a base image was fetched for, an image whose
        Dockerfile has C(--platform) is built again as a whole if a base image changed for any platform.
    type: str
    default: when_changed
    choices: [when_changed, always, never]
  remote_inputs:
    description:
      - Whether git repositories and files from the web, which are contexts or named by C(ADD), count for O(rebuild).
        V(check) asks for them, for which git has to be on the controller. V(ignore) takes them for unchanged.
    type: str
    default: check
    choices: [check, ignore]
  builds_per_node:
    description:
      - How many builds a node is given at the same time. Another node that would be idle takes a build that would have
        to wait.
      - By default 4, or one more than C(max-parallelism) in the node's buildkitd configuration if that is less.
    type: int
  call:
    description:
      - What is done. V(build) builds. The others build nothing and change nothing, and return RV(call).
      - V(check) looks for what is wrong or unwise in the Dockerfile, V(outline) lists what can be given to the build,
        V(targets) lists the stages.
      - O(tags), O(outputs), O(push), O(load), O(cache_to), O(copy_to), O(run) and O(programs) have no effect on them.
        Of several O(platforms) the first counts. They are of a single image, not of O(images).
      - All but V(build) need buildx 0.15 and BuildKit 0.14.
    type: str
    choices: [build, check, outline, targets]
    default: build
  progress:
    description:
      - What is shown while the build runs.
      - With V(auto), each step as it begins and ends. Nothing is shown of a build that takes less than a second, in
        check mode, under C(no_log), or with C(async) of the task.
      - Of steps that run side by side BuildKit tells in turns, so that one may be shown some time after it began.
      - Where a callback writes JSON to standard output, it is shown on standard error.
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
    runs there and on the nodes is ended within 20 seconds; with C(async) of the task, with C(async)'s own time limit.
  - After a push every tag is read back. All must stand for the same digest and have exactly the declared platforms.
  - Where a failure comes between two of O(tags), the error says which of them stand for the new image. A new run
    finishes the others.
  - Without annotations an image of several platforms has the same manifests and configurations as one that
    C(docker buildx build --push) makes. Its media types are OCI's, unless O(outputs[].options) has
    C(oci-mediatypes=false), which leaves no place for annotations.
  - On a failure the results of the images that were built are in RV(images), too.
seealso:
  - module: buildfarm.multiarch.buildx_builder
  - module: buildfarm.multiarch.image_verify
  - module: buildfarm.multiarch.buildx_imagetools_info
  - module: buildfarm.multiarch.buildx_bake
  - module: buildfarm.multiarch.build_context
  - module: buildfarm.multiarch.buildx_imagetools
  - module: buildfarm.multiarch.buildx_drain
  - plugin: buildfarm.multiarch.git_version
    plugin_type: lookup
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
    msg: "{{ item.platform }} {{ 'on ' ~ item.node if item.node else 'as before' }}: {{ item.size }} bytes"
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

- name: Build many images side by side, each verified before its tags move
  buildfarm.multiarch.buildx_build:
    builder: farm
    images:
      - context: /srv/base
        platforms: [linux/amd64, linux/arm64]
        tags: [registry.example.com/team/base:3]
        push: true
      # It is FROM registry.example.com/team/base:3, so it is built after that.
      - context: /srv/app
        platforms: [linux/amd64, linux/arm64]
        tags: [registry.example.com/team/app:1.4, registry.example.com/team/app:latest]
        push: true
        run:
          command: [app, --version]
          expected_regex: '^app 1\.4'
  register: built

- name: Show what was built where
  ansible.builtin.debug:
    msg: "{{ built.images | buildfarm.multiarch.farm_images_table }}"

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

- name: Build with secrets, a key for git, and further sources
  buildfarm.multiarch.buildx_build:
    builder: farm
    context: /srv/app
    platforms: [linux/amd64, linux/arm64]
    tags: [registry.example.com/team/app:1.4]
    push: true
    contexts:
      assets: /srv/assets
      base: docker-image://registry.example.com/team/base:12
    secrets:
      - id: npmrc
        src: ~/.npmrc
      - id: token
        value: "{{ vault_token }}"
    ssh:
      - default=~/.ssh/deploy_key

- name: Share the cached steps of all nodes through the registry
  buildfarm.multiarch.buildx_build:
    builder: farm
    context: /srv/app
    platforms: [linux/amd64, linux/arm64]
    tags: [registry.example.com/team/app:1.4]
    push: true
    cache_from:
      - registry.example.com/team/app:cache
    cache_to:
      - type: registry
        ref: registry.example.com/team/app:cache
        mode: max

- name: Say in the registry what the image is
  buildfarm.multiarch.buildx_build:
    builder: farm
    context: /srv/app
    platforms: [linux/amd64, linux/arm64]
    tags: [registry.example.com/team/app:1.4]
    push: true
    annotations:
      "index,manifest:org.opencontainers.image.source": https://github.com/example/app
      "manifest[linux/arm64]:com.example.board": rpi4

- name: Build in a mirrored network with more open files
  buildfarm.multiarch.buildx_build:
    context: /srv/app
    network: host
    allow: [network.host]
    add_hosts:
      mirror.example.com: 192.0.2.10
    ulimits:
      nofile: "4096:8192"
    shm_size: 128m

- name: Build a Dockerfile that is part of the playbook
  buildfarm.multiarch.buildx_build:
    builder: farm
    context: /srv/site
    dockerfile_inline: |
      FROM nginx:1.27
      COPY . /usr/share/nginx/html
    platforms: [linux/amd64]
    tags: [registry.example.com/team/site:1]
    push: true

- name: Check a Dockerfile and build nothing
  buildfarm.multiarch.buildx_build:
    context: /srv/app
    call: check
  register: checked
  failed_when: not checked.call.passed
"""

RETURN = r"""
images:
  description: What became of each image, in the order of O(images), or of the task's own.
  returned: always with O(call=build), unless nothing was built as an option is wrong
  type: list
  elements: dict
  contains:
    name:
      description: Its first tag, or its context if it has none.
      type: str
      sample: registry.example.com/team/app:1.4
    tags:
      description: Its names, as declared.
      type: list
      elements: str
      sample: ["registry.example.com/team/app:1.4"]
    digest:
      description: As RV(image.digest). V(null) where it failed, and in check mode where something would be done.
      type: str
      sample: sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567
    id:
      description: As RV(image.id).
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
        - As RV(image.platforms), with how each was built. In check mode, RV(images[].platforms[].node) is the node that
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
      description: As RV(outputs).
      type: list
      elements: dict
      sample: [{"type": "registry", "dest": null, "digest": null}]
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
image:
  description:
    - The image as it was read back. V(null) in check mode where something would be done, and where the result is no
      image in a registry or engine.
  returned: success, without O(images)
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
        - Where only an engine has the image, what BuildKit reported, V(null) if nothing. That is the engine's id of it
          with the C(docker) driver.
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
          description: Bytes of the configuration and of the compressed layers; in an engine, as that counts. V(null)
            where that does not tell.
          type: int
          sample: 1048997
        node:
          description: Name of the builder's node that built it. V(null) where it was not built.
          type: str
          sample: arm1
        native:
          description: Whether the node's own processor runs the platform. V(null) where the node is no engine that
            answers.
          type: bool
          sample: true
outputs:
  description: Where the result went.
  returned: success, without O(images)
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
call:
  description: What O(call) found. V(null) with O(call=build).
  returned: success, without O(images)
  type: dict
  contains:
    method:
      description: What was done.
      type: str
      sample: check
    passed:
      description: Whether it found nothing wrong. V(true) for O(call=outline) and O(call=targets) that succeed.
      type: bool
      sample: true
    result:
      description:
        - What the frontend of the Dockerfile returned. Of V(check) C(warnings) with C(ruleName), C(description),
          C(detail), C(url) and C(location), and C(buildError) where it cannot be built.
      type: dict
      sample: {"warnings": []}
metadata:
  description:
    - What C(docker buildx build --metadata-file) wrote, by the names of the nodes where several built it. Empty in
      check mode and with buildx before 0.6.
  returned: success, without O(images)
  type: dict
  sample:
    containerimage.digest: sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567
    image.name: registry.example.com/team/app:1.4
actions:
  description:
    - The commands, each on the node that is the first choice for it, and the tags (C(push)), copies (C(copy)) and
      archives (C(join)) that are written afterwards, of images that the build changed or is predicted to. The nodes are
      builders of their own for the time of the task.
  returned: success
  type: list
  elements: list
  sample:
    - [docker, buildx, build, --builder, farm, --progress, plain, --platform, "linux/amd64,linux/arm64", --tag,
       registry.example.com/team/app:1.4, --output, type=registry, --provenance=false, --file, /srv/app/Dockerfile,
       /srv/app]
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
  description: BuildKit's whole progress. The message holds only the failing step.
  returned: when the build failed
  type: str
  sample: "#5 ERROR: process \"/bin/sh -c make\" did not complete successfully: exit code: 2"
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.declaration import HOW
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.options import CALLS
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.output import TYPES
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.runtime import NETWORKS
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.live_module import PROGRESS, main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.declaration import RUN

IMAGE = {
    "context": {"type": "str"},
    "source": {"type": "path"},
    "force": {"type": "bool", "default": False},
    "sources": {"type": "dict"},
    "file": {"type": "str"},
    "dockerfile_inline": {"type": "str"},
    "contexts": {"type": "dict"},
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
    "annotations": {"type": "raw"},
    "target": {"type": "str"},
    "no_cache": {"type": "bool", "default": False},
    "no_cache_filter": {"type": "list", "elements": "str"},
    "cache_from": {"type": "list", "elements": "raw"},
    "cache_to": {"type": "list", "elements": "raw"},
    "secrets": {
        "type": "list",
        "elements": "dict",
        "no_log": False,
        "options": {
            "id": {"type": "str", "required": True},
            "src": {"type": "path"},
            "env": {"type": "str"},
            "value": {"type": "str", "no_log": True},
        },
    },
    "ssh": {"type": "list", "elements": "str"},
    "network": {"type": "str", "choices": list(NETWORKS)},
    "allow": {"type": "list", "elements": "str"},
    "add_hosts": {"type": "raw"},
    "ulimits": {"type": "raw"},
    "shm_size": {"type": "str"},
    "cgroup_parent": {"type": "str"},
    "pull": {"type": "bool", "default": False},
    "provenance": {"type": "str", "default": "false"},
    "sbom": {"type": "str", "default": "false"},
    "attest": {"type": "list", "elements": "raw"},
    "run": RUN,
    "programs": {"type": "bool"},
    "copy_to": {"type": "list", "elements": "str"},
    "timeout": {"type": "float"},
}
SPEC = {
    **IMAGE,
    "images": {"type": "list", "elements": "dict", "options": IMAGE},
    "call": {"type": "str", "default": "build", "choices": ["build", *CALLS]},
    **HOW,
    "progress": PROGRESS,
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run)
