# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a node's container matches the node's definition. Everything here is pure.

Source of what a container is created with: docker/buildx ``driver/docker-container/``.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

from .._buildx.buildkitd import container_args
from .._buildx.store import Node
from .._core.quantities import parse_size
from .model import Container

DEFAULT_IMAGE = "moby/buildkit:buildx-stable-1"
#: What buildx gives a container of an engine that manages cgroups itself.
_DEFAULT_CGROUP = "/docker/buildx"
_HOST_NETWORK_FLAG = "--allow-insecure-entitlement=network.host"
#: Driver options whose value the engine stores as a number or a text of its own, by name.
_NUMBERS = {"cpu-period": "CpuPeriod", "cpu-quota": "CpuQuota", "cpu-shares": "CpuShares"}
_TEXTS = {"cpuset-cpus": "CpusetCpus", "cpuset-mems": "CpusetMems"}


def drift(node: Node, container: Container) -> Tuple[str, ...]:
    """Return the names of what differs between a node's definition and its container, in order.

    Names are those of the driver's options, ``flags``, ``files``, ``env.NAME`` and ``restarting``.
    What only the client uses (``default-load``) is no part of the container. Where an option is not set, any of the
    engine's defaults is fine.
    """
    opts = dict(node.driver_opts or {})
    limits = container.limits
    found = ["restarting"] if container.restarting else []
    if _image(container.image) != _image(opts.get("image") or DEFAULT_IMAGE):
        found.append("image")
    if _without_repeats(container.args) != _without_repeats(container_args(node.flags, node.files or {})):
        found.append("flags")
    if any(container.files.get(path) != content for path, content in (node.files or {}).items()):
        found.append("files")
    if not _same_network(opts.get("network"), str(limits.get("NetworkMode") or "")):
        found.append("network")
    found += [name for name in _changed_limits(opts, limits) if name not in container.unsupported]
    wanted = node.env
    names = sorted(set(wanted) | set(container.env))
    found += [f"env.{name}" for name in names if wanted.get(name) != container.env.get(name)]
    return tuple(found)


def _changed_limits(opts: Mapping[str, str], limits: Mapping[str, Any]) -> List[str]:
    memory = parse_size(opts.get("memory") or "0")
    # Docker allows as much swap again as memory unless that is set.
    swap = {parse_size(opts["memory-swap"])} if opts.get("memory-swap") else {0, -1, 2 * memory}
    found = [] if (limits.get("Memory") or 0) == memory else ["memory"]
    found += [] if (limits.get("MemorySwap") or 0) in swap else ["memory-swap"]
    found += [key for key, name in _NUMBERS.items() if int(opts.get(key) or 0) != (limits.get(name) or 0)]
    found += [key for key, name in _TEXTS.items() if (opts.get(key) or "") != (limits.get(name) or "")]
    # An engine whose cgroups systemd manages gets none.
    groups = {"", opts.get("cgroup-parent") or _DEFAULT_CGROUP}
    found += [] if (limits.get("CgroupParent") or "") in groups else ["cgroup-parent"]
    found += [] if _same_restart(opts.get("restart-policy"), limits.get("RestartPolicy") or {}) else ["restart-policy"]
    return found


def _same_restart(wanted: Optional[str], found: Mapping[str, Any]) -> bool:
    name = found.get("Name") or "no"
    if not wanted:
        return name in ("no", "unless-stopped")  # buildx's default, and that of its older versions
    policy, _colon, retries = wanted.partition(":")
    return name == policy and int(retries or 0) == int(found.get("MaximumRetryCount") or 0)


def _same_network(wanted: Optional[str], found: str) -> bool:
    return found == wanted if wanted else found in ("", "default", "bridge")


def _without_repeats(args: Sequence[str]) -> List[str]:
    # Older versions of buildx add the flag to what is stored, for which the container then has it twice.
    first = next((index for index, arg in enumerate(args) if arg == _HOST_NETWORK_FLAG), None)
    return [arg for index, arg in enumerate(args) if arg != _HOST_NETWORK_FLAG or index == first]


def _image(reference: str) -> str:
    for prefix in ("docker.io/library/", "docker.io/", "index.docker.io/"):
        if reference.startswith(prefix):
            reference = reference[len(prefix) :]
            break
    return reference if ":" in reference.rsplit("/", 1)[-1] or "@" in reference else f"{reference}:latest"
