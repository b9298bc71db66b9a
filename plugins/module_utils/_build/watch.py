# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ending the builds of a node that went away: a connection without its other end would be waited for without end."""

from __future__ import annotations

import contextlib
import threading
from typing import Callable, Dict, Iterator, List, Mapping, Sequence

from .._core.ending import kill

#: Seconds between two probes.
_INTERVAL = 3.0
#: Probes without an answer after which a node is gone: one may be lost.
_SILENT_PROBES = 2
#: And after which one is that still takes connections: a machine that is very busy building answers late.
_BUSY_PROBES = 20


class Watch:
    """The programs that build on nodes; shared by threads.

    :param unanswering: returns those of some nodes that do not answer, with whether they take connections.
    :param gone: is told the name of a node whose programs are ended.
    """

    def __init__(
        self, unanswering: Callable[[Sequence[str]], Mapping[str, bool]], gone: Callable[[str], object]
    ) -> None:
        self._unanswering = unanswering
        self._gone = gone
        self._groups: Dict[str, List[int]] = {}
        self._silent: Dict[str, int] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Probe the nodes that have builds while the context lasts."""
        thread = threading.Thread(target=self._probe_on, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    @contextlib.contextmanager
    def listed(self, node: str) -> Iterator[Callable[[int], None]]:
        """Have a program ended with its node while the context lasts; what is returned takes its process group.

        :param node: its name, empty for one that nobody watches.
        """
        groups: List[int] = []

        def add(group: int) -> None:
            with self._lock:
                groups.append(group)
                self._groups.setdefault(node, []).append(group)

        try:
            yield add
        finally:
            with self._lock:
                for group in groups:
                    self._groups[node].remove(group)

    def _probe_on(self) -> None:
        while not self._ended.wait(_INTERVAL):
            self.probe()

    def probe(self) -> None:
        """Probe the nodes that have builds, and end those of the ones that are gone."""
        with self._lock:
            busy = [node for node, groups in self._groups.items() if node and groups]
        silent = self._unanswering(busy) if busy else {}
        self._silent = {node: self._silent.get(node, 0) + 1 for node in silent}
        for node in sorted(silent):
            if self._silent[node] >= (_BUSY_PROBES if silent[node] else _SILENT_PROBES):
                self._gone(node)
                with self._lock:
                    for group in self._groups[node]:
                        kill(group)
