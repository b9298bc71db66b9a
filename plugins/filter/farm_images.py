# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(farm_images): from the images of a playbook to those of one build task."""

from __future__ import annotations

DOCUMENTATION = r"""
name: farm_images
short_description: Turn the role images' list into images to build
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Takes C(images_list), as the role C(buildfarm.multiarch.images) describes it, and returns
    O(buildfarm.multiarch.buildx_build#module:images) that push each of them.
positional: _input
options:
  _input:
    description: The images, each with C(name) and C(context).
    type: list
    elements: dict
    required: true
  platforms:
    description: The platforms of images that name none.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Build and push all images side by side
  buildfarm.multiarch.buildx_build:
    builder: farm
    images: "{{ my_images | buildfarm.multiarch.farm_images(['linux/amd64', 'linux/arm64']) }}"
  vars:
    my_images:
      - name: registry.example.com/team/app:1.4
        tags: [registry.example.com/team/app:latest]
        context: /srv/app
"""

RETURN = r"""
_value:
  description: The images for O(buildfarm.multiarch.buildx_build#module:images).
  type: list
  elements: dict
"""

from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible.errors import AnsibleFilterError

#: What of an image is no option of the build by itself: its name is its first tag, and some is for checks.
_NOT_FOR_THE_BUILD = ("name", "tags", "build", "verify")


def farm_images(images: Sequence[Mapping[str, Any]], platforms: Sequence[str] = ()) -> List[Dict[str, Any]]:
    """Return the images for one build task; see DOCUMENTATION."""
    found = []
    for image in images:
        if not image.get("context"):
            raise AnsibleFilterError(
                f"image {image['name']}: context is missing; wanted the directory to build, or a URL"
            )
        own = {name: value for name, value in image.items() if name not in _NOT_FOR_THE_BUILD and value is not None}
        tags = [image["name"], *(image.get("tags") or ())]
        found.append({"platforms": list(platforms), "push": True, **(image.get("build") or {}), **own, "tags": tags})
    return found


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_images": farm_images}
