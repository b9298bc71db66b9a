# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts that others have compressed: what they become has a limit, as a few bytes may stand for any number of them."""

from __future__ import annotations

import base64
import zlib


def inflated(text: str, most: int) -> bytes:
    """Return what a text in base64 holds, compressed by zlib.

    :param most: bytes that it may be.
    :raises ValueError: it is no such text, or more than that.
    """
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(base64.b64decode(text, validate=True), most + 1)
    except zlib.error as exc:
        raise ValueError(str(exc)) from exc
    if len(content) > most:
        raise ValueError(f"more than {most} bytes")
    if not stream.eof:
        raise ValueError("it is cut")
    return content
