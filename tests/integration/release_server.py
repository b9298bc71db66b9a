"""A host that serves releases of buildx, as a good and as a bad server."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
from collections.abc import Iterator

import buildx_releases
from ansible_runs import CHECKOUT, LiveFarm
from buildx_releases import OLD

FOLDER = "/srv/releases"


class Releases:
    """What is served, see file_server.py."""

    def __init__(self, farm: LiveFarm, host: str) -> None:
        self.farm, self.host = farm, host
        self.server = f"http://{farm.address(host)}:8123"

    def url(self, fault: str, version: str = OLD, arch: str = "amd64") -> str:
        """Where a file is served, whole or with a fault."""
        return f"{self.server}/{fault}/{buildx_releases.name(version, arch)}"

    def checksum(self, version: str = OLD, arch: str = "amd64") -> str:
        """The checksum of a file."""
        content = (buildx_releases.releases() / buildx_releases.name(version, arch)).read_bytes()
        return f"sha256:{hashlib.sha256(content).hexdigest()}"

    def size(self, version: str) -> int:
        """The size of a file in bytes."""
        return (buildx_releases.releases() / buildx_releases.name(version, "amd64")).stat().st_size


@contextlib.contextmanager
def served(farm: LiveFarm, host: str) -> Iterator[Releases]:
    """Serve releases on a host for a while."""
    releases = Releases(farm, host)
    with subprocess.Popen(["tar", "-cC", str(buildx_releases.releases()), "."], stdout=subprocess.PIPE) as packed:
        unpack = f"mkdir -p {FOLDER} && tar -xC {FOLDER}"
        subprocess.run(farm.farm.ssh(host, unpack), stdin=packed.stdout, check=True)
    script = (CHECKOUT / "tests/integration/file_server.py").read_text()
    start = "(setsid python3 file_server.py . 8123 >> log 2>&1 < /dev/null & echo $! > pid)"
    answers = (
        "until python3 -c 'import socket; socket.create_connection((\"localhost\", 8123))' 2>&-; do sleep 0.1; done"
    )
    farm.ssh(host, f"cd {FOLDER} && cat > file_server.py && {start} && {answers}", stdin=script)
    try:
        yield releases
    finally:
        farm.ssh(host, f"kill $(cat {FOLDER}/pid); rm -rf {FOLDER}")
