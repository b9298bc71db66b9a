# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starting nodes: what buildx is run with, and what its output, which never is an exit status, says of each node."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.bootstrap import start_nodes
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.containers import Engines
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.nodes import Site
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node, Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.engine_lock import EngineLocks

A, B = Node("a", "tcp://a:2375"), Node("b", "tcp://b:2375")
FARM = Instance("farm", "docker-container", (A, B, Node("c", "tcp://c:2375")))
DEADLINE = "failed to list workers: context deadline exceeded"


def status(**nodes):
    """What buildx prints of nodes with these states, or errors."""
    lines = ["Name: farm", "Driver: docker-container", "", "Nodes:"]
    for name, state in nodes.items():
        word = f"Status: {state}" if state in ("running", "inactive") else f"Error: {state}"
        lines += [f"Name: {name}", f"Endpoint: tcp://{name}:2375", word, ""]
    return "\n".join(lines)


def boot_log(**errors):
    """What buildx prints on standard error while nodes fail to start."""
    return "".join(
        f"#{number} [{name} internal] booting buildkit\n#{number} ERROR: {error}\n"
        for number, (name, error) in enumerate(errors.items(), 1)
    )


class Runs:
    """A buildx that prints one output after the other, the last one again and again.

    :ivar seen: for each run the names of the nodes in its store, and the time limit.
    :ivar logged: what was to be logged of each line of its progress.
    """

    def __init__(self, *outputs, stderr="", rc=0):
        self.outputs, self.stderr, self.rc = list(outputs), stderr, rc
        self.seen, self.logged = [], []

    def __call__(self, argv, env=None, timeout=None, follow=None, **_options):
        assert argv == ["docker", "buildx", "inspect", "--bootstrap", "farm"]
        store = Store(Path(env["BUILDX_CONFIG"]))
        nodes = store.get("farm").nodes
        # Definitions hold keys of registries.
        assert [path.stat().st_mode & 0o7777 for path in (store.path("farm").parent, store.path("farm"))] == [
            0o700,
            0o600,
        ]
        self.seen.append(([node.name for node in nodes], timeout))
        self.logged.append([follow(line) for line in self.stderr.splitlines()])
        stdout = self.outputs.pop(0) if len(self.outputs) > 1 else self.outputs[0]
        if isinstance(stdout, Exception):
            raise stdout
        return Result(tuple(argv), self.rc, stdout, self.stderr)

    def start(self, tmp_path, *nodes):
        contexts = ContextStore(tmp_path)
        locks = EngineLocks(contexts, self, "a test", 0)
        site = Site(Store(tmp_path), contexts, Buildx(self), Engines(contexts, 1), locks, bootstrap_timeout=77)
        return start_nodes(FARM, nodes or (A, B), site)


def test_the_nodes_alone_are_started_all_at_once(tmp_path):
    runs = Runs(status(a="running", b="running"))
    assert [node.status for node in runs.start(tmp_path).nodes] == ["running", "running"]
    assert runs.seen == [(["a", "b"], 77)]


def test_a_start_that_took_longer_than_buildx_waits_is_repeated_five_times_at_most(tmp_path):
    runs = Runs(status(a="running", b=DEADLINE), status(a="running", b=DEADLINE), status(a="running", b="running"))
    runs.start(tmp_path)
    assert len(runs.seen) == 3
    late = Runs(status(a="running", b=DEADLINE))
    with pytest.raises(FarmError, match=r"could not start node 'b' .*deadline"):
        late.start(tmp_path)
    assert len(late.seen) == 5
    # On standard error too.
    late = Runs(status(a="running", b="inactive"), status(a="running", b="running"), stderr=f"ERROR: {DEADLINE}\n")
    late.start(tmp_path)
    assert len(late.seen) == 2


def test_other_failures_are_final(tmp_path):
    runs = Runs(status(a="no such image", b="running"), stderr="#1 [a internal] booting buildkit\n", rc=1)
    with pytest.raises(FarmError) as caught:
        runs.start(tmp_path)
    assert caught.value.message == "builder 'farm': buildx could not start node 'a' (no such image)"
    assert (caught.value.details["rc"], caught.value.details["stderr"]) == (1, runs.stderr)
    assert len(runs.seen) == 1


@pytest.mark.parametrize(
    ("stdout", "stderr", "expected"),
    [
        # Each node's own reason, from the progress before the status.
        (
            status(a="inactive", b="inactive"),
            boot_log(a="no space left", b="refused"),
            "node 'a' (no space left); node 'b' (refused)",
        ),
        (
            status(a="dead", b="inactive"),
            boot_log(a="no space left"),
            "node 'a' (no space left); node 'b' (#1 ERROR: no space left)",
        ),
        # A single node's errors bear no name.
        (
            status(a="running", b="inactive"),
            "#1 [internal] booting buildkit\n#1 ERROR: refused\n",
            "node 'b' (refused)",
        ),
        # The last line, where the progress names nothing; nothing where there is nothing.
        (status(a="running"), "x\nERROR: failed to find driver\n", "node 'b' (ERROR: failed to find driver)"),
        (status(a="running"), "", "node 'b' (no reason given)"),
        # Two that failed, of which one is known: the other was not tried.
        (
            status(),
            boot_log(a="first", x="other"),
            "node 'a' (first)",
        ),
        ("Name: farm\nError: broken\n", "", "node 'a' (broken); node 'b' (broken)"),
    ],
)
def test_reasons(tmp_path, stdout, stderr, expected):
    with pytest.raises(FarmError) as caught:
        Runs(stdout, stderr=stderr).start(tmp_path)
    assert caught.value.message == f"builder 'farm': buildx could not start {expected}"


def test_progress_is_logged_with_the_name_of_the_node(tmp_path):
    lines = "#1 [b internal] booting buildkit\n#1 DONE 0.1s\nsomething else\n"
    runs = Runs(status(a="running", b="running"), stderr=lines)
    runs.start(tmp_path)
    assert runs.logged == [["builder 'farm', node 'b': booting buildkit", "", ""]]
    # buildx does not name a single node.
    runs = Runs(status(b="running"), stderr="#1 [internal] booting buildkit\n")
    runs.start(tmp_path, B)
    assert runs.logged == [["builder 'farm', node 'b': booting buildkit"]]


def test_secrets_of_a_run_that_failed_are_not_reported(tmp_path):
    output = "Name: farm\nDriver Options: env.TOKEN=secret\nFile#key.pem:\n > secret\nStatus: inactive\n"
    for failed in (output, CommandError("too long", Result((), -9, output, ""))):
        with pytest.raises(FarmError) as caught:
            Runs(failed).start(tmp_path)
        assert "secret" not in caught.value.details["stdout"]
        assert "Status: inactive" in caught.value.details["stdout"]
