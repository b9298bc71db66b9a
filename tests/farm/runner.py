"""Hosts that make execution environments and run jobs in them: with ansible-builder, podman and ansible-runner.

podman keeps images beside the engine's, in memory: overlays cannot be stacked on the overlay of the host's root.
"""

from __future__ import annotations

from pathlib import Path

import bases
import cache

_REQUIREMENTS = Path(__file__).parents[1] / "requirements-runner.txt"
_PACKAGES = ["podman", "crun", "python3-venv"]
_INSTALL = (
    "python3 -m venv /opt/runner; /opt/runner/bin/python -m pip install --quiet -r /root/requirements.txt; "
    "ln -s /opt/runner/bin/ansible-* /usr/local/bin"
)
_FILES = {
    "etc/containers/storage.conf": (
        '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/docker/podman"\n'
    ),
    # This machine may neither raise limits nor have controllers of control groups.
    "etc/containers/containers.conf": (
        '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\ncgroups = "disabled"\n'
        'netns = "host"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    ),
}


def base(suite: str) -> Path:
    """The root file system of such a host."""
    lower = bases.base(suite)

    def build(root: Path) -> None:
        with bases.sharing(lower, root):
            bases.install(root, _PACKAGES)
        for path, text in _FILES.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (root / "root/requirements.txt").write_text(_REQUIREMENTS.read_text())
        bases.chroot(root, ["sh", "-ec", _INSTALL], env={"PIP_CERT": "/etc/ssl/certs/ca-certificates.crt"})

    inputs = [1, lower.name, _PACKAGES, _FILES, *cache.digest(_REQUIREMENTS)]
    return cache.artifact(
        f"runner-{suite}", inputs, build, "podman, ansible-builder and ansible-runner, a minute, once"
    )
