# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same work for each of many items, at the same time."""

from __future__ import annotations

import threading
import time
from typing import Callable, Iterable, List, Optional, Sequence, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

#: Seconds by which ``each_within`` may exceed its time limit, for work that observes the same limit itself.
_GRACE = 0.2


def each(items: Iterable[Item], work: Callable[[Item], Made], workers: int = 32) -> List[Made]:
    """Do the same to each of many items, several at the same time; returns the results in order.

    :param workers: how many at most at the same time.
    :raises Exception: the first failure in order, after all have ended.
    """
    listed = list(items)
    if len(listed) < 2:
        return [work(item) for item in listed]
    # Its import takes milliseconds, which most runs can do without.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(workers, len(listed))) as pool:
        # Its map would cancel, at a failure, what has not begun.
        begun = [pool.submit(work, item) for item in listed]
        return [one.result() for one in begun]


def each_within(timeout: float, items: Sequence[Item], work: Callable[[Item], Made]) -> List[Optional[Made]]:
    """Do the same to each of many items at the same time, and go on without those that take too long.

    :param timeout: seconds that the whole call takes, a little more at most.
    :param work: must not raise.
    :return: the results in order, None for each that was not there in time.
    """
    deadline = time.monotonic() + timeout
    found: List[Optional[Made]] = [None] * len(items)

    def enter(position: int, item: Item) -> None:
        found[position] = work(item)

    # Daemons, as a name server that does not answer blocks a thread for longer than any timeout of ours.
    threads = [threading.Thread(target=enter, args=pair, daemon=True) for pair in enumerate(items)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline + _GRACE - time.monotonic()))
    return list(found)
