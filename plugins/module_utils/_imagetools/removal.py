# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removing a tag, and nothing else that stands for the same image."""

from __future__ import annotations

import json
import secrets
import time

from .._core.errors import FarmError
from .._docker.reference import Reference
from .._registry.client import Registries
from .._registry.host import NotSupported
from .._registry.model import OCI_MANIFEST, digest_of

_EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
#: Seconds after which a tag that was removed is looked for again, for registries whose readers lag behind.
_PAUSES = (0.5, 1.0, 2.0)


def remove_tag(registries: Registries, tag: Reference) -> None:
    """Remove a tag.

    A registry that removes manifests only, by their digests, as distribution does before 3, would remove all tags of
    the image. There the tag is first moved to an artifact that nothing else stands for, and that is removed.

    :raises RegistryRefused: the credentials do not suffice.
    :raises FarmError: the registry removes nothing, and the tag stands for what it stood for; or it is still there.
    """
    try:
        registries.remove(tag)
    except NotSupported as exc:
        _remove_with_manifest(registries, tag, exc)
    found = registries.digest(tag, to_push=True)
    for pause in _PAUSES:
        if found is None:
            return
        time.sleep(pause)
        found = registries.digest(tag, to_push=True)
    if found is not None:
        raise FarmError(f"tag {tag} was removed, and stands for {found} still; does something else push to it?")


def _remove_with_manifest(registries: Registries, tag: Reference, refused: FarmError) -> None:
    blob = b"{}"
    registries.put_blob(tag, blob)
    descriptor = {"mediaType": _EMPTY_CONFIG, "digest": digest_of(blob), "size": len(blob)}
    artifact = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": _EMPTY_CONFIG,
        "config": descriptor,
        "layers": [descriptor],
        # Nothing else may ever stand for it.
        "annotations": {"removed": f"{tag.tag} {secrets.token_hex(16)}"},
    }
    content = json.dumps(artifact).encode()
    own = tag.at(digest_of(content))
    registries.put(own, OCI_MANIFEST, content)
    try:
        # Before the tag is touched it has to be certain that the registry removes anything.
        registries.remove(own)
    except NotSupported as exc:
        raise FarmError(
            f"tag {tag}: the registry {tag.registry} removes neither tags nor manifests ({refused.message}); have its "
            f"administrator allow that, or remove the tag there"
        ) from exc
    registries.put(own, OCI_MANIFEST, content)
    registries.put(tag, OCI_MANIFEST, content)
    registries.remove(own)
