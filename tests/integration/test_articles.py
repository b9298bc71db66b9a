# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of the articles about multi-architecture builds, one test a step, in their order.

They open an engine on plain TCP, as the articles do; the other tests use mutual TLS.
"""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest

import seed
from ansible_runs import CHECKOUT, LiveFarm, task
from building import unlisten

CONTROLLER, AMD, ARM = "ctl", "mid1", "mid2"
PLATFORMS = ["linux/amd64", "linux/arm64"]
BUILDER = "articles"
SOURCES = "/srv/articles"


@pytest.fixture(scope="module", autouse=True)
def traces(farm: LiveFarm) -> Iterator[None]:
    """Put the sources on the controller; whatever happens, leave the hosts as they were."""
    farm.module(
        CONTROLLER, "ansible.builtin.copy", src=f"{CHECKOUT}/examples/hello/", dest=f"{SOURCES}/", mode="preserve"
    )
    with farm.trusted_registry(CONTROLLER):
        yield
        quiet = f"docker buildx rm {BUILDER} 2>/dev/null; rm -rf {SOURCES} /srv/out; docker system prune -af"
        farm.ssh(CONTROLLER, quiet, check=False)
    farm.module(ARM, "binfmt", state="absent", platforms=["linux/arm64"])
    for host in (AMD, ARM):
        unlisten(farm, host)


def listener(farm: LiveFarm) -> dict[str, Any]:
    return {"insecure": True, "address": "0.0.0.0", "daemon_config": {"insecure-registries": [farm.registry]}}


def node(farm: LiveFarm, host: str, platform: str) -> dict[str, Any]:
    return {
        "name": f"articles-{host}",
        "endpoint": f"tcp://{host}:2375",
        "platforms": [platform],
        "driver_opts": {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"},
        "buildkitd_config": f'[registry."{farm.registry}"]\n  http = true\n',
    }


def builder(farm: LiveFarm, *nodes: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Declare the builder twice: the second time nothing may change."""
    declared = {"name": BUILDER, "nodes": list(nodes), **options}
    return twice(farm, CONTROLLER, task("buildx_builder", **declared))


def twice(farm: LiveFarm, host: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Run a task twice: the second time nothing may change; returns what the first did."""
    result, again = farm.tasks(host, wanted, wanted)
    assert not again["changed"]
    return result


def build(farm: LiveFarm, platforms: list[str], **options: Any) -> dict[str, Any]:
    """Build twice: the second time nothing may change."""
    declared = {
        "builder": BUILDER,
        "context": SOURCES,
        "platforms": platforms,
        "build_args": {"REGISTRY": f"{farm.registry}/library"},
        **options,
    }
    return twice(farm, CONTROLLER, task("buildx_build", **declared))


@pytest.mark.parametrize("host", [AMD, ARM])
def test_engine_opened_on_tcp_through_systemd_answers_version(farm: LiveFarm, host: str) -> None:
    result = twice(farm, host, task("docker_listener", **listener(farm)))
    assert result["changed"]
    assert "without TLS" in str(result["warnings"])
    script = f"import urllib.request as u; print(u.urlopen('http://{host}:2375/version', timeout=5).read().decode())"
    version = json.loads(farm.ssh(CONTROLLER, f'python3 -c "{script}"'))
    assert version["Version"].startswith("26.1")


def test_handlers_installed_and_visible_in_proc(farm: LiveFarm) -> None:
    declared = {"platforms": ["linux/arm64"], "image": f"{farm.registry}/{seed.EMULATOR}"}
    first, again, info = farm.tasks(ARM, *[task("binfmt", **declared)] * 2, task("binfmt_info"))
    assert first["changed"] and not again["changed"]
    entry = farm.ssh(ARM, "cat /proc/sys/fs/binfmt_misc/qemu-aarch64")
    assert "enabled" in entry
    assert "F" in entry.split("flags:")[1].split()[0]
    (handler,) = [one for one in info["handlers"] if one["name"] == "qemu-aarch64"]
    assert handler["enabled"] and handler["works"]


def test_builder_created_with_driver_platform_and_buildkit_image(farm: LiveFarm) -> None:
    result = builder(farm, node(farm, AMD, "linux/amd64"), driver="docker-container", bootstrap=False)
    assert result["changed"]
    assert f"{farm.registry}/{seed.BUILDKIT}" in farm.ssh(CONTROLLER, f"docker buildx inspect {BUILDER}")


def test_node_appended_by_its_tcp_endpoint(farm: LiveFarm) -> None:
    builder(farm, node(farm, ARM, "linux/arm64"), purge_nodes=False, bootstrap=False)
    shown = farm.ssh(CONTROLLER, f"docker buildx inspect {BUILDER}")
    assert f"tcp://{AMD}:2375" in shown
    assert f"tcp://{ARM}:2375" in shown


def test_builder_inspected_and_bootstrapped(farm: LiveFarm) -> None:
    builder(farm, node(farm, AMD, "linux/amd64"), node(farm, ARM, "linux/arm64"))
    (found,) = farm.module(CONTROLLER, "buildx_builder_info", name=BUILDER)["builders"]
    assert [one["status"] for one in found["nodes"]] == ["running", "running"]
    assert farm.ssh(CONTROLLER, f"docker buildx inspect {BUILDER}").count("running") == 2


def test_builder_used(farm: LiveFarm) -> None:
    nodes = [node(farm, AMD, "linux/amd64"), node(farm, ARM, "linux/arm64")]
    assert builder(farm, *nodes, use=True)["changed"]
    lines = farm.ssh(CONTROLLER, "docker buildx ls").splitlines()
    assert any(line.startswith(f"{BUILDER}*") for line in lines), lines


def test_one_platform_built_to_the_local_engine(farm: LiveFarm) -> None:
    assert build(farm, ["linux/amd64"], tags=["hello:amd64"], load=True)["changed"]
    assert farm.ssh(CONTROLLER, "docker run --rm hello:amd64").strip() == "hello from linux/amd64 on x86_64"


def test_several_platforms_built_one_after_the_other_to_the_local_engine(farm: LiveFarm) -> None:
    for platform in PLATFORMS:
        architecture = platform.split("/")[1]
        build(farm, [platform], tags=[f"hello:{architecture}"], outputs=[{"type": "docker"}])
        shown = farm.ssh(CONTROLLER, f"docker image inspect --format '{{{{.Architecture}}}}' hello:{architecture}")
        assert shown.strip() == architecture


def test_several_platforms_built_and_pushed_in_one_go(farm: LiveFarm) -> None:
    result = build(farm, PLATFORMS, tags=[f"{farm.registry}/articles/hello:1"], push=True)
    assert result["changed"]
    built = {entry["platform"]: (entry["node"], entry["native"]) for entry in result["image"]["platforms"]}
    assert built == {"linux/amd64": (f"articles-{AMD}", True), "linux/arm64": (f"articles-{ARM}", False)}


@pytest.mark.parametrize(
    "kind, platforms, file",
    [
        ("local", PLATFORMS, "linux_arm64/hello"),
        ("tar", ["linux/arm64"], "hello"),
        ("oci", ["linux/arm64"], "index.json"),
        ("docker", ["linux/arm64"], "manifest.json"),
    ],
)
def test_output_to_files(farm: LiveFarm, kind: str, platforms: list[str], file: str) -> None:
    destination = f"/srv/out/{kind}"
    farm.ssh(CONTROLLER, "mkdir -p /srv/out")
    output = {"type": kind, "dest": destination}
    result = build(farm, platforms, outputs=[output], **({"tags": ["hello:file"]} if kind == "docker" else {}))
    assert result["changed"]
    if kind == "local":
        assert "ELF" in farm.ssh(CONTROLLER, f"head -c 4 {destination}/{file} | cat -v")
        return
    encoded = farm.ssh(CONTROLLER, f"base64 {destination}")
    with tarfile.open(fileobj=BytesIO(base64.b64decode(encoded))) as archive:
        assert file in [name.removeprefix("./") for name in archive.getnames()]


def test_output_image_stays_in_the_builder(farm: LiveFarm) -> None:
    build(farm, PLATFORMS, tags=["hello:kept"], outputs=[{"type": "image"}])


def test_output_registry(farm: LiveFarm) -> None:
    reference = f"{farm.registry}/articles/hello:registry"
    assert build(farm, PLATFORMS, tags=[reference], outputs=[{"type": "registry"}])["changed"]
    assert farm.module(CONTROLLER, "image_verify", name=reference, builder=BUILDER, platforms=PLATFORMS)


def test_index_inspected(farm: LiveFarm) -> None:
    reference = f"{farm.registry}/articles/hello:1"
    result = farm.module(CONTROLLER, "buildx_imagetools_info", name=reference, builder=BUILDER)
    assert [entry["platform"] for entry in result["index"]["manifests"]] == PLATFORMS


def test_each_platform_run_by_digest(farm: LiveFarm) -> None:
    result = farm.module(
        CONTROLLER,
        "image_verify",
        name=f"{farm.registry}/articles/hello:1",
        builder=BUILDER,
        platforms=PLATFORMS,
        run={"command": ["/hello"], "expected_regex": "^hello from linux/(amd64|arm64) on "},
    )
    printed = {entry["platform"]: entry["output"].strip() for entry in result["image"]["platforms"]}
    assert printed == {
        "linux/amd64": "hello from linux/amd64 on x86_64",
        "linux/arm64": "hello from linux/arm64 on aarch64",
    }


def test_cache_pruned(farm: LiveFarm) -> None:
    def used() -> str:
        return farm.ssh(CONTROLLER, f"docker buildx du --builder {BUILDER} | grep ^Total: | tr -d '[:space:]'")

    assert used() != "Total:0B"
    farm.module(CONTROLLER, "ansible.builtin.command", argv=["docker", "buildx", "prune", "-af", "--builder", BUILDER])
    assert used() == "Total:0B"


def test_builder_removed(farm: LiveFarm) -> None:
    declared = {"name": BUILDER, "state": "absent"}
    assert twice(farm, CONTROLLER, task("buildx_builder", **declared))["changed"]
    assert BUILDER not in farm.ssh(CONTROLLER, "docker buildx ls")
    for host in (AMD, ARM):
        assert farm.ssh(host, "docker ps --all --quiet") == ""
