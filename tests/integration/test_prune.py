"""Caches that stay within their limits, buildx_prune, and what builders leave behind.

With buildx 0.13 and 0.29 as controllers. The long run has a cache of 2 GB, the other one of 500 MB; with
`BUILDFARM_MEGABYTES`, of each of twenty builds, it can be any that the disk of the host has room for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import seed
from ansible_runs import LiveFarm, task
from building import listen, unlisten

LIMITED, FREE = "mid1", "new1"
#: Megabytes of each of twenty builds: 500 MB of cache, or 2 GB in the long run.
MEGABYTES = int(os.environ.get("BUILDFARM_MEGABYTES") or (100 if os.environ.get("BUILDFARM_CASES") else 25))
LIMIT = 8 * MEGABYTES
#: BuildKit clears up a minute after a build.
PATIENCE = 120


class Pruning:
    """The farm with engines that listen, and shorthands for filling caches and pruning them."""

    def __init__(self, farm: LiveFarm) -> None:
        self.farm = farm
        self.filled: dict[str, Future[None]] = {}

    def node(self, name: str, host: str, **options: Any) -> dict[str, Any]:
        """A node on a host's engine."""
        opts = {"image": f"{self.farm.registry}/{seed.BUILDKIT}", "network": "host"}
        return {"name": name, "endpoint": f"tcp://{host}:2375", "driver_opts": opts, **options}

    def build(self, on: str, builder: str, times: int, megabytes: int) -> None:
        """Build images of random content, each of which the cache has as a layer."""
        context = f"/srv/prune-{builder}"
        self.farm.ssh(
            on,
            f"mkdir -p {context} && cd {context} && printf 'FROM scratch\\nCOPY blob /\\n' > Dockerfile\n"
            f"for i in $(seq {times}); do dd if=/dev/urandom of=blob bs=1M count={megabytes} status=none\n"
            f"docker buildx build -q --builder {builder} --provenance=false . >/dev/null 2>&1 || exit 1; done",
        )

    def prune(self, on: str, again: bool = False, **options: Any) -> dict[str, Any]:
        """Predict and prune: check mode tells what is done.

        :param again: prune again, for which nothing is left.
        """
        want = {"orphans": "ignore", **options}
        predicted, real, *more = self.farm.tasks(
            on, task("buildx_prune", check=True, **want), *[task("buildx_prune", **want)] * (1 + again)
        )
        for key in ("changed", "actions", "diff"):
            assert predicted[key] == real[key], key
        assert predicted["freed"] == pytest.approx(real["freed"], rel=0.05)
        for later in more:
            assert (later["changed"], later["actions"]) == (False, [])
            expected = sum(node["bytes"] - node["freed"] for node in real["nodes"])
            assert sum(node["bytes"] for node in later["nodes"]) == pytest.approx(expected, rel=0.05)
        return real

    def used(self, host: str, container: str) -> int:
        """Bytes of a cache on the disk of its engine."""
        mountpoint = "{{range .Mounts}}{{.Source}}{{end}}"
        path = self.farm.ssh(host, f"docker inspect -f '{mountpoint}' {container}").strip()
        return int(self.farm.ssh(host, f"du -sB1 {path}").split()[0])

    def there(self, host: str) -> set[str]:
        """Names of containers and volumes on an engine."""
        return set(self.farm.ssh(host, "docker ps -a --format '{{.Names}}'; docker volume ls -q").split())


@pytest.fixture(scope="module")
def pruning(farm: LiveFarm) -> Iterator[Pruning]:
    """Engines that listen; while tests run, one cache is filled beyond its limit."""
    found = Pruning(farm)
    with ThreadPoolExecutor() as pool:
        try:
            list(pool.map(lambda host: listen(farm, host), (LIMITED, FREE)))
            limited = found.node("limited", LIMITED, cache={"max_used": f"{LIMIT}m"})
            farm.converge("ctl", "buildx_builder", name="limited", nodes=[limited])
            found.filled["ctl"] = pool.submit(found.build, "ctl", "limited", 20, MEGABYTES)
            yield found
        finally:
            list(pool.map(lambda host: unlisten(farm, host), (LIMITED, FREE)))
            volumes = "docker volume ls -q | grep '^buildx_buildkit_' | xargs -r docker volume rm"
            list(pool.map(lambda host: farm.ssh(host, volumes), (LIMITED, FREE)))
            list(pool.map(lambda host: farm.ssh(host, "rm -rf ~/.docker /srv/prune-*"), ("ctl", "ctlnew")))


def test_limits_change_while_the_cache_stays(pruning):
    declare = {"name": "free", "nodes": [pruning.node("free", FREE, buildkitd_config="debug = true\n")]}
    pruning.farm.converge("ctlnew", "buildx_builder", **declare)
    created = "docker volume inspect -f '{{.CreatedAt}}' buildx_buildkit_free_state"
    before = pruning.farm.ssh(FREE, created)
    limits = {"max_used": "2g", "min_free": "1%", "max_age": "30d", "kinds": {"source.local": {"max_age": "48h"}}}
    changed = pruning.farm.converge("ctlnew", "buildx_builder", name="free", nodes=[{"name": "free", "cache": limits}])
    assert ["remove-container", f"tcp://{FREE}:2375", "buildx_buildkit_free"] in changed["actions"]
    assert pruning.farm.ssh(FREE, created) == before
    written = pruning.farm.ssh(FREE, "docker cp buildx_buildkit_free:/etc/buildkit/buildkitd.toml - | tar xO")
    assert written.startswith("debug = true") and 'minFreeSpace = "1%"' in written
    # What BuildKit made of it, as buildx reports it.
    told = pruning.farm.ssh("ctlnew", "docker buildx inspect free")
    assert {"Max Used Space: 2GiB", "Keep Duration: 48h0m0s"} <= {" ".join(line.split()) for line in told.splitlines()}
    # A configuration's own policy wins.
    own = pruning.node("free", FREE, buildkitd_config="[worker.oci]\n  gc = false\n", cache=limits)
    pruning.farm.converge("ctlnew", "buildx_builder", name="free", nodes=[own])
    assert "GC Policy" not in pruning.farm.ssh("ctlnew", "docker buildx inspect free")


def test_what_is_predicted_goes(pruning):
    pruning.build("ctlnew", "free", 6, 10)
    kept = pruning.prune("ctlnew", again=True, builder="free", keep="40m")
    (node,) = kept["nodes"]
    assert node["bytes"] > 60e6 and node["bytes"] - node["freed"] <= 40 << 20
    assert node["predicted"] == pytest.approx(node["freed"], rel=0.05)
    # Age is by the node's clock. What is younger stays, and so does what uses it.
    assert pruning.prune("ctlnew", nodes=["free"], older_than="1h")["actions"] == []
    sources = pruning.prune("ctlnew", filters=["type==source.local"])
    assert 0 < sources["freed"] < node["bytes"] - node["freed"]
    aged = pruning.prune("ctlnew", older_than="1s")
    assert aged["freed"] > 10e6
    pruning.build("ctlnew", "free", 1, 10)
    assert pruning.prune("ctlnew", all=True)["freed"] > 10e6
    assert pruning.used(FREE, "buildx_buildkit_free") < 5e6


def test_a_node_that_does_not_answer_stops_no_other(pruning):
    pruning.build("ctlnew", "free", 1, 10)
    folder = "~/.docker/buildx/instances"
    address = pruning.farm.address(FREE)
    pruning.farm.ssh("ctlnew", f"sed 's/free/dead/g; s/{FREE}:2375/{address}:2399/' {folder}/free > {folder}/dead")
    try:
        found = pruning.farm.module("ctlnew", "buildx_prune")
    finally:
        pruning.farm.ssh("ctlnew", f"rm {folder}/dead")
    dead, free = found["nodes"]
    assert (dead["name"], dead["freed"], free["name"], free["error"]) == ("dead", 0, "free", None)
    assert free["freed"] > 10e6 and f"{address}:2399" in dead["error"]
    assert any("node 'dead' is not pruned" in text for text in found["warnings"])


def test_orphans_of_two_controllers(pruning):
    node = pruning.node("shared", FREE)
    for host in ("ctl", "ctlnew"):
        pruning.farm.module(host, "buildx_builder", name="shared", nodes=[node])
    pruning.farm.ssh(FREE, "docker volume create buildx_buildkit_foreign_state")
    names = {"buildx_buildkit_shared", "buildx_buildkit_shared_state"}
    forget = "rm ~/.docker/buildx/instances/shared"

    def orphans(on: str, **options: Any) -> dict[str, Any]:
        found = pruning.prune(on, cache=False, again=on == "ctlnew", **options)["orphans"]
        return {f"{orphan['kind']} {orphan['name']}": orphan for orphan in found}

    # The other controller's builders, and what has no mark, are named, and stay. So are they in check mode.
    pruning.farm.ssh("ctl", forget)
    # No builder of this one leads to that engine any more.
    context = {"name": "leads-there", "host": f"tcp://{FREE}:2375", "insecure": True}
    pruning.farm.module("ctl", "docker_context", contexts=[context], owner="gone")
    found = orphans("ctl", orphans="report")
    assert found["container buildx_buildkit_shared"]["kept"] == "marked as used by ctlnew"
    assert found["volume buildx_buildkit_foreign_state"]["kept"].startswith("without a mark")
    assert found["context leads-there"]["owner"] == "gone"
    assert pruning.there(FREE) >= names
    found = orphans("ctl", orphans="remove")
    assert found["mark shared"]["controllers"] == ["ctl", "ctlnew"]
    assert pruning.there(FREE) >= {*names, "buildx_buildkit_foreign_state"}
    assert "leads-there" not in pruning.farm.ssh("ctl", "docker context ls -q")
    # The last one takes all that is marked.
    pruning.farm.ssh("ctlnew", forget)
    found = orphans("ctlnew", orphans="remove")
    assert found["volume buildx_buildkit_shared_state"]["bytes"] > 0
    assert found["container buildx_buildkit_shared"]["kept"] is None
    there = pruning.there(FREE)
    assert not names & there and {"buildx_buildkit_foreign_state", "buildx_buildkit_free"} <= there
    assert {name for name in there if name.startswith("buildfarm_mark_shared")} == set()


def test_notes_of_buildx_are_bounded(pruning):
    refs = "~/.docker/buildx/refs"
    pruning.farm.ssh("ctlnew", f"mkdir -p {refs}/gone/node; cd {refs}; touch -d 2020-01-01 free/free/old gone/node/new")
    assert int(pruning.farm.ssh("ctlnew", f"find {refs} -type f | wc -l")) > 3
    noted = pruning.prune("ctlnew", cache=False, keep_records=2)
    assert noted["diff"]["after"]["records"] <= 2 + 3
    assert pruning.farm.ssh("ctlnew", f"find {refs} -type f | wc -l").strip() == "2"
    assert "gone" not in pruning.farm.ssh("ctlnew", f"ls {refs}")


def test_a_cache_stays_within_its_limit(pruning, record_property):
    pruning.filled["ctl"].result()
    until = time.monotonic() + PATIENCE
    before = used = pruning.used(LIMITED, "buildx_buildkit_limited")
    while used > (LIMIT << 20) * 1.05 and time.monotonic() < until:
        time.sleep(2)
        used = pruning.used(LIMITED, "buildx_buildkit_limited")
    assert used <= (LIMIT << 20) * 1.05, json.dumps({"before": before, "after": used})
    # Not all of it went, and what stays is still of use.
    assert used > (LIMIT << 20) / 4
    record_property("megabytes", f"{20 * MEGABYTES} built, {used >> 20} kept of {LIMIT}")
    # What is told beforehand of a large cache is what goes, on the disk too.
    pruned = pruning.prune("ctl", builder="limited", keep=f"{LIMIT // 2}m")
    (node,) = pruned["nodes"]
    assert node["predicted"] == pytest.approx(node["freed"], rel=0.05)
    went = used - pruning.used(LIMITED, "buildx_buildkit_limited")
    assert went == pytest.approx(node["freed"], rel=0.05)
    told = [number >> 20 for number in (node["predicted"], node["freed"], went)]
    record_property("pruned", "{} predicted, {} by BuildKit, {} on the disk".format(*told))
    # With a cache its mark goes.
    pruning.farm.module("ctl", "buildx_builder", name="limited", state="absent")
    assert not [name for name in pruning.there(LIMITED) if "limited" in name]
