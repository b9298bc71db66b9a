#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: farm_report
short_description: Show a build farm as a page, as text, as JSON and as metrics
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Tells which node builds for which platform, what is wrong, what was built last, how long it took, how much of it
    came from the cache and why not more, when certificates end, what caches and disks hold, and which digests images
    have.
  - Everything is read from the nodes and the registries. BuildKit keeps a history of its builds, whoever ran them, so a
    controller that was made a minute ago reports as much as any other. Neither the docker CLI nor buildx is needed for
    that, and nothing is started on a node but C(buildctl), in BuildKit's own containers.
  - All nodes are queried side by side, in O(timeout). One that does not answer is part of the report, not a failure.
  - The page O(html) has no script and needs nothing from elsewhere, is light or dark as the reader's system is, and can
    be printed. It shows times and no ages, so it stays true however late it is read.
extends_documentation_fragment:
  - buildfarm.multiarch.controller
  - buildfarm.multiarch.registry
requirements:
  - Python 3.8 or later where it runs
  - Python's standard library.
  - C(ssh) for endpoints over ssh.
  - BuildKit 0.12 or later for the history of builds; RV(report.nodes[].history) says so where it is older.
attributes:
  check_mode:
    support: full
    description: Reads all, and predicts which files would be written.
  diff_mode:
    support: partial
    description: Shows the checksums of the reports that are in the files, not the files' contents.
  idempotent:
    support: full
    description:
      - A file has changed if what it tells has. When the farm was read, days that are left, and bytes of caches and
        disks are another with each reading. The files are brought up to date in these too, but that is no change.
options:
  builder:
    description:
      - The builder whose nodes are reported. Unset reports those of all builders.
      - Of nodes of O(endpoints) that this controller has no builder of, only those are reported that a controller uses
        for a builder of this name.
    type: str
  endpoints:
    description:
      - Engines whose nodes are reported whatever builders this controller has. Names of docker contexts, or URLs
        C(tcp://HOST:PORT), C(ssh://[USER@]HOST[:PORT][/SOCKET]) or C(unix:///PATH).
      - The nodes are those whose BuildKit has a container on the engine. What is pinned to a node only its controller
        knows, so for these nodes all platforms are shown that BuildKit can run.
    type: list
    elements: str
    default: []
  ca:
    description:
      - File on this host with the CA's certificate, for the C(tcp) URLs among O(endpoints). Contexts have their own.
    type: path
  cert:
    description:
      - File on this host with the client's certificate, for the C(tcp) URLs.
    type: path
  key:
    description:
      - File on this host with the key of O(cert).
    type: path
  images:
    description:
      - Names of images that are reported, with their digests for each platform and what their records say they were
        built from.
      - Registries are reached as the nodes' C(buildkitd.toml) says, that of O(builder) or of all builders; without a
        builder here, as those in the nodes' containers say.
    type: list
    elements: str
    default: []
  hosts:
    description:
      - What is known of nodes' hosts from elsewhere, by the nodes' names, as no engine tells it. C(handlers) is what
        M(buildfarm.multiarch.binfmt_info) returns, C(df) what C(df -Pkl) prints there. The playbook C(report)
        gathers both.
    type: dict
    default: {}
  builds:
    description: How many of the last builds of each node are reported.
    type: int
    default: 10
  timeout:
    description:
      - Seconds for all engines together, and as many again for what their BuildKits tell. What of a BuildKit was read
        until then is reported.
    type: float
    default: 30
  html:
    description: File on this host for the page.
    type: path
  text:
    description: File on this host for the report as lines of text, which are returned as RV(text) in any case.
    type: path
  json:
    description: File on this host for RV(report).
    type: path
  prometheus:
    description:
      - File on this host for metrics in Prometheus' text format, for the textfile collector of node_exporter, in whose
        directory its name has to end with C(.prom).
      - It is written in one step.
    type: path
notes:
  - Files are written for all to read. Nothing in them is secret, but they tell of the farm's hosts and of Dockerfiles.
  - The names of steps are lines of Dockerfiles. BuildKit shows them with the values of build arguments; here values of
    four or more characters are replaced by the arguments' names, and secrets in URLs are masked.
seealso:
  - module: buildfarm.multiarch.buildx_builder_info
  - module: buildfarm.multiarch.docker_endpoint_info
  - module: buildfarm.multiarch.buildx_imagetools_info
"""

EXAMPLES = r"""
- name: Write a page about the farm, and metrics for node_exporter
  buildfarm.multiarch.farm_report:
    builder: farm
    images:
      - registry.example.com/app:1.0
    html: /var/www/html/farm.html
    prometheus: /var/lib/prometheus/node-exporter/buildfarm.prom

- name: Look at the farm in the terminal
  buildfarm.multiarch.farm_report:
  register: seen

- name: Show it
  ansible.builtin.debug:
    msg: "{{ seen.text.splitlines() }}"

- name: Report from a controller that has no builder
  buildfarm.multiarch.farm_report:
    endpoints:
      - tcp://amd1.example.com:2376
      - tcp://arm1.example.com:2376
    ca: ~/.docker/ca.pem
    cert: ~/.docker/cert.pem
    key: ~/.docker/key.pem
    html: farm.html

- name: Fail if somebody should look
  ansible.builtin.assert:
    that: seen.report.attention | length == 0
    fail_msg: "{{ seen.report.attention | map(attribute='text') | join('; ') }}"
"""

RETURN = r"""
text:
  description: The report as lines of text.
  returned: success
  type: str
  sample: |
    Build farm: builder farm, as builder.example.com found it on 2026-09-21T14:13:20Z
    2 of 2 nodes usable, 7 builds remembered, 0 failed, 61 % of steps from the cache, 2.8 GB of caches, …
report:
  description: The report. What is V(null) is not known.
  returned: success
  type: dict
  contains:
    schema:
      description: The version of this shape; a later one may have more keys.
      type: int
      sample: 1
    fingerprint:
      description: A checksum of all of it but what is another with each reading. The same means nothing happened.
      type: str
      sample: sha256:e3bb24ff36f78a62755c91c9bf76de58c7420078f2a26f74c8f2064ff0197bdb
    time:
      description: When the farm was read, in UTC.
      type: str
      sample: "2026-09-21T14:13:20Z"
    controller:
      description: The host that read it.
      type: str
      sample: builder.example.com
    builders:
      description: The builders of this controller that are reported.
      type: list
      elements: dict
      contains:
        name:
          description: The builder's name.
          type: str
          sample: farm
        driver:
          description: Its driver.
          type: str
          sample: docker-container
        current:
          description: Whether buildx uses it where none is named.
          type: bool
          sample: true
        nodes:
          description: The names of its nodes.
          type: list
          elements: str
          sample: [farm-amd1, farm-arm1]
        error:
          description: Why its definition cannot be read, V(null) where it can.
          type: str
          sample: null
    platforms:
      description: The platforms that the farm is for.
      type: list
      elements: str
      sample: [linux/amd64, linux/arm64]
    nodes:
      description: The nodes, those of builders first.
      type: list
      elements: dict
      contains:
        name:
          description: The node's name; the endpoint, of an engine without a node or that does not answer.
          type: str
          sample: farm-arm1
        endpoint:
          description: How its engine is reached.
          type: str
          sample: farm-arm1
        driver:
          description: The driver of its builder.
          type: str
          sample: docker-container
        builders:
          description: The builders that have it, as far as this controller or marks on the engine tell.
          type: list
          elements: str
          sample: [farm]
        controllers:
          description: The controllers that have it, as marks on the engine tell.
          type: list
          elements: str
          sample: [builder.example.com]
        status:
          description: V(running), V(paused), V(stopped), V(missing), V(unreachable) or V(unknown).
          type: str
          sample: running
        drained:
          description: In words since when and why it takes no builds, V(null) if it does.
          type: str
          sample: null
        error:
          description: Why it cannot be used, V(null) if it can.
          type: str
          sample: null
        native:
          description: The platform of its own processor.
          type: str
          sample: linux/arm64
        pins:
          description: The platforms that are pinned to it. V(null) where no builder of this controller has it.
          type: list
          elements: str
          sample: [linux/arm64]
        platforms:
          description: What it is for which of RV(report.platforms); those that it is nothing for are left out.
          type: list
          elements: dict
          contains:
            platform:
              description: The platform.
              type: str
              sample: linux/arm64
            state:
              description:
                - V(native) if its own processor runs the platform, V(emulated) if QEMU does.
                - V(pinned) if nothing there runs it, so that only Dockerfiles that cross-compile can be built.
                - V(idle) if it could, and the builder's other nodes are there for it.
                - V(drained), V(stopped) and V(unreachable) for what keeps it from it.
              type: str
              sample: native
        engine:
          description: Its engine and host.
          type: dict
          contains:
            name:
              description: What the host calls itself.
              type: str
              sample: arm1
            version:
              description: The engine's version.
              type: str
              sample: 28.5.2
            system:
              description: The host's operating system.
              type: str
              sample: Debian GNU/Linux 13 (trixie)
            kernel:
              description: Its kernel.
              type: str
              sample: 6.12.48+deb13-arm64
            architecture:
              description: Its processor, as platforms name it.
              type: str
              sample: arm64
            processors:
              description: How many it has.
              type: int
              sample: 16
            memory:
              description: Bytes of its memory.
              type: int
              sample: 68719476736
        tls:
          description: As RV(buildfarm.multiarch.docker_endpoint_info#module:endpoints[].tls).
          type: str
          sample: mutual
        certificate:
          description: The engine's certificate. V(null) without TLS.
          type: dict
          contains:
            subject:
              description: Whom it names.
              type: str
              sample: CN=arm1
            expires:
              description: When it ends, in UTC.
              type: str
              sample: "2027-01-30T12:00:00Z"
            days_left:
              description: Whole days until then.
              type: int
              sample: 131
        buildkit:
          description: Its BuildKit, where that runs.
          type: dict
          contains:
            version:
              description: The version.
              type: str
              sample: v0.25.2
            image:
              description: The image of its container.
              type: str
              sample: moby/buildkit:buildx-stable-1
        cache:
          description: Its build cache.
          type: dict
          contains:
            bytes:
              description: What it takes.
              type: int
              sample: 2834678415
            records:
              description: How many records it has.
              type: int
              sample: 214
            limit:
              description: What BuildKit's garbage collection cuts it down to.
              type: int
              sample: 40000000000
        disk:
          description:
            - The disk with the cache, where BuildKit's image has the program C(df), or O(hosts) has C(df).
          type: dict
          contains:
            bytes:
              description: Its size.
              type: int
              sample: 500000000000
            free:
              description: What is free.
              type: int
              sample: 281000000000
        handlers:
          description: The handlers of its host's kernel for platforms, from O(hosts).
          type: list
          elements: dict
          contains:
            name:
              description: The handler's name.
              type: str
              sample: qemu-aarch64
            platforms:
              description: What it is for.
              type: list
              elements: str
              sample: [linux/arm64]
            enabled:
              description: Whether it is enabled.
              type: bool
              sample: true
            works:
              description: Whether a program ran with it.
              type: bool
              sample: true
            qemu_version:
              description: The version of the emulator.
              type: str
              sample: 10.0.4
            problem:
              description: Why it does not work, V(null) if it does.
              type: str
              sample: null
        history:
          description: Why the history of its builds was not read, V(null) if it was.
          type: str
          sample: null
        builds:
          description: Its last builds, the newest first.
          type: list
          elements: dict
          contains:
            ref:
              description: BuildKit's name for it, as C(docker buildx history inspect) takes it.
              type: str
              sample: ooyrqj340xd8p1xevshpjnpfu
            name:
              description: The repository that it was for, else where its context came from, else its Dockerfile.
              type: str
              sample: registry.example.com/app
            status:
              description: V(succeeded), V(failed), V(canceled) or V(running).
              type: str
              sample: succeeded
            started:
              description: When it began, in UTC.
              type: str
              sample: "2026-09-21T13:49:02Z"
            duration:
              description: Seconds it took, V(null) while it runs.
              type: float
              sample: 134.2
            platforms:
              description: The platforms that it named; none of them, and the node decided.
              type: list
              elements: str
              sample: [linux/arm64]
            steps:
              description: How many steps it had.
              type: int
              sample: 11
            cached:
              description: How many of them came from the cache.
              type: int
              sample: 6
            cached_share:
              description: The share of steps that came from the cache, V(null) without steps.
              type: float
              sample: 0.545
            error:
              description: Why it failed, V(null) if it did not.
              type: str
              sample: null
            reasons:
              description:
                - Why not all came from the cache, as far as it shows. What differs from the last build of the same
                  name for the same platforms on this node, without values, and the first step that was run.
              type: list
              elements: str
              sample: [build argument VERSION changed, "ran from [build 5/6] COPY src src"]
            digests:
              description: The digests of what came out.
              type: list
              elements: str
              sample: ["sha256:61b00728c4c0cf5341cd9463ee7ed851538168f51d4f2e1a3b9e10a5dcc1ddb5"]
            timeline:
              description: Its steps in the order of their begin. Empty while it runs, and where time was too short.
              type: list
              elements: dict
              contains:
                name:
                  description: The step, as BuildKit names it.
                  type: str
                  sample: "[build 5/6] COPY src src"
                start:
                  description: Seconds after the build's begin.
                  type: float
                  sample: 12.703
                duration:
                  description: Seconds it took.
                  type: float
                  sample: 0.8
                cached:
                  description: Whether it came from the cache.
                  type: bool
                  sample: false
                error:
                  description: Why it failed, V(null) if it did not.
                  type: str
                  sample: null
    images:
      description: The images of O(images), in that order.
      type: list
      elements: dict
      contains:
        name:
          description: The image's name.
          type: str
          sample: registry.example.com/app:1.0
        digest:
          description: Its digest, V(null) if there is nothing of this name.
          type: str
          sample: sha256:2040e736e3145b74bf90cba514ed028eae0607955f4b78518512be27a16c8043
        error:
          description: Why it could not be read, V(null) if it could.
          type: str
          sample: null
        created:
          description: When the newest of its platforms was created.
          type: str
          sample: "2026-09-20T09:30:00Z"
        attested:
          description: Whether it has attestations, such as provenance or an SBOM.
          type: bool
          sample: true
        missing:
          description: Digests that its index names and the registry does not have.
          type: list
          elements: str
          sample: []
        key:
          description: The key of its record, see M(buildfarm.multiarch.buildx_build). V(null) if it has none.
          type: str
          sample: 3739228693e8a6b1f0c14d2b7c3f2a9d8e5b6f7081923a4b5c6d7e8f90a1b2c3
        sources:
          description: What its record says it was built from.
          type: list
          elements: dict
          contains:
            name:
              description: The source in words.
              type: str
              sample: base image docker.io/library/debian:trixie-slim
            digest:
              description: What it was then.
              type: str
              sample: sha256:d8ac084f804d1f9f2b0a4f2f7d7f3c8b1e5a6c7d8e9f00112233445566778899
        platforms:
          description: Its platforms.
          type: list
          elements: dict
          contains:
            platform:
              description: The platform.
              type: str
              sample: linux/arm64
            digest:
              description: The digest of its manifest.
              type: str
              sample: sha256:61b00728c4c0cf5341cd9463ee7ed851538168f51d4f2e1a3b9e10a5dcc1ddb5
            size:
              description: Compressed bytes.
              type: int
              sample: 29124096
    attention:
      description: What somebody should look at, the worst first.
      type: list
      elements: dict
      contains:
        kind:
          description:
            - V(builder), V(unreachable), V(buildkit), V(stopped), V(drained), V(certificate) for one with less than 30
              days, V(disk) for one that is 90 % full, V(tls), V(handler), V(build) or V(image).
          type: str
          sample: certificate
        subject:
          description: The node, builder or image.
          type: str
          sample: farm-arm1
        text:
          description: What is wrong.
          type: str
          sample: its certificate ends in 12 days
    summary:
      description: Figures of the whole.
      type: dict
      contains:
        nodes:
          description: How many nodes there are.
          type: int
          sample: 2
        usable:
          description: How many of them run, answer, and are not drained.
          type: int
          sample: 2
        builds:
          description: How many builds are reported.
          type: int
          sample: 7
        failed:
          description: How many of them failed.
          type: int
          sample: 0
        cached_share:
          description: The share of all their steps that came from caches, V(null) without builds.
          type: float
          sample: 0.61
        certificate_days:
          description: Whole days until the first certificate ends, V(null) without certificates.
          type: int
          sample: 131
        cache_bytes:
          description: What all caches take.
          type: int
          sample: 2834678415
        images:
          description: How many images were asked for.
          type: int
          sample: 1
        complete:
          description: How many of them the registries have, with all that they consist of.
          type: int
          sample: 1
actions:
  description: The files that were or would be written because what they tell has changed.
  returned: success
  type: list
  elements: list
  sample: [[write, /var/www/html/farm.html]]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report.apply import run

SPEC = {
    "builder": {"type": "str"},
    "endpoints": {"type": "list", "elements": "str", "default": []},
    "ca": {"type": "path"},
    "cert": {"type": "path"},
    "key": {"type": "path", "no_log": False},
    "images": {"type": "list", "elements": "str", "default": []},
    "hosts": {"type": "dict", "default": {}},
    "builds": {"type": "int", "default": 10},
    "timeout": {"type": "float", "default": 30},
    "html": {"type": "path"},
    "text": {"type": "path"},
    "json": {"type": "path"},
    "prometheus": {"type": "path"},
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run, required_together=[("cert", "key")])
