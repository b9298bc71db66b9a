# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few facts that the roles decide by, of a node or a controller."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from ._binfmt.rules import read_rule_files
from ._core.files import read_bytes
from ._core.runner import Runner
from ._core.version import upstream
from ._docker.config import plugin_candidates, transience
from ._docker.names import TLS_DIRECTORY
from ._docker.tls import key_problem
from ._host.init import BOOTED
from ._host.systemd import UnitFiles
from ._packages.distribution import ENGINES, LIBRARIES, distribution, docker_repository, installed
from ._platform.elf import arch_of

#: Where packages put the engine, which the search path of an account other than root may lack.
_ENGINE_PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Dict[str, Any]:
    """Return the facts: the logic of the module ``farm_facts``."""
    packages = installed(runner)
    found = {
        "system": os.uname().sysname,
        "systemd": os.path.isdir(BOOTED),
        **distribution(),
        "packages": {name: upstream(version) for name, version in packages.items()},
        "engine_package_version": next((packages[name] for name in ENGINES if name in packages), None),
        "repository": docker_repository(),
        "engine": UnitFiles.find("docker.service").fragment is not None,
        "engine_architecture": _engine_architecture(),
        "listener": _listener(),
        "emulators": any(rule.handler.is_qemu for file in read_rule_files() for rule in file.rules()),
        "python": {"executable": sys.executable, "version": list(sys.version_info[:2])},
        "docker": shutil.which("docker"),
        "buildx": next((str(path) for path in plugin_candidates({}) if os.access(path, os.X_OK)), None),
        "docker_config_transience": transience({}),
        "missing_libraries": [name for name in LIBRARIES if importlib.util.find_spec(name) is None],
    }
    host = os.uname()
    return {"ansible_facts": {"architecture": host.machine, "nodename": host.nodename, "buildfarm": found}}


def _listener() -> Dict[str, Optional[str]]:
    """Return what a controller that keeps nothing has to know of the engine's listener: nothing of the key."""
    folder = Path(TLS_DIRECTORY)
    found: Dict[str, Optional[bytes]] = dict.fromkeys(("ca", "cert", "key"))
    for name in found:
        with contextlib.suppress(OSError):
            found[name] = read_bytes(folder / f"{name}.pem")
    ca, certificate, key = found.values()
    fits = certificate and key and key_problem(certificate, key) is None
    return {
        "ca": ca.decode(errors="replace") if ca else None,
        "certificate": certificate.decode(errors="replace") if certificate and fits else None,
    }


def _engine_architecture() -> Optional[str]:
    """Return the architecture that the engine is built for, which is what it reports as its own.

    Asking the engine itself would start one that systemd starts when its socket is used.
    """
    path = shutil.which("dockerd", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_ENGINE_PLACES]))
    try:
        with open(path or os.devnull, "rb") as stream:
            return arch_of(stream.read(20))
    except OSError:
        return None
