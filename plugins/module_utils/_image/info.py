# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading an image's index: the logic of ``buildx_imagetools_info``."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

from .._buildx.cli import Buildx
from .._buildx.placement import find_builder, nodes_in_use
from .._buildx.store import Store, chosen_builder
from .._core.errors import FarmError, missing_library
from .._core.runner import Runner
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._docker.reference import Reference
from .._registry.client import Registries
from .index import read_index


def run(params: Dict[str, Any], _check_mode: bool, runner: Runner) -> Mapping[str, Any]:
    """Return what an image's name stands for in its registry.

    :raises FarmError: the registry cannot be read, or the query is not JMESPath; a missing image is no error.
    """
    reference = Reference.parse(params["name"])
    store, name = Store.of(params), chosen_builder(params)
    if name:
        nodes = find_builder(Buildx.of(params, runner), store, name).nodes
    else:
        nodes = nodes_in_use(store, ContextStore(config_dir(params)))
    query = _compiled(params["query"]) if params.get("query") else None
    index = read_index(Registries.of(params, nodes), reference)
    found: Optional[Dict[str, Any]] = {"name": str(reference), **index.as_dict()} if index else None
    values: Dict[str, Any] = {"exists": index is not None, "index": found}
    if query:
        values["result"] = query(found) if found else None
    return values


def _compiled(text: str) -> Callable[[Dict[str, Any]], Any]:
    """Return a JMESPath query as a function.

    :raises FarmError: the library is missing, or the text is no query.
    """
    try:
        import jmespath
        import jmespath.exceptions
    except ImportError as exc:
        raise missing_library("jmespath", exc) from exc
    try:
        compiled = jmespath.compile(text)
    except jmespath.exceptions.JMESPathError as exc:
        raise FarmError(f"query {text!r} is not a JMESPath expression: {exc}") from exc

    def search(document: Dict[str, Any]) -> Any:
        try:
            return compiled.search(document)
        except jmespath.exceptions.JMESPathError as exc:
            raise FarmError(f"query {text!r} cannot be applied to the index: {exc}") from exc

    return search
