# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``ansible-test integration``: the examples of each module's documentation, on a host that is controller and node."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import seed
from ansible_runs import LiveFarm
from checkout import copy_collection
from hosts import Host

HOST = "ctl"


@pytest.fixture
def own_farm(collections: Path) -> Iterator[LiveFarm]:
    """A farm of one host, which the examples may leave as they want."""
    with LiveFarm.running("targets", [Host(HOST, "trixie+workstation")], collections) as live:
        yield live


@pytest.fixture
def home(own_farm: LiveFarm) -> Iterator[Path]:
    """A home directory for ansible-test, with a key that the host accepts."""
    # Ansible has its sockets in it, whose paths may have 108 characters at most (unix(7)).
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / ".ansible/test/id_rsa"
        key.parent.mkdir(parents=True)
        subprocess.run(["ssh-keygen", "-q", "-m", "PEM", "-t", "rsa", "-N", "", "-f", key], check=True)
        public = key.with_suffix(".pub").read_text()
        own_farm.ssh(HOST, "cat >> .ssh/authorized_keys", stdin=public)
        yield Path(folder)


def test_the_examples_of_the_documentation_run(own_farm: LiveFarm, home: Path, tmp_path: Path) -> None:
    tree = copy_collection(tmp_path)
    loopback = "127.0.0.1:5000"
    (tree / "tests/integration/integration_config.yml").write_text(
        f"registry: {own_farm.registry}\n"
        f"buildkit_image: {loopback}/{seed.BUILDKIT}\n"
        f"shell_image: {loopback}/{seed.BUSYBOX}\n"
    )
    version = own_farm.ssh(HOST, "python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").strip()
    tools = Path(sys.executable).parent
    done = subprocess.run(
        [
            *(tools / "ansible-test", "integration", "-v", "--color", "no", "--continue-on-error"),
            *("--allow-destructive", "--allow-root", "--controller", "origin:python=default"),
            *("--target", f"ssh:root@{own_farm.address(HOST)},python={version}"),
        ],
        cwd=tree,
        env={"HOME": str(home), "LC_ALL": "C.UTF-8", "PATH": os.pathsep.join([str(tools), os.environ["PATH"]])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    failures = re.findall(r"^(?:TASK .*\n)?(?:\[ERROR\].*|fatal: .*|FATAL: .*)", done.stdout, re.MULTILINE)
    assert done.returncode == 0, "\n".join(failures) or done.stdout[-4000:]
    # No failure was rescued, as some examples do.
    recaps = re.findall(r"^testhost .* failed=0 .* rescued=0 ", done.stdout, re.MULTILINE)
    assert len(recaps) == len(list((tree / "plugins/modules").glob("*.py"))), done.stdout[-4000:]
