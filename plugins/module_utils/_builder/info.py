# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Describing the builders of a store, for the module ``buildx_builder_info``."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from .._buildx.store import StoreError
from .._core.parallel import each
from .._core.runner import Runner
from .model import describe
from .nodes import Site, read_nodes


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Dict[str, Any]:
    """Run the module ``buildx_builder_info``."""
    site = Site.from_params(params, runner)
    wanted = params["name"].lower() if params["name"] else None
    current = site.store.in_use(site.contexts.current_endpoint())
    names = [name for name in site.store.names() if wanted in (None, name)]
    return {"builders": each(names, lambda name: {**_report(name, site), "current": name == current})}


def _report(name: str, site: Site) -> Dict[str, Any]:
    try:
        instance = site.store.get(name)
    except StoreError as exc:
        return {"name": name, "driver": None, "nodes": [], "platforms": [], "error": exc.message}
    if instance is None:  # removed since it was listed
        return {"name": name, "driver": None, "nodes": [], "platforms": [], "error": "the builder was just removed"}
    states = read_nodes(instance.name, instance.driver, instance.nodes, site)
    return {**describe(instance, states), "error": None}
