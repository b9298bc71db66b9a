#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: buildx_imagetools
short_description: Make images of others, copy them, and remove tags
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Lets tags stand for an index that is made of images in registries, for a copy of one with all that belongs to it, or
    for one with other annotations.
  - No tag moves before all that the image consists of is in the tag's repository. Each tag then moves at once from one
    complete image to another.
  - Can remove tags.
  - What C(docker buildx imagetools create) does, it does by requests to the registries, and needs neither docker nor
    buildx.
requirements:
  - buildx 0.3 or later, where O(builder) is that of a docker context
extends_documentation_fragment:
  - buildfarm.multiarch.controller
  - buildfarm.multiarch.registry
attributes:
  check_mode:
    support: full
    description:
      - Reads the sources and makes the image of them, so that the digest is that of a real run. Whether a registry
        takes what is written, or removes a tag, is known only to a real run.
  diff_mode:
    support: full
    description: Shows the digests that the tags stand for.
  idempotent:
    support: full
    description:
      - Tags that stand for the image already, by its digest, are not written to. The same sources make the same image.
options:
  tags:
    description:
      - The names that stand for the image, each as C([REGISTRY[:PORT]/]NAME[:TAG]), in any number of repositories and
        registries.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(present) lets O(tags) stand for the image that O(sources) make.
      - V(absent) removes O(tags) and nothing else. Other tags of the same image stay.
      - A registry that removes manifests by their digests only, as distribution before 3 does, has the tag moved to an
        empty artifact first, which is then removed with it. One that removes nothing is an error, and leaves the tag.
    type: str
    choices: [present, absent]
    default: present
  sources:
    description:
      - The images that the image is made of, in the order of the index. Required with O(state=present), ignored
        otherwise, as all further options but O(builder) and O(docker_config) are.
      - One source is copied as it is, byte by byte, with attestations and annotations, if neither its
        O(sources[].platforms) nor annotations are set. That may also be a single manifest, a signature, another
        artifact or a cache.
      - Several sources, or some platforms of one, become an index with the attestations of the images that are taken.
        It is a Docker manifest list where all images have Docker's types and no annotation is wanted, else an OCI
        index. The order is that of the sources, and within each its own.
      - A platform that two sources have different images for is an error, unless O(sources[].platforms) says which is
        taken.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The source, as C([REGISTRY[:PORT]/]NAME[:TAG][@DIGEST]).
        type: str
        required: true
      platforms:
        description:
          - The platforms that are taken of it. They are normalised. By default all.
        type: list
        elements: str
  annotations:
    description:
      - Annotations of the index. A single manifest gets an index for that.
      - Those that the only source has stay, and V(null) as value removes one. Of several sources none stays.
    type: dict
  platform_annotations:
    description:
      - Annotations of entries of the index, dictionaries by platform. V(all) stands for all platforms. What entries
        have stays.
    type: dict
  builder:
    description:
      - The builder whose buildkitd configuration says how registries are reached.
      - If unset, E(BUILDX_BUILDER) is used, and buildx's current builder if that is unset too.
    type: str
notes:
  - C(docker buildx imagetools create) is not called. Before buildx 0.22 it pushes the images of single platforms to
    the public tag when it copies to another repository, and it drops annotations without a word, before 0.16 and
    wherever all images have Docker's media types.
  - Between repositories of one registry layers are mounted where the registry allows that. Otherwise, and between
    registries, they pass through a temporary file on the controller, one after the other from each image.
  - What refers to an image from outside, as signatures of cosign and notation do, is not copied with it.
  - After a failure the tags that have not moved stand for what they stood for before, and a new run finishes. What was
    copied by then has no tag, and is the registry's to collect.
seealso:
  - module: buildfarm.multiarch.buildx_imagetools_info
  - module: buildfarm.multiarch.image_verify
  - module: buildfarm.multiarch.buildx_build
"""

EXAMPLES = r"""
- name: What was tested is what is published, in another repository and under two tags
  buildfarm.multiarch.buildx_imagetools:
    sources:
      - name: registry.example.com/team/app:1.4
    tags:
      - registry.example.com/public/app:1.4
      - registry.example.com/public/app:latest

- name: One image of what two machines built by themselves
  buildfarm.multiarch.buildx_imagetools:
    sources:
      - name: registry.example.com/team/app:1.4
        platforms: [linux/amd64]
      - name: registry.example.com/team/app:1.4-arm
        platforms: [linux/arm64]
    annotations:
      org.opencontainers.image.version: "1.4"
    tags: [registry.example.com/team/app:1.4-all]

- name: The tag of a branch is no longer needed
  buildfarm.multiarch.buildx_imagetools:
    state: absent
    tags: [registry.example.com/team/app:1.4-arm]
"""

RETURN = r"""
image:
  description: The image that the tags stand for; V(null) with O(state=absent).
  returned: success
  type: dict
  contains:
    digest:
      description: Its digest, also in check mode.
      type: str
      sample: sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567
    media_type:
      description: Its media type.
      type: str
      sample: application/vnd.oci.image.index.v1+json
    platforms:
      description: The images of an index that was made, in its order. Empty for a copy.
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
    document:
      description: The index or manifest itself.
      type: dict
      sample: {"schemaVersion": 2, "manifests": []}
actions:
  description:
    - What was or would be done, in order. C(copy) with a manifest and the repository that gets it, C(push) with a tag
      and the digest that it stands for then, C(remove) with a tag.
  returned: success
  type: list
  elements: list
  sample:
    - [push, "registry.example.com/public/app:1.4",
       sha256:bad3abf79464b8f325ec03f751f7dd83e6b5819dc95cb68f25402d9fe542f567]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._imagetools.apply import run

SPEC = {
    "tags": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
    "sources": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "platforms": {"type": "list", "elements": "str"},
        },
    },
    "annotations": {"type": "dict"},
    "platform_annotations": {"type": "dict"},
    "builder": {"type": "str"},
    "docker_config": {"type": "path"},
}

if __name__ == "__main__":
    main(SPEC, run, required_if=[("state", "present", ["sources"])])
