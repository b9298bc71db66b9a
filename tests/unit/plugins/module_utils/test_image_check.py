# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import tarfile
import time

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.check import (
    CheckResult,
    Checks,
    RunResult,
    _read_file,
    check_image,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.programs import File, Findings, Program
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.elf import program
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.tests.unit.engines import FakeEngine, serving

LOGIN = {"auth": base64.b64encode(b"me:secret").decode()}


@pytest.fixture(autouse=True)
def sdk():
    """The docker SDK, which reads what ``docker login`` stored."""
    return pytest.importorskip("docker")


ARM64, WINDOWS = Platform("linux", "arm64"), Platform("windows", "amd64")
IMAGE = Reference.parse("r.example.com/app@sha256:" + "a" * 64)


class EngineOfImages(FakeEngine):
    """An engine that pulls one image, whose program is ``/app``.

    :ivar config: of the image.
    :ivar files: of the image, by path: a file's content, or the status and message that the engine answers with.
    :ivar output: of the program, standard output and standard error.
    :ivar log: what was done.
    """

    def __init__(self, api="1.51", arch="amd64", content=None):
        super().__init__()
        self.version = {"Version": "28", "ApiVersion": api, "Os": "linux", "Arch": arch}
        self.config = {"Entrypoint": ["/app"]}
        self.files = {"/app": content or program("arm64")}
        self.output, self.rc, self.seconds = (" out\n", "err\n"), 3, 0
        self.start, self.pull = (204, None), b'{"status": "Pulling"}\n{"status": "Done"}\n'
        self.images, self.log, self.created = set(), [], None

    def answer(self, method, path, query, body, headers):
        path = re.sub(r"^/v1\.\d+", "", path)
        subject, _slash, verb = path.lstrip("/").partition("/")
        return getattr(self, f"answer_{subject}")(method, verb, query, body)

    def answer_version(self, method, verb, query, body):
        return 200, self.version

    def answer_images(self, method, verb, query, body):
        name = verb[: -len("/json")] if method == "GET" else verb
        if verb == "create":
            self.log.append(f"pull {query['fromImage']}@{query['tag']} for {query.get('platform')}")
            self.images.add(f"{query['fromImage']}@{query['tag']}")
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (self.pull, b""))
            return 200, chunks, {"Transfer-Encoding": "chunked"}
        if name not in self.images:
            return 404, {"message": "No such image"}
        if method == "DELETE":
            self.log.append(f"remove {name}")
            self.images.remove(name)
        return 200, {"Config": self.config}

    def answer_containers(self, method, verb, query, body):
        identifier, _slash, what = verb.partition("/")
        if verb == "create":
            self.created = {**json.loads(body), "platform": query.get("platform")}
            self.containers["c1"] = self.created
            return 201, {"Id": "c1"}
        if method == "DELETE":
            assert (query["v"], query["force"]) == ("True", "True")
            del self.containers[identifier]
            return 204, None
        return getattr(self, f"of_container_{what}")(query)

    def of_container_json(self, query):
        return 200, {"Path": "/app", "Config": {"Tty": False, **self.config}}

    def of_container_start(self, query):
        self.log.append("start")
        return self.start

    def of_container_wait(self, query):
        time.sleep(self.seconds)
        return 200, {"StatusCode": self.rc}

    def of_container_logs(self, query):
        number = 1 if query["stdout"] == "1" else 2
        assert int(query["stdout"]) + int(query["stderr"]) == 1
        text = self.output[number - 1].encode()
        return 200, bytes([number, 0, 0, 0]) + len(text).to_bytes(4, "big") + text

    def of_container_archive(self, query):
        found = self.files.get(query["path"], (404, "no such file"))
        if isinstance(found, tuple):
            return found[0], {"message": found[1]}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            member = tarfile.TarInfo("app")
            member.mode = 0o104755
            if isinstance(found, str):
                member.type, member.linkname = tarfile.SYMTYPE, "elsewhere"
            else:
                member.size = len(found)
            archive.addfile(member, io.BytesIO(b"" if isinstance(found, str) else found))
        status = json.dumps({"linkTarget": found if isinstance(found, str) else ""}).encode()
        return 200, packed.getvalue(), {"X-Docker-Container-Path-Stat": base64.b64encode(status).decode()}


def checked(engine, tmp_path, platform=ARM64, **checks):
    """Check the image on an engine, on which neither container nor image stays."""
    images = set(engine.images)
    with serving(engine) as url:
        try:
            return check_image(Endpoint.parse(url), ContextStore(tmp_path), IMAGE, platform, Checks(**checks))
        finally:
            assert engine.images == images


@pytest.mark.parametrize(("arch", "native"), [("arm64", True), ("amd64", False), ("z80", None)])
def test_an_image_is_run_and_leaves_nothing_behind(tmp_path, arch, native):
    engine = EngineOfImages(arch=arch)
    found = checked(engine, tmp_path, command=("a", "b"), run=True)
    assert found == CheckResult(Findings((Program("/app", "arm64"),)), RunResult("out", "err", 3, native))
    assert engine.log == [f"pull {IMAGE} for linux/arm64", "start", f"remove {IMAGE}"]
    spec = engine.created
    assert (spec["Image"], spec["Cmd"], spec["platform"]) == (str(IMAGE), ["a", "b"], "linux/arm64")
    assert spec["HostConfig"]["NetworkMode"] == "none"
    assert spec["HostConfig"]["LogConfig"]["Type"] == "json-file", "whatever the engine's default is"


def test_an_image_that_the_engine_has_already_stays(tmp_path):
    engine = EngineOfImages()
    engine.images.add(str(IMAGE))
    checked(engine, tmp_path, run=True)
    assert engine.log == ["start"]
    assert "Cmd" not in engine.created, "the image's own command"


@pytest.mark.parametrize(("api", "expected"), [("1.40", None), ("1.41", "linux/arm64"), ("1.42", "linux/arm64")])
def test_old_engines_are_not_given_a_platform(tmp_path, api, expected):
    engine = EngineOfImages(api)
    checked(engine, tmp_path)
    assert engine.created["platform"] == expected
    assert engine.log[0] == f"pull {IMAGE} for {expected}"


@pytest.mark.parametrize(("key", "examined"), [("Entrypoint", True), ("Cmd", True), ("Env", False)])
def test_an_image_without_a_command_is_not_examined(tmp_path, key, examined):
    engine = EngineOfImages()
    engine.config = {key: ["/app"]}
    found = checked(engine, tmp_path)
    assert found == CheckResult(Findings((Program("/app", "arm64"),) if examined else ()))
    assert (engine.created is not None, "start" in engine.log) == (examined, False)
    engine.config = None
    assert checked(engine, tmp_path) == CheckResult(Findings())


def test_a_program_of_another_architecture_is_not_started(tmp_path):
    engine = EngineOfImages(content=program("amd64"))
    found = checked(engine, tmp_path, run=True)
    assert found.run is None
    assert "'/app' is a program for amd64" in found.findings.problem
    assert "start" not in engine.log
    # Where programs are not to be examined, what the engine says counts.
    assert checked(engine, tmp_path, run=True, programs=False) == CheckResult(None, RunResult("out", "err", 3, False))


def test_programs_of_windows_are_not_examined(tmp_path):
    engine = EngineOfImages()
    assert checked(engine, tmp_path, WINDOWS, run=True).findings is None
    assert checked(engine, tmp_path, WINDOWS) == CheckResult(None)


def test_an_image_that_cannot_be_pulled(tmp_path):
    engine = EngineOfImages()
    engine.images.add(str(IMAGE).replace("a" * 64, "b" * 64))
    engine.pull = b'{"status": "Pulling"}\n{"error": "toomanyrequests"}\n'
    with serving(engine) as url, pytest.raises(FarmError) as caught:
        check_image(Endpoint.parse(url), ContextStore(tmp_path), IMAGE, ARM64, Checks())
    assert caught.value.message == "registry r.example.com did not give the image: toomanyrequests"
    assert engine.created is None


def test_a_container_that_does_not_start(tmp_path):
    engine = EngineOfImages()
    engine.start = (400, {"message": "OCI runtime create failed"})
    with pytest.raises(FarmError, match=r"^OCI runtime create failed$"):
        checked(engine, tmp_path, run=True)


def test_a_program_that_does_not_end(tmp_path):
    engine = EngineOfImages()
    engine.seconds = 0.6
    with pytest.raises(FarmError, match=r"^not finished after 0\.3 s$"):
        checked(engine, tmp_path, run=True, timeout=0.3)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (b"#!/bin/sh\n", File("file", 0o755, head=b"#!/b")),
        ("/bin/busybox", File("link", target="/bin/busybox")),
        ((404, "no such file"), None),
        ((500, "lstat /app/x: not a directory"), None),
        ((500, "too many levels of symbolic links"), File("other")),
        ((500, "too many links in path"), File("other")),
    ],
)
def test_files_of_an_image(found, expected):
    engine = EngineOfImages(content=found)
    with serving(engine) as url, contextlib.closing(docker_client(url)) as client:
        assert _read_file(client, "c1", "/app", 4) == expected


def test_files_that_an_engine_cannot_read():
    errors = pytest.importorskip("docker.errors")
    engine = EngineOfImages(content=(500, "input/output error"))
    with serving(engine) as url, contextlib.closing(docker_client(url)) as client:
        with pytest.raises(errors.APIError, match="input/output error"):
            _read_file(client, "c1", "/app", 4)


def docker_client(url):
    return pytest.importorskip("docker").DockerClient(base_url=url, version="1.51")
