# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder import nodes as _builder_nodes
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.apply import run as run_builder
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.drift import DEFAULT_IMAGE
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.model import Container, NodeState
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host import node_lock as _node_lock
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import client as _registry
from ansible_collections.buildfarm.multiarch.tests.unit.builder_options import BUILDER, NODE
from ansible_collections.buildfarm.multiarch.tests.unit.documents import StoredDocuments


@pytest.fixture(autouse=True)
def own_node_lock(tmp_path_factory, monkeypatch):
    """What holds the host that tests run on, and other runs of these tests, is no business of theirs."""
    monkeypatch.setattr(_node_lock, "PATH", str(tmp_path_factory.getbasetemp() / "node.lock"))


@pytest.fixture
def registries(monkeypatch):
    """What all registries hold."""
    stored = StoredDocuments()
    monkeypatch.setattr(_registry.Registries, "of", lambda params, nodes, mirrors=True: stored)
    return stored


@pytest.fixture(scope="session")
def issue():
    """The function that issues certificates; tests are skipped where its library is missing, on nodes for one."""
    pytest.importorskip("cryptography.x509")
    from ansible_collections.buildfarm.multiarch.tests.unit import certificates

    return certificates.issue


#: By which buildx has BuildKit read its configuration, if there is one.
_CONFIG = ("--config", "/etc/buildkit/buildkitd.toml")


class BuilderWorld:
    """Engines in memory by endpoint, what they hold, a buildx that starts containers on them, and what was run.

    It stands in the place of the engines of a builder's nodes.

    :ivar aliases: other ways to engines, each with the endpoint by which `containers` and `volumes` know its engine.
    """

    NODE = NODE

    def __init__(self, config):
        self.config, self.store = config, Store(config / "buildx")
        self.containers, self.volumes, self.dead = {}, set(), set()
        self.ran, self.made, self.meanwhile = [], 0, None
        self.locks = FreeLocks()
        self.docker, self.version = True, "v0.29.1"
        self.aliases = {"tcp://192.0.2.1:2375": "tcp://a:2375"}

    def run(self, argv, env=None, timeout=None, stdin=None, follow=None, executable=None):
        if not self.docker:
            raise CommandError("docker could not be started", Result(tuple(argv), 127, "", "No such file"))
        self.ran.append(argv[2])
        if argv[2] == "version":
            return Result(tuple(argv), 0, f"github.com/docker/buildx {self.version} x", "")
        if argv[2] == "use":
            self.use(argv[-1], argv[3] == "--global")
            return Result(tuple(argv), 0, "", "")
        if argv[2] == "rm":
            for node in Store(Path(env["BUILDX_CONFIG"])).get(argv[-1]).nodes:
                self.containers.pop((node.endpoint, node.container), None)
            return Result(tuple(argv), 0, "", "")
        assert argv[2] == "inspect"
        if "--bootstrap" in argv and self.meanwhile:
            self.meanwhile()
        builder = Store(Path(env["BUILDX_CONFIG"])).get(argv[-1])
        return Result(tuple(argv), 0, self.inspect(builder, "--bootstrap" in argv), "")

    def outcome(self, *nodes, check=False, **params):
        """Run the module buildx_builder."""
        given = [{**self.NODE, "name": "a", "endpoint": "tcp://a:2375", **node} for node in nodes] or None
        params = {**BUILDER, "purge_nodes": True, "nodes": given, "docker_config": str(self.config), **params}
        return run_builder(params, check, self.run)

    def call(self, *nodes, **options):
        return self.outcome(*nodes, **options).as_result()

    def inspect(self, builder, boot):
        lines = ["Name: farm", "Driver: docker-container", "", "Nodes:"]
        for node in builder.nodes:
            place = self._place(node, node.container)
            image = (node.driver_opts or {}).get("image", DEFAULT_IMAGE)
            lines += [f"Name: {node.name}", f"Endpoint: {node.endpoint}"]
            if boot and place not in self.containers:
                self.volumes.add(self._place(node, node.volume))
                if image != "bad":
                    self.made += 1
                    self.containers[place] = Container(
                        running=True,
                        image=image,
                        args=(*(_CONFIG if "buildkitd.toml" in (node.files or {}) else ()), *(node.flags or ())),
                        env=node.env,
                        limits=_limits(node.driver_opts or {}),
                        files=node.files or {},
                        identifier=str(self.made),
                    )
            elif boot and not self.containers[place].running:
                self.containers[place] = replace(self.containers[place], running=True)
            running = place in self.containers and self.containers[place].running
            if running and self.containers[place].paused:
                lines += ["Error: Container is paused, unpause the container before exec"]
            else:
                lines += ["Status: running", "Platforms: linux/amd64, linux/386"] if running else ["Status: inactive"]
            lines.append("")
        return "\n".join(lines)

    def use(self, name, everywhere):
        key = "" if everywhere else "unix:///var/run/docker.sock"
        current = json.dumps({"Key": key, "Name": name, "Global": everywhere})
        (self.store.directory / "current").write_text(current)
        if not everywhere:
            entry = self.store.directory / "defaults" / hashlib.sha256(key.encode()).hexdigest()[:20]
            entry.write_text(name)

    def read(self, endpoint, definitions):
        if endpoint.text in self.dead:
            raise FarmError(f"engine {endpoint}: no answer")
        found = {}
        for key, nodes in definitions.items():
            node = nodes[0]
            container = self.containers.get(self._place(node, node.container))
            if container and not any(node.files for node in nodes):
                container = replace(container, files={})
            cache = container is None and self._place(node, node.volume) in self.volumes
            native = Platform("linux", "amd64")
            found[key] = NodeState(known=True, native=native, container=container, cache=cache)
        return found

    def remove_container(self, node):
        self.containers.pop(self._place(node, node.container), None)

    def remove_cache(self, node):
        self.volumes.discard(self._place(node, node.volume))

    def mark(self, node, builder):
        assert builder

    def stop_container(self, node):
        place = self._place(node, node.container)
        self.containers[place] = replace(self.containers[place], running=False, paused=False)

    def pause_container(self, node):
        place = self._place(node, node.container)
        self.containers[place] = replace(self.containers[place], paused=True)

    def unpause_container(self, node):
        place = self._place(node, node.container)
        self.containers[place] = replace(self.containers[place], paused=False)

    def _place(self, node, name):
        return self.aliases.get(node.endpoint, node.endpoint), name


class FreeLocks:
    """The locks of engines that nobody else uses.

    :ivar taken: the endpoints of each time.
    """

    def __init__(self):
        self.taken, self.warnings, self.gone = [], [], False

    @contextlib.contextmanager
    def held(self, images):
        self.taken.append(sorted(images))
        yield

    def lost(self):
        return self.gone


def _limits(opts):
    """What an engine makes of a node's driver options, as far as tests use them."""
    policy = {"RestartPolicy": {"Name": opts["restart-policy"]}} if "restart-policy" in opts else {}
    return {"NetworkMode": opts.get("network", "bridge"), **policy}


@pytest.fixture
def builder_world(tmp_path, monkeypatch):
    """Engines and a buildx in memory, and a configuration directory."""
    for name in ("BUILDX_CONFIG", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    world = BuilderWorld(tmp_path)
    monkeypatch.setattr(_builder_nodes, "Engines", lambda *_options: world)
    monkeypatch.setattr(_builder_nodes, "EngineLocks", lambda *_options: world.locks)
    return world
