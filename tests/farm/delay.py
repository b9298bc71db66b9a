"""A host that is far away: `ip netns exec SWITCH python3 delay.py PORT SECONDS MTU`, until it is ended.

The kernels of small machines lack netem. Here the port of a host leaves the farm's bridge for one of its own, and this
program carries every frame between the two, half of the seconds late in each direction.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import subprocess
import sys

_TUNSETIFF, _TAP, _NO_PACKET_INFO = 0x400454CA, 0x0002, 0x1000
_LONGEST_FRAME = 1 << 16


def tap(name: str, bridge: str, mtu: int) -> int:
    """Make a port of a bridge whose other end is this process; returns its file descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _TAP | _NO_PACKET_INFO))
    ip("link", "set", name, "master", bridge, "up", "mtu", str(mtu))
    return descriptor


def ip(*arguments: str) -> None:
    """Run ip."""
    subprocess.run(["ip", *arguments], check=True)


async def carry(near: int, far: int, seconds: float) -> None:
    """Carry frames until the process is told to end."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def pass_on(source: int, target: int) -> None:
        frame = os.read(source, _LONGEST_FRAME)
        loop.call_later(seconds / 2, os.write, target, frame)

    loop.add_reader(near, pass_on, near, far)
    loop.add_reader(far, pass_on, far, near)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    print("carrying", flush=True)
    await ended.wait()


def main() -> None:
    """Put the port behind the delay, and back in the end."""
    port, seconds = sys.argv[1], float(sys.argv[2])
    mtu = int(sys.argv[3])
    far = f"far-{port}"
    ip("link", "add", far, "type", "bridge")
    try:
        ip("link", "set", far, "up", "mtu", str(mtu))
        descriptors = [tap(f"{name}-{port}", bridge, mtu) for name, bridge in (("tn", "br0"), ("tf", far))]
        ip("link", "set", port, "master", far)
        asyncio.run(carry(descriptors[0], descriptors[1], seconds))
    finally:
        ip("link", "set", port, "master", "br0")
        ip("link", "delete", far)


if __name__ == "__main__":
    main()
