# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node as it is to be stored: what is declared of it, over what is stored. Everything here is pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Mapping, Optional, Sequence
from urllib.parse import urlencode

from .._buildx.authorities import with_authorities
from .._buildx.buildkitd import limited, same_config, stored_flags
from .._buildx.store import Node
from .._core.errors import FarmError
from .declaration import Declaration, NodeSpec
from .model import same_endpoint


def merge(
    spec: NodeSpec,
    declaration: Declaration,
    driver: str,
    stored: Sequence[Node],
    default_files: Optional[Mapping[str, bytes]],
) -> Node:
    """Return a node as it is to be stored; what is not declared stays as stored, and is buildx's default if new.

    :raises FarmError: it is new and has no endpoint, or what is declared cannot be laid over its
        configuration.
    """
    old = next((node for node in stored if node.name == spec.name), None)
    base = old or Node(spec.name, _new_endpoint(spec, declaration, driver), files=default_files)
    endpoint = base.endpoint
    if spec.endpoint is not None and not same_endpoint(spec.endpoint, base.endpoint):
        endpoint = spec.endpoint
    platforms, opts, files = base.platforms, base.driver_opts, base.files
    if spec.platforms is not None and spec.platforms != (platforms or ()):
        platforms = spec.platforms or None
    wanted_opts = _options(spec, opts or {})
    if wanted_opts != dict(opts or {}):
        opts = wanted_opts or None
    wanted_files = spec.files if spec.cache is None else limited(files or {}, spec.cache)
    if spec.authorities is not None:
        wanted_files = with_authorities((files or {}) if wanted_files is None else wanted_files, spec.authorities)
    if wanted_files is not None and not same_config(wanted_files, files or {}):
        files = dict(wanted_files) or None
    flags = base.flags
    if old is None or spec.flags is not None:
        wanted = stored_flags(spec.flags or (), driver, opts or {}, files or {})
        flags = wanted if wanted != (flags or ()) else flags
    return replace(base, endpoint=endpoint, platforms=platforms, driver_opts=opts, flags=flags, files=files)


def _options(spec: NodeSpec, stored: Mapping[str, str]) -> Dict[str, str]:
    opts = dict(stored if spec.driver_opts is None else spec.driver_opts)
    if spec.env is None:
        return opts
    plain = {key: value for key, value in opts.items() if not key.startswith("env.")}
    return {**plain, **{f"env.{name}": value for name, value in spec.env.items()}}


def _new_endpoint(spec: NodeSpec, declaration: Declaration, driver: str) -> str:
    if driver == "kubernetes":
        # buildx needs a name that differs between nodes; nothing is ever connected to by it.
        query = urlencode(sorted({"deployment": spec.name, "kubeconfig": declaration.kubeconfig}.items()))
        return f"kubernetes:///{declaration.name}?{query}"
    if spec.endpoint is None:
        raise FarmError(f"builder {declaration.name!r}: node {spec.name!r} is new and has no endpoint; declare one")
    return spec.endpoint
