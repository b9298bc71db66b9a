"""Engines that listen on TCP for a while: for tests of what reaches engines, whatever configures them in the end."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath

from ansible_runs import LiveFarm

_DROP_IN = PurePosixPath("/etc/systemd/system/docker.service.d/zz-listener-of-a-test.conf")
_FILES = PurePosixPath("/etc/docker/listener-of-a-test")
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
    try:
        for node, flags in nodes.items():
            _configure(farm, controller, directory, node, flags)
        yield
    finally:
        for node in nodes:
            farm.ssh(
                node,
                f"rm -rf {_DROP_IN} {_FILES}; systemctl daemon-reload; "
                "systemctl reset-failed docker; systemctl restart docker",
            )


def _configure(farm: LiveFarm, controller: str, directory: str, node: str, flags: str) -> None:
    farm.ssh(node, f"mkdir -p {_DROP_IN.parent} {_FILES}")
    for name in ("ca", "cert", "key"):
        content = farm.ssh(controller, f"cat {shlex.quote(f'{directory}/servers/{node}/{name}.pem')}")
        farm.ssh(node, f"umask 077; cat > {_FILES}/{name}.pem", stdin=content)
    if flags != PLAIN:
        flags += f" --tlscacert {_FILES}/ca.pem --tlscert {_FILES}/cert.pem --tlskey {_FILES}/key.pem"
    command = f"/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock {flags}"
    farm.ssh(node, f"cat > {_DROP_IN}", stdin=f"[Service]\nExecStart=\nExecStart={command}\n")
    farm.ssh(node, "systemctl daemon-reload; systemctl reset-failed docker; systemctl restart docker")
