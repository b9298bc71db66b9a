#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_imagetools_info
short_description: Read what an image's name stands for in its registry
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Reads what an image's name stands for in its registry.
  - Attestation manifests (C(unknown/unknown)) are listed apart, so that the platforms of RV(index.manifests) are
    those that an engine can run.
  - A single manifest is shown as an index of one, its platform read from its configuration.
  - What is no image has the same shape, and RV(index.kind) says what it is. Signatures, SBOMs and other artifacts are
    in RV(index.attestations), and what is no manifest at all, such as the layers in an index of BuildKit's registry
    cache, in RV(index.others). No layer is fetched.
  - What C(docker manifest inspect) shows is RV(index.document), the index or manifest as it is.
requirements:
  - Python 3.8 or later where it runs
  - buildx 0.3 or later, where O(builder) is that of a docker context
  - jmespath (Python library), for O(query)
extends_documentation_fragment:
  - buildfarm.multiarch.controller
  - buildfarm.multiarch.registry
attributes:
  check_mode:
    support: full
    description: Reads only; check mode makes no difference.
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
      - Without tag and digest C(latest) is read; without a registry, C(docker.io).
      - A digest may also be that of one platform's manifest.
    type: str
    required: true
  builder:
    description:
      - The builder whose buildkitd configuration says how registries are reached.
      - If unset, E(BUILDX_BUILDER) is used, and buildx's current builder if that is unset too.
    type: str
  details:
    description:
      - Whether to read more of each image, its config and what its provenance says, and what refers to the whole, as
        signatures and SBOMs do that were attached later.
      - That takes one to three requests for each platform, and one for the referrers. No layer is fetched, and no SBOM.
    type: bool
    default: false
  query:
    description:
      - A JMESPath expression, applied to RV(index); its value is RV(result).
    type: str
notes:
  - An image that is not in the registry is no failure; see RV(exists). A registry that cannot be reached or that
    refuses the credentials is.
seealso:
  - module: buildfarm.multiarch.image_verify
  - module: buildfarm.multiarch.buildx_build
  - module: buildfarm.multiarch.buildx_imagetools
  - module: buildfarm.multiarch.farm_report
  - name: OCI image index specification
    description: What an index holds.
    link: https://github.com/opencontainers/image-spec/blob/main/image-index.md
"""

EXAMPLES = r"""
- name: Read an image's platforms
  buildfarm.multiarch.buildx_imagetools_info:
    name: registry.example.com/team/app:1.4
    query: manifests[].platform
  register: app

- name: Show them
  ansible.builtin.debug:
    msg: "{{ app.result | join(', ') if app.exists else 'not published yet' }}"

- name: Read the digest of the arm64 image from a registry of the farm's own, which speaks plain HTTP
  buildfarm.multiarch.buildx_imagetools_info:
    name: registry.example.com:5000/team/app:1.4
    builder: farm
    query: manifests[?platform=='linux/arm64'].digest | [0]
  register: arm64

- name: Show what it was built from, and when
  buildfarm.multiarch.buildx_imagetools_info:
    name: registry.example.com/team/app:1.4
    details: true
    query: "manifests[].{platform: platform, created: config.created, bases: provenance.bases}"

- name: Stop where an image has no provenance
  buildfarm.multiarch.buildx_imagetools_info:
    name: registry.example.com/team/app:1.4
    query: attestations[].subject
  register: attested
  failed_when: not attested.result
"""

RETURN = r"""
exists:
  description: Whether the registry has an image of this name.
  returned: success
  type: bool
  sample: true
index:
  description: What the name stands for; V(null) where there is no such image.
  returned: success
  type: dict
  contains:
    name:
      description: The image's full name.
      type: str
      sample: registry.example.com/team/app:1.4
    kind:
      description:
        - What it is, V(image), V(signature), V(sbom), V(attestation), V(cache) (BuildKit's) or V(artifact) (anything
          else), by its media types.
      type: str
      sample: image
    digest:
      description: Digest of the index, or of the single manifest.
      type: str
      sample: sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567
    media_type:
      description: Media type of the index, or of the single manifest.
      type: str
      sample: application/vnd.oci.image.index.v1+json
    size:
      description: Bytes of the index, or of the single manifest, itself.
      type: int
      sample: 1609
    artifact_type:
      description: The C(artifactType) of what is no image; V(null) where it has none.
      type: str
      sample: null
    subject:
      description: Digest of the manifest that it refers to, as a signature does; V(null) where it refers to none.
      type: str
      sample: null
    document:
      description: The index or manifest itself, with the members that the OCI image specification gives it.
      type: dict
      sample: {"schemaVersion": 2, "manifests": []}
    referrers:
      description:
        - What refers to the whole, from the registry's API for that or from the tag that stands in for it. V(null)
          without O(details).
      type: list
      elements: dict
      contains:
        digest:
          description: Digest of its manifest.
          type: str
          sample: sha256:53ac7dfbc1a5a1c0d30f7a5c2b3b8d0f84a6f6b3b8a6a0a2a95a2a8dd0ff8a6c
        media_type:
          description: Media type of its manifest.
          type: str
          sample: application/vnd.oci.image.manifest.v1+json
        artifact_type:
          description: What it is.
          type: str
          sample: application/vnd.cncf.notary.signature
        size:
          description: Size of its manifest in bytes.
          type: int
          sample: 727
        annotations:
          description: Its annotations, as far as the registry repeats them.
          type: dict
          sample: {}
    annotations:
      description: Annotations of the index, or of the single manifest.
      type: dict
      sample: {"org.opencontainers.image.title": "app"}
    manifests:
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
          description: Size of the manifest itself in bytes, not of the image.
          type: int
          sample: 476
        media_type:
          description: Media type of the manifest.
          type: str
          sample: application/vnd.oci.image.manifest.v1+json
        annotations:
          description: Annotations of the entry in the index.
          type: dict
          sample: {}
        manifest:
          description: The manifest itself; V(null) where the registry does not have it.
          returned: with O(details)
          type: dict
          sample: {"schemaVersion": 2, "layers": []}
        config:
          description: The image's config itself, see the OCI image specification; V(null) where it is not there.
          returned: with O(details)
          type: dict
          sample: {"architecture": "arm64", "created": "2026-05-04T03:02:01Z", "os": "linux"}
        compressed_size:
          description: Bytes of the config and of the compressed layers.
          returned: with O(details)
          type: int
          sample: 1048997
        provenance:
          description: What its provenance says; V(null) where it has none.
          returned: with O(details)
          type: dict
          contains:
            builder:
              description: Who built it; empty where that is not said, as in the two below.
              type: str
              sample: https://ci.example.com/team/app
            source:
              description: Where the sources are from.
              type: str
              sample: https://git.example.com/team/app.git
            revision:
              description: Revision of the sources.
              type: str
              sample: 7c0bdf9f8b64d4c3f6df6f0e5f1ab0c2b5a2a0f4
            bases:
              description: Digests of the images that it was built from, by their names.
              type: dict
              sample:
                docker.io/library/debian:trixie: sha256:8a9cf2058e53d6ed630517f4baf56cfbdcf6ae06d564417412bc82e1ecfef919
        statements:
          description: The statements that BuildKit has attached to it.
          returned: with O(details)
          type: list
          elements: dict
          contains:
            type:
              description: Its predicate type.
              type: str
              sample: https://slsa.dev/provenance/v1
            digest:
              description: Digest of the statement.
              type: str
              sample: sha256:d1d2fc5bd2a2b1a2c9d4ab9a8e9bca6b1b7e6e8f5b0bb7e7c5d3e2b9ecb0f3a1
            size:
              description: Its size in bytes.
              type: int
              sample: 2310
            predicate:
              description: What provenance says as a whole; V(null) for other statements.
              type: dict
              sample: {"buildDefinition": {}, "runDetails": {}}
    attestations:
      description: The manifests that are no platform's image, such as provenance, SBOM, signatures and artifacts.
      type: list
      elements: dict
      contains:
        type:
          description: C(attestation-manifest) for what BuildKit attaches; V(null) where the entry does not say.
          type: str
          sample: attestation-manifest
        subject:
          description: Digest of the manifest that it is about; V(null) where the entry does not say.
          type: str
          sample: sha256:8a9cf2058e53d6ed630517f4baf56cfbdcf6ae06d564417412bc82e1ecfef919
        digest:
          description: Digest of the entry's manifest.
          type: str
          sample: sha256:116bfee3270d981b0877ea2ac57fee440e6bfc0fcf4aab7dd1e50ac5ceba0512
        size:
          description: Size of that manifest in bytes.
          type: int
          sample: 566
        media_type:
          description: Media type of that manifest.
          type: str
          sample: application/vnd.oci.image.manifest.v1+json
        annotations:
          description: Annotations of the entry in the index.
          type: dict
          sample: {"vnd.docker.reference.type": "attestation-manifest"}
    others:
      description:
        - The entries that are no manifests of images or artifacts, such as the layers of BuildKit's registry cache.
        - The keys are those of RV(index.attestations).
      type: list
      elements: dict
      sample: []
result:
  description: The value of O(query); V(null) where there is no such image.
  returned: success and O(query) is set
  type: raw
  sample: ["linux/amd64", "linux/arm64"]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.info import run

SPEC = {
    "name": {"type": "str", "required": True},
    "builder": {"type": "str"},
    "details": {"type": "bool", "default": False},
    "query": {"type": "str"},
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run)
