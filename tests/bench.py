# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How quickly a farm is checked and made: `make bench`, or parts of it, `tests/bench.py converged building`.

All figures are ratios, each of two things measured in one run and in turns, so that what else the machine does falls on
both; the seconds depend on the machine. Each ratio has a limit, and the exit status says whether all are kept.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import CHECKOUT, IMAGE, Host, hosts, install_collection, step

import oci  # isort: skip  (demo has set the path to it)
import seed  # isort: skip
from ansible_runs import LiveFarm  # isort: skip

ROUNDS = 7
#: Nodes of the large builder, and of the farm that is provisioned at once.
NODES, THIRTY = 16, 30
_LISTEN = """
echo '{"insecure-registries": ["%(registry)s"]}' > /etc/docker/daemon.json
mkdir -p /etc/systemd/system/docker.service.d
printf '[Service]\\nExecStart=\\nExecStart=/usr/sbin/dockerd -H fd:// -H tcp://0.0.0.0:2375 --tls=false\\n' \
    > /etc/systemd/system/docker.service.d/bench.conf
systemctl daemon-reload && systemctl restart docker
"""
#: Runs the module's logic as the module does, its imports included, and prints the seconds, what it did, and how often
#: it started a tool.
_DRIVER = """
import json, sys, time
started = time.monotonic()
sys.path.insert(0, "/srv/bench")
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.apply import run as run_module
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import run
calls = []
def runner(argv, **options):
    calls.append([list(argv), run(argv, **options)])
    return calls[-1][1]
outcome = run_module(json.load(sys.stdin), False, runner)
seconds = time.monotonic() - started
print(json.dumps({
    "seconds": seconds,
    "actions": outcome.as_result()["actions"],
    "calls": [[argv, result.stderr] for argv, result in calls],
}))
"""
#: Images with a step that takes so many seconds, and the nodes that build one step at a time.
SLOW, STEP, BUILDING = 12, 5, 4
#: Images that are in the caches, for two platforms each.
CACHED = 40
_SLOW_STEP = "FROM %(registry)s/%(busybox)s\nARG SALT\nRUN echo $SALT; sleep %(seconds)d\n"
_COPIED = "FROM %(registry)s/%(busybox)s\nARG SALT\nCOPY Dockerfile /copied\nLABEL salt=$SALT\n"
#: Builds and looks at images as a person's script does.
_LOOP = """
for number in $(seq %(images)d); do
    name=%(registry)s/looped$number:1
    docker buildx build --builder farm --quiet --push --platform linux/amd64,linux/arm64 --provenance=false \\
        --build-arg SALT=$number --tag $name /srv/cached || exit
    docker buildx imagetools inspect --builder farm $name >/dev/null || exit
done
"""
#: Files of a build context that did not change, and bytes of each.
FILES, FILE_SIZE = 10_000, 20_000
#: Runs buildx_build's logic as the module does, its imports included; prints the seconds, the peak of its memory in
#: MiB, and whether it built anything.
_BUILDING = """
import json, resource, sys, time
started = time.monotonic()
sys.path.insert(0, "/srv/bench")
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.apply import run as run_module
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import run
(image,) = run_module(json.load(sys.stdin), False, run).as_result()["images"]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([time.monotonic() - started, peak, image["built"]]))
"""
#: Makes a context of many files, a hundred in each directory.
_MANY_FILES = """
import os
os.makedirs("/srv/large", exist_ok=True)
for number in range(%(files)d):
    folder = f"/srv/large/{number // 100}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{number}", "wb") as stream:
        stream.write(os.urandom(%(size)d))
with open("/srv/large/Dockerfile", "w") as stream:
    stream.write("FROM %(registry)s/%(busybox)s\\nCOPY . /srv/\\n")
"""
_BUILD_LARGE = """
docker buildx build --builder farm --quiet --push --platform linux/amd64,linux/arm64 --provenance=false \\
    --tag %(registry)s/large:loop /srv/large
"""
#: Tags that are looked at, each an image of its own for two platforms; and seconds that their registry may be away.
TAGS, FAR = 200, 0.05
#: Runs image_verify's logic as the module does, its imports included; prints the seconds and how many images it found.
_VERIFYING = """
import json, sys, time
started = time.monotonic()
sys.path.insert(0, "/srv/bench")
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.verify import run
images = run(json.load(sys.stdin), False, None)["images"]
print(json.dumps([time.monotonic() - started, sum(len(image["platforms"]) for image in images)]))
"""
_INSPECT = """
for number in $(seq %(tags)d); do
    docker buildx imagetools inspect %(registry)s/tags:$number >/dev/null || exit
done
"""
#: Servers whose certificates are looked at, against one.
SERVERS = 100
#: Endpoints that are asked, how many of them never answer, and the seconds that it may take.
ENDPOINTS, SILENT, LIMIT = 50, 5, 5.0
#: Runs docker_endpoint_info's logic as the module does, its imports included; prints the seconds and the result.
_ASKING = """
import json, sys, time
started = time.monotonic()
sys.path.insert(0, "/srv/bench")
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint_info import endpoint_info
result = endpoint_info(json.load(sys.stdin), False, None)
print(json.dumps([time.monotonic() - started, result["endpoints"]]))
"""
#: Build contexts: how many files of how many bytes.
CONTEXTS = {"1 GB in 10 files": (10, 100_000_000), "200 MB in 10,000 files": (10_000, 20_000)}
#: Reads a build context as a module does, its imports included, and prints the most memory that it had, in MiB.
_READING = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.record import compact, digest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import read_tree
tree = read_tree(sys.argv[2])
digest(tree), compact(tree, 32 << 10)
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024)
"""


#: The ratios that are above their limits.
_exceeded: list[str] = []


def main() -> int:
    """Measure and print; returns the exit status."""
    parts: dict[str, Callable[[], None]] = {
        "converged": converged_farm,
        "thirty": many_nodes,
        "builders": builders,
        "building": building,
        "context": context,
        "verify": verification,
    }
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(parts)} (default: all)")
    chosen = parser.parse_args().parts or list(parts)
    if unknown := [part for part in chosen if part not in parts]:
        parser.error(f"there is no part {unknown[0]}")
    for part in chosen:
        parts[part]()
    if _exceeded:
        print("\nabove the limit:", *_exceeded, sep="\n  ", file=sys.stderr)
    return 1 if _exceeded else 0


def ratio(name: str, value: float, limit: float) -> None:
    """Print a ratio, and remember it if it is above its limit."""
    line = f"{name} = {value:.{2 if limit >= 0.1 else 3}f} (limit {limit})"
    print(line, flush=True)
    if value > limit:
        _exceeded.append(line)


@dataclass(frozen=True)
class Tools:
    """Ansible's programs against a farm, as a user calls them."""

    run: Callable[[list[str]], None]
    site: list[str]
    ansible: list[str]

    @classmethod
    @contextlib.contextmanager
    def of(cls, live: LiveFarm, variables: dict[str, Any], forks: int) -> Iterator[Tools]:
        """Write inventory and variables to files for a while."""
        with tempfile.TemporaryDirectory() as folder:
            inventory, extra = Path(folder) / "inventory.json", Path(folder) / "variables.json"
            inventory.write_text(json.dumps(live.inventory()))
            extra.write_text(json.dumps(variables))
            tools = Path(sys.executable).parent
            on = ["-i", str(inventory), "--forks", str(forks)]
            settings = {key: value for key, value in live.environment().items() if "CALLBACK" not in key}

            def run(argv: list[str]) -> None:
                done = subprocess.run(
                    argv, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True, check=False
                )
                if done.returncode:
                    raise OSError(f"{' '.join(argv)} ended with {done.returncode}: {done.stdout[-6000:]}")

            site = [str(tools / "ansible-playbook"), *on, "-e", f"@{extra}", "buildfarm.multiarch.site"]
            yield cls(run, site, [str(tools / "ansible"), *on])


def converged_farm() -> None:
    """`site.yml` with nothing to do against `ansible -m ping` on the same hosts, and two modules on its controller."""
    step("Booting and provisioning a farm of a controller and two nodes")
    live = LiveFarm.start("bench", hosts(arm64=False), install_collection())
    try:
        variables = live.variables(IMAGE)
        live.playbook("buildfarm.multiarch.site", variables=variables).expect_success()
        with Tools.of(live, variables, 10) as tools:
            against_ping(live, variables, tools, "site.yml / ping")
            certificates(tools)
        bring_logic(live, _ASKING)
        endpoints(live)
    finally:
        live.farm.down()


def many_nodes() -> None:
    """`site.yml` on many new nodes at once, which has to pass, and then as `converged_farm` does."""
    step(f"Booting a controller and {THIRTY} nodes")
    farm = [Host("controller", "forky+controller", "buildx_controllers")]
    farm += [Host(f"node{number:02}", "trixie+engine", "buildx_nodes") for number in range(THIRTY)]
    live = LiveFarm.start("bench", farm, install_collection())
    try:
        # The nodes' own, so that no handler of this machine is changed.
        variables = {**live.variables(IMAGE), "farm_platforms": []}
        with Tools.of(live, variables, THIRTY) as tools:
            step(f"Provisioning {THIRTY} nodes at once, with as many forks")
            print(f"{timed(tools.run, tools.site):.1f} s")
            against_ping(live, variables, tools, f"site.yml on {THIRTY} nodes / ping on {THIRTY} nodes")
    finally:
        live.farm.down()


def against_ping(live: LiveFarm, variables: dict[str, Any], tools: Tools, name: str) -> None:
    """`site.yml` with nothing to do against `ansible -m ping` on the same hosts.

    :raises OSError: there is something to do.
    """
    again = live.playbook("buildfarm.multiarch.site", variables=variables).expect_success()
    if again.changed:
        raise OSError(f"the second run is not idle: {again.changed}")
    step(f"site.yml with nothing to do against ansible -m ping, {ROUNDS} times in turn")
    ping = [*tools.ansible, "all", "-m", "ansible.builtin.ping"]
    works = {"site.yml": lambda: timed(tools.run, tools.site), "ping": lambda: timed(tools.run, ping)}
    medians = in_turns(works)
    ratio(name, medians["site.yml"] / medians["ping"], 4.0)


def bring_logic(live: LiveFarm, driver: str) -> None:
    """Put the modules' logic and a program that runs it on the controller."""
    packed = subprocess.run(
        ["tar", "-c", "-C", str(CHECKOUT), "plugins/module_utils"], capture_output=True, check=True
    ).stdout
    there = "/srv/bench/ansible_collections/buildfarm/multiarch"
    unpack = f"mkdir -p {there} && tar -x -C {there} && cat > /srv/bench/driver.py <<'END'\n{driver}\nEND"
    subprocess.run(live.farm.ssh("controller", unpack), input=packed, check=True)


def certificates(tools: Tools) -> None:
    """`docker_certificates` with nothing to do, for one server and for many, as a task on the controller."""
    step(f"docker_certificates with nothing to do, {ROUNDS} times in turn")

    def task(servers: int) -> list[str]:
        names = [{"name": f"node{number}"} for number in range(servers)]
        arguments = {"directory": f"/srv/bench/certificates-{servers}", "servers": names}
        return [
            *tools.ansible,
            "controller",
            "-m",
            "buildfarm.multiarch.docker_certificates",
            "-a",
            json.dumps(arguments),
        ]

    works = {f"servers: {servers}": task(servers) for servers in (1, SERVERS)}
    for argv in works.values():
        tools.run(argv)
    medians = in_turns({label: lambda argv=argv: timed(tools.run, argv) for label, argv in works.items()})
    one, many = (medians[label] for label in works)
    ratio(f"docker_certificates with nothing to do, {SERVERS} servers / 1 server", many / one, 1.5)


def endpoints(live: LiveFarm) -> None:
    """`docker_endpoint_info` of many engines over mutual TLS, some of which never answer, against its time limit."""
    step(f"docker_endpoint_info of {ENDPOINTS} endpoints, {SILENT} of them silent")
    live.ssh("amd1", "iptables -I INPUT -p tcp --dport 4444 -j DROP")
    client = "/root/.config/buildfarm/certificates/clients/controller"
    answering = itertools.islice(itertools.cycle(["tcp://amd1:2376", "tcp://amd2:2376"]), ENDPOINTS - SILENT)
    params = {
        **{kind: f"{client}/{kind}.pem" for kind in ("ca", "cert", "key")},
        "endpoints": [*answering, *["tcp://amd1:4444"] * SILENT],
        "docker_config": None,
        "timeout": LIMIT,
        "require_reachable": False,
    }

    def ask() -> float:
        asked = live.ssh("controller", "python3 /srv/bench/driver.py", stdin=json.dumps(params))
        seconds, found = json.loads(asked)
        if sum(engine["reachable"] for engine in found) != ENDPOINTS - SILENT:
            raise OSError(f"not all engines answered: {found}")
        return float(seconds)

    median = in_turns({"endpoints": ask})["endpoints"]
    ratio(f"docker_endpoint_info, {ENDPOINTS} endpoints, {SILENT} of them silent / its limit", median / LIMIT, 1.1)


def building() -> None:
    """The playbook `build`: images that take their time on several nodes, also without one of them; cached images."""
    names = [f"node{number}" for number in range(BUILDING)]
    step(f"Booting a controller and {BUILDING} nodes")
    farm = [Host("controller", "forky+controller", "buildx_controllers")]
    farm += [Host(name, "trixie+engine", "buildx_nodes") for name in names]
    live = LiveFarm.start("bench", farm, install_collection())
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: live.ssh(name, _LISTEN % {"registry": live.registry}), names))
            list(pool.map(lambda name: live.ssh(name, f"docker pull -q {live.registry}/{seed.BUILDKIT}"), names))
        words = {"registry": live.registry, "busybox": seed.BUSYBOX, "seconds": STEP, "images": CACHED}
        for name, dockerfile in (("slow", _SLOW_STEP), ("cached", _COPIED)):
            live.ssh("controller", f"mkdir -p /srv/{name}; cat > /srv/{name}/Dockerfile", stdin=dockerfile % words)
        slow_images(live, names)
        cached_images(live, names, _LOOP % words)
        unchanged_context(live, names, {**words, "files": FILES, "size": FILE_SIZE})
    finally:
        live.farm.down()


def declare_builder(live: LiveFarm, platforms: dict[str, list[str]], configuration: str) -> None:
    """Let the controller have a builder of nodes by their platforms."""
    registry = f'{configuration}[registry."{live.registry}"]\n  http = true\n'
    opts = {"image": f"{live.registry}/{seed.BUILDKIT}", "network": "host"}
    nodes = [
        {
            "name": f"farm-{name}",
            "endpoint": f"tcp://{name}:2375",
            "platforms": of_node,
            "driver_opts": opts,
            "buildkitd_config": registry,
        }
        for name, of_node in platforms.items()
    ]
    live.module("controller", "buildx_builder", name="farm", nodes=nodes, purge_nodes=True)


def build_playbook(
    live: LiveFarm, images: list[dict[str, Any]], platforms: list[str], rebuild: str = "when_changed"
) -> float:
    """The seconds of the playbook `build`."""
    variables = {"images_list": images, "images_platforms": platforms, "images_rebuild": rebuild}
    started = time.monotonic()
    live.playbook("buildfarm.multiarch.build", variables=variables).expect_success()
    return time.monotonic() - started


def slow_images(live: LiveFarm, names: Sequence[str]) -> None:
    """Images that take their time, on nodes that run one step at a time."""
    declare_builder(live, {name: ["linux/amd64"] for name in names}, "[worker.oci]\n  max-parallelism = 1\n")
    ideal = SLOW * STEP / BUILDING

    def images(salt: str) -> list[dict[str, Any]]:
        return [
            {
                "name": f"{live.registry}/slow{number}:1",
                "context": "/srv/slow",
                "build_args": {"SALT": f"{salt}{number}"},
            }
            for number in range(SLOW)
        ]

    step(f"{SLOW} images with a step of {STEP} s on {BUILDING} nodes that run one step at a time")
    # Also what a node needs once: its BuildKit, the base image.
    build_playbook(live, images("warm"), ["linux/amd64"])
    whole = build_playbook(live, images("whole"), ["linux/amd64"])
    ratio(f"building {SLOW} images / the ideal of {ideal:.0f} s", whole / ideal, 1.3)
    with ThreadPoolExecutor() as pool:
        ending = pool.submit(lambda: (time.sleep(whole / 2), live.farm.power_off(names[0])))
        without = build_playbook(live, images("less"), ["linux/amd64"])
        ending.result()
    live.farm.power_on(names[0])
    ratio(f"building {SLOW} images while one node is switched off / the ideal of {ideal:.0f} s", without / ideal, 2.0)


def cached_images(live: LiveFarm, names: Sequence[str], loop: str) -> None:
    """Images that the nodes have in their caches, against a loop of the commands that build and look at them."""
    step(f"{CACHED} cached images against a loop of docker buildx build and imagetools inspect")
    declare_builder(live, {names[1]: ["linux/amd64"], names[2]: ["linux/arm64"]}, "")
    images = [
        {"name": f"{live.registry}/cached{number}:1", "context": "/srv/cached", "build_args": {"SALT": str(number)}}
        for number in range(1, CACHED + 1)
    ]
    both = ["linux/amd64", "linux/arm64"]
    works = {
        "building": lambda: build_playbook(live, images, both, "always"),
        "skipping": lambda: build_playbook(live, images, both),
        "loop": lambda: timed(lambda _argv: print(live.ssh("controller", loop)[-200:], end=""), []),
    }
    for work in works.values():
        work()
    medians = in_turns(works, rounds=3)
    for name, what, limit in (("building", "with", 1.0), ("skipping", "skipping", 0.2)):
        share = medians[name] / medians["loop"]
        ratio(f"build {what} {CACHED} cached images / the same commands in a loop", share, limit)


def unchanged_context(live: LiveFarm, names: Sequence[str], words: dict[str, Any]) -> None:
    """An image of a large context that did not change, against a build of it from the cache."""
    step(f"{FILES} files that did not change against docker buildx build --push of them")
    live.ssh("controller", "python3 -", stdin=_MANY_FILES % words)
    bring_logic(live, _BUILDING)
    image = {"context": "/srv/large", "platforms": ["linux/amd64", "linux/arm64"], "push": True}
    params = json.dumps({"builder": "farm", **image, "tags": [f"{live.registry}/large:1"]})
    peaks: list[float] = []

    def skip(expected: bool = False) -> float:
        seconds, peak, built = json.loads(live.ssh("controller", "python3 /srv/bench/driver.py", stdin=params))
        if built != expected:
            raise OSError(f"built: {built}")
        peaks.append(peak)
        return float(seconds)

    skip(expected=True)
    works = {"skip": skip, "build": lambda: timed(lambda _argv: live.ssh("controller", _BUILD_LARGE % words), [])}
    works["build"]()
    near = in_turns(works, rounds=5)
    ratio(
        f"{FILES} unchanged files / docker buildx build --push of them from the cache",
        near["skip"] / near["build"],
        0.5,
    )
    with contextlib.ExitStack() as stack:
        # The registry is where it was.
        for index, name in enumerate(("controller", *names), start=1):
            if name != "controller":
                stack.enter_context(live.farm.network.far(index, FAR))
        far = in_turns(works, rounds=3)
    ratio(f"the same, nodes {FAR * 1000:.0f} ms away", far["skip"] / far["build"], 0.2)
    ratio("its memory / 100 MiB", max(peaks[1:]) / 100, 1.0)


def context() -> None:
    """The digest and the record of build contexts that are not in memory, against sha256sum of their files."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        link = Path(folder) / "ansible_collections/buildfarm/multiarch"
        link.parent.mkdir(parents=True)
        link.symlink_to(CHECKOUT)
        for number, (name, (files, size)) in enumerate(CONTEXTS.items()):
            step(f"The digest of {name} against sha256sum, three times in turn")
            root = Path(folder) / f"context{number}"
            for file in range(files):
                path = root / str(file % 100) / str(file)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(os.urandom(size))
            os.sync()
            memory: list[float] = []

            def read(root: Path = root, note: Callable[[float], None] = memory.append) -> float:
                forget(root)
                argv = [sys.executable, "-c", _READING, folder, str(root)]
                return timed(lambda argv: note(float(subprocess.check_output(argv))), argv)

            def summed(root: Path = root) -> float:
                forget(root)
                argv = ["find", str(root), "-type", "f", "-exec", "sha256sum", "{}", "+"]
                return timed(lambda argv: subprocess.run(argv, stdout=subprocess.DEVNULL, check=True), argv)

            medians = in_turns({"digest": read, "sha256sum": summed}, rounds=3)
            ratio(f"digest of {name} / sha256sum", medians["digest"] / medians["sha256sum"], 1.67)
            ratio(f"memory for {name} in MiB / 100", max(memory) / 100, 1.0)


def forget(root: Path) -> None:
    """Have files read from the disk again."""
    for path in root.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def verification() -> None:
    """`image_verify` of many tags in one task against `docker buildx imagetools inspect` of one after another."""
    step("Booting a controller")
    live = LiveFarm.start("bench", [Host("controller", "forky+controller", "buildx_controllers")], install_collection())
    try:
        registry = f"http://{live.address('registry')}:{live.registry.rpartition(':')[2]}"
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "root").mkdir()
            layer = oci.layer(Path(folder) / "root", Path(folder) / "layer")

            def push(number: int) -> None:
                image = oci.Image((layer,), {"Labels": {"number": str(number)}})
                oci.push(registry, "tags", str(number), dict.fromkeys(("linux/amd64", "linux/arm64"), image))

            with ThreadPoolExecutor() as pool:
                list(pool.map(push, range(1, TAGS + 1)))
        plain_registry(live)
        bring_logic(live, _VERIFYING)
        task = json.dumps(
            {
                "images": [{"name": f"{live.registry}/tags:{number}"} for number in range(1, TAGS + 1)],
                "platforms": ["linux/amd64", "linux/arm64"],
            }
        )
        loop = _INSPECT % {"registry": live.registry, "tags": TAGS}

        def verify() -> float:
            seconds, platforms = json.loads(live.ssh("controller", "python3 /srv/bench/driver.py", stdin=task))
            if platforms != 2 * TAGS:
                raise OSError(f"not all images were verified, but {platforms} platforms of them")
            return float(seconds)

        def inspect_all() -> float:
            return timed(lambda _argv: print(live.ssh("controller", loop), end=""), [])

        works = {"image_verify": verify, "imagetools inspect": inspect_all}
        step(f"{TAGS} tags verified by one task, and inspected one after another")
        near = in_turns(works, rounds=3)
        step(f"The same with the registry {FAR * 1000:.0f} ms away")
        with live.farm.network.far(0, FAR):
            far = in_turns(works, rounds=3)
        with Tools.of(live, {}, 1) as tools:
            argv = [*tools.ansible, "controller", "-m", "buildfarm.multiarch.image_verify", "-a", task]
            print(f"the whole task, Ansible included: {timed(tools.run, argv):.2f} s")
    finally:
        live.farm.down()
    verified, inspected = works
    ratio(f"image_verify of {TAGS} tags / imagetools inspect", near[verified] / near[inspected], 0.15)
    ratio(f"the same, registry {FAR * 1000:.0f} ms away", far[verified] / far[inspected], 0.03)


def plain_registry(live: LiveFarm) -> None:
    """Let buildx on the controller know the farm's registry, by a builder that is never started."""
    toml = base64.b64encode(f'[registry."{live.registry}"]\nhttp = true\n'.encode()).decode()
    node = {"Name": "farm0", "Endpoint": "unix:///var/run/docker.sock", "Files": {"buildkitd.toml": toml}}
    builder = {"Name": "farm", "Driver": "docker-container", "Nodes": [node], "Dynamic": False}
    current = {"Key": node["Endpoint"], "Name": "farm", "Global": True}
    folder = "/root/.docker/buildx"
    live.ssh("controller", f"mkdir -p {folder}/instances; cat > {folder}/instances/farm", stdin=json.dumps(builder))
    live.ssh("controller", f"cat > {folder}/current", stdin=json.dumps(current))


def builders() -> None:
    """`buildx_builder`: nothing to do, on two nodes and on many, and creating a large builder."""
    step(f"Booting {NODES} nodes")
    names = [f"node{number:02}" for number in range(NODES)]
    farm = [Host("controller", "forky+controller"), *(Host(name, "trixie+engine") for name in names)]
    live = LiveFarm.start("bench", farm, Path())
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: live.ssh(name, _LISTEN % {"registry": live.registry}), names))
            # The base's layers are there, so that what is measured is not this machine's registry.
            list(pool.map(lambda name: live.ssh(name, f"docker pull -q {live.registry}/{seed.BUILDKIT}"), names))
        bring_logic(live, _DRIVER)

        step(f"Creating a builder of {NODES} nodes")
        created = module(live, names)
        said = next(stderr for argv, stderr in created["calls"] if "--bootstrap" in argv)
        slowest = max(float(line.split()[2].rstrip("s")) for line in said.splitlines() if " DONE " in line)
        print(f"creating {created['seconds']:.2f} s, of which the slowest node's start {slowest:.2f} s")
        ratio(f"creating {NODES} nodes / the slowest node's start", created["seconds"] / slowest, 1.5)

        step(f"A builder with nothing to do, {ROUNDS} times in turn")
        module(live, names[:2], name="small", share_nodes=True)
        idle: dict[str, Callable[[], float]] = {}
        for label, name, nodes in (("2 nodes", "small", names[:2]), (f"{NODES} nodes", "large", names)):
            idle[f"{label}, module"] = lambda name=name, nodes=nodes: idle_module(live, nodes, name)
            idle[f"{label}, inspect"] = lambda name=name: inspect(live, name)
        medians = in_turns(idle)
    finally:
        live.farm.down()
    few, many = "2 nodes", f"{NODES} nodes"
    for label in (few, many):
        share = medians[f"{label}, module"] / medians[f"{label}, inspect"]
        ratio(f"{label}: module with nothing to do / docker buildx inspect", share, 1.5)
    growth = medians[f"{many}, module"] / medians[f"{few}, module"]
    ratio(f"module with nothing to do, {many} / {few}", growth, 2.0)


def module(live: LiveFarm, nodes: Sequence[str], name: str = "large", share_nodes: bool = True) -> dict[str, Any]:
    """Run buildx_builder's logic on the controller; returns what the driver printed."""
    opts = {"image": f"{live.registry}/{seed.BUILDKIT}", "network": "host"}
    unset = dict.fromkeys(
        ("context", "env", "buildkitd_flags", "buildkitd_config", "buildkitd_config_file", "platforms")
    )
    declared = [{**unset, "name": node, "endpoint": f"tcp://{node}:2375", "driver_opts": opts} for node in nodes]
    params = {
        **dict.fromkeys(("driver", "keep_state", "platforms", "docker_config")),
        "name": name,
        "nodes": declared,
        "share_nodes": share_nodes,
        "state": "present",
        "bootstrap": True,
        "purge_nodes": True,
        "absent_nodes": None,
        "purge_contexts": False,
        "use": False,
        "use_scope": "default",
        "on_unreachable": "fail",
        "probe": True,
        "emulation": "allow",
        "timeout": 10,
        "bootstrap_timeout": 600,
    }
    told: dict[str, Any] = json.loads(
        live.ssh("controller", "python3 /srv/bench/driver.py", stdin=json.dumps(params)).splitlines()[-1]
    )
    return told


def idle_module(live: LiveFarm, nodes: Sequence[str], name: str) -> float:
    """The seconds of a run that finds nothing to do."""
    told = module(live, nodes, name)
    if told["actions"] or len(told["calls"]) > 2:
        raise OSError(f"builder {name} is not idle, or costs more than two starts of a tool: {told}")
    return float(told["seconds"])


def inspect(live: LiveFarm, name: str) -> float:
    """The seconds of `docker buildx inspect` of a builder."""
    timer = "import subprocess, sys, time; s = time.monotonic(); subprocess.run(sys.argv[1:], capture_output=True)"
    command = f"python3 -c '{timer}; print(time.monotonic() - s)' docker buildx inspect {name}"
    return float(live.ssh("controller", command))


def timed(work: Callable[[list[str]], None], argv: list[str]) -> float:
    """The seconds that something takes."""
    started = time.monotonic()
    work(argv)
    return time.monotonic() - started


def in_turns(works: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """Measure several things in turns, print what was measured, and return the median seconds of each."""
    measured = [{name: work() for name, work in works.items()} for _round in range(rounds)]
    medians = {}
    for name in works:
        column = [times[name] for times in measured]
        medians[name] = statistics.median(column)
        print(f"{name:<18} median {medians[name]:.2f} s, from {min(column):.2f} to {max(column):.2f}")
    return medians


if __name__ == "__main__":
    sys.exit(main())
