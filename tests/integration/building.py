# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A builder with a node for each platform, for tests of images: engines that listen, emulation, builders."""

from __future__ import annotations

import contextlib
import secrets
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import seed
from ansible_runs import LiveFarm, task

CONTROLLERS = ("ctl", "ctlnew")
AMD, ARM = "mid1", "mid2"
PLATFORMS = ["linux/amd64", "linux/arm64"]
#: The builders on each controller: a node for each platform, and both on one node.
BUILDER, ONE_NODE = "images", "images-one"
FRONT_PORT = 8124
_HANDLER = "/proc/sys/fs/binfmt_misc/qemu-aarch64"


class BuildFarm:
    """Shorthands for building and looking at what was built."""

    def __init__(self, farm: LiveFarm) -> None:
        self.farm = farm
        self.registry = farm.registry
        #: A repository that no earlier run of these tests has pushed to.
        self.repository = f"{farm.registry}/images-{secrets.token_hex(4)}"

    def context(self, host: str, name: str, dockerfile: str, **files: str) -> str:
        """Write a build context; returns its path. `FROM busybox` is the farm's own."""
        path = f"/srv/images/{name}"
        dockerfile = dockerfile.replace("FROM busybox", f"FROM {self.registry}/{seed.BUSYBOX}")
        written = {"Dockerfile": dockerfile, **files}.items()
        lines = [f"printf %s {shlex.quote(text)} > {shlex.quote(file)}" for file, text in written]
        self.farm.ssh(host, "sh -e", stdin="\n".join([f"rm -rf {path}; mkdir -p {path}; cd {path}", *lines]))
        return path

    def build(self, host: str, fails: bool = False, check: bool = False, **options: Any) -> dict[str, Any]:
        """Run buildx_build."""
        return self.farm.module(host, "buildx_build", fails=fails, check=check, **options)

    def build_twice(self, host: str, **options: Any) -> dict[str, Any]:
        """Predict a build, build, and build again: the first two agree, the third changes nothing.

        What comes out, and so the diff, is known to those who build only.
        """
        return self.farm.converge(host, "buildx_build", values=("changed", "actions"), **options)

    def refusals(self, host: str, module: str, tasks: list[dict[str, Any]]) -> list[str]:
        """Run a module with each set of options; all must fail. Returns the messages."""
        return [found["msg"] for found in self.farm.tasks(host, *(task(module, fails=True, **one) for one in tasks))]


@contextlib.contextmanager
def build_farm(farm: LiveFarm, emulating: bool = True) -> Iterator[BuildFarm]:
    """Give the controllers their builders; everything as it was at the end.

    :param emulating: whether steps can be run for arm64, which takes the machine's handlers.
    """
    try:
        with contextlib.ExitStack() as stack:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda host: listen(farm, host), (AMD, ARM)))
            if emulating:
                stack.enter_context(emulation(farm))
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda host: _declare(farm, host), CONTROLLERS))
            yield BuildFarm(farm)
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: unlisten(farm, host), (AMD, ARM)))
            list(pool.map(lambda host: farm.ssh(host, "rm -rf ~/.docker /srv/images"), CONTROLLERS))


@contextlib.contextmanager
def emulation(farm: LiveFarm) -> Iterator[None]:
    """Let the machine run programs for arm64 for a while, if it does not anyway."""
    had_handler = farm.ssh(ARM, f"ls {_HANDLER}", check=False)
    try:
        if not had_handler:
            image = f"{farm.registry}/{seed.EMULATOR}"
            farm.module(ARM, "binfmt", platforms=["linux/arm64"], image=image, persistent=False)
        yield
    finally:
        if not had_handler:
            farm.module(ARM, "binfmt", state="absent", platforms=["linux/arm64"])


def listen(farm: LiveFarm, host: str) -> None:
    """Let a host's engine listen on plain TCP, and use the farm's plain registry."""
    configuration = {"insecure-registries": [farm.registry]}
    farm.module(host, "docker_listener", insecure=True, address="0.0.0.0", daemon_config=configuration)


def front(farm: LiveFarm) -> str:
    """Where tests may put a registry of their own, which the builders know as the farm's."""
    return f"{farm.address(ARM)}:{FRONT_PORT}"


def unlisten(farm: LiveFarm, host: str) -> None:
    """Undo that, and remove all that the engine has."""
    quiet = "docker ps -aq | xargs -r docker rm -f; docker volume ls -q | xargs -r docker volume rm"
    quiet += "; docker system prune -af"
    files = "/etc/docker/daemon.json /etc/docker/.daemon.json.former /srv/images"
    farm.ssh(host, f"{quiet}; rm -rf {files}; systemctl reset-failed docker")
    # It restarts the engine, which then has no configuration of its own.
    farm.module(host, "docker_listener", state="absent")


def _declare(farm: LiveFarm, controller: str) -> None:
    known = ((farm.registry, "http"), (front(farm), "http"), (farm.secure_registry, "insecure"))

    def node(name: str, host: str, platforms: list[str]) -> dict[str, Any]:
        return {
            "name": name,
            "endpoint": f"tcp://{host}:2375",
            "platforms": platforms,
            "driver_opts": {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"},
            "buildkitd_config": "".join(f'[registry."{name}"]\n  {setting} = true\n' for name, setting in known),
        }

    nodes = [node(f"{controller}-amd", AMD, PLATFORMS[:1]), node(f"{controller}-arm", ARM, PLATFORMS[1:])]
    declared = {BUILDER: nodes, ONE_NODE: [node(f"{controller}-one", AMD, PLATFORMS)]}
    farm.tasks(controller, *(task("buildx_builder", name=name, nodes=nodes) for name, nodes in declared.items()))
