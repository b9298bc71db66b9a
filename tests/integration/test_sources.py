# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A source directory of the user's, sent to a controller and built there: from where the user is, and as it is."""

from __future__ import annotations

import base64
import os
import re
import secrets
import socket
import stat
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml

import seed
from ansible_runs import CHECKOUT, LiveFarm, Run, task

HOST = "ctl"
BUILDER = "sources"
CONTEXT = "/srv/sources"
#: Names that are not sent or not removed if anything takes them for options, patterns, lines or text.
ODD = [b"-rf", b"two words", b"*", b"~", b"$HOME", b"a\nb", "äß€".encode(), b"\xff\xfe", b".hidden", b"'\"\\", b"..."]
GROUPS = {"buildx_controllers": {HOST: None}}
#: A repository that no earlier run of these tests has pushed to.
REPOSITORY = f"sources-{secrets.token_hex(4)}"


@pytest.fixture(scope="module", autouse=True)
def builder(farm: LiveFarm) -> Iterator[None]:
    """Declare a builder on the controller's own engine; nothing of these tests is left on the host."""
    node = {
        "name": BUILDER,
        "endpoint": "unix:///var/run/docker.sock",
        "driver_opts": {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"},
        "buildkitd_config": f'[registry."{farm.registry}"]\n  http = true\n',
    }
    with farm.trusted_registry(HOST):
        farm.module(HOST, "buildx_builder", name=BUILDER, nodes=[node])
        yield
        farm.module(HOST, "buildx_builder", name=BUILDER, state="absent")
        farm.ssh(HOST, f"rm -rf {CONTEXT}* /root/.local/state/buildfarm")


@pytest.fixture(autouse=True)
def emptied(farm: LiveFarm) -> None:
    """Let each test begin with nothing sent."""
    farm.ssh(HOST, f"rm -rf {CONTEXT}* /root/.local/state/buildfarm")


def tree(root: Path, content: str = "FROM scratch\nCOPY rootfs /\n") -> Path:
    """Write a source with everything in it that copies get wrong; returns it."""
    rootfs = root / "rootfs"
    for folder in ("etc", "empty", "private"):
        (rootfs / folder).mkdir(parents=True)
    (root / "Dockerfile").write_text(content)
    (rootfs / "etc/hostname").symlink_to("/etc/hostname")
    (rootfs / "cfg").symlink_to("etc")
    (rootfs / "dangling").symlink_to("nowhere/at all")
    (rootfs / "old.txt").write_text("old")
    (rootfs / "empty").chmod(0o1777)
    (rootfs / "private").chmod(0o700)
    for name in ODD:
        Path(os.fsdecode(os.fsencode(rootfs / "private") + b"/" + name)).write_bytes(name)
    (rootfs / "su").write_bytes(b"\x7fELF, as it were")
    (rootfs / "su").chmod(0o4755)
    (rootfs / "secret").write_text("shh")
    (rootfs / "secret").chmod(0o600)
    (rootfs / "one").write_text("hard")
    os.link(rootfs / "one", rootfs / "other")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(rootfs / "sock"))
    return root


def sent(
    farm: LiveFarm, source: Path | str, check: bool = False, fails: bool = False, **options: Any
) -> dict[str, Any]:
    """Send a source."""
    return farm.module(HOST, "build_context", check=check, fails=fails, src=str(source), dest=CONTEXT, **options)


def packed(source: Path) -> bytes:
    """Return a tar file of a tree on this machine. It leaves sockets out."""
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(source, ".")
    return stream.getvalue()


def told(source: Path) -> list[tuple[Any, ...]]:
    """Return what a tree on this machine is to be elsewhere, told by another program than the one that is tested."""
    sockets = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_socket()]
    modes = [stat.S_IMODE((source / name).stat().st_mode) for name in sockets]
    empty = [(name, tarfile.REGTYPE, mode, "", b"") for name, mode in zip(sockets, modes)]
    return sorted([*members(packed(source)), *empty])


def members(archived: bytes) -> list[tuple[Any, ...]]:
    """Return name, type, mode, target and content of all that is in a tar file. Each hard link is a file."""
    found = []
    with tarfile.open(fileobj=BytesIO(archived)) as archive:
        for member in archive:
            name = member.name.removeprefix("./").strip("/")
            content = archive.extractfile(member) if member.isfile() or member.islnk() else None
            kind = tarfile.REGTYPE if content else member.type
            mode, target = (None, member.linkname) if member.issym() else (member.mode, "")
            found.append((name, kind, mode, target, content.read() if content else b""))
    return sorted(entry for entry in found if entry[0] != ".")


def on_host(farm: LiveFarm, command: str) -> list[tuple[Any, ...]]:
    """Return what is in the tar file that a command on the controller writes."""
    return members(base64.b64decode(farm.ssh(HOST, f"set -e; {command} > /tmp/sources.tar; base64 /tmp/sources.tar")))


def built(farm: LiveFarm, name: str) -> list[tuple[Any, ...]]:
    """Return what is in an image."""
    build = f"docker buildx build --builder {BUILDER} --no-cache --quiet -o type=tar,dest=- - 2>/dev/null"
    return on_host(farm, f"echo 'FROM {name}' | {build}")


def as_docker_builds(farm: LiveFarm, source: Path) -> list[tuple[Any, ...]]:
    """Return what is in the image that docker build makes of a source which tar brought to the controller."""
    reference = f"{CONTEXT}-reference"
    mode = stat.S_IMODE((source / "rootfs/sock").stat().st_mode)
    unpack = f"rm -rf {reference}; mkdir {reference}; base64 -d | tar -C {reference} -xp"
    farm.ssh(HOST, unpack, stdin=base64.b64encode(packed(source)).decode())
    bind = f'import socket; socket.socket(socket.AF_UNIX).bind("{reference}/rootfs/sock")'
    farm.ssh(HOST, f"python3 -c '{bind}'; chmod {mode:o} {reference}/rootfs/sock")
    build = f"docker buildx build --builder {BUILDER} --no-cache -o type=tar,dest=- {reference} 2>/dev/null"
    return on_host(farm, build)


def images(farm: LiveFarm, folder: Path, name: str, run: Path, check: bool = False, **image: Any) -> Run:
    """Write the user's two files into a directory and build from another; both hold what README says."""
    declared = {"name": name, "context": CONTEXT, "platforms": ["linux/amd64"], **image}
    (folder / "images.yml").write_text(yaml.safe_dump({"images_builder": BUILDER, "images_list": [declared]}))
    variables = f"@{os.path.relpath(folder / 'images.yml', run)}"
    playbook = "buildfarm.multiarch.build"
    return farm.playbook(playbook, check=check, inventory=GROUPS, directory=run, more=["-e", variables])


def test_a_relative_source_is_found_where_the_user_is(farm: LiveFarm, tmp_path: Path) -> None:
    readme = (CHECKOUT / "README.md").read_text()
    (example,) = re.findall(r"```yaml\n# images.yml\n(.*?)```", readme, re.DOTALL)
    (image,) = yaml.safe_load(example)["images_list"]
    assert image["source"] == "./hello"
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "hello").mkdir()
    (folder / "hello/Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    name = f"{farm.registry}/{REPOSITORY}/hello:latest"
    predicted = images(farm, folder, name, folder, check=True, source=image["source"]).expect_success()
    done = images(farm, folder, name, folder, source=image["source"]).expect_success()
    assert done.changed == predicted.changed
    assert built(farm, name) == [("Dockerfile", b"0", 0o644, "", b"FROM scratch\nCOPY . /\n")]
    assert images(farm, folder, name, folder, source=image["source"]).expect_success().changed == []
    # Beside the file with the images, wherever the user is.
    assert images(farm, folder, name, tmp_path, source=image["source"]).expect_success().changed == []
    missing = images(farm, folder, name, folder, source="./helo")
    (message,) = [one.result["msg"] for one in missing.tasks if one.outcome == "failed"]
    assert f"{folder}/helo" in message
    assert "/roles/images/files/helo" in message


def test_links_modes_and_deletions_reach_the_image(farm: LiveFarm, tmp_path: Path) -> None:
    source = tree(tmp_path / "src")
    name = f"{farm.registry}/{REPOSITORY}/odd:latest"
    images(farm, tmp_path, name, tmp_path, source=str(source)).expect_success()
    image = built(farm, name)
    assert ("cfg", tarfile.SYMTYPE, None, "etc", b"") in image
    assert ("etc/hostname", tarfile.SYMTYPE, None, "/etc/hostname", b"") in image
    assert image == as_docker_builds(farm, source)
    (source / "rootfs/old.txt").unlink()
    (source / "rootfs/su").chmod(0o755)
    images(farm, tmp_path, name, tmp_path, source=str(source)).expect_success()
    image = built(farm, name)
    assert [entry for entry in image if entry[0] == "old.txt"] == []
    assert image == as_docker_builds(farm, source)


def test_a_changed_file_of_the_same_size_and_time_reaches_the_image(farm: LiveFarm, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "Dockerfile").write_text("FROM scratch\nCOPY text /\n")
    name = f"{farm.registry}/{REPOSITORY}/same:latest"
    for text in ("one", "two", "ten"):
        (source / "text").write_text(text)
        os.utime(source / "text", (1_600_000_000, 1_600_000_000))
        images(farm, tmp_path, name, tmp_path, source=str(source)).expect_success()
        assert [entry[4] for entry in built(farm, name)] == [text.encode()]


def test_what_a_build_does_not_see_stays_where_it_is(farm: LiveFarm, tmp_path: Path) -> None:
    """Two images of one context, each with an ignore file; the second run sends and removes nothing."""
    source, host = tmp_path / "src", f"{farm.registry}/{REPOSITORY}/ignored"
    (source / "docs").mkdir(parents=True)
    (source / "docs/debug.Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (source / "docs/debug.Dockerfile.dockerignore").write_text("*\n!debug\n")
    (source / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (source / ".dockerignore").write_text("secret\ndocs\nDockerfile\ndebug\n")
    for name in ("app", "debug", "secret", "docs/guide.md"):
        (source / name).write_text(name)
    declared = {"context": CONTEXT, "platforms": ["linux/amd64"], "source": str(source)}
    listed = [
        {"name": f"{host}:1", **declared},
        {"name": f"{host}:debug", "file": f"{CONTEXT}/docs/debug.Dockerfile", **declared},
    ]
    variables = {"images_builder": BUILDER, "images_list": listed}
    for changed in (True, False):
        run = farm.playbook("buildfarm.multiarch.build", variables=variables, inventory=GROUPS).expect_success()
        assert bool(run.changed) is changed
    there = [name for name, *_rest in on_host(farm, f"tar -C {CONTEXT} -cf - .")]
    needed = ["docs", "docs/debug.Dockerfile", "docs/debug.Dockerfile.dockerignore"]
    assert there == [".dockerignore", "Dockerfile", "app", "debug", *needed]
    assert [name for name, *_rest in built(farm, f"{host}:1")] == [".dockerignore", "app"]
    assert [name for name, *_rest in built(farm, f"{host}:debug")] == ["debug"]


def test_the_context_is_the_source(farm: LiveFarm, tmp_path: Path) -> None:
    """Predicted, sent, and nothing left to send; then all kinds of changes at once."""
    source = tree(tmp_path / "src")

    def converge() -> dict[str, Any]:
        want = {"src": str(source), "dest": CONTEXT}
        steps = [task("build_context", check=check, **want) for check in (True, False, False, True)]
        predicted, done, *again = farm.tasks(HOST, *steps)
        for key in ("changed", "actions", "diff", "context"):
            assert predicted[key] == done[key], key
        assert [(one["changed"], one["actions"], one["diff"]["after"]) for one in again] == [(False, [], {})] * 2
        assert on_host(farm, f"tar -C {CONTEXT} --hard-dereference -cf - .") == told(source)
        return done

    assert converge()["actions"][0] == ["create", CONTEXT]
    rootfs = source / "rootfs"
    (rootfs / "old.txt").unlink()
    (rootfs / "old.txt").mkdir()  # a file becomes a directory
    (rootfs / "cfg").unlink()
    (rootfs / "cfg").write_text("a file now")  # a link becomes a file
    (rootfs / "empty").rmdir()
    (rootfs / "empty").symlink_to("/")  # a directory becomes a link
    (rootfs / "dangling").unlink()
    (rootfs / "dangling").symlink_to("elsewhere")
    (rootfs / "private").chmod(0o500)
    for name in ODD:
        os.unlink(os.fsencode(rootfs / "private") + b"/" + name)
    (rootfs / "secret").chmod(0o4711)
    done = converge()
    assert sum(action[0] == "remove" for action in done["actions"]) == 1
    assert "rootfs/private/two words" in done["diff"]["before"]
    assert done["diff"]["after"]["rootfs/empty"] == "link to /"
    # setcap cap_net_bind_service+ep
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(rootfs / "su", "security.capability", capability)
    assert converge()["actions"] == [["change", "rootfs/su"]]
    read = f'python3 -c \'import os; print(os.getxattr("{CONTEXT}/rootfs/su", "security.capability").hex())\''
    assert farm.ssh(HOST, read).strip() == capability.hex()


@pytest.mark.parametrize("pipelining", [True, False])
def test_for_another_user(farm: LiveFarm, tmp_path: Path, pipelining: bool) -> None:
    """Files, modes and the record are that user's; a home directory is none to be emptied."""
    source = tree(tmp_path / "src")
    (source / "rootfs/private").chmod(0o500)
    farm.ssh(HOST, "userdel --remove sender 2>/dev/null; useradd --create-home sender")
    become = {"become": True, "become_user": "sender", "become_method": "su"}
    want, home = (
        {**task("build_context", src=str(source), dest=dest, fails=dest == "~"), **become}
        for dest in ("~/context", "~")
    )
    done, again, refused = farm.tasks(HOST, want, want, home, variables={"ansible_pipelining": pipelining})
    assert (done["context"]["path"], done["changed"], again["changed"]) == ("/home/sender/context", True, False)
    assert "home directory" in refused["msg"]
    assert farm.ssh(HOST, "find /home/sender/context /home/sender/.local ! -user sender") == ""
    (source / "rootfs/private/-rf").unlink()
    assert farm.tasks(HOST, want)[0]["actions"] == [["remove", "rootfs/private/-rf"]]
    assert farm.ssh(HOST, "find / -xdev -name sources.tar") == ""
    farm.ssh(HOST, "userdel --remove sender 2>/dev/null")


def test_what_others_put_there_stays(farm: LiveFarm, tmp_path: Path) -> None:
    source = tree(tmp_path / "src")
    farm.ssh(HOST, f"mkdir -p {CONTEXT}; echo mine > {CONTEXT}/mine; ln -s {CONTEXT} {CONTEXT}-link")
    for check in (True, False):
        assert "found mine, which the source does not have" in sent(farm, source, check=check, fails=True)["msg"]
    assert farm.ssh(HOST, f"ls {CONTEXT}") == "mine\n"
    assert sent(farm, source, force=True)["actions"][0] == ["remove", "mine"]
    for dest, reason in ((f"{CONTEXT}-link", "found a link"), ("/", "the root"), ("srv", "an absolute path")):
        failed = farm.module(HOST, "build_context", fails=True, src=str(source), dest=dest)
        assert reason in failed["msg"]


def test_a_directory_that_a_copy_filled_is_taken_over(farm: LiveFarm, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name in ("Dockerfile", "a", "b"):
        (source / name).write_text(name)
    farm.ssh(HOST, f"mkdir -p {CONTEXT}; cd {CONTEXT}; echo -n Dockerfile > Dockerfile; echo -n older > a; chmod 600 a")
    assert sent(farm, source)["changed"]
    (source / "b").unlink()
    (source / "a").unlink()
    assert sent(farm, source)["actions"] == [["remove", "a", "b"]]


def test_a_local_controller_builds_the_source_where_it_is(farm: LiveFarm, tmp_path: Path) -> None:
    source = tree(tmp_path / "src")
    state = {"environment": {"XDG_STATE_HOME": str(tmp_path / "state")}}
    tasks = [
        {**task("build_context", src=str(source), dest=str(source)), **state},
        {**task("build_context", src=str(source), dest=f"{source}/rootfs/in", fails=True), **state},
        {**task("build_context", src=str(source), dest=str(tmp_path / "context")), **state},
    ]
    run = farm.play([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}])
    same, inside, beside = (one.result for one in run.expect_success().tasks)
    assert (same["changed"], beside["changed"]) == (False, True)
    assert "lies in its own source" in inside["msg"]
    assert beside["context"]["digest"] == same["context"]["digest"]
    assert len(list((tmp_path / "state").rglob("*.json"))) == 1


def test_many_files_are_sent_at_once(farm: LiveFarm, tmp_path: Path) -> None:
    """Ten thousand files are one transfer, and the output stays readable."""
    source = tmp_path / "src"
    for number in range(10_000):
        folder = source / str(number % 100)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(number.to_bytes(4, "big") * 5000)
    first, again = farm.tasks(HOST, *[task("build_context", src=str(source), dest=CONTEXT)] * 2)
    assert (first["context"]["files"], first["context"]["size"]) == (10_000, 200_000_000)
    assert (first["changed"], again["changed"]) == (True, False)
    assert len(str(first)) < 100_000
