# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lookup C(git_version): version, commit and source of a git checkout, for the images that are built of it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: git_version
short_description: Version, commit and source of a git checkout, for images that are built of it
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Asks git on the Ansible machine about a checkout there. The version is the nearest tag, as V(1.1.0), where the
    checkout is what was tagged; else it is followed by the commit, as V(1.1.0-ab12cd3), and by V(-dirty) where files
    that git tracks are not as in the commit.
  - Labels and annotations of where an image is from are returned as M(buildfarm.multiarch.buildx_build) takes them.
    They are no reason for it to build. With the version in a tag and another tag that stays, such as C(latest), a
    commit that changes nothing in the image has it tagged and not built. A version in C(build_args) is a reason to
    build.
requirements:
  - git 2.17 or later on the Ansible machine
options:
  _terms:
    description:
      - Directories of checkouts, or in them. The answer is about the whole checkout.
      - A relative one is searched as a C(source) of M(buildfarm.multiarch.buildx_build) is, in the working directory of
        C(ansible-playbook), beside the variables files of C(-e @FILE), beside the playbook, beside the inventory, and
        in the places of the role, each with C(files) in it.
    type: list
    elements: str
    required: true
  abbrev:
    description:
      - How many digits of the commit stand in a version, 4 to 40. It is always that many, where git itself would show
        more in one clone than in another.
    type: int
    default: 7
  fallback:
    description:
      - What stands in the place of the tag where there is none. Where there is no commit either, or no git checkout, it
        is the version.
      - If unset, both are errors.
    type: str
  match:
    description:
      - Which tags count, as a pattern of C(git describe --match), such as V(v[0-9]*).
      - If unset, all do, annotated or not. Of several at the same commit it is the one that C(git describe) prefers.
    type: str
  strip_prefix:
    description:
      - What is left out of the version if the tag begins with it, such as V(v) or V(app/).
    type: str
    default: ""
notes:
  - A version can be the tag of an image. What that cannot have becomes C(-), and it ends after 128 characters, the
    commit kept.
  - Files that git does not track make no checkout dirty, though they may be part of a build's context.
  - A clone without history (C(git clone --depth)) has no tags unless they are fetched.
  - A checkout that belongs to another user is refused, as git does it. The settings in it could have git start
    programs. If you trust it, name it in C(safe.directory) of your git configuration.
  - Nothing is fetched, asked of a person or written. E(GIT_DIR) and other variables that name a repository have no
    effect.
  - A variable with a lookup is evaluated each time that it is used. M(ansible.builtin.set_fact) keeps one answer.
seealso:
  - module: buildfarm.multiarch.buildx_build
"""

EXAMPLES = r"""
- name: Read the version of what is built
  ansible.builtin.set_fact:
    hello: "{{ lookup('buildfarm.multiarch.git_version', 'hello', strip_prefix='v', fallback='0.0.0') }}"

# A commit that changes nothing in the image only adds the tag of its version. A release that is tagged later does too.
- name: Build, verify and publish
  ansible.builtin.include_role:
    name: buildfarm.multiarch.images
  vars:
    images_list:
      - name: registry.example.com/hello:{{ hello.version }}
        tags: [registry.example.com/hello:latest]
        source: hello
        context: /srv/hello
        platforms: [linux/amd64, linux/arm64]
        build:
          labels: "{{ hello.labels }}"
          annotations: "{{ hello.annotations }}"

- name: Build with the module itself, where the labels have one more
  buildfarm.multiarch.buildx_build:
    builder: farm
    context: /srv/hello
    platforms: [linux/amd64, linux/arm64]
    tags:
      - registry.example.com/hello:{{ hello.version }}
      - registry.example.com/hello:latest
    labels: "{{ hello.labels | combine({'org.opencontainers.image.vendor': 'Example'}) }}"
    push: true

- name: Release nothing but a tagged commit
  ansible.builtin.assert:
    that:
      - release.version == release.tag
      - release.branch in [none, 'main']
    fail_msg: "{{ release.version }} is no release"
  vars:
    release: "{{ lookup('buildfarm.multiarch.git_version', playbook_dir, match='[0-9]*') }}"

- name: Show the versions of two parts that are tagged apart in one repository
  ansible.builtin.debug:
    msg: "{{ api.version }}, {{ web.version }}"
  vars:
    api: "{{ lookup('buildfarm.multiarch.git_version', 'api', match='api/*', strip_prefix='api/') }}"
    web: "{{ lookup('buildfarm.multiarch.git_version', 'web', match='web/*', strip_prefix='web/') }}"
"""

RETURN = r"""
_raw:
  description: What git says, for each directory.
  type: list
  elements: dict
  contains:
    version:
      description: The version, a valid tag of an image.
      type: str
      sample: 1.1.0-ab12cd3
    tag:
      description: The nearest tag, at the commit or before it, as git has it. None if there is none.
      type: str
      sample: v1.1.0
    commit:
      description: The commit, whole. None where there is no checkout with a commit, as are all that follow.
      type: str
      sample: ab12cd3f0e5b7a1c9d8e6f4a2b0c1d3e5f7a9b8c
    short:
      description: The beginning of the commit.
      type: str
      sample: ab12cd3
    branch:
      description: The branch. None where none is checked out, as in many CI systems.
      type: str
      sample: main
    dirty:
      description: Whether files that git tracks are not as in the commit, anywhere in the checkout.
      type: bool
    source:
      description:
        - The address of the remote repository C(origin), without passwords and tokens.
        - None if there is no such remote.
      type: str
      sample: https://git.example.com/team/hello.git
    created:
      description: When the commit was made, as RFC 3339, in UTC.
      type: str
      sample: "2026-03-01T09:30:00Z"
    labels:
      description:
        - The labels C(org.opencontainers.image.created), C(.revision), C(.source) and C(.version), less those that are
          not known.
      type: dict
      sample:
        org.opencontainers.image.created: "2026-03-01T09:30:00Z"
        org.opencontainers.image.revision: ab12cd3f0e5b7a1c9d8e6f4a2b0c1d3e5f7a9b8c
        org.opencontainers.image.source: https://git.example.com/team/hello.git
        org.opencontainers.image.version: 1.1.0-ab12cd3
    annotations:
      description:
        - The same as annotations of the index and of each platform's manifest.
        - An image without an index, of one platform and without attestations, cannot have those of the index.
      type: dict
      sample:
        index,manifest:org.opencontainers.image.revision: ab12cd3f0e5b7a1c9d8e6f4a2b0c1d3e5f7a9b8c
"""

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import runner
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.apply import find_source
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.folders import lookup_folders
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.git import Wanted, describe, read_checkout


class LookupModule(LookupBase):
    """Ansible's entry point."""

    def run(
        self, terms: Sequence[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any
    ) -> List[Dict[str, Any]]:
        """Return what git says of each directory; see DOCUMENTATION."""
        self.set_options(var_options=variables, direct=kwargs)
        folders = lookup_folders(self, variables or {})
        try:
            wanted = Wanted(**{name: self.get_option(name) for name in ("abbrev", "fallback", "match", "strip_prefix")})
            found = []
            for term in terms:
                directory = find_source(str(term), folders)
                found.append(describe(directory, read_checkout(runner.run, directory, wanted.match), wanted))
            return found
        except FarmError as exc:
            raise AnsibleLookupError(exc.message) from exc
