# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""dockerd's command line: which of its flags open a socket, and what a command is without those of the network."""

from __future__ import annotations

import itertools
import re
import shlex
from typing import Callable, Iterable, Iterator, List, Sequence, Tuple

DEFAULT_CONFIG = "/etc/docker/daemon.json"
#: A word of a command with its quotes.
_RAW_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:\\.|[^"\\])*"|'[^']*')+""")
#: Those of dockerd's flags that are evaluated here and take a value.
_VALUED = ("--host", "--config-file", "--tlscacert", "--tlscert", "--tlskey")
#: dockerd's short flags, except for ``-H``.
_SHORT = {
    "-D": "--debug",
    "-G": "--group",
    "-b": "--bridge",
    "-g": "--graph",
    "-l": "--log-level",
    "-p": "--pidfile",
    "-s": "--storage-driver",
}


def options(words: Iterable[str], read: Callable[[str], str] = str) -> Iterator[Tuple[str, str, Tuple[str, ...]]]:
    """Yield the flags of dockerd's command line: name, value, and the words that it consists of.

    A value follows in the next word, after ``=``, or directly after ``-H``, which is reported as ``--host``. All other
    words are yielded as flags too; their values are not reliable.

    :param read: unquotes a word.
    """
    left = iter(words)
    for raw in left:
        word = read(raw)
        name, equals, value = word.partition("=")
        if word.startswith("-H"):
            name, equals, value = "--host", word[2:3], word[2:].lstrip("=")
        name = _SHORT.get(name, name)
        following = tuple(itertools.islice(left, 1)) if name in _VALUED and not equals else ()
        yield name, read(following[0]) if following else value, (raw, *following)


def hosts(arguments: Sequence[str]) -> Tuple[str, ...]:
    """Return the values of dockerd's ``-H``/``--host`` in any of the forms that its flags take."""
    return tuple(value for name, value, _words in options(arguments) if name == "--host")


def on_network(host: str) -> bool:
    """Return whether a value of ``-H`` opens a TCP port: one without a scheme does too.

    Source: moby ``opts/hosts.go``, ``parseDaemonHost``.
    """
    scheme, separator, _address = host.strip().partition("://")
    return scheme == "tcp" if separator else bool(scheme)


def is_network(name: str, value: str) -> bool:
    """Return whether a flag of dockerd, as ``options`` gives it, has to do with listening on TCP."""
    return name.startswith("--tls") or (name == "--host" and on_network(value))


def without_network(command: str) -> Tuple[str, Tuple[str, ...]]:
    """Return a command without the flags that make dockerd listen on TCP, else exactly as written, and those flags.

    Removed are ``-H`` with a TCP address and the flags that begin with ``--tls``, unless a variable contains them.
    """
    remaining: List[str] = []
    removed: List[str] = []
    for name, value, words in options(_RAW_WORD.findall(command), _unquoted):
        (removed if is_network(name, value) and not value.startswith("$") else remaining).extend(words)
    return (" ".join(remaining) if removed else command), tuple(removed)


def _unquoted(raw: str) -> str:
    return "".join(shlex.split(raw))
