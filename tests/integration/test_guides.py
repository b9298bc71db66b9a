# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guides and the README, followed as they are: what they say to do works, and prints what they show.

Each test begins where the one before it has ended, as a reader goes on with the farm that is there.
"""

from __future__ import annotations

import json
import re
import secrets
import textwrap
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

import farm as farms
import guides
import images
import oci
import reader
import registry as ports
from ansible_runs import CHECKOUT, LiveFarm, shell, task
from building import unlisten
from reader import Book, Reader, changes

ALONE = "localhost"
BUILDER, AMD, ARM, OTHER = "builder.example.com", "amd1.example.com", "arm1.example.com", "release.example.com"
#: The farm's hosts that are meant. What is an arm64 machine in the guides is one that emulates it here.
HOSTS = {
    ALONE: "ctl",
    BUILDER: "ctl",
    OTHER: "ctlnew",
    AMD: "mid1",
    ARM: "mid2",
    "amd01.example.com": "mid1",
    "arm01.example.com": "mid2",
    "mirror.example.com": "bare1",
}
ENGINES = ("ctl", "mid1", "mid2")
APP = f"{farms.DOCUMENTED_REGISTRY}/app"
#: What cannot be followed here, and why; what can be said of it without that is said in tests/quality.
NOT_FOLLOWED = {
    "README: make demo": "it runs this",
    "guide_awx: # execution-environment.yml": "it fetches an image; test_awx builds one of an example of that form",
    "guide_inside: Ansible machine": "a drawing",
}


@pytest.fixture(scope="module")
def book() -> Book:
    """All pages but the one that test_inventory_plugin follows."""
    return Book(guides.README, *(page for page in guides.GUIDES if page.stem != "guide_inventories"))


@pytest.fixture(scope="module", autouse=True)
def known(farm: LiveFarm) -> Iterator[None]:
    """The hosts under the guides' names, with something to build; as they were at the end."""
    with reader.known(farm, {name: host for name, host in HOSTS.items() if name != ALONE}):
        push(farm, "debian:13", images.busybox())
        try:
            app = f"mkdir -p /srv/app/src && cd /srv/app && echo {secrets.token_hex(8)} > src/main.c"
            farm.ssh("ctl", f"{app} && printf 'FROM debian:13\\nCOPY src/main.c /\\n' > Dockerfile")
            yield
        finally:
            farm.module("mid2", "binfmt", state="absent", platforms=["linux/arm64"])
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda host: unlisten(farm, host), ENGINES))
            farm.ssh("ctl", "rm -rf ~/.docker ~/.config/buildfarm ~/buildfarm-report ~/hello.tar /srv/app /srv/hello")
            for host in {*HOSTS.values()}:
                farm.ssh(host, "rm -rf ~/.docker /srv/credentials /etc/docker")


@pytest.fixture(scope="module")
def desk(farm: LiveFarm, book: Book, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Where the reader's own files are."""
    own = Reader(farm, tmp_path_factory.mktemp("desk"), HOSTS, BUILDER)
    own.write("group_vars/all/hub.yml", json.dumps(hub(farm)))
    own.write("group_vars/all/registry.yml", book.block("guide_registries", "engine_registry_authorities"))
    # BuildKit's containers find names as their hosts do.
    for name in (AMD, ARM):
        own.write(f"host_vars/{name}/here.yml", json.dumps({"farm_node_driver_opts": {"network": "host"}}))
    own.write(f"host_vars/{ARM}/arm64.yml", json.dumps({"farm_node_platforms": ["linux/arm64"]}))
    dockerfile = book.block("README", "# hello/Dockerfile").text
    own.write("hello/Dockerfile", f"{dockerfile}LABEL of={secrets.token_hex(8)}\n")
    return own


def push(farm: LiveFarm, name: str, content: dict[str, oci.Image]) -> None:
    """Give Docker Hub an official image."""
    repository, tag = name.split(":")
    oci.push(f"http://{farm.address('registry')}:{ports.PLAIN}", f"library/{repository}", tag, content)


def hub(farm: LiveFarm) -> dict[str, Any]:
    """Where Docker Hub is."""
    return {"engine_registry_mirrors": [f"http://{farm.registry}"]}


def test_one_host(farm: LiveFarm, book: Book, desk: Reader) -> None:
    # Ansible is not to change the machine that it runs on here, so "localhost" is another one with the same files.
    there = {"ansible_connection": "ssh", **farm.inventory()["all"]["vars"], "ansible_host": farm.address("ctl")}
    private = yaml.safe_load(book.block("guide_registries", "engine_registry_authorities").text)
    private["engine_registry_authorities"] = {farms.DOCUMENTED_REGISTRY: desk.authority}
    variables = {**hub(farm), **private, **there, "farm_driver_opts": {"network": "host"}}
    desk.write("there.json", json.dumps(variables))
    example = farm.collections / "ansible_collections/buildfarm/multiarch/playbooks/files/hello"
    farm.ssh("ctl", f"mkdir -p {example} {desk.directory}")
    salted = f"FROM scratch\nCOPY * /\nLABEL of={secrets.token_hex(8)}\n"
    farm.ssh("ctl", f"cat > {desk.directory}/Dockerfile", stdin=salted)
    for file in example.iterdir():
        farm.ssh("ctl", f"cat > {example}/{file.name}", stdin=file.read_text())
    try:
        (told,) = desk.do(book.block("README", "buildfarm.multiarch.quickstart "), "-e @there.json")
        shown = book.block("README", "TASK [Build the image]").text
        (part,) = re.findall(r"^TASK \[Build the image\].*?\n\n", told, re.MULTILINE | re.DOTALL)
        # Both platforms are built at the same time. A step that takes longer is told of when it begins, too, and one
        # that ends with the task may not be told of.
        came = {line for line in guides.comparable(part) if line and not line.endswith("…")}
        assert came <= set(guides.comparable(shown)), part
        (told,) = desk.do(
            book.block("guide_start", "ansible-playbook buildfarm.multiarch.quickstart\n"), "-e @there.json"
        )
        assert changes(told) == 0
        (told,) = desk.do(book.block("guide_start", "quickstart_context=$PWD"), "-e @there.json")
        assert changes(told) == 1
        desk.write("inventory.yml", book.block("guide_one_host", "ansible_connection: local"))
        # The builder; that of the other playbook is its own.
        assert desk.playbook("site", "@there.json", check=True) == 1
        play = book.block("guide_one_host", "- hosts: localhost").text
        # The builder of a play has what is said there, so what group_vars have said so far is.
        mirror = (
            f'[registry."docker.io"]\n  mirrors = ["{farm.registry}"]\n[registry."{farm.registry}"]\n  http = true\n'
        )
        more = {
            "driver_opts": {"network": "host"},
            "buildkitd_config": mirror,
            "registry_authorities": private["engine_registry_authorities"],
        }
        (line,) = re.findall(r"^ +endpoint: .*\n", play, re.MULTILINE)
        own = textwrap.indent(yaml.safe_dump(more), " " * line.index("endpoint"))
        desk.write("play.yml", play.replace(line, line + own))
        assert desk.playbook("play.yml", "@there.json") == 2
        assert desk.playbook("play.yml", "@there.json") == 0
    finally:
        farm.ssh("ctl", f"rm -rf {CHECKOUT} {desk.directory}")
        farm.ssh("ctl", "docker buildx rm mybuilder", check=False)


def test_a_farm(farm: LiveFarm, book: Book, desk: Reader) -> None:
    """One of two machines, from three inventories that say the same in other words."""
    desk.write("inventory.yml", book.block("guide_start", "# inventory.yml"))
    predicted, done = desk.do(book.block("guide_start", "site --check --diff"))
    assert changes(predicted) == changes(done) > 0
    desk.write("images.yml", book.block("README", "# images.yml"))
    desk.write("inventory.yml", book.block("README", "# inventory.yml"))
    again, built = desk.do(book.block("README", "buildfarm.multiarch.build "))
    assert changes(again) == 0
    assert changes(built) > 0
    desk.write("images.yml", book.block("guide_start", "# images.yml"))
    (built,) = desk.do(book.block("guide_start", "buildfarm.multiarch.build "))
    assert changes(built) == 0
    desk.write("inventory.yml", book.block("guide_native_node", "buildx_controllers"))
    assert desk.playbook("site", check=True) == 0
    desk.do(book.block("guide_start", "docker buildx build"))


def test_reasons(farm: LiveFarm, book: Book) -> None:
    """Each is brought about, and told by check mode."""
    tag = f"{APP}:{secrets.token_hex(8)}"
    options = {"builder": "farm", "context": "/srv/app", "platforms": ["linux/amd64", "linux/arm64"], "push": True}
    source = "/srv/app/src/main.c"

    def why(*tags: str) -> dict[str, Any]:
        return task("buildx_build", check=True, **options, tags=tags)

    built, *whys = farm.tasks(
        "ctl",
        task("buildx_build", **options, tags=[tag]),
        why(f"{tag}.4"),
        why(tag, f"{tag}-latest"),
        shell(f"cp {source} /srv/main.c; date +%N > {source}"),
        why(tag),
        shell(f"mv /srv/main.c {source}"),
    )
    (arm,) = (one["digest"] for one in built["image"]["platforms"] if one["platform"] == "linux/arm64")
    url = f"http://{farm.address('registry')}:{ports.PLAIN}/v2/app/manifests/{arm}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, method="DELETE"), timeout=60).close()
    whys += farm.tasks("ctl", why(tag))
    # One from which this can be built, and another one.
    push(farm, "debian:13", {platform: oci.Image((), image.config) for platform, image in images.busybox().items()})
    whys += farm.tasks("ctl", why(tag))
    push(farm, "debian:13", images.busybox())
    told = "\n".join(reason for one in whys if "images" in one for reason in one["images"][0]["reasons"])
    names = [(f"{tag}.4", f"{APP}:1.4"), (f"{tag}-latest", f"{APP}:latest")]
    shown = book.block("guide_skipping", "src/main.c changed").text
    assert sorted(set(guides.comparable(told, names))) == sorted(guides.comparable(shown)), told


def test_builds(farm: LiveFarm, book: Book, desk: Reader) -> None:
    (target,) = re.findall(r"^image:\n(.*)", book.block("guide_coming_from", "docker buildx build").text, re.DOTALL)
    # Something else than one host has built.
    farm.ssh("ctl", f"cd /srv/app && date +%N > src/main.c && {target.strip().replace('$(VERSION)', '1')}")
    desk.write("play.yml", book.block("guide_coming_from", "- hosts:"))
    # What a Makefile has built has no record.
    assert desk.playbook("play.yml", "version=1") == 1
    assert desk.playbook("play.yml", "version=1") == 0
    assert desk.playbook("build", book.block("guide_caches", "images_list")) == 1
    assert farm.ssh("ctl", f"docker buildx imagetools inspect {farm.registry}/cache/app:latest-linux-amd64")
    desk.write("play.yml", book.block("guide_skipping", "- hosts:"))
    assert changes(told := desk.run("ansible-playbook -i inventory.yml play.yml -v")) == 0
    assert '"msg": []' in told
    farm.ssh("ctl", "date +%N > /srv/app/src/main.c")
    assert '"src/main.c changed"' in desk.run("ansible-playbook -i inventory.yml play.yml --check")
    desk.write("build.yml", book.block("guide_awx", "# build.yml"))
    assert desk.playbook("build.yml", "@images.yml") == 0


def test_jobs_that_keep_nothing(farm: LiveFarm, book: Book, desk: Reader) -> None:
    desk.do(book.block("guide_awx", "directory=~/farm-authority"))
    assert (desk.directory / "farm-authority/ca-key.pem").exists()
    kept = (desk.directory / "inventory.yml").read_text()
    inventory = yaml.safe_load(kept)
    inventory["all"]["children"]["buildx_controllers"]["hosts"] = {OTHER: None}
    desk.write("inventory.yml", yaml.safe_dump(inventory))
    files = {}
    for kind, place in (("ca", ""), ("cert", f"clients/{BUILDER}/"), ("key", f"clients/{BUILDER}/")):
        files[f"FARM_{kind.upper()}"] = path = f"/srv/credentials/{kind}.pem"
        content = farm.ssh(HOSTS[BUILDER], f"cat ~/.config/buildfarm/certificates/{place}{kind}.pem")
        farm.ssh(HOSTS[OTHER], f"umask 077; mkdir -p /srv/credentials; cat > {path}", stdin=content)
    desk.write("credentials.yml", book.block("guide_awx", "# credentials.yml"))
    (job,) = yaml.safe_load(book.block("guide_awx", ".gitlab-ci.yml").text).values()
    (command,) = job["script"]
    told = desk.run(command, **files)
    assert changes(told) == 0
    assert "registry.example.com/hello:latest" in told
    desk.write("inventory.yml", kept)


def test_two_builders_over_the_same_nodes(farm: LiveFarm, book: Book, desk: Reader) -> None:
    desk.write("team-b.yml", book.block("guide_several", "# team-b.yml"))
    made, built = desk.do(book.block("guide_several", "@team-b.yml"))
    assert changes(made) > 0
    assert changes(built) == 0
    assert desk.playbook("site", book.block("guide_several", "farm_builder: release"), check=True) > 0


def test_work_on_a_farm(farm: LiveFarm, book: Book, desk: Reader) -> None:
    predicted, done = desk.do(book.block("guide_caches", "prune --check"))
    assert "PLAY RECAP" in predicted and "PLAY RECAP" in done
    (told,) = desk.do(book.block("guide_report", "report_fetch_to"))
    assert "Build farm: builder farm" in told
    assert (desk.directory / "farm.html").exists()
    tasks = book.block("guide_report", "- name: Read the farm").text
    farm.ssh("ctl", "mkdir -p /var/www/html")
    desk.write("play.yml", f"- hosts: buildx_controllers\n  tasks:\n{textwrap.indent(tasks, ' ' * 4)}")
    desk.playbook("play.yml")
    (cron,) = yaml.safe_load(book.block("guide_report", "ansible.builtin.cron").text)
    desk.run(f"{cron['ansible.builtin.cron']['job'].replace('/etc/farm/', '')} -e @images.yml")
    metrics = farm.ssh("ctl", "cat /var/lib/prometheus/node-exporter/farm.prom; rm -r /var/lib/prometheus /var/www")
    alerts = book.block("guide_report", "alert: BuildNodeAway").text
    assert set(re.findall(r"buildfarm_\w+", alerts)) <= set(re.findall(r"^buildfarm_\w+", metrics, re.MULTILINE))
    desk.write("play.yml", book.block("guide_troubleshooting", "buildx_nodes"))
    assert desk.playbook("play.yml") == 0


def test_variables(farm: LiveFarm, book: Book, desk: Reader) -> None:
    limits, metrics = book.block("guide_caches", "farm_cache:"), book.block("guide_report", "debugAddress")
    strict, plain = book.block("guide_security", "icc:"), book.block("guide_registries", "insecure-registries")
    traces, proxies = book.block("guide_report", "OTEL"), book.block("guide_registries", "proxies")
    inventory = yaml.safe_load((desk.directory / "inventory.yml").read_text())
    inventory["all"]["children"] |= yaml.safe_load(book.block("guide_registries", "buildx_mirrors").text)
    desk.write("mirrors.yml", yaml.safe_dump(inventory))
    # Engines and BuildKits are started anew for each, which takes its time: the others are predicted.
    assert desk.playbook("site", limits, metrics, strict) > 0
    assert desk.playbook("site", traces, plain, check=True) > 0
    assert desk.playbook("site", proxies, "vault_docker_hub=secret", check=True, inventory="mirrors.yml") > 0


def test_new_certificates(book: Book, desk: Reader) -> None:
    # What becomes of builds and engines meanwhile, test_rotation shows.
    for name in ("rotate_certificates", "new_authority"):
        (told,) = desk.do(book.block("guide_certificates", name), "--check")
        assert changes(told) > 0


def test_nodes_that_rest_or_leave(farm: LiveFarm, book: Book, desk: Reader) -> None:
    many = book.block("guide_large_farm", "buildx_nodes:").text
    whole = f"all:\n  children:\n    buildx_controllers: {{hosts: {{{BUILDER}: }}}}\n{textwrap.indent(many, ' ' * 4)}"
    desk.write("inventory.yml", whole)
    listed = json.loads(desk.run("ansible-inventory -i inventory.yml --list --limit buildx_nodes"))
    assert len(listed["_meta"]["hostvars"]) == 100
    # As many as there are here.
    desk.write("inventory.yml", whole.replace("[01:90]", "[01:01]").replace("[01:10]", "[01:01]"))
    assert [changes(told) for told in desk.do(book.block("guide_large_farm", "drain_reason"))] == [1, 1]
    assert desk.playbook("site", check=True) > 0
    desk.write("inventory.yml", book.block("guide_native_node", "buildx_controllers"))
    drained, gone = desk.do(book.block("guide_native_node", "buildfarm.multiarch.drain"))
    assert changes(drained) == 1
    assert changes(gone) > 0
    assert "2376" not in farm.ssh(HOSTS[ARM], "ss -ltn")


def test_nothing_is_left_out(request: pytest.FixtureRequest, book: Book) -> None:
    here = [name for name in globals() if name.startswith("test_")]
    asked = [item.name for item in request.session.items if item.path == request.path]
    if not set(here) <= set(asked) or request.session.testsfailed:
        pytest.skip("not all that reads the guides was run")
    assert sorted(block.name for block in book.unread) == sorted(NOT_FOLLOWED)
