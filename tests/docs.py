# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation as a site of its own: `make docs` puts it into .build/docs/html, and lets no warning pass.

antsibull-docs writes a page for each plugin, module and role, and takes the guides from docs/docsite; Sphinx makes HTML
of both. Nothing is fetched while it does: links into the documentation of Ansible itself are known here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "tests"), str(CHECKOUT / "tests/integration")]

import bootstrap
import messages
from checkout import copy_collection

NAME = "buildfarm.multiarch"
OPTIONS = ["--use-current", "--squash-hierarchy", "--fail-on-error"]
#: Laid over what antsibull-docs writes for Sphinx.
SETTINGS = """
intersphinx_mapping = {"ansible": ("https://docs.ansible.com/ansible/latest/", INVENTORY)}
nitpick_ignore_regex = [("envvar", "ANSIBLE_.*")]
html_show_copyright = False
"""
#: The labels of Ansible's own documentation that pages refer to, and their places below its address.
ANSIBLE_LABELS = {
    "action_plugins": "plugins/action.html#action-plugins",
    "ansible_configuration_settings": "reference_appendices/config.html#ansible-configuration-settings",
    "common_return_values": "reference_appendices/common_return_values.html#common-return-values",
    **{
        f"ansible_collections.ansible.builtin.{name}_module": f"collections/ansible/builtin/{name}_module.html"
        for name in ("copy", "set_fact", "setup", "slurp")
    },
}


def inventory() -> bytes:
    """Return `ANSIBLE_LABELS` as a file that Sphinx would fetch otherwise (sphinx.util.inventory, version 2)."""
    lines = [f"{name} std:label -1 {place} {name}" for name, place in sorted(ANSIBLE_LABELS.items())]
    head = "# Sphinx inventory version 2\n# Project: Ansible\n# Version:\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    return head.encode() + zlib.compress("\n".join([*lines, ""]).encode())


def build(destination: Path) -> None:
    """Make the site.

    :raises subprocess.CalledProcessError: there is something to warn of; it has been printed.
    """
    tools = bootstrap.ensure_venv("quality")
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_collection(Path(folder) / "tree")
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
            "ANSIBLE_COLLECTIONS_PATH": str(tree.parents[2]),
            "LC_ALL": "C.UTF-8",
        }
        site = Path(folder) / "site"
        titles = ["--project", NAME, "--title", NAME, "--html-short-title", NAME]
        site.mkdir(mode=0o700)
        run = [str(tools / "antsibull-docs"), "sphinx-init", *OPTIONS, *titles, "--dest-dir", str(site), NAME]
        subprocess.run(run, check=True, env=environment, stdout=subprocess.DEVNULL)
        with (site / "conf.py").open("a") as settings:
            settings.write(SETTINGS.replace("INVENTORY", repr(str(site / "ansible.inv"))))
        (site / "ansible.inv").write_bytes(inventory())
        subprocess.run(["bash", site / "build.sh"], check=True, env=environment, stdin=subprocess.DEVNULL)
        shutil.rmtree(destination, ignore_errors=True)
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(site / "build/html", destination)


if __name__ == "__main__":
    messages.PAGE.write_text(messages.page())
    built = CHECKOUT / ".build/docs/html"
    try:
        build(built)
    except subprocess.CalledProcessError as exc:
        sys.exit(f"docs: {exc.cmd[0]} ended with {exc.returncode}")
    print(f"docs: {built / 'index.html'}")
