# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.parallel import each, each_within


def test_all_at_the_same_time_and_in_order():
    together = threading.Barrier(3, timeout=10)

    def work(number):
        together.wait()
        return number * 10

    assert each(iter([1, 2, 3]), work) == [10, 20, 30]
    assert each_within(10, [1, 2, 3], work) == [10, 20, 30]


@pytest.mark.parametrize("items", [[], [1], [1, 2]])
def test_few(items):
    assert each(items, str) == [str(item) for item in items] == each_within(10, items, str)


def test_never_more_at_the_same_time_than_allowed():
    running, most = [], []

    def work(number):
        running.append(number)
        most.append(len(running))
        time.sleep(0.01)
        running.remove(number)

    each(range(12), work, workers=3)
    assert 1 < max(most) <= 3


def test_the_first_failure_in_order_is_raised_after_all_have_ended():
    ended = []

    def work(number):
        if number == 1:
            time.sleep(0.05)
        ended.append(number)
        if number in (1, 2):
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        each([0, 1, 2, 3], work)
    assert sorted(ended) == [0, 1, 2, 3]


def test_what_takes_too_long_is_gone_on_without():
    release = threading.Event()
    began = time.monotonic()
    found = each_within(0.1, ["slow", "fast"], lambda item: item if item == "fast" else release.wait(20))
    assert found == [None, "fast"] and time.monotonic() - began < 5
    release.set()
