# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A large farm, made up: 40 nodes in every state, 200 images, and builds of two days."""

from __future__ import annotations

import random
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.engine import EngineInfo
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report.history import (
    CANCELED,
    FAILED,
    RUNNING,
    SUCCEEDED,
    Build,
    Step,
    with_reasons,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report.state import (
    Daemon,
    EngineState,
    FoundContainer,
    FoundImage,
    FoundNode,
    State,
)

NOW = 1_790_000_000.0
AMD, ARM, S390, RISC = (Platform.parse(f"linux/{arch}") for arch in ("amd64", "arm64", "s390x", "riscv64"))
_NAMES = "gateway billing-api web-frontend worker indexer auth mailer metrics-collector base-image toolchain".split()
_STEPS = (
    "[internal] load build definition from Dockerfile",
    "[internal] load metadata for docker.io/library/debian:trixie-slim",
    "[build 1/6] FROM docker.io/library/debian:trixie-slim",
    "[internal] load build context",
    "[build 2/6] RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake ninja-build",
    "[build 3/6] COPY third_party third_party",
    "[build 4/6] RUN cmake -S third_party -B /tmp/deps -G Ninja && ninja -C /tmp/deps install",
    "[build 5/6] COPY src src",
    "[build 6/6] RUN cmake -S src -B /out -G Ninja && ninja -C /out",
    "[stage-1 2/2] COPY --from=build /out/bin /usr/local/bin",
    "exporting to image",
)


def large_farm() -> Tuple[State, Dict[str, Mapping[str, Any]]]:
    """The farm, and what is known of its hosts from elsewhere."""
    dice = random.Random(40)
    stored: List[Node] = []
    for number in range(40):
        native, wide = (ARM, False) if number % 3 == 2 else (AMD, number % 6 == 0)
        pins = (native, *((S390, RISC) if wide else ()))
        stored.append(Node(f"farm-{native.arch}-{number:02}", f"farm-{native.arch}-{number:02}", pins))
    instance = Instance("farm", "docker-container", tuple(stored))
    nodes = tuple(_node(dice, number, node) for number, node in enumerate(stored))
    hosts = {node.name: _host(dice, number) for number, node in enumerate(nodes) if number % 4}
    images = tuple(_image(dice, number) for number in range(200))
    return State("builder.example.com", NOW, (instance,), "farm", {}, nodes, images), hosts


def _digest(dice: random.Random) -> str:
    return f"sha256:{dice.getrandbits(256):064x}"


def _node(dice: random.Random, number: int, node: Node) -> FoundNode:
    native = (node.platforms or (AMD,))[0]
    endpoint = Endpoint("context", node.name)
    common: Dict[str, Any] = {"pins": node.platforms, "elsewhere": (AMD, ARM, S390, RISC), "builders": ("farm",)}
    if number in (11, 30):
        error = f"engine {node.name} (tcp://10.0.0.{number}:2376): no answer within 30 s; is the host up?"
        engine = EngineState(EngineInfo(endpoint, error=error, error_kind="timeout"))
        return FoundNode(node.name, node.name, "docker-container", engine=engine, **common)
    days = 12 if number == 5 else 300 + number
    probed = EngineInfo(
        endpoint,
        reachable=True,
        version="28.5.2" if number % 5 else "26.1.5",
        architecture=native.arch,
        platform=native,
        tls="mutual",
        certificate_subject=f"CN={node.name}",
        certificate_expires="2026-10-03T12:00:00Z" if days == 12 else "2027-07-19T12:00:00Z",
        certificate_days_left=days,
        drained="it is drained since 2026-09-20T08:00:00Z (kernel update)" if number in (8, 21) else None,
    )
    facts = {
        "Name": node.name,
        "OperatingSystem": "Debian GNU/Linux 13 (trixie)" if number % 5 else "Ubuntu 24.04.3 LTS",
        "KernelVersion": "6.12.48+deb13-amd64",
        "NCPU": 16 if native is AMD else 80,
        "MemTotal": 64 << 30,
        "DockerRootDir": "/var/lib/docker",
    }
    state = "exited" if number == 17 else "running"
    engine = EngineState(
        probed, facts, {node.name: FoundContainer(state, "moby/buildkit:buildx-stable-1", str(number))}
    )
    if state != "running":
        return FoundNode(node.name, node.name, "docker-container", engine=engine, **common)
    builds = with_reasons([_build(dice, number, place, node) for place in range(dice.randint(2, 10))])
    emulated = (S390, RISC, AMD if native is ARM else ARM) if number % 6 == 0 else ()
    daemon = Daemon(
        version="v0.25.2",
        platforms=(native, *emulated),
        limit=40_000_000_000,
        cache=(dice.randrange(2_000_000_000, 40_000_000_000), dice.randrange(100, 900)),
        disk=None,
        history="it is not available with BuildKit v0.11.6" if number == 3 else "",
        builds=() if number == 3 else builds,
    )
    return FoundNode(node.name, node.name, "docker-container", engine=engine, daemon=daemon, **common)


def _build(dice: random.Random, number: int, place: int, node: Node) -> Build:
    name = f"registry.example.com/team/{dice.choice(_NAMES)}"
    started = NOW - place * 16_000 - dice.randrange(600, 15_000)
    cached = dice.choice((0, 2, 4, 6, 6, 8))
    status = RUNNING if (number, place) == (7, 0) else FAILED if dice.random() < 0.06 else SUCCEEDED
    status = CANCELED if dice.random() < 0.02 and status == SUCCEEDED else status
    steps: List[Step] = []
    at = 0.0
    for position, step in enumerate(_STEPS):
        taken = position in (2, 4, 5, 6)[: cached // 2]
        lasted = 0.02 if taken else dice.expovariate(1 / (90 if "RUN" in step else 2))
        broken = status == FAILED and position == 8
        error = 'process "/bin/sh -c ninja -C /out" did not complete successfully: exit code: 1' if broken else ""
        steps.append(Step(step, at, lasted, taken, error))
        at += lasted
        if broken:
            break
    ended: Optional[float] = None if status == RUNNING else started + at + 0.4
    return Build(
        ref=f"{dice.getrandbits(96):x}",
        started=started,
        ended=ended,
        status=status,
        name=name,
        platforms=tuple(map(str, node.platforms or ()))[:1],
        steps=len(_STEPS),
        cached=min(cached // 2, 4),
        error=f"failed to solve: {steps[-1].error}" if status == FAILED else "",
        digests=(_digest(dice),) if status == SUCCEEDED else (),
        timeline=() if status == RUNNING else tuple(steps),
    )


def _host(dice: random.Random, number: int) -> Dict[str, Any]:
    total = 488_281_250
    free = 20_507_812 if number == 14 else dice.randrange(117_187_500, 390_625_000)
    names = ("s390x", "riscv64", "aarch64") if number % 6 == 0 else ()
    return {
        "df": f"/dev/nvme0n1p2 {total} {total - free} {free} 50% /\n",
        "handlers": [
            {
                "name": f"qemu-{name}",
                "platforms": [f"linux/{name}"],
                "enabled": True,
                "works": not (number == 18 and name == "riscv64"),
                "qemu_version": "10.0.4",
                "problem": "it was killed by signal 11" if (number, name) == (18, "riscv64") else None,
            }
            for name in names
        ],
    }


def _image(dice: random.Random, number: int) -> FoundImage:
    name = f"registry.example.com/team/{_NAMES[number % 10]}:2.{number // 10}.{number % 7}"
    if number == 42:
        return FoundImage(name)
    if number == 77:
        return FoundImage(name, "registry registry.example.com: the credentials do not suffice (HTTP 403)")
    wanted = (AMD, ARM, S390, RISC)[: 2 + 2 * (number % 10 == 8)]
    return FoundImage(
        name=name,
        digest=_digest(dice),
        platforms=tuple(
            (str(one), _digest(dice), dice.randrange(8_000_000, 300_000_000), "2026-09-20T09:30:00Z") for one in wanted
        ),
        attested=number % 2 == 0,
        missing=(_digest(dice),) if number == 101 else (),
        key=f"{dice.getrandbits(256):064x}",
        sources=(("base image docker.io/library/debian:trixie-slim", _digest(dice)),),
    )
