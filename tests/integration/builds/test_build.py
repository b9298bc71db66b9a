# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx_build with buildx 0.13 and 0.29, on two nodes, on one, and with the engines' own builder."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import building
import registry
from ansible_runs import CHECKOUT, shell, task
from building import AMD, ARM, BUILDER, CONTROLLERS, FRONT_PORT, ONE_NODE, PLATFORMS, BuildFarm

HELLO = """FROM busybox
ARG WHO=world
ARG TARGETPLATFORM
RUN echo "hello $WHO on $TARGETPLATFORM" > /hello && cat /hello
COPY note /note
CMD ["cat", "/hello"]
"""
FAILING = """FROM busybox
RUN echo fine
RUN echo about to fail && exit 7
"""
FILES = """FROM scratch
ARG TARGETARCH
COPY note /note-$TARGETARCH
"""


def build(**options: Any) -> dict[str, Any]:
    """A task of the module."""
    return task("buildx_build", **options)


def exists(images: BuildFarm, on: str, name: str) -> bool:
    """Whether the registry has an image of this name."""
    result = images.farm.module(on, "buildx_imagetools_info", name=name, builder=BUILDER)
    return bool(result["exists"])


@pytest.mark.parametrize("on", CONTROLLERS)
def test_two_platforms_are_pushed_and_a_second_run_changes_nothing(images: BuildFarm, on: str) -> None:
    context = images.context(on, "hello", HELLO, note="one")
    names = [f"{images.repository}/{on}:1", f"{images.repository}/{on}:latest"]
    options = {"builder": BUILDER, "context": context, "platforms": PLATFORMS, "tags": names, "push": True}
    first = images.build_twice(on, **options)
    assert first["changed"]
    assert first["diff"]["before"] == {f"registry {name}": None for name in names}
    assert {value["digest"] for value in first["diff"]["after"].values()} == {first["image"]["digest"]}
    built = {node: metadata["containerimage.digest"] for node, metadata in first["metadata"].items()}
    assert built == {item["node"]: item["digest"] for item in first["image"]["platforms"]}
    found = [(item["platform"], item["node"], item["native"]) for item in first["image"]["platforms"]]
    assert found == [("linux/amd64", f"{on}-amd", True), ("linux/arm64", f"{on}-arm", False)]
    assert all(item["size"] > 1_000_000 for item in first["image"]["platforms"])

    other = {**options, "build_args": {"WHO": "a b=c"}, "labels": {"x.y": "z z"}}
    known, _two, second, _one, third, told, labelled, again = images.farm.tasks(
        on,
        build(check=True, **options),
        shell(f"printf two > {context}/note"),
        build(**options),
        shell(f"printf one > {context}/note"),
        build(**options),
        build(check=True, **other),
        build(**other),
        build(**other),
    )
    assert not known["changed"]
    assert second["changed"] and second["image"]["digest"] != first["image"]["digest"]
    # The steps' results come from the cache: other times of the files do not make another image.
    assert third["image"]["digest"] == first["image"]["digest"]
    assert told["changed"] and told["images"][0]["reasons"] == ["build arg WHO is new", "label x.y is new"]
    assert (labelled["changed"], again["changed"]) == (True, False)
    narrowed = images.build_twice(on, **{**options, "platforms": PLATFORMS[:1]})
    assert narrowed["changed"]
    assert [item["platform"] for item in narrowed["image"]["platforms"]] == PLATFORMS[:1]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_files_of_two_nodes_end_in_one_directory(images: BuildFarm, on: str) -> None:
    context = images.context(on, "files", FILES, note="text")
    output = {"type": "local", "dest": "/srv/images/out"}
    options = {"builder": BUILDER, "context": context, "platforms": PLATFORMS, "outputs": [output]}
    images.farm.ssh(on, "rm -rf /srv/images/out")
    assert images.build_twice(on, **options)["changed"]
    listed, _changed, repaired, content = images.farm.tasks(
        on,
        shell("cd /srv/images/out && find . -type f | sort"),
        shell("echo other > /srv/images/out/linux_amd64/note-amd64"),
        build(**options),
        shell("cat /srv/images/out/linux_amd64/note-amd64"),
    )
    assert listed["stdout_lines"] == ["./linux_amd64/note-amd64", "./linux_arm64/note-arm64"]
    assert repaired["changed"] and content["stdout"] == "text"


#: What one node puts out, and for which platforms; the first two are joined of what several do.
ARCHIVES: list[tuple[dict[str, Any], list[str]]] = [
    ({"type": "oci", "dest": "/srv/images/archives/i.oci"}, PLATFORMS),
    ({"type": "oci", "dest": "/srv/images/archives/layout", "options": {"tar": False}}, PLATFORMS),
    ({"type": "docker", "dest": "/srv/images/archives/i.tar"}, PLATFORMS[:1]),
    ({"type": "tar", "dest": "/srv/images/archives/f.tar"}, PLATFORMS),
]


@pytest.mark.parametrize("on", CONTROLLERS)
@pytest.mark.parametrize(("builder", "archives"), [(ONE_NODE, ARCHIVES), (BUILDER, ARCHIVES[:2])])
def test_archives(images: BuildFarm, on: str, builder: str, archives: list[tuple[dict[str, Any], list[str]]]) -> None:
    context = images.context(on, "files", FILES, note="text")
    images.farm.ssh(on, "rm -rf /srv/images/archives; mkdir -p /srv/images/archives")
    common = {"builder": builder, "context": context, "tags": ["files:1"]}
    wanted = [{**common, "platforms": platforms, "outputs": [output]} for output, platforms in archives]
    look = shell("cd /srv/images; find archives -type f -printf '%p %i %T@\\n' | sort; ls -A . archives")
    predicted = images.farm.tasks(on, *(build(check=True, **options) for options in wanted))
    *done, before = images.farm.tasks(on, *(build(**options) for options in wanted for _twice in range(2)), look)
    for prediction, real, again in zip(predicted, done[::2], done[1::2]):
        assert real["changed"] and real["actions"] == prediction["actions"]
        assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"] == real["diff"]["after"]
    _broken, *failed, after, _mended, _other = images.farm.tasks(
        on,
        shell(f"echo RUN no such program >> {context}/Dockerfile"),
        *(build(fails=True, **options) for options in wanted),
        look,
        shell(f"sed -i /^RUN/d {context}/Dockerfile"),
        shell(f"printf 'other text' > {context}/note"),
    )
    assert all("RUN no such program" in one["msg"] for one in failed)
    assert after["stdout"] == before["stdout"]
    assert all(one["changed"] for one in images.farm.tasks(on, *(build(**options) for options in wanted)))
    # Images of other names that are put into the directory are none of this one.
    shared = wanted[1]
    first, other, again = images.farm.tasks(on, build(**shared), build(**{**shared, "tags": ["o:1"]}), build(**shared))
    assert [one["changed"] for one in (first, other, again)] == [False, True, False]
    assert again["outputs"] == first["outputs"] != other["outputs"]


#: Reads an archive or directory: the entries of its index, the documents that they name, and the digests of its blobs.
READ_LAYOUT = """
import hashlib, json, os, subprocess, sys, tempfile
path = sys.argv[1]
if os.path.isfile(path):
    folder = tempfile.mkdtemp()
    subprocess.run(["tar", "-xf", path, "-C", folder], check=True)
    path = folder
blobs = {}
for name in os.listdir(path + "/blobs/sha256"):
    with open(path + "/blobs/sha256/" + name, "rb") as stream:
        content = stream.read()
    assert hashlib.sha256(content).hexdigest() == name
    blobs["sha256:" + name] = json.loads(content) if content[:1] == b"{" else None
json.dump({"entries": json.load(open(path + "/index.json"))["manifests"], "blobs": blobs}, sys.stdout)
"""


def layout_of(images: BuildFarm, on: str, path: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The entries of an image layout, and its blobs: documents by digest, None for what is no JSON."""
    found = json.loads(images.farm.ssh(on, f"python3 - {path}", stdin=READ_LAYOUT))
    return found["entries"], found["blobs"]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_an_image_of_two_nodes_in_a_file_in_a_directory_and_in_a_registry(images: BuildFarm, on: str) -> None:
    context = images.context(on, "files", FILES, note=f"joined {on}")
    folder = f"/srv/images/{on}-joined"
    images.farm.ssh(on, f"rm -rf {folder}; mkdir -p {folder}")
    name = f"{images.repository}/{on}-joined:1"
    options = {
        "builder": BUILDER,
        "context": context,
        "platforms": PLATFORMS,
        "tags": [name],
        "push": True,
        "outputs": [
            {"type": "oci", "dest": f"{folder}/file"},
            {"type": "oci", "dest": f"{folder}/new/layout", "options": {"tar": False}},
        ],
        "provenance": "mode=max",
        "annotations": {"index:a": "b", "index-descriptor:c": "d", "manifest-descriptor[linux/arm64]:e": "f"},
    }
    # Another build has other provenance, so that a second one changes it.
    predicted, done = images.farm.tasks(on, build(check=True, **options), build(**options))
    assert predicted["changed"] and done["changed"] and predicted["actions"] == done["actions"]
    joined = [["join", f"{folder}/{output}"] for output in ("file", "new/layout")]
    assert done["actions"][2:] == [["push", name], *joined]
    for path in ("file", "new/layout"):
        (entry,), blobs = layout_of(images, on, f"{folder}/{path}")
        wanted = {"c": "d", "io.containerd.image.name": name, "org.opencontainers.image.ref.name": "1"}
        assert wanted.items() <= entry["annotations"].items()
        index = blobs[entry["digest"]]
        assert index["annotations"] == {"a": "b"}
        architectures = [one["platform"]["architecture"] for one in index["manifests"]]
        assert architectures == ["amd64", "arm64", "unknown", "unknown"], "each has its attestation"
        assert index["manifests"][1]["annotations"] == {"e": "f"}
        # Each output has attestations of its own, which name it.
        pushed = [one["digest"] for one in done["image"]["platforms"]]
        assert [one["digest"] for one in index["manifests"][:2]] == pushed
        manifests = [blobs[one["digest"]] for one in index["manifests"]]
        parts = [part["digest"] for manifest in manifests for part in (manifest["config"], *manifest["layers"])]
        named = {entry["digest"], *(one["digest"] for one in index["manifests"]), *parts}
        assert named == set(blobs)

    source = images.context(on, "from-layout", "FROM joined\n")
    read = {"contexts": {"joined": f"oci-layout://{folder}/new/layout:1"}, "context": source, "platforms": PLATFORMS}
    images.build(on, builder=BUILDER, outputs=[{"type": "local", "dest": f"{folder}/out"}], **read)
    notes = images.farm.ssh(on, f"cd {folder}/out && cat linux_amd64/note-amd64 linux_arm64/note-arm64")
    assert notes == f"joined {on}" * 2


@pytest.mark.parametrize("on", CONTROLLERS)
def test_bad_input_is_refused_and_changes_nothing(images: BuildFarm, on: str) -> None:
    context = images.context(on, "hello", HELLO, note="one")
    empty = images.context(on, "empty", "")
    images.farm.ssh(on, f"rm {empty}/Dockerfile")
    name = f"{images.repository}/refused:1"
    base = {
        "builder": BUILDER,
        "context": context,
        "platforms": PLATFORMS,
        "tags": [name],
        "push": True,
    }
    archive = {"push": False, "outputs": [{"type": "tar", "dest": "/srv/images/x"}]}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"context": "/srv/nothing"}, "context /srv/nothing: nothing there on this controller"),
        ({"context": empty}, f"no Dockerfile at {empty}/Dockerfile"),
        ({"file": "Dockerfile.other"}, f"no Dockerfile at {context}/Dockerfile.other"),
        (
            {"builder": "nobody"},
            f'no builder "nobody" found in /root/.docker/buildx; builders there: {BUILDER}, {ONE_NODE}',
        ),
        ({"platforms": ["linux/amd46"]}, "platform 'linux/amd46': unknown architecture"),
        (
            {"platforms": ["linux/amd64", "linux/s390x"]},
            f"no node serves linux/s390x; node '{on}-amd' serves linux/amd64",
        ),
        ({"platforms": ["linux/arm/v7"]}, "no node serves linux/arm/v7"),
        ({"tags": []}, "push: tags are missing"),
        ({"tags": ["Registry/App"]}, "image name 'Registry/App'"),
        (archive, f"output tar: the platforms go to several nodes of builder '{BUILDER}' ({on}-amd, {on}-arm)"),
        (
            {"push": False, "load": True},
            "output docker: the platforms go to several nodes" if on == "ctl" else "could not be asked",
        ),
        ({"push": False, "outputs": [{"type": "tar", "dest": "/no/dir/x"}]}, "there is no directory /no/dir"),
        ({"tags": [f"{AMD}:9/app"]}, f"registry {AMD}:9 could not be asked"),
        ({"target": "nostage"}, 'target stage "nostage" could not be found'),
    ]
    definition = images.farm.ssh(on, f"cat ~/.docker/buildx/instances/{BUILDER}")
    messages = images.refusals(on, "buildx_build", [{**base, **change} for change, _words in cases])
    for message, (_change, words) in zip(messages, cases, strict=True):
        assert words in message
    assert not exists(images, on, name)
    images.farm.ssh(on, "test ! -e /srv/images/x")
    assert images.farm.ssh(on, f"cat ~/.docker/buildx/instances/{BUILDER}") == definition


@pytest.mark.parametrize("on", CONTROLLERS)
def test_a_failed_step_is_shown_and_not_the_whole_log(images: BuildFarm, on: str) -> None:
    context = images.context(on, "failing", FAILING)
    options = {"builder": BUILDER, "context": context, "platforms": PLATFORMS, "tags": [f"{images.repository}/failing"]}
    failed = images.build(on, fails=True, push=True, **options)
    message = failed["msg"]
    assert "3 | >>> RUN echo about to fail && exit 7" in message
    assert re.match(rf"building {context} for linux/(amd64 on node '{on}-amd|arm64 on node '{on}-arm)' failed", message)
    assert "> [3/3] RUN echo about to fail" in message
    assert "exit code: 7" in message and "load build definition" not in message
    assert "load build definition" in failed["stderr"] and failed["rc"] == 1
    assert failed["cmd"][:3] == ["docker", "buildx", "build"]


def test_a_platform_without_a_pin_goes_to_a_node_that_detected_it(images: BuildFarm) -> None:
    context = images.context("ctl", "files", FILES, note="text")
    options = {"builder": BUILDER, "context": context, "platforms": ["linux/arm64", "linux/386"], "push": True}
    result = images.build_twice("ctl", tags=[f"{images.repository}/unpinned:1"], **options)
    nodes = {item["platform"]: item["node"] for item in result["image"]["platforms"]}
    assert nodes["linux/386"] in ("ctl-amd", "ctl-arm"), "the processors of both run it"
    assert nodes["linux/arm64"] == "ctl-arm", "it is pinned there"


def test_a_build_that_takes_too_long_is_ended(images: BuildFarm) -> None:
    context = images.context("ctl", "slow", "FROM busybox\nRUN sleep 600\n")
    options = {"builder": BUILDER, "context": context, "platforms": PLATFORMS[:1], "timeout": 3}
    failed = images.build("ctl", fails=True, **options)
    assert f"building {context} took longer than 3 s and was ended" in failed["msg"]
    assert "buildx build" not in images.farm.ssh("ctl", "ps -eo args")


@pytest.fixture
def front(images: BuildFarm) -> Iterator[str]:
    """A registry that refuses to say that something is not there, see registry_front.py."""
    ssh, folder = images.farm.ssh, "/srv/front"
    start = f"setsid python3 front.py {FRONT_PORT} {images.registry} > log 2>&1 < /dev/null & echo $! > pid"
    connect = f"import socket; socket.create_connection(('localhost', {FRONT_PORT}))"
    ready = f'until python3 -c "{connect}" 2>&-; do sleep 0.1; done'
    script = (CHECKOUT / "tests/integration/registry_front.py").read_text()
    ssh(ARM, f"mkdir -p {folder} && cd {folder} && cat > front.py && ({start}) && {ready}", stdin=script)
    yield building.front(images.farm)
    print(ssh(ARM, f"cat {folder}/log; kill $(cat {folder}/pid); rm -rf {folder}"))


@pytest.mark.parametrize("on", CONTROLLERS)
def test_a_first_push_to_a_registry_that_refuses_to_say_what_is_not_there(
    images: BuildFarm, front: str, on: str
) -> None:
    context = images.context(on, "files", FILES, note="text")
    name = f"{images.repository.replace(images.registry, front)}/first-{on}:1"
    options = {"builder": BUILDER, "context": context, "platforms": PLATFORMS, "tags": [name], "push": True}
    predicted, built, again = images.farm.tasks(on, build(check=True, **options), build(**options), build(**options))
    for first in (predicted, built):
        assert first["changed"] and first["diff"]["before"] == {f"registry {name}": None}
        (warning,) = first["warnings"]
        assert warning.startswith(f"image {name}: taken for not there yet") and "401 Unauthorized" in warning
    assert predicted["actions"] == built["actions"]
    assert not again["changed"] and not again.get("warnings")


@pytest.fixture(scope="module")
def trusted(images: BuildFarm) -> Iterator[str]:
    """A controller that trusts the registry that wants a password; a docker configuration with the builders."""
    ssh, certificate = images.farm.ssh, "/usr/local/share/ca-certificates/images.crt"
    authority = images.farm.farm.directory / "registry/farm/certificate.pem"
    ssh("ctl", f"cat > {certificate} && update-ca-certificates", stdin=authority.read_text())
    ssh("ctl", "mkdir -p /srv/images/docker && cp -r ~/.docker/buildx /srv/images/docker/")
    yield "/srv/images/docker"
    ssh("ctl", f"rm -rf {certificate} /srv/images/docker && update-ca-certificates --fresh")


def emptied(images: BuildFarm, name: str) -> str:
    """Empty the link of a layer of this image as soon as there is one, until the registry has refused a push.

    The registry does so itself to write a link that is there already. Returns the refusal, of its log.
    """
    files = images.farm.farm.directory / "registry"
    layers = files / f"farm/store/docker/registry/v2/repositories/{name}/_layers/sha256"
    deadline = time.monotonic() + 60
    # While it is being written, it is empty.
    while not (kept := {link: digest for link in layers.glob("*/link") if (digest := link.read_text())}):
        assert time.monotonic() < deadline, f"nothing was pushed to {name}"
        time.sleep(0.0002)
    try:
        for link in kept:
            link.write_text("")
        while True:
            log = (files / "registry.log").read_text(errors="replace")
            if refused := re.search(rf'"PUT /v2/{name}/manifests/\S+ HTTP/1.1" 400', log):
                return refused.group()
            assert time.monotonic() < deadline, f"nothing pushed to {name} was refused"
            time.sleep(0.01)
    finally:
        for link, digest in kept.items():
            link.write_text(digest)


def test_a_layer_that_is_just_pushed_by_another_node_is_pushed_again(images: BuildFarm) -> None:
    # While the large layer is on its way, the small one is there, and the manifest is not.
    large = "RUN head -c 50000000 /dev/urandom > /large"
    context = images.context("ctl", "at-once", f"FROM busybox\n{large}\nCOPY note /note\n", note="text")
    name = f"{images.repository}/at-once"
    with ThreadPoolExecutor() as pool:
        refusal = pool.submit(emptied, images, name.partition("/")[2])
        built = images.build("ctl", builder=ONE_NODE, context=context, tags=[name], push=True)
        assert refusal.result()
    assert built["changed"] and exists(images, "ctl", name)


def test_a_registry_that_refuses_the_credentials_is_named(images: BuildFarm, trusted: str) -> None:
    context = images.context("ctl", "files", FILES, note="text")
    secure, password = images.farm.secure_registry, "wrong-password"
    login = base64.b64encode(f"{registry.USER}:{password}".encode()).decode()
    options = {"builder": BUILDER, "context": context, "platforms": PLATFORMS, "docker_config": trusted}
    for auths in ({secure: {"auth": login}}, {}):
        images.farm.ssh("ctl", f"cat > {trusted}/config.json", stdin=json.dumps({"auths": auths}))
        failed = images.build("ctl", fails=True, tags=[f"{secure}/x:1"], push=True, **options)
        assert failed["msg"].startswith(f"registry {secure} refused the credentials")
        assert password not in json.dumps(failed) and login not in json.dumps(failed)


@pytest.mark.parametrize("host", [AMD, "new1"])
def test_the_engines_own_builder(images: BuildFarm, host: str) -> None:
    context = images.context(host, "files", FILES, note="text")
    name = "images-test:1"
    try:
        result = images.build_twice(host, context=context, tags=[name], load=True)
        inspected, default, failed = images.farm.tasks(
            host,
            shell(f"docker image inspect --format '{{% raw %}}{{{{.Id}}}}{{% endraw %}}' {name}"),
            build(context=context, tags=[name]),
            build(fails=True, context=context, tags=[name], platforms=PLATFORMS),
        )
        assert result["changed"] and result["image"]["id"] == inspected["stdout"]
        assert [(item["platform"], item["native"]) for item in result["image"]["platforms"]] == [("linux/amd64", True)]
        assert not default["changed"], "it is the driver's default as well"
        assert (
            "an image of 2 platforms is more than the image store of the engine of the docker context in use"
            in (failed["msg"])
        )
    finally:
        images.farm.ssh(host, f"docker rmi {name}; docker builder prune -af; rm -rf /srv/images", check=False)


def test_an_engine_with_the_containerd_store_keeps_several_platforms(images: BuildFarm) -> None:
    context, host, name = images.context("new1", "files", FILES, note="text"), "new1", "images-test:1"
    settings = {"features": {"containerd-snapshotter": True}}
    images.farm.restart_engine(host, "cat > /etc/docker/daemon.json", stdin=json.dumps(settings))
    try:
        options = {"context": context, "tags": [name], "platforms": PLATFORMS}
        result = images.build_twice(host, **options, load=True)
        assert result["changed"] and result["image"]["id"] == result["image"]["digest"]
        shown = images.farm.ssh(host, f"docker image ls --tree {name}")
        assert [platform for platform in PLATFORMS if platform not in shown] == []
    finally:
        images.farm.ssh(host, f"docker rmi {name}; docker builder prune -af; rm -rf /srv/images", check=False)
        images.farm.restart_engine(host, "rm /etc/docker/daemon.json")
