# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How buildx itself gets at registries: with the logins and the authorities that the modules use, too.

buildx fetches the tokens that registries want for BuildKit, and writes the index of what several nodes have pushed. It
knows the logins of ``config.json``, and of the environment only when it is new, and trusts what this host trusts.

Source: moby/buildkit ``session/auth/authprovider``, docker/buildx ``util/imagetools``; for the directories of
certificates Go's ``crypto/x509`` (``root_unix.go``).
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Dict, Iterator, Sequence

from .._core.errors import FarmError
from .._core.files import write_atomically
from .._core.scratch import scratch_directory
from .._docker.config import config_dir, read_config
from .._docker.credentials import LOGINS, logins_of_environment, with_logins

#: Where Go looks for certificates unless SSL_CERT_DIR says so, beside the one file of the distribution's.
_DIRECTORIES = "/etc/ssl/certs:/etc/pki/tls/certs"


@contextlib.contextmanager
def registry_access(given: str, authorities: Sequence[bytes]) -> Iterator[Dict[str, str]]:
    """Let a buildx get at registries; what it takes is gone at the end.

    :param given: the docker configuration that the task names, empty for docker's own choice.
    :param authorities: PEM, to be trusted beside what this host trusts.
    :returns: environment variables for it.
    :raises FarmError: the logins cannot be read.
    """
    logins = logins_of_environment()
    if not logins and not authorities:
        yield {}
        return
    with scratch_directory("buildx-access-") as folder:
        environment: Dict[str, str] = {}
        if logins:
            environment.update(_configuration(Path(folder, "docker"), given, logins))
        if authorities:
            trusted = Path(folder, "authorities")
            trusted.mkdir()
            for number, content in enumerate(authorities):
                (trusted / f"{number}.crt").write_bytes(content)
            others = os.environ.get("SSL_CERT_DIR") or _DIRECTORIES
            environment["SSL_CERT_DIR"] = f"{trusted}:{others}"
        yield environment


def _configuration(folder: Path, given: str, logins: Dict[str, object]) -> Dict[str, str]:
    """Make a directory a docker configuration with other logins; all else is the user's own, by links."""
    folder.mkdir(mode=0o700)
    try:
        own = config_dir({"docker_config": given})
    except FarmError:
        # A user without a home directory has none.
        config, stored = {}, None
    else:
        config, stored = read_config(own), os.environ.get("BUILDX_CONFIG") or str(own / "buildx")
        for path in own.iterdir() if own.is_dir() else ():
            if path.name != "config.json":
                (folder / path.name).symlink_to(path)
    write_atomically(folder / "config.json", json.dumps(with_logins(config, logins)).encode(), 0o600)
    # The variable has been heeded; not every docker that knows it reads all that config.json may have.
    return {"DOCKER_CONFIG": str(folder), LOGINS: "", **({"BUILDX_CONFIG": stored} if stored else {})}
