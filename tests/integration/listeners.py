"""Engines that listen on TCP for a while: for tests of what reaches engines, whatever configures them in the end."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from ansible_runs import LiveFarm

_DROP_IN = PurePosixPath("/etc/systemd/system/docker.service.d/zz-listener-of-a-test.conf")
_FILES = PurePosixPath("/etc/docker/listener-of-a-test")
_RESTART = "systemctl daemon-reload; systemctl reset-failed docker; systemctl restart docker"
TLS_VERIFY = "-H tcp://0.0.0.0:2376 --tlsverify"
#: Until 29 an engine with --tls alone wants client certificates all the same.
TLS_ONLY = "-H tcp://0.0.0.0:2376 --tlsverify=false"
PLAIN = "-H tcp://0.0.0.0:2375 --tls=false"


@contextlib.contextmanager
def listening(farm: LiveFarm, controller: str, directory: str, nodes: dict[str, str]) -> Iterator[None]:
    """Restart engines with a TCP listener, and as they were at the end.

    :param controller: the host with the certificates.
    :param directory: `directory` of module docker_certificates there, with a server certificate for each node.
    :param nodes: one of the flags above by host.
    """
    with ThreadPoolExecutor() as pool:
        try:
            list(pool.map(lambda node: _configure(farm, controller, directory, node, nodes[node]), nodes))
            yield
        finally:
            list(pool.map(lambda node: farm.ssh(node, f"rm -rf {_DROP_IN} {_FILES}; {_RESTART}"), nodes))


@contextlib.contextmanager
def let_in_by_ssh(farm: LiveFarm, controller: str, node: str) -> Iterator[None]:
    """Let a controller's root in at a node with a key, and put everything back."""
    farm.ssh(
        controller,
        "mkdir -p -m 700 ~/.ssh; cp -a ~/.ssh ~/ssh-before; rm -f ~/.ssh/id_*; "
        f"ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519; ssh-keyscan {node} 2>/dev/null >> ~/.ssh/known_hosts",
    )
    public = farm.ssh(controller, "cat ~/.ssh/id_ed25519.pub")
    farm.ssh(node, "cp -a ~/.ssh/authorized_keys ~/authorized-before; cat >> ~/.ssh/authorized_keys", stdin=public)
    try:
        yield
    finally:
        farm.ssh(node, "mv ~/authorized-before ~/.ssh/authorized_keys")
        farm.ssh(controller, "rm -rf ~/.ssh; mv ~/ssh-before ~/.ssh")


def _configure(farm: LiveFarm, controller: str, directory: str, node: str, flags: str) -> None:
    farm.ssh(node, f"mkdir -p {_DROP_IN.parent} {_FILES}")
    for name in ("ca", "cert", "key"):
        content = farm.ssh(controller, f"cat {shlex.quote(f'{directory}/servers/{node}/{name}.pem')}")
        farm.ssh(node, f"umask 077; cat > {_FILES}/{name}.pem", stdin=content)
    if flags != PLAIN:
        flags += f" --tlscacert {_FILES}/ca.pem --tlscert {_FILES}/cert.pem --tlskey {_FILES}/key.pem"
    command = f"/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock {flags}"
    farm.ssh(node, f"cat > {_DROP_IN}", stdin=f"[Service]\nExecStart=\nExecStart={command}\n")
    farm.ssh(node, _RESTART)
