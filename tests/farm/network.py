"""The farm's network: one bridge in a namespace of its own, a namespace for each host.

Only 198.18.0.0/15 is used, which RFC 2544 reserves for tests. Everything is named
after the farm's number, so several farms stand side by side, and deleting the
namespaces deletes every interface in them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MTU = 1400  # the machine's own link may be a tunnel


class Network:
    """The network of farm `number` (1 to 250)."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.switch = f"bf{number}-switch"
        self.uplink = f"bf{number}-up"
        self.subnet = f"198.18.{number}.0/24"
        self.gateway = f"198.18.{number}.1"
        self._comment = ["-m", "comment", "--comment", f"buildfarm farm {number}"]

    def address(self, index: int) -> str:
        """The address of host `index` (0 to 200)."""
        return f"198.18.{self.number}.{index + 10}"

    def namespace(self, index: int) -> str:
        """The name of host `index`'s network namespace."""
        return f"bf{self.number}-{index}"

    def up(self) -> None:
        """Make the bridge and the machine's way into it, with masquerading for apt in the hosts."""
        machine, bridge = f"198.19.{self.number}.1", f"198.19.{self.number}.2"
        _ip("netns", "add", self.switch)
        inside = ["-n", self.switch]
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "link", "add", "br0", "type", "bridge")
        _ip(*inside, "addr", "add", f"{self.gateway}/24", "dev", "br0")
        _ip(*inside, "link", "set", "br0", "up", "mtu", str(MTU))
        _ip("link", "add", self.uplink, "type", "veth", "peer", "name", "up0", "netns", self.switch)
        _ip("addr", "add", f"{machine}/30", "dev", self.uplink)
        _ip("link", "set", self.uplink, "up", "mtu", str(MTU))
        _ip(*inside, "addr", "add", f"{bridge}/30", "dev", "up0")
        _ip(*inside, "link", "set", "up0", "up", "mtu", str(MTU))
        _ip(*inside, "route", "add", "default", "via", machine)
        _ip("route", "add", self.subnet, "via", bridge)
        _run("ip", "netns", "exec", self.switch, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for rule in self._rules():
            _run("iptables", "-w", *rule)

    def join(self, index: int) -> str:
        """Make host `index`'s namespace, linked to the bridge; returns its name."""
        name, port = self.namespace(index), f"port{index}"
        _ip("netns", "add", name)
        inside = ["-n", name]
        _ip("-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "host0", "netns", name)
        _ip("-n", self.switch, "link", "set", port, "master", "br0", "up", "mtu", str(MTU))
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "addr", "add", f"{self.address(index)}/24", "dev", "host0")
        _ip(*inside, "link", "set", "host0", "up", "mtu", str(MTU))
        _ip(*inside, "route", "add", "default", "via", self.gateway)
        return name

    def tap(self, index: int) -> None:
        """Make the tap of host `index`, a virtual machine, on the bridge: `tapINDEX` in namespace `switch`."""
        name = f"tap{index}"
        _ip("-n", self.switch, "tuntap", "add", name, "mode", "tap")
        _ip("-n", self.switch, "link", "set", name, "master", "br0", "up", "mtu", str(MTU))

    @contextlib.contextmanager
    def far(self, index: int, seconds: float) -> Iterator[None]:
        """Let all that goes to host `index` and back take so much longer for a while."""
        script = Path(__file__).with_name("delay.py")
        argv = ["ip", "netns", "exec", self.switch, sys.executable, str(script), f"port{index}", str(seconds), str(MTU)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as carrier:
            try:
                if carrier.stdout is None or not carrier.stdout.readline():
                    raise OSError(f"{' '.join(argv)} ended with {carrier.wait()}")
                yield
            finally:
                carrier.terminate()

    def down(self) -> None:
        """Remove all of it, whatever of it there is."""
        for rule in self._rules():
            deletion = [word if word not in ("-I", "-A") else "-D" for word in rule]
            while not subprocess.run(["iptables", "-w", *deletion], capture_output=True, check=False).returncode:
                pass
        names = [line.split()[0] for line in _ip("netns", "list").splitlines() if line]
        for name in names:
            if name.startswith(f"bf{self.number}-"):
                _ip("netns", "delete", name)
        subprocess.run(["ip", "link", "delete", self.uplink], capture_output=True, check=False)

    def _rules(self) -> list[list[str]]:
        return [
            ["-t", "nat", "-A", "POSTROUTING", "-s", self.subnet, "!", "-o", self.uplink, *self._comment]
            + ["-j", "MASQUERADE"],
            # A machine with an engine of its own drops what it does not know.
            ["-I", "FORWARD", "-i", self.uplink, *self._comment, "-j", "ACCEPT"],
            ["-I", "FORWARD", "-o", self.uplink, *self._comment, "-j", "ACCEPT"],
        ]


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
