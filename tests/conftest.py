# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tests may run side by side: workers, each with a farm of its own, that take one file after the other.

All hosts share the machine's kernel and so its handlers, therefore whatever installs, removes or depends on handlers
runs on one worker, in the order of the files. Checks that need no farm are taken one by one, after what needs one, so
that no worker is without work while another one ends; what takes longest is begun first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_OF_HANDLERS = {"articles", "arm64", "build", "build_options", "imagetools_info", "site", "verify"}
_OF_HANDLERS |= {"binfmt", "binfmt_packages", "binfmt_remote"}
#: These wait for each other, as ansible-test does not expect another one at work on its environments.
_OF_ANSIBLE_TEST = ("test_ansible_test_", "test_ansible_core_")
_FIRST = [
    "handlers",
    "ansible-test",
    "targets",
    "faults",
    "jobs",
    "builder",
    "rotation",
    "listener",
    "engine",
    "engine_rpm",
]
_FIRST += [
    "controllers",
    "ignore",
    "plugin",
    "certificates",
    "ssh",
    "contexts",
    "endpoint_info",
    "cores",
]
_FIRST += [
    "test_galaxy_importer_without_warnings",
    "test_ansible_lint",
    "unit",
    "test_docs_site",
    "test_antsibull_docs",
]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test its group, before pytest-xdist reads it; groups are what that keeps together."""
    kind, file = item.path.relative_to(Path(__file__).parent).parts[0], item.path.stem[len("test_") :]
    if kind == "unit":
        group = kind
    elif file in _OF_HANDLERS or (kind, file) == ("integration", "guides"):
        group = "handlers"
    elif file == "quality":
        group = "ansible-test" if item.name.startswith(_OF_ANSIBLE_TEST) else item.name
    else:
        group = file
    item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups in `_FIRST` first, in its order; within each, and after them, the order stays."""
    groups = {item: next(item.iter_markers("xdist_group")).args[0] for item in items}
    items.sort(key=lambda item: _FIRST.index(groups[item]) if groups[item] in _FIRST else len(_FIRST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what tests recorded, whether they passed or not: the seeds that repeat them."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and report.when == "call":
                for name, value in report.user_properties:
                    terminalreporter.write_line(f"{report.nodeid}: {name}={value}")
