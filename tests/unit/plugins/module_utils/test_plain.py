# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.plain import plain


@pytest.mark.parametrize(
    "text, shown",
    [
        ("", ""),
        ("ä\n  b", "ä\n  b"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("1 %\r50 %\r100 %\nnext", "100 %\nnext"),
        ("done\r", "done"),
        ("\x1b[1;31mred\x1b[0m \x1b[2K\x1b[?25lx", "red x"),
        ("\x1b]0;title\x07a \x1b]8;;http://b\x1b\\link", "a link"),
        ("\x1b(Ba\x1b7b\x1bcc", "abc"),
        ("a\tb", "a b"),
        ("a\x07\x08\x00", "a" + "\N{REPLACEMENT CHARACTER}" * 3),
        ("\x1b", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_text_as_a_terminal_leaves_it(text, shown):
    assert plain(text) == shown
