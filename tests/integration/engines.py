"""What the tests of the role engine share: a repository that is served for a while, runs of the role, what they did."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import farm as farms
from ansible_runs import LiveFarm, Run

PORT = 8000
#: What hosts call the server.
SERVER = f"http://{farms.REGISTRY}:{PORT}"


@contextlib.contextmanager
def served(farm: LiveFarm, root: Path, path: str, key: str) -> Iterator[dict[str, Any]]:
    """Serve a directory to a farm's hosts for a while; gives the role's variables for the repository in it.

    :param path: of the repository, below the directory.
    :param key: of the key that it is signed with, likewise.
    """
    namespace, address = farm.farm.network.namespace(0), farm.address("registry")
    server = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, "-m", "http.server", str(PORT), "--directory", str(root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        farms.until(lambda: answers(f"http://{address}:{PORT}"), 20, "the repository does not answer")
        yield {
            "engine_source": "docker",
            "engine_repository": f"{SERVER}/{path}",
            "engine_repository_key_checksum": f"sha256:{hashlib.sha256((root / key).read_bytes()).hexdigest()}",
        }
    finally:
        server.kill()
        server.wait()


def answers(url: str) -> bool:
    """Whether something answers at an address."""
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=1).close()
    except OSError:
        return False
    return True


def apply(farm: LiveFarm, hosts: str, check: bool = False, **variables: Any) -> Run:
    """Apply the role to hosts."""
    return farm.play(
        [{"hosts": hosts, "gather_facts": False, "roles": ["buildfarm.multiarch.engine"]}],
        check=check,
        variables=variables,
    )


def as_predicted(predicted: Run, done: Run) -> bool:
    """Whether check mode predicted what was done; its guess about packages stands for any package manager's task."""
    return _changes(predicted) == _changes(done)


def _changes(run: Run) -> list[tuple[str, str]]:
    """The hosts and names of the tasks that changed something."""
    return sorted((task.host, _kind(task.task)) for task in run.tasks if task.result.get("changed"))


def _kind(name: str) -> str:
    name = name.rpartition(" : ")[2]
    return "packages" if name.startswith(("Install packages with", "Predict that packages")) else name
