#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_builder
short_description: Keep a buildx builder as it is declared
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Makes a builder what one declaration says, with the least work that leads there.
    It appends, updates and removes nodes, makes single BuildKit containers anew while their cache stays,
    starts and stops them, and changes nothing where nothing differs.
  - The definition is compared with the declaration and, for the C(docker-container) driver, each node's container with
    the definition - its image, arguments, environment, limits and configuration files.
    A container that was made with other settings, or changed by hand, is made anew.
  - All nodes are examined in parallel, within O(timeout), before anything is changed.
    A failure leaves the builder's definition byte for byte as it was.
  - An option of a node that is left out is left as it is found; an empty value clears it.
  - Nothing needs to stay on the controller. With an empty configuration directory the same declaration finds the
    running containers and their caches again.
extends_documentation_fragment:
  - buildfarm.multiarch.controller
requirements:
  - Python 3.8 or later where it runs
  - buildx 0.7 or later
  - Python 3.11 or the Python library tomli, for a buildkitd configuration that names certificates of a registry
attributes:
  check_mode:
    support: partial
    description: Can run in check mode and return changed status, diff and actions without modifying anything.
    details:
      - What only a started node can tell is not known then. That is whether BuildKit starts at all, and which
        emulated platforms it detects for O(platforms) and RV(builder.platforms).
      - Where the context of a node is still to be made or changed, no node is examined, as with O(probe=false).
  diff_mode:
    support: full
    description: Returns the builder before and after. Files are shown by their checksums.
  idempotent:
    support: full
    description: A second run with the same declaration changes nothing.
options:
  name:
    description:
      - Name of the builder. Letters, digits and C(._-), beginning with a letter.
      - V(default) and the names of docker contexts are refused, as buildx uses them for the engines themselves.
    type: str
    required: true
  state:
    description:
      - V(present) makes the builder as declared. A container that somebody has paused (C(docker pause)) is unpaused,
        with any O(bootstrap). The engine and buildx take it for one that runs, and no build gets through there.
      - V(stopped) does so too, and stops its containers. Only for the C(docker-container) driver.
      - V(defined) writes the definition, and makes the contexts of O(nodes[].context), and asks no engine anything. So
        a controller that has never had the builder finds the containers and caches again that its nodes have.
      - V(absent) removes the containers of all nodes, their caches (see O(keep_state)) and the definition.
        With O(nodes) given, it does so even where the definition has been lost.
    type: str
    choices: [present, stopped, defined, absent]
    default: present
  driver:
    description:
      - How buildx reaches BuildKit. Unset keeps the driver of an existing builder and means V(docker-container) for a
        new one. With another one than the builder has, the builder is made anew.
      - V(docker-container) runs BuildKit in a privileged container on each node's engine.
      - V(remote) uses instances of BuildKit that run already, so its nodes take neither flags nor a configuration of
        buildkitd. Needs buildx 0.9.
      - V(kubernetes) runs BuildKit in pods. C(KUBECONFIG) is taken from the environment.
      - V(docker) is refused. Such a builder is an engine itself, which exists for each docker context without being
        created, and has one node only.
    type: str
    choices: [docker-container, remote, kubernetes, docker]
  nodes:
    description:
      - The nodes, in order. buildx prefers earlier ones where several fit.
      - Unset leaves the nodes of an existing builder as they are. An empty list is refused.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the node. Its container's name derives from it. buildx makes it lower case.
        type: str
        required: true
      endpoint:
        description:
          - How the engine is reached. C(unix:///PATH), C(tcp://HOST:PORT), C(ssh://USER@HOST), or the name of a docker
            context. Port 2375 is added to C(tcp) where there is none.
          - An engine behind TLS needs a docker context (see O(nodes[].context)), as buildx uses no TLS for a C(tcp)
            endpoint.
          - For O(driver=remote), where BuildKit listens. Schemes C(tcp), C(unix), C(ssh), C(docker-container),
            C(kube-pod), C(npipe). Only for C(docker-container) buildx calls the docker CLI of the controller, and for
            C(kube-pod) it calls C(kubectl).
          - For C(ssh) buildx calls the program of that name, which has to know the host's key and to log in without a
            password. E(BUILDFARM_SSH_KNOWN_HOSTS) and E(SSH_AUTH_SOCK) give it both, see C(docs/environment.md) of the
            collection.
          - Required for a new node, but not allowed for O(driver=kubernetes).
        type: str
      context:
        description:
          - The docker context that O(nodes[].endpoint) names. It is made, or changed, before the nodes are examined,
            and stays so if the builder then fails. A context that is made is marked with the builder's name.
          - Without it the context has to be there. Ignored with O(state=absent).
          - The options are those of M(buildfarm.multiarch.docker_context), in the same sense.
        type: dict
        suboptions:
          host:
            description:
              - The engine's URL, C(tcp://HOST:PORT), C(ssh://[USER@]HOST[:PORT]) or C(unix:///PATH).
            type: str
            required: true
          description:
            description:
              - What people are told about the context. If unset it is left alone.
            type: str
          ca:
            description:
              - File, on the host where the module runs, with the CA's certificate that signed the engine's.
            type: path
          cert:
            description:
              - File with the client's certificate. Needs O(nodes[].context.key).
            type: path
          key:
            description:
              - File with the key of O(nodes[].context.cert), without a password.
            type: path
          skip_tls_verify:
            description:
              - Whether the engine's certificate is not verified. If unset it is left alone.
            type: bool
          insecure:
            description:
              - Whether C(tcp) without TLS is wanted.
            type: bool
            default: false
      platforms:
        description:
          - Platforms to pin to the node, as C(linux/arm64). buildx sends builds for them to it without asking.
          - A platform may be pinned to several nodes. M(buildfarm.multiarch.buildx_build) uses them all,
            C(docker buildx build) the first.
          - An empty list removes all pins.
        type: list
        elements: str
      driver_opts:
        description:
          - Options of the driver, all of them. For C(docker-container) these are C(cgroup-parent), C(cpu-period),
            C(cpu-quota), C(cpu-shares), C(cpuset-cpus), C(cpuset-mems), C(default-load) (buildx 0.14), C(gpus)
            (buildx 0.30), C(image), C(memory), C(memory-swap), C(network), C(provenance-add-gha) (buildx 0.30),
            C(restart-policy) and C(env.NAME). For C(remote) C(cacert), C(cert), C(key), C(servername) and
            C(default-load).
            Those of C(kubernetes) are handed on to buildx unchecked.
          - An empty dictionary removes all of them.
        type: dict
      env:
        description:
          - The part C(env.NAME) of the driver options, by itself. An empty dictionary removes all of it.
          - The values can be read by whoever may read the builder's definition or inspect the container. Those of
            variables whose names say that they are secret, as with C(TOKEN) or C(KEY) in them, are not returned.
        type: dict
      buildkitd_flags:
        description:
          - Arguments of buildkitd, as a list or as a text to be split as on a command line. Empty means none.
          - As buildx does, C(--allow-insecure-entitlement=network.host) is added unless entitlements are given.
        type: raw
      buildkitd_config:
        description:
          - The configuration of buildkitd, TOML. An empty text removes it.
          - Certificates and keys of registries that it names are read on the host where the module runs, by absolute
            paths, and copied into the node's container. The configuration there names the copies.
          - If unset for a new node, buildx's own C(buildkitd.default.toml) is used where it exists.
          - Mutually exclusive with O(nodes[].buildkitd_config_file).
        type: str
      buildkitd_config_file:
        description:
          - Path of a file with the configuration, on the host where the module runs.
        type: path
      registry_authorities:
        description:
          - The certificate authorities of private registries, PEM, by the registries' names, with the port where it is
            not 443. They become C(ca) of the registries in the configuration, whichever holds, and take the place of
            those that this option has declared before. An empty dictionary removes these.
          - BuildKit trusts them when it pulls and pushes. So do all modules that the builder is given to, and the
            buildx that M(buildfarm.multiarch.buildx_build) runs, which fetches the registries' tokens.
          - A registry of which the configuration says C(ca) itself, or C(http), keeps that.
        type: dict
      cache:
        description:
          - What the node's build cache may take, written into the configuration of buildkitd as every version of
            BuildKit wants it. The container is made anew then, and its cache stays.
          - BuildKit clears up by it a minute after a build, and after it has started.
          - With O(nodes[].buildkitd_config) or O(nodes[].buildkitd_config_file) the limits are added to it, unless it
            says something on garbage collection itself (C(gcpolicy), C(reservedSpace) or another of these keys), which
            then holds alone.
            Without, they replace what the node's configuration has of garbage collection, and the rest of it stays.
          - They stand for the whole of BuildKit's own rules, and what is not limited grows. An empty dictionary brings
            BuildKit's own rules back.
          - Sizes are bytes, or as in V(40g), where a C(g) is 1024 to the third; from BuildKit 0.13 also percentages of
            the disk, as in V(20%).
        type: dict
        suboptions:
          max_used:
            description: What the cache is cut down to, records first that were not used for longest.
            type: str
          reserved:
            description:
              - What the cache may have, however little is free. Without O(nodes[].cache.max_used), BuildKit before 0.17
                takes it for that.
            type: str
          min_free:
            description:
              - What is to be free on the disk of the engine. Needs BuildKit 0.17, and O(nodes[].cache.max_used) or
                O(nodes[].cache.reserved) for what older ones do.
            type: str
          max_age:
            description: How long a record may go unused, as in V(48h) or V(30d).
            type: str
          kinds:
            description:
              - Rules for single kinds of records, by their names - V(regular), V(source.local), V(source.git.checkout),
                V(exec.cachemount), V(frontend) and V(internal). Each is a dictionary with C(max_age), C(max_used) or
                both. Records of the kind that went unused for that long are removed while the whole cache has
                more than C(max_used), or in any case where that is not given.
            type: dict
  purge_nodes:
    description:
      - What becomes of the builder's nodes that are not in O(nodes), as other tasks, runs for a part of an inventory or
        people made them.
      - Unset, they stay as they are, and a warning names them. They are neither started nor stopped nor made anew, need
        not answer, and keep their pins. A node of O(nodes) gets none of these that it would have to emulate where the
        other runs it natively, or does not answer. Nodes of O(nodes) are in the order in which they are declared, in
        the positions of those that were there already.
      - V(false) means the same without the warning.
      - With V(true) they leave the builder as those of O(absent_nodes) do. Without O(nodes) it has no effect.
    type: bool
  absent_nodes:
    description:
      - Names of nodes that leave the builder, with their containers and caches (see O(keep_state)). Those that it does
        not have are no fault.
      - The definition of one that does not answer goes, and a warning says what stays behind.
      - If O(nodes) is unset, nothing is done to others. A builder that has no others then goes itself.
    type: list
    elements: str
  purge_contexts:
    description:
      - Whether contexts that were made for the builder (see O(nodes[].context)) are removed when none of its nodes has
        them any more, after the builder has let go of them.
      - One that another builder uses, or that the docker CLI uses at present, stays, and a warning says why.
      - Needs O(nodes), O(absent_nodes) or O(state=absent), with which all of them go.
    type: bool
    default: false
  bootstrap:
    description:
      - Whether to start nodes that do not run. With V(false), a container that is out of date is still removed, and the
        next build starts its successor.
    type: bool
    default: true
  use:
    description:
      - Whether to make the builder the one that buildx uses where none is named. V(false) leaves that choice alone.
    type: bool
    default: false
  use_scope:
    description:
      - V(default) makes the choice for docker's current endpoint, and keeps it when contexts are switched to and fro.
      - V(global) makes it for all endpoints.
      - Without O(use=true) it has no effect.
    type: str
    choices: [default, global]
    default: default
  keep_state:
    description:
      - Whether caches survive.
      - Unset, a node that is made anew keeps its cache, and a node or builder that is removed takes it along.
      - V(true) keeps it in both cases, V(false) in neither.
    type: bool
  on_unreachable:
    description:
      - What to do about a node whose engine does not answer.
      - V(fail) changes nothing at all.
      - V(skip) leaves the node as it is, or out if it is new, does the rest and warns.
      - V(detach) takes the node out of the builder, does the rest and warns. Its container may stay behind.
      - With O(state=absent), both go on without the node.
    type: str
    choices: [fail, skip, detach]
    default: fail
  platforms:
    description:
      - Platforms that the builder has to serve. Each must be pinned on a node or be detected by one.
        Without this check, buildx sends a platform that nobody serves to the first node.
    type: list
    elements: str
  emulation:
    description:
      - Whether QEMU may serve O(platforms).
      - V(prefer_native) pins each of them to all nodes that run it natively where there are any, and to all nodes
        where there are none, so that buildx never emulates what a node could run. Only nodes without
        O(nodes[].platforms) get such pins; give a node that is not to emulate anything its own.
      - V(forbid) does so too, and refuses platforms and pins that no node's own processor runs.
    type: str
    choices: [allow, prefer_native, forbid]
    default: allow
  share_nodes:
    description:
      - Whether a node may use the container of another builder's node. Both have it where name and engine of the nodes
        are the same. V(false) refuses that.
    type: bool
    default: false
  controller:
    description:
      - What this controller calls itself on the engines of nodes, by which M(buildfarm.multiarch.buildx_prune) knows
        what other controllers use. An empty volume marks each node, when the builder's definition is written. It goes
        with the node's cache.
      - By default its host name. Controllers that are thrown away after each job should have one name.
    type: str
  probe:
    description:
      - With V(false), check mode contacts no node and predicts as if none had a container, and docker contexts need not
        exist yet. For plays that create the engines themselves.
      - A real run contacts the nodes whatever this says.
    type: bool
    default: true
  timeout:
    description:
      - Seconds that a node may take to answer. One that refuses connections, as an engine does that is being
        restarted, is tried again for as long, except in check mode.
    type: float
    default: 10
  bootstrap_timeout:
    description:
      - Seconds that starting the nodes may take together. Pulling the BuildKit image is part of it.
    type: float
    default: 600
  lock_timeout:
    description:
      - Seconds to wait for runs on other controllers that work on the BuildKit containers of the same engines, all
        together. Then the task fails, naming who works there, and nothing has been changed.
      - Of the C(docker-container) driver only.
    type: float
    default: 600
notes:
  - The definition is written directly, in the form and under the lock of buildx itself, and not with
    C(docker buildx create), which resets settings that are not repeated and, when a node does not answer, loses those
    of all nodes.
  - A run that finds nothing to do queries the engines only. BuildKit itself is queried where something is to do, or
    where one of O(platforms) is not pinned; module M(buildfarm.multiarch.buildx_builder_info) queries it each time.
  - Runs of this module for one builder wait for each other. Those of several controllers do so on the engines whose
    containers they change, for each of which a container C(buildfarm_lock) runs meanwhile, of the BuildKit image. Its
    labels say who works there. It goes as soon as the run has ended, in whatever way, and with an engine that is
    restarted. Runs that change no container take no lock.
  - Starting nodes may take minutes where they pull the BuildKit image over a slow line. Each step of each node goes to
    the system log of the host where the module runs as it begins, as Ansible's own line on the module does. Follow it
    there with C(journalctl -f -t ansible-buildfarm.multiarch.buildx_builder).
  - With C(async) (longer than O(bootstrap_timeout)) and C(poll), no connection to that host has to stay open meanwhile.
  - A broken (truncated) definition is replaced where O(nodes) are declared; a copy stays beside the directory
    C(instances), and a warning names it.
  - The integration tests of this collection have no Kubernetes cluster. Of the C(kubernetes) driver they compare the
    definition with what C(docker buildx create) writes, and see that a missing cluster is told.
seealso:
  - module: buildfarm.multiarch.buildx_builder_info
  - module: buildfarm.multiarch.docker_context
  - module: buildfarm.multiarch.buildx_plugin
  - module: buildfarm.multiarch.buildx_build
  - module: buildfarm.multiarch.buildx_bake
  - module: buildfarm.multiarch.buildx_prune
  - module: buildfarm.multiarch.farm_job
  - name: Docker's manual on builders
    description: What builders and drivers are.
    link: https://docs.docker.com/build/builders/
"""

EXAMPLES = r"""
- name: A builder of two engines, each building what it runs natively
  buildfarm.multiarch.buildx_builder:
    name: farm
    nodes:
      - name: amd1
        endpoint: unix:///var/run/docker.sock
        platforms: [linux/amd64]
      - name: arm1
        endpoint: ssh://builder@arm1.example.com
        platforms: [linux/arm64]
    platforms: [linux/amd64, linux/arm64]
    use: true

- name: Reach an engine over mutual TLS, and forget what led to engines that are no longer nodes
  buildfarm.multiarch.buildx_builder:
    name: farm
    nodes:
      - name: arm1
        endpoint: farm-arm1
        context:
          host: tcp://arm1.example.com:2376
          ca: ~/.config/buildfarm/certificates/clients/client/ca.pem
          cert: ~/.config/buildfarm/certificates/clients/client/cert.pem
          key: ~/.config/buildfarm/certificates/clients/client/key.pem
        platforms: [linux/arm64]
    purge_contexts: true

- name: Keep each cache below 40 GB, and forget the contexts of builds after two days
  buildfarm.multiarch.buildx_builder:
    name: farm
    nodes:
      - name: amd1
        cache:
          max_used: 40g
          min_free: 10%
          max_age: 30d
          kinds:
            source.local: {max_age: 48h, max_used: 10g}

- name: Change the BuildKit image and its limits on a running builder, its cache kept
  buildfarm.multiarch.buildx_builder:
    name: farm
    nodes:
      - name: amd1
        driver_opts:
          image: registry.example.com/moby/buildkit:v0.16.0
          memory: 8g
          network: host
        buildkitd_config: |
          [registry."registry.example.com"]
            ca = ["/etc/ssl/certs/example-ca.pem"]
    purge_nodes: false

- name: Take a node out whose host is gone, and let its cache lie where it is
  buildfarm.multiarch.buildx_builder:
    name: farm
    absent_nodes: [arm1]
    keep_state: true

- name: Append a node and leave the others alone
  buildfarm.multiarch.buildx_builder:
    name: farm
    nodes:
      - name: s390x
        endpoint: mainframe   # a docker context
        platforms: [linux/s390x]
    purge_nodes: false

- name: Keep the farm working while a node is away
  buildfarm.multiarch.buildx_builder:
    name: farm
    nodes: "{{ farm_nodes }}"
    on_unreachable: skip

- name: A builder of BuildKit instances that run already
  buildfarm.multiarch.buildx_builder:
    name: shared
    driver: remote
    nodes:
      - name: one
        endpoint: tcp://buildkit.example.com:1234
        driver_opts:
          cacert: /etc/buildkit/tls/ca.pem
          cert: /etc/buildkit/tls/cert.pem
          key: /etc/buildkit/tls/key.pem

- name: Remove the builder, and keep the caches for another time
  buildfarm.multiarch.buildx_builder:
    name: farm
    state: absent
    keep_state: true
"""

RETURN = r"""
actions:
  description:
    - What was or would be done, in order. Commands as argument lists; C(write), C(copy) and C(remove) of files;
      C(remove-container), C(remove-container-and-cache), C(stop-container) and C(unpause-container) with the endpoint
      and the container.
  returned: success
  type: list
  elements: list
  sample:
    - [docker, buildx, inspect, --bootstrap, farm]
    - [write, /root/.docker/buildx/instances/farm]
builder:
  description: The builder afterwards, V(null) where there is none.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: farm
    driver:
      description: Its driver.
      type: str
      sample: docker-container
    nodes:
      description: Its nodes, in order.
      type: list
      elements: dict
      contains:
        name:
          description: The node's name.
          type: str
          sample: arm1
        endpoint:
          description: How its engine is reached.
          type: str
          sample: ssh://builder@arm1.example.com
        platforms:
          description: The pins.
          type: list
          elements: str
          sample: [linux/arm64]
        detected:
          description: What BuildKit reports, the pins first. V(null) where the node does not run or was not asked.
          type: list
          elements: str
          sample: [linux/arm64, linux/arm/v7]
        native:
          description: The platform of the engine's own processor, V(null) where the engine was not asked.
          type: str
          sample: linux/arm64
        driver_opts:
          description: The driver's options, V(***) for variables whose names say that they are secret.
          type: dict
          sample: {network: host}
        buildkitd_flags:
          description: buildkitd's arguments.
          type: list
          elements: str
          sample: ["--allow-insecure-entitlement=network.host"]
        files:
          description: Checksums of the configuration and its companions, by path below C(/etc/buildkit).
          type: dict
          sample: {buildkitd.toml: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
        status:
          description: V(running), V(paused), V(stopped), V(missing), V(unreachable) or V(unknown).
          type: str
          sample: running
        version:
          description: BuildKit's version, V(null) where the node does not run or was not asked.
          type: str
          sample: v0.16.0
        error:
          description: Why the node cannot be reached, V(null) where it can.
          type: str
          sample: null
    platforms:
      description:
        - The node to which C(docker buildx build) sends each of O(platforms) in one build for all of them; without
          O(platforms), each pinned or detected platform in a build for itself. Of several with the same pin that is
          the first; M(buildfarm.multiarch.buildx_build) chooses among them.
      type: list
      elements: dict
      contains:
        platform:
          description: The platform.
          type: str
          sample: linux/arm64
        node:
          description: The node that builds it.
          type: str
          sample: arm1
        source:
          description: V(pin) or V(detected).
          type: str
          sample: pin
        native:
          description: Whether the node's own processor runs it. V(null) where that is not known.
          type: bool
          sample: true
contexts:
  description:
    - The contexts of O(nodes[].context) afterwards, as RV(buildfarm.multiarch.docker_context#module:contexts) has them.
  returned: success
  type: list
  elements: dict
  sample: []
unreachable_nodes:
  description: The names of the nodes that cannot be reached, all of them.
  returned: failure because of O(on_unreachable=fail)
  type: list
  elements: str
  sample: [arm1]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._context.declaration import OPTIONS
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main

NODE = {
    "name": {"type": "str", "required": True},
    "endpoint": {"type": "str"},
    "context": {"type": "dict", "options": {"host": {"type": "str", "required": True}, **OPTIONS}},
    "platforms": {"type": "list", "elements": "str"},
    "driver_opts": {"type": "dict"},
    "env": {"type": "dict"},
    "buildkitd_flags": {"type": "raw"},
    "buildkitd_config": {"type": "str"},
    "buildkitd_config_file": {"type": "path"},
    "registry_authorities": {"type": "dict"},
    "cache": {
        "type": "dict",
        "options": {
            **{name: {"type": "str"} for name in ("max_used", "reserved", "min_free", "max_age")},
            "kinds": {"type": "dict"},
        },
    },
}
SPEC = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "stopped", "defined", "absent"], "default": "present"},
    "driver": {"type": "str", "choices": ["docker-container", "remote", "kubernetes", "docker"]},
    "nodes": {
        "type": "list",
        "elements": "dict",
        "options": NODE,
        "mutually_exclusive": [("buildkitd_config", "buildkitd_config_file")],
        "required_by": {"context": ["endpoint"]},
    },
    "purge_nodes": {"type": "bool"},
    "absent_nodes": {"type": "list", "elements": "str"},
    "purge_contexts": {"type": "bool", "default": False},
    "bootstrap": {"type": "bool", "default": True},
    "use": {"type": "bool", "default": False},
    "use_scope": {"type": "str", "choices": ["default", "global"], "default": "default"},
    "keep_state": {"type": "bool"},
    "on_unreachable": {"type": "str", "choices": ["fail", "skip", "detach"], "default": "fail"},
    "platforms": {"type": "list", "elements": "str"},
    "emulation": {"type": "str", "choices": ["allow", "prefer_native", "forbid"], "default": "allow"},
    "share_nodes": {"type": "bool", "default": False},
    "controller": {"type": "str"},
    "probe": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 10},
    "bootstrap_timeout": {"type": "float", "default": 600},
    "lock_timeout": {"type": "float", "default": 600},
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run)
