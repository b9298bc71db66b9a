#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon_config
short_description: Settings of a Docker engine
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Merges settings into the C(daemon.json) of a node's engine, and has the engine run with them. On which sockets the
    engine listens stays as it is.
  - "After a change the configuration is validated (Docker 23.0 and later), the engine restarted and asked at the
    sockets of its command. If any of this fails, the file is put back byte for byte, the engine is restarted with it,
    and the error holds the engine's reason."
  - An engine that is not running is started. One that was started before the file was changed is restarted, so a run
    that was ended half-way is finished by the next.
  - Where a listener is declared too, O(buildfarm.multiarch.docker_listener#module:daemon_config) of
    M(buildfarm.multiarch.docker_listener) does the same in one restart with it.
requirements:
  - Python 3.8 or later where it runs
  - A Linux host with systemd and, except in check mode, a Docker engine whose service is a systemd unit
  - Python's standard library
attributes:
  check_mode:
    support: full
    description: Predicts exactly what a real run does; where the engine is not installed yet, with a warning.
  diff_mode:
    support: full
    description: Shows the text of C(daemon.json), without names and passwords within URLs.
  idempotent:
    support: full
    description: A second run does not change anything, and costs one call of C(systemctl).
options:
  daemon_config:
    description:
      - Settings for C(daemon.json), the file that the unit's command names with C(--config-file) or
        C(/etc/docker/daemon.json).
      - They are merged into the file (RFC 7396). Dictionaries are merged, key by key, lists and all else replace what
        is there, and a key with the value V(null) is removed. What is not mentioned stays, so with an empty dictionary
        the task only has the engine run with the file as it is.
      - V(hosts), V(tls), V(tlsverify), V(tlscacert), V(tlscert) and V(tlskey) make a listener and are refused, other
        than with V(null); M(buildfarm.multiarch.docker_listener) makes one.
      - So are other keys that would stand in the file beside the flag of that name in the unit's command, as the engine
        does not start with both.
      - A file that is not a JSON object in UTF-8 is never overwritten.
    type: dict
    required: true
  service:
    description:
      - Name of the engine's systemd service. Rootless engines and Docker from a snap are not supported.
    type: str
    default: docker
  probe_timeout:
    description: Seconds in which a started engine has to answer.
    type: float
    default: 30
notes:
  - Restarting an engine ends its containers, BuildKit's included, unless C(live-restore) is set in C(daemon.json).
  - The engine gets five minutes to restart.
  - While a change goes on, the former file has a second name beside it, C(.daemon.json.previous), and
    C(/run/buildfarm-listener) says what leads back. A run that is killed leaves both. The next one goes on from there,
    and if it fails puts back what was there before both.
  - A change that M(buildfarm.multiarch.docker_listener) made with
    O(buildfarm.multiarch.docker_listener#module:provisional=true) is final after this task.
  - Docker before 23.0 cannot validate its configuration. A C(daemon.json) that was broken before the task, and that the
    running engine has not read, is noticed there only when the engine does not start.
seealso:
  - module: buildfarm.multiarch.docker_listener
  - name: Daemon configuration file
    description: Docker's own page on what can stand in C(daemon.json).
    link: https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file
"""

EXAMPLES = r"""
- name: A mirror, small logs, and no debug messages any more
  buildfarm.multiarch.docker_daemon_config:
    daemon_config:
      registry-mirrors: [https://mirror.example.com]
      log-opts:
        max-size: 10m
      debug: null # removed if it is there
"""

RETURN = r"""
path:
  description: The file that holds the settings.
  returned: success
  type: str
  sample: /etc/docker/daemon.json
restarted:
  description: Whether the engine was, or in check mode would be, started or restarted.
  returned: success
  type: bool
  sample: true
actions:
  description: What was, or in check mode would be, done, in order.
  returned: success
  type: list
  elements: list
  sample:
    - [write, /etc/docker/daemon.json]
    - [systemctl, daemon-reload]
    - [systemctl, reset-failed, docker.service]
    - [systemctl, restart, docker.service]
journal:
  description: The last 20 lines of the service's journal since the task began.
  returned: when the engine did not start, or did not answer in time
  type: list
  elements: str
  sample: ["unable to configure the Docker daemon with file /etc/docker/daemon.json: invalid logging level: loud"]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.apply import run_daemon_config

SPEC = {
    "daemon_config": {"type": "dict", "required": True},
    "service": {"type": "str", "default": "docker"},
    "probe_timeout": {"type": "float", "default": 30},
}

if __name__ == "__main__":
    main(SPEC, run_daemon_config)
