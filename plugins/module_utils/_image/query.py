# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JMESPath queries."""

from __future__ import annotations

from typing import Any, Callable

from .._core.errors import FarmError, missing_library


def compiled(text: str) -> Callable[[Any], Any]:
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

    def search(document: Any) -> Any:
        try:
            return compiled.search(document)
        except jmespath.exceptions.JMESPathError as exc:
            raise FarmError(f"query {text!r} cannot be applied to the image: {exc}") from exc

    return search
