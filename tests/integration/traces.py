"""Where private keys have left traces: in what Ansible printed, in journals, in files that others may read."""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ansible_runs import CHECKOUT, LiveFarm, Run

_PEM = re.compile(r"-----BEGIN (?:EC |RSA |ENCRYPTED )?PRIVATE KEY-----\n(.+?)-----END [A-Z ]+-----\n?", re.DOTALL)
#: Where programs put what they need for a moment; nothing of a key may stay there, whoever may read it.
_FOR_A_MOMENT = "/tmp /var/tmp /root/.ansible"


def texts_of(pem: str) -> list[str]:
    """What of the private keys in a PEM text betrays them: each line of the keys, and parts of them encoded again."""
    found = ["PRIVATE KEY"]
    for key in _PEM.finditer(pem):
        found += [line for line in key.group(1).splitlines() if len(line) > 20]
        # As slurp returns a file and copy gets it; how it begins is the same for all keys.
        encoded = base64.b64encode(key.group().encode()).decode()
        found += [encoded[start : start + 60] for start in range(100, len(encoded) - 60, 60)]
    return found


def in_output(run: Run, texts: Iterable[str]) -> list[str]:
    """The lines of a run's output with one of these texts, and files that Ansible left here."""
    lines = [line[:300] for line in (run.stdout + run.stderr).splitlines() if any(text in line for text in texts)]
    return lines + [str(path) for path in _own_files() if any(text in _read(path) for text in texts)]


def _own_files() -> Iterator[Path]:
    """Ansible's files here; other runs make and remove theirs meanwhile, which os.walk passes over."""
    for directory, _directories, names in os.walk(CHECKOUT / ".build/ansible"):
        yield from (Path(directory, name) for name in names)


def _read(path: Path) -> str:
    """A file's text; none where it has been removed, or is a socket."""
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")
    return ""


def on_host(farm: LiveFarm, host: str, texts: Iterable[str], since: float) -> list[str]:
    """The lines of a host's journal, and the files written since a time that not only their owner may read."""
    grep = "grep -Ff /run/texts"
    script = (
        f"umask 077; cat > /run/texts; journalctl -q --since=@{since:.0f} -o cat | {grep} | cut -c1-300; "
        "find / /run /dev/shm -xdev '(' -path /var/lib/docker -o -path /var/lib/containerd ')' -prune"
        f" -o -type f -perm /044 -newermt @{since:.0f} -print0 | xargs -0r {grep} -ls; "
        f"{grep} -rls {_FOR_A_MOMENT}; rm /run/texts"
    )
    return farm.ssh(host, script, stdin="\n".join(texts)).splitlines()
