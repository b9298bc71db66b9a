# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A docker configuration for one job, on a controller that keeps nothing: the logic of the module ``farm_job``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

from ._buildx.store import Store
from ._core.environment import expanded
from ._core.errors import FarmError
from ._core.files import is_writable, read_bytes, write_atomically
from ._core.runner import Runner
from ._docker.config import config_dir, read_config, transience
from ._docker.credentials import logins_of_environment, with_logins

_PREFIX = "buildfarm-job-"
#: Seconds after which what an interrupted run has left is of no use: its certificates are valid for a day.
_ABANDONED = 86400
#: Of docker's ``config.json``: what names contexts that a job may not have.
_NOT_COPIED = ("currentContext",)
#: What else the user's configuration may have: programs, contexts, and what buildx gives each new node.
_PLUGINS, _CONTEXTS, _BUILDKITD = "cli-plugins", "contexts", "buildkitd.default.toml"
_CREDENTIALS = ("ca", "cert", "key")


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Dict[str, Any]:
    """Run the module ``farm_job``.

    :raises FarmError: the user's configuration cannot be read, or there is no place for a directory.
    """
    if params["state"] == "absent":
        _remove(params["directory"])
        return _described(None, "")
    reason = _reason(params)
    if reason is None:
        return _described(None, "")
    _sweep()
    try:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as exc:
        raise FarmError(
            f"no directory for this job can be made in {tempfile.gettempdir()}: {exc.strerror}; name one that can be"
            " written in the environment variable TMPDIR"
        ) from exc
    try:
        _fill(directory, params)
    except FarmError:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    except OSError as exc:
        shutil.rmtree(directory, ignore_errors=True)
        raise FarmError(f"docker's configuration could not be copied for this job: {exc}") from exc
    return _described(directory, reason, bool(params["certificate"]))


def _reason(params: Mapping[str, Any]) -> Optional[str]:
    """Return why docker's configuration is to be this job's own, None where the user's is used.

    :raises FarmError: the user's cannot be read, or will not do.
    """
    if params["certificate"] and params["force"] is False:
        raise FarmError(
            "the client's certificate is given as text, which is kept in the directory of a job only; wanted no"
            " force=false (farm_job), or the paths of its files"
        )
    if params["force"] is not None:
        return "it is wanted" if params["force"] else None
    if params["certificate"]:
        return "the client's certificate is kept nowhere"
    with contextlib.suppress(FarmError):
        if Store.of(params).read(params["builder"]) is not None:
            return None
        if not params["lasting"]:
            return f"there is no builder {params['builder']!r} here"
    return transience(params)


def _fill(directory: Path, params: Mapping[str, Any]) -> None:
    """Make a directory a docker configuration with all of the user's that builds need, and no more."""
    try:
        own = config_dir(params)
        config = {key: value for key, value in read_config(own).items() if key not in _NOT_COPIED}
        if (own / _PLUGINS).is_dir():
            (directory / _PLUGINS).symlink_to((own / _PLUGINS).resolve())
        if (own / _CONTEXTS).is_dir():
            shutil.copytree(own / _CONTEXTS, directory / _CONTEXTS)
        defaults = read_bytes(Store.of(params).directory / _BUILDKITD)
    except FarmError:
        if params["docker_config"] or os.environ.get("DOCKER_CONFIG") or _has_home():
            raise
        config, defaults = {}, None
    logins = logins_of_environment()
    config = with_logins(config, logins) if logins else config
    write_atomically(directory / "config.json", json.dumps(config, indent="\t").encode(), 0o600)
    (directory / "buildx").mkdir(mode=0o700)
    if defaults is not None:
        write_atomically(directory / "buildx" / _BUILDKITD, defaults, 0o600)
    if params["certificate"]:
        (directory / "client").mkdir(mode=0o700)
        for name in _CREDENTIALS:
            text = params["certificate"].get(name)
            if not text:
                raise FarmError(
                    f"certificate: {name} is missing; wanted the texts of ca, cert and key, in PEM, all of them"
                )
            write_atomically(directory / "client" / f"{name}.pem", text.strip().encode() + b"\n", 0o600)


def _has_home() -> bool:
    try:
        return bool(expanded("~"))
    except FarmError:
        return False


def _described(directory: Optional[Path], reason: str, certificate: bool = False) -> Dict[str, Any]:
    """Return the module's values."""
    names = _CREDENTIALS if directory and certificate else ()
    return {
        "directory": None if directory is None else str(directory),
        "environment": {} if directory is None else _environment(directory),
        "certificate": {f"{name}_path": str(directory / "client" / f"{name}.pem") for name in names if directory},
        "reason": reason or None,
    }


def _environment(directory: Path) -> Dict[str, str]:
    found = {"DOCKER_CONFIG": str(directory), "BUILDX_CONFIG": str(directory / "buildx")}
    try:
        # What was sent of build contexts is noted there, and is known to the next job as long as that can be.
        kept = is_writable(Path(os.environ.get("XDG_STATE_HOME") or expanded("~/.local/state")))
    except FarmError:
        kept = False
    return found if kept else {**found, "XDG_STATE_HOME": str(directory / "state")}


def _remove(directory: Optional[str]) -> None:
    """Remove a job's directory.

    :raises FarmError: it is none, or cannot be removed.
    """
    if not directory:
        return
    path = Path(directory)
    if not path.name.startswith(_PREFIX):
        raise FarmError(
            f"{path}: not the directory of a job, which begins with {_PREFIX}; wanted what state=present gave"
        )
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise FarmError(f"{path}: it holds keys, and could not be removed: {exc.strerror}; remove it by hand") from exc


def _sweep() -> None:
    """Remove directories of this user that runs have left which were killed."""
    for path in _abandoned():
        shutil.rmtree(path, ignore_errors=True)


def _abandoned() -> Iterator[Path]:
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > _ABANDONED:
                yield path
