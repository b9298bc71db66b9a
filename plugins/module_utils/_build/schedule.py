# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which node takes the next build: at most so many at once on each, and none waits while a node is idle."""

from __future__ import annotations

import contextlib
import threading
from typing import Dict, Iterator, List, Mapping, Sequence, Set

#: Builds on one node at the same time, where neither the task nor the node's buildkitd configuration limits them.
PER_NODE = 4
#: Builds at the same time for each node, all together: each is a process of buildx on the controller.
_PER_NODE_IN_ALL = 2
_LEAST_IN_ALL = 16


class NoNodeLeft(Exception):
    """All nodes that may take a build are lost."""


class Slots:
    """The builds that run on the nodes of a farm; shared by threads.

    :param limits: how many builds a node takes at the same time.
    :param in_all: how many there may be at the same time on all nodes together.
    """

    def __init__(self, limits: Mapping[str, int], in_all: int = 0) -> None:
        self._limits = dict(limits)
        self._in_all = in_all or max(_LEAST_IN_ALL, _PER_NODE_IN_ALL * len(limits))
        self._running: Dict[str, int] = dict.fromkeys(limits, 0)
        self._waiting: Dict[str, int] = dict.fromkeys(limits, 0)
        self._lost: Set[str] = set()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, nodes: Sequence[str]) -> Iterator[str]:
        """Wait for a node, and have a build on it in the body of the ``with`` statement.

        :param nodes: those that may take the build, the best first. The first that is not lost is waited for; another
            one takes the build if it would be idle otherwise.
        :returns: the node's name.
        :raises NoNodeLeft: all of them are lost.
        """
        with self._changed:
            node = self._wait(nodes)
            self._running[node] += 1
        try:
            yield node
        finally:
            with self._changed:
                self._running[node] -= 1
                self._changed.notify_all()

    def lose(self, node: str) -> None:
        """Give no more builds to a node."""
        with self._changed:
            self._lost.add(node)
            self._changed.notify_all()

    def regain(self, node: str) -> None:
        """Give builds to a node again that was lost."""
        with self._changed:
            self._lost.discard(node)
            self._changed.notify_all()

    def busy(self) -> List[str]:
        """Return the nodes that have builds at the moment."""
        with self._changed:
            return sorted(node for node, running in self._running.items() if running and node not in self._lost)

    def _wait(self, nodes: Sequence[str]) -> str:
        while True:
            left = [node for node in nodes if node not in self._lost]
            if not left:
                raise NoNodeLeft
            chosen = left[0]
            if sum(self._running.values()) < self._in_all:
                if self._running[chosen] < self._limits[chosen]:
                    return chosen
                idle = [node for node in left if not self._running[node] and not self._waiting[node]]
                if idle:
                    return idle[0]
            self._waiting[chosen] += 1
            self._changed.wait()
            self._waiting[chosen] -= 1
