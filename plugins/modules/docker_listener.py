#!/usr/bin/python

# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_listener
short_description: Make a Docker engine listen on TCP
version_added: 1.0.0
author:
  - The buildfarm.multiarch authors (@buildfarm)
description:
  - Makes the engine of a node listen on a TCP port with mutual TLS, beside the sockets that its unit opens anyway, and
    merges settings into its C(daemon.json).
  - The flags are added by a systemd drop-in, C(zz-buildfarm-listener.conf), that repeats the unit's own command. The
    command is read anew each time, without this drop-in, so flags of the package, of a later version of it and of other
    drop-ins stay. Only C(-H) flags with a TCP address and C(--tls) flags among them, as edited units have them, are
    left out, with a warning.
  - Where a variable of the unit brings such flags, C(DOCKER_OPTS) of C(/etc/default/docker) for example, the task fails
    and names the file, whether the engine runs or not.
  - "After a change the configuration is validated (Docker 23.0 and later), the engine restarted and the listener
    probed: it must serve the declared certificate, be valid for the declared CA and answer nobody without a client
    certificate. If any of this fails, all files are put back byte for byte, the engine is restarted with them, and the
    error holds what the engine logged."
  - A certificate that no client would take, because it is another authority's, not for a server or not valid now, is
    refused before anything is changed. So is what docker and buildx, as Go programs, refuse of what OpenSSL takes. That
    is a certificate without a subject alternative name that is a host name or of type IP, as the common name does not
    count, with a signature made with SHA-1, with a negative serial number, an RSA key of less than 1024 bits or an
    elliptic curve other than P-256, P-384 and P-521, or one of a CA without basic constraints.
  - An engine that is not running is started. One that runs with other flags, or was started before one of its files was
    changed, is restarted, so a run that was ended half-way is finished by the next.
requirements:
  - Python 3.8 or later where it runs
  - A Linux host with systemd and, except in check mode, a Docker engine whose service is a systemd unit
  - Python's standard library
attributes:
  check_mode:
    support: partial
    description: Predicts exactly what a real run does, where the engine is installed.
    details:
      - Before it is installed the unit's command is not known. A change is predicted, with a warning, and the diff
        shows the drop-in without that command.
      - O(ca), O(certificate) and O(key) may be empty in check mode, as they are before certificates are issued. They
        are then predicted to change.
  diff_mode:
    support: full
    description:
      - Shows the texts of the drop-in and of C(daemon.json), and the fingerprints of certificates. A private key is
        never shown, and neither are names and passwords within URLs.
  idempotent:
    support: full
    description: A second run does not change anything, and costs one call of C(systemctl).
options:
  state:
    description:
      - V(present) makes the engine listen.
      - V(absent) removes the drop-in and the three files in O(tls_directory), and restarts the engine if it runs. It
        does not start an engine, and undoes O(daemon_config) with O(restore_daemon_config=true) only.
      - V(confirmed) makes the change of the last task with O(provisional=true) final. The engine stays as it is, so
        nothing is reported as changed. The task fails where that change was ended half-way.
      - V(reverted) puts back what the last task with O(provisional=true) has replaced, restarts the engine, and returns
        RV(journal) as it was until then. Where there is no such task, or its change is final, nothing is changed.
    type: str
    choices: [present, absent, confirmed, reverted]
    default: present
  address:
    description:
      - The IPv4 or IPv6 address to listen on. V(::) listens on both families, as Linux has it by default.
      - If unset, V(0.0.0.0), and V(127.0.0.1) with O(insecure=true).
    type: str
  interface:
    description:
      - A network interface whose address is listened on instead, its first IPv4 address or else a global IPv6 address.
        The address is read at each run.
      - Mutually exclusive with O(address).
    type: str
  port:
    description:
      - The TCP port, 1 to 65535.
      - If unset, 2376, and 2375 with O(insecure=true).
    type: int
  ca:
    description:
      - PEM text of the certificate authority that client certificates, and the engine's own, have to be issued by.
      - Required with O(state=present), unless O(insecure=true).
    type: str
  certificate:
    description:
      - PEM text of the engine's certificate, followed by intermediate ones if there are any.
      - Required with O(state=present), unless O(insecure=true).
    type: str
  key:
    description:
      - PEM text of the private key of O(certificate), without a passphrase.
      - It may be left out while the node holds the key that belongs to O(certificate). O(missing_key) is what is done
        where it does not.
    type: str
  missing_key:
    description:
      - What is done where O(key) is left out and the node does not hold the key that belongs to O(certificate).
      - V(fail) fails the task.
      - V(report) changes nothing and returns RV(key_needed=true), so that a play can send keys only to the nodes that
        need them. The engine does not listen as declared until a task with O(key) has run.
    type: str
    choices: [fail, report]
    default: fail
  tls_directory:
    description:
      - Directory on the node for C(ca.pem), C(cert.pem) and C(key.pem). Only root can enter it.
      - It may hold letters, digits and C(. _ + - /) only.
    type: str
    default: /etc/docker/tls
  insecure:
    description:
      - Listens without TLS. Whoever reaches the address is root on the node, so the task warns each time.
      - Excludes O(ca), O(certificate) and O(key). TLS files that are there already are left alone.
    type: bool
    default: false
  daemon_config:
    description:
      - Settings for C(daemon.json), the file that the unit's command names with C(--config-file) or
        C(/etc/docker/daemon.json).
      - They are merged into the file (RFC 7396). Dictionaries are merged, key by key, lists and all else replace what
        is there, and a key with the value V(null) is removed. What is not mentioned stays.
      - With O(state=present), V(hosts), V(tls), V(tlsverify), V(tlscacert), V(tlscert) and V(tlskey) are refused in
        O(daemon_config), because the engine does not start with both them and the flags of the same names. They are
        taken out of the file, with a warning, and this listener comes in their place. The task fails if V(hosts) names
        a socket that the engine would not have without it.
      - So are other keys that would stand in the file beside the flag of that name in the unit's command.
      - A file that is not a JSON object in UTF-8 is never overwritten.
      - Excludes O(state=confirmed) and O(state=reverted). Settings without a listener are declared with
        M(buildfarm.multiarch.docker_daemon_config).
    type: dict
  restore_daemon_config:
    description:
      - With O(state=absent), whether C(daemon.json) gets back what it had before O(daemon_config), of this module and
        of M(buildfarm.multiarch.docker_daemon_config), was merged into it for the first time.
      - That is noted beside the file, in C(.daemon.json.former), which is removed then. Keys that have been given other
        values since then stay as they are, and so does all that was never declared. A file that was not there before
        goes if nothing is left in it. V(hosts) and the keys of TLS, which the listener has replaced, do not come back.
    type: bool
    default: false
  service:
    description:
      - Name of the engine's systemd service. Rootless engines and Docker from a snap are not supported.
    type: str
    default: docker
  probe_timeout:
    description: Seconds for which a started engine may fail the probe.
    type: float
    default: 30
  provisional:
    description:
      - Whether a change has to be confirmed, as a confirmed commit of NETCONF has (RFC 6241). What it replaces stays on
        the node, so that O(state=reverted) can put it back, until O(state=confirmed) makes the change final. The probe
        from this host knows nothing of what lies between it and the clients, firewalls and names for example; a task
        on one of them can find that out.
      - There is no time limit. Any other task without this option makes the change final too, and so does a reboot.
      - Without effect on loopback, where no other host could try the listener, and with O(state=absent).
    type: bool
    default: false
notes:
  - Restarting an engine ends its containers, BuildKit's included, unless C(live-restore) is set in C(daemon.json).
  - A drop-in that sets C(ExecStart) must sort before C(zz-buildfarm-listener.conf), or this module's has no effect.
    This is checked.
  - The engine gets five minutes to restart.
  - While a change goes on, the files that it replaces have a second name beside them, C(.NAME.previous), and
    C(/run/buildfarm-listener) says what leads back. A run that is killed leaves both. The next one goes on from there,
    and if it fails puts back what was there before both.
  - Docker before 23.0 cannot validate its configuration. A C(daemon.json) that was broken before the task, and that the
    running engine has not read, is noticed there only when the engine does not start.
seealso:
  - module: buildfarm.multiarch.docker_daemon_config
  - module: buildfarm.multiarch.docker_certificates
  - module: buildfarm.multiarch.docker_context
  - module: buildfarm.multiarch.docker_endpoint_info
  - name: Protect the Docker daemon socket
    description: Docker's own page on listening with mutual TLS.
    link: https://docs.docker.com/engine/security/protect-access/
"""

EXAMPLES = r"""
- name: The engine listens over mutual TLS on port 2376
  buildfarm.multiarch.docker_listener:
    ca: "{{ lookup('ansible.builtin.file', 'pki/ca.pem') }}"
    certificate: "{{ lookup('ansible.builtin.file', 'pki/' ~ inventory_hostname ~ '.pem') }}"
    key: "{{ lookup('ansible.builtin.file', 'pki/' ~ inventory_hostname ~ '-key.pem') }}"

- name: On one address, with settings in daemon.json; the node holds its key already
  buildfarm.multiarch.docker_listener:
    address: 192.0.2.10
    ca: "{{ lookup('ansible.builtin.file', 'pki/ca.pem') }}"
    certificate: "{{ lookup('ansible.builtin.file', 'pki/' ~ inventory_hostname ~ '.pem') }}"
    daemon_config:
      live-restore: true
      log-opts:
        max-size: 10m
      registry-mirrors: null # removed if it is there

- name: On the address of the network of the farm only
  buildfarm.multiarch.docker_listener:
    interface: eth1
    ca: "{{ lookup('ansible.builtin.file', 'pki/ca.pem') }}"
    certificate: "{{ lookup('ansible.builtin.file', 'pki/' ~ inventory_hostname ~ '.pem') }}"

- name: Plain TCP within an isolated network
  buildfarm.multiarch.docker_listener:
    address: 10.0.0.5
    insecure: true

- name: A listener that this controller can reach, or the former one
  block:
    - name: The engine listens
      buildfarm.multiarch.docker_listener:
        ca: "{{ lookup('ansible.builtin.file', 'pki/ca.pem') }}"
        certificate: "{{ lookup('ansible.builtin.file', 'pki/' ~ inventory_hostname ~ '.pem') }}"
        provisional: true
    - name: The controller reaches it
      buildfarm.multiarch.docker_endpoint_info:
        endpoints: ["tcp://{{ inventory_hostname }}:2376"]
        ca: ~/.docker/ca.pem
        cert: ~/.docker/cert.pem
        key: ~/.docker/key.pem
        require_reachable: true
      delegate_to: localhost
    - name: The change is final
      buildfarm.multiarch.docker_listener:
        state: confirmed
  rescue:
    - name: The former listener
      buildfarm.multiarch.docker_listener:
        state: reverted

- name: A key that travels only to a node that does not hold it
  block:
    - name: The engine listens
      buildfarm.multiarch.docker_listener:
        ca: "{{ lookup('ansible.builtin.file', 'pki/ca.pem') }}"
        certificate: "{{ lookup('ansible.builtin.file', 'pki/' ~ inventory_hostname ~ '.pem') }}"
        missing_key: report
      register: listener
    - name: The engine listens, with the key
      buildfarm.multiarch.docker_listener:
        ca: "{{ lookup('ansible.builtin.file', 'pki/ca.pem') }}"
        certificate: "{{ lookup('ansible.builtin.file', 'pki/' ~ inventory_hostname ~ '.pem') }}"
        key: "{{ lookup('ansible.builtin.file', 'pki/' ~ inventory_hostname ~ '-key.pem') }}"
      when: listener.key_needed

- name: No TCP listener any more
  buildfarm.multiarch.docker_listener:
    state: absent
"""

RETURN = r"""
listener:
  description: The listener as declared, the same in check mode; V(null) unless O(state=present).
  returned: success
  type: dict
  contains:
    address:
      description: The address that the engine listens on.
      type: str
      sample: 0.0.0.0
    port:
      description: The TCP port.
      type: int
      sample: 2376
    url:
      description: The value of the engine's C(-H) flag.
      type: str
      sample: tcp://0.0.0.0:2376
    tls:
      description: Whether clients have to present a certificate.
      type: bool
      sample: true
    certificate_fingerprint:
      description: SHA-256 fingerprint of the engine's certificate; V(null) without TLS.
      type: str
      sample: "5B:0E:31:9C:8A:4B:77:F0:52:1D:C4:63:88:0F:0B:5E:21:F6:C5:3A:7D:90:4E:B2:16:AF:D8:49:3C:E7:05:8D"
    paths:
      description: The files that make it up; those of TLS are V(null) without TLS.
      type: dict
      sample:
        drop_in: /etc/systemd/system/docker.service.d/zz-buildfarm-listener.conf
        daemon_config: /etc/docker/daemon.json
        ca: /etc/docker/tls/ca.pem
        certificate: /etc/docker/tls/cert.pem
        key: /etc/docker/tls/key.pem
key_needed:
  description: Whether nothing was done because the node lacks the key, with O(missing_key=report) only.
  returned: success
  type: bool
  sample: false
provisional:
  description:
    - Whether what was replaced, by this task or by one that was ended half-way, can be put back by O(state=reverted).
      V(false) in check mode.
  returned: success
  type: bool
  sample: false
msg:
  description: What putting back came to.
  returned: with O(state=reverted), if anything was put back
  type: str
  sample: every file was put back and the engine runs as before
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
    - [mkdir, -p, -m, "0700", /etc/docker/tls]
    - [write, /etc/docker/tls/ca.pem]
    - [write, /etc/docker/tls/cert.pem]
    - [write, /etc/docker/tls/key.pem]
    - [write, /etc/systemd/system/docker.service.d/zz-buildfarm-listener.conf]
    - [systemctl, daemon-reload]
    - [systemctl, reset-failed, docker.service]
    - [systemctl, restart, docker.service]
journal:
  description:
    - The last 20 lines of the service's journal since the task began.
    - With O(state=reverted) since the change that is put back began.
  returned: when the engine did not start, or failed the probe, and with O(state=reverted)
  type: list
  elements: str
  sample: ["failed to load listeners: listen tcp 192.0.2.10:2376: bind: cannot assign requested address"]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.names import TLS_DIRECTORY
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.apply import run

SPEC = {
    "state": {"type": "str", "choices": ["present", "absent", "confirmed", "reverted"], "default": "present"},
    "address": {"type": "str"},
    "interface": {"type": "str"},
    "port": {"type": "int"},
    "ca": {"type": "str"},
    "certificate": {"type": "str"},
    "key": {"type": "str", "no_log": True},
    "missing_key": {"type": "str", "choices": ["fail", "report"], "default": "fail", "no_log": False},
    "tls_directory": {"type": "str", "default": TLS_DIRECTORY},
    "insecure": {"type": "bool", "default": False},
    "daemon_config": {"type": "dict"},
    "restore_daemon_config": {"type": "bool", "default": False},
    "service": {"type": "str", "default": "docker"},
    "probe_timeout": {"type": "float", "default": 30},
    "provisional": {"type": "bool", "default": False},
}

if __name__ == "__main__":
    main(SPEC, run, mutually_exclusive=[("address", "interface")])
