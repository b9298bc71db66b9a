"""The one cache directory of the farm: finished artifacts, downloads, logs.

Layout of `$BUILDFARM_CACHE` (default `/var/cache/buildfarm-multiarch`):

    NAME-KEY/                a finished artifact; never changed once it is there
    .NAME-KEY.building/      a build under way, or what a dead one left
    .NAME-KEY.lock           flock of that build
    apt/, debootstrap-…/     .deb files
    go/                      Go's build cache
    environments/            virtual environments, and what ansible-test keeps
    farms/NAME/              all that a farm's hosts write; in memory
    packages/SUITE/          .deb files that hosts downloaded
    log/NAME.log             the output of the tools of the last build

KEY is a SHA-256 over everything that went in, so nothing is ever invalidated:
other inputs are another artifact. The whole directory may be deleted at any
time while no farm is up.
"""

from __future__ import annotations

import contextvars
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_log: contextvars.ContextVar[str] = contextvars.ContextVar("log", default="tools")


class ToolError(Exception):
    """A program failed; the message holds its last lines and the log's path."""


def root() -> Path:
    """The cache directory, made if it is missing."""
    path = Path(os.environ.get("BUILDFARM_CACHE") or "/var/cache/buildfarm-multiarch")
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path.resolve()


def say(message: str) -> None:
    """One line for the person who waits; whole, whatever other threads say meanwhile."""
    sys.stderr.write(f"farm: {message}\n")
    sys.stderr.flush()


def digest(*files: Path) -> list[str]:
    """SHA-256 of each file's content, for use among an artifact's inputs."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def artifact(name: str, inputs: Any, build: Callable[[Path], object], about: str = "a moment") -> Path:
    """The finished directory for `name` and `inputs`, built if it is missing.

    `inputs` is anything that JSON can hold, and must name all that decides the
    result. `build(directory)` fills an empty directory; it becomes the artifact
    in one rename, so a build that dies leaves nothing that looks finished.
    `about` completes "building NAME (…)": why it takes long, and how long.
    """
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:12]
    final = root() / f"{name}-{key}"
    if final.is_dir():
        return final
    with _locked(root() / f".{final.name}.lock"):
        if final.is_dir():
            return final
        _sweep()
        work = root() / f".{final.name}.building"
        remove(work)
        work.mkdir(mode=0o755)
        say(f"building {name} ({about}) …")
        started = time.monotonic()
        token = _log.set(name)
        log_path().unlink(missing_ok=True)
        try:
            build(work)
        except BaseException:
            remove(work)
            raise
        finally:
            _log.reset(token)
        work.rename(final)
        say(f"built {name} in {time.monotonic() - started:.0f} s")
    return final


def remove(path: Path) -> None:
    """Delete a tree, unmounting first whatever is mounted inside it.

    Without the unmounting, a bind mount that a killed run left behind would
    lead the deletion out of the tree.
    """
    if not path.is_symlink() and not path.exists():
        return
    here = str(path.resolve())
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        points = [line.split()[4].encode().decode("unicode_escape") for line in table]
    for point in sorted(points, reverse=True):
        if point == here or point.startswith(here + "/"):
            subprocess.run(["umount", "--lazy", point], check=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sweep() -> None:
    """Remove what dead builds left: a directory whose lock nobody holds."""
    for left in root().glob(".*.building"):
        with open(left.with_suffix(".lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            remove(left)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def directory(name: str) -> Path:
    """A directory of the cache that tools share and that may be deleted."""
    path = root() / name
    path.mkdir(exist_ok=True)
    return path


@contextmanager
def downloads() -> Iterator[Path]:
    """The directory of .deb files, to one process at a time."""
    path = directory("apt")
    (path / "partial").mkdir(exist_ok=True)
    with _locked(root() / ".apt.lock"):
        yield path


def log_path() -> Path:
    """Where the tools of the build under way write."""
    return directory("log") / f"{_log.get()}.log"


def run(
    argv: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    capture: bool = False,
    what: str | None = None,
) -> str:
    """Run a program; its output goes to the log. Returns stdout if `capture`.

    `what` names it in messages where `argv` itself says little.

    The program ends with the caller, even if that is killed (PDEATHSIG): an
    orphan would go on writing into a directory that the next build removes.
    Raises ToolError if it exits non-zero or cannot be started.
    """
    args = [str(arg) for arg in argv]
    what = what or " ".join(args)
    path = log_path()
    with open(path, "a+", encoding="utf-8", errors="replace") as log:
        log.write(f"$ {what}\n")
        log.flush()
        start = log.tell()
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", *args],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else log,
            stderr=log,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode:
            log.seek(start)
            last = ((done.stdout or "") + log.read()).splitlines()[-20:]
            raise ToolError(
                f"{what[:300]}: exit code {done.returncode}; its last lines:\n"
                + "".join(f"  {line}\n" for line in last)
                + f"  all of it: {path}"
            )
    return done.stdout or ""
