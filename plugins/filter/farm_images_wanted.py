# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter C(farm_images_wanted): from the images of a playbook to those of one task that verifies them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: farm_images_wanted
short_description: Turn the role images' list into images to verify
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Takes C(images_list), as the role C(buildfarm.multiarch.images) describes it, and returns
    O(buildfarm.multiarch.image_verify#module:images) that want of each its platforms, and what C(verify) and C(run) of
    it say.
positional: _input
options:
  _input:
    description: The images, each with C(name).
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
- name: Verify all images side by side
  buildfarm.multiarch.image_verify:
    images: "{{ my_images | buildfarm.multiarch.farm_images_wanted(['linux/amd64', 'linux/arm64']) }}"
  vars:
    my_images:
      - name: registry.example.com/team/app:1.4
        context: /srv/app
"""

RETURN = r"""
_value:
  description: The images for O(buildfarm.multiarch.image_verify#module:images).
  type: list
  elements: dict
"""

from typing import Any, Callable, Dict, List, Mapping, Sequence


def farm_images_wanted(images: Sequence[Mapping[str, Any]], platforms: Sequence[str] = ()) -> List[Dict[str, Any]]:
    """Return the images for one task that verifies them; see DOCUMENTATION."""
    found = []
    for image in images:
        own = {name: image[name] for name in ("name", "platforms", "run") if image.get(name) is not None}
        found.append({"platforms": list(platforms), **own, **(image.get("verify") or {})})
    return found


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"farm_images_wanted": farm_images_wanted}
