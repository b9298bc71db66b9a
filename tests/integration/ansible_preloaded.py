"""Imports and reads what every run of ansible-playbook needs, for the process that the tests' runs are forked from.

Most of the time of a short run goes into Ansible's own tables of plugins and into their documentation.
"""

from __future__ import annotations

import importlib

from ansible.plugins.loader import (
    become_loader,
    callback_loader,
    connection_loader,
    init_plugin_loader,
    inventory_loader,
    shell_loader,
    vars_loader,
)

for _module in (
    "ansible.cli.playbook",
    "ansible.executor.module_common",
    "ansible.executor.task_executor",
    "ansible.plugins.action.normal",
    "ansible.plugins.callback.default",
    "ansible.plugins.connection.ssh",
    "ansible.plugins.strategy.linear",
):
    importlib.import_module(_module)

init_plugin_loader()
importlib.import_module("ansible_collections.ansible.builtin")
for _loader in (become_loader, callback_loader, connection_loader, inventory_loader, shell_loader, vars_loader):
    list(_loader.all(class_only=True))
