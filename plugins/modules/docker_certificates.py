#!/usr/bin/python
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_certificates
short_description: Issue and renew the certificates of a farm of Docker engines
version_added: 1.0.0
description:
  - Keeps a private certificate authority (CA) in a directory of the controller, and issues with it a server
    certificate for each engine and client certificates for those who use them, all in one task.
  - Certificates are issued anew, with a new key, when they are missing, cannot be read, do not fit their key, are not
    signed by the CA, name other hosts than declared, have a key of another O(key_type), or expire within
    O(renew_before_days). So are those that docker and engines, as Go programs, refuse, because they are signed with
    SHA-1 for example.
  - A CA that expires within O(renew_before_days) is renewed with the key it has, so that what it signed before stays
    trusted until the new certificates are everywhere.
  - A CA is replaced in stages without downtime (O(rotate)). The playbook C(buildfarm.multiarch.rotate_certificates)
    goes through them, with one engine at a time.
  - The CA can also be one from outside (O(ca_cert)). Certificates that were issued elsewhere do not need this module,
    M(buildfarm.multiarch.docker_listener) and M(buildfarm.multiarch.docker_context) take them as they are.
  - Only their owner can read the keys. The CA's key can be encrypted (O(ca_passphrase)). No key leaves the directory,
    and none is returned.
  - Certificates that are no longer declared are left alone.
author:
  - The buildfarm.multiarch authors (@buildfarm)
requirements:
  - Python 3.8 or later where it runs
  - The Python library cryptography, 3.3 or later. In check mode it is not needed where no certificate is there yet.
attributes:
  check_mode:
    support: full
    description: Predicts what is issued and why. Values that only exist once it is issued are V(null).
  diff_mode:
    support: full
    description: Shows for each certificate what is wrong with it, its names and its key's permissions.
  idempotent:
    support: partial
    description: A second run changes nothing, except with V(certificates) and V(all) of O(rotate).
options:
  directory:
    description:
      - Where the CA and its certificates are stored. C(~) is expanded. It is created with mode V(0700).
      - It holds C(ca.pem) and C(ca-key.pem), and under C(servers/NAME) and C(clients/NAME) the files C(ca.pem),
        C(cert.pem) and C(key.pem); a client's directory can be used as E(DOCKER_CERT_PATH).
      - The first certificate in C(ca.pem) is that of the CA that issues. While it replaces another CA, that one's
        follows, and both are trusted.
      - Where the controller is thrown away after each job, this must be a directory that stays.
    type: path
    default: ~/.config/buildfarm/certificates
  servers:
    description:
      - The engines that need a certificate.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description:
          - A host name or an IP address. The certificate is valid for it, and the certificate's directory is called so.
        type: str
        required: true
      sans:
        description:
          - Further names that clients may reach the engine by. Host names, also with C(*) as the first label, and IP
            addresses are told apart by their form.
          - If unset, the names that the certificate has stay.
        type: list
        elements: str
      certificate:
        description:
          - The certificate in PEM that the engine has, with its key, as M(buildfarm.multiarch.farm_facts) reports it.
          - Where O(directory) has none for the engine, as on a controller that keeps nothing, it stays as long as it is
            as declared and of this CA. Nothing is issued then, and no engine has to be restarted.
        type: str
      ca:
        description:
          - What the engine trusts, in PEM, as M(buildfarm.multiarch.farm_facts) reports it.
          - Where O(directory) has no CA, none is made, and none is begun with, that no engine trusts, unless O(rotate)
            says so. It is an error that names what they trust.
        type: str
  clients:
    description:
      - Those who need a certificate to use the engines.
      - A name is the certificate's common name, and the name of its directory. An authorization plugin of the engine
        sees it as the user.
    type: list
    elements: str
    default: [client]
  validity_days:
    description:
      - For how many days a server's or client's certificate is issued, 36500 at most. None outlives the CA.
      - Certificates that are valid for longer because they were issued under another setting stay.
    type: int
    default: 365
  client_validity_days:
    description:
      - For how many days a client's certificate is issued, 1 to 36500. By default O(validity_days).
      - One that is issued for less than twice O(renew_before_days) is issued anew when half of its time is over.
    type: int
  renew_before_days:
    description:
      - How many days before their end certificates are issued anew. Let the task run more often than that.
      - Must be less than O(validity_days) and O(ca_validity_days).
    type: int
    default: 30
  ca_common_name:
    description:
      - The CA's name, used when the CA is made. It does not change when the CA is renewed.
    type: str
    default: Docker build farm CA
  ca_validity_days:
    description:
      - For how many days the CA is issued, and renewed, 36500 at most.
    type: int
    default: 3650
  ca_cert:
    description:
      - File on the controller with the certificate in PEM of a CA from outside, to be used instead of one of the farm's
        own, and after it those that lead to its root, if it is not one itself. Needs O(ca_key) or O(ca_key_pem).
      - The first CA alone is trusted, and not its root, as whoever has any other certificate of that root could use the
        engines then. Those between it and its root are put after each certificate that it issues.
      - If the file holds another CA than before, everything is issued anew. To do that without downtime, run the
        playbook C(buildfarm.multiarch.rotate_certificates).
      - It is not renewed. There is a warning when it expires within O(renew_before_days), and an error when it has.
    type: path
  ca_key:
    description:
      - File on the controller with the key of O(ca_cert), an elliptic curve or an RSA key in PEM. It is read where it
        is, and neither copied nor changed.
      - It may be absent as long as nothing is to be issued.
    type: path
  ca_cert_pem:
    description:
      - The content of such a file, instead of O(ca_cert).
    type: str
  ca_key_pem:
    description:
      - The key of O(ca_cert) or O(ca_cert_pem) itself, in PEM, instead of O(ca_key). It is written nowhere.
    type: str
  create_ca:
    description:
      - Whether a CA of the farm's own is made where O(directory) has none. With V(false) that is an error, also with
        O(rotate=all).
    type: bool
    default: true
  ca_passphrase:
    description:
      - The passphrase of the CA's key.
      - The key of the farm's own CA is encrypted with it, also if it was not until now. An empty one stands for a key
        that is not encrypted. If unset, the key is left as it is, and an encrypted one can issue nothing.
    type: str
  ca_previous_passphrase:
    description:
      - The passphrase that the CA's key has until now, to change it to O(ca_passphrase).
    type: str
  key_type:
    description:
      - What keys are made of. Certificates with keys of another type are issued anew. A CA keeps its key until it is
        replaced.
      - Ed25519 is not offered, as the first releases of Docker 19.03 do not know it.
    type: str
    choices: [ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096]
    default: ecdsa-p256
  rotate:
    description:
      - What to issue anew with new keys whatever its state, after a key may have become known to others for example.
      - V(certificates) issues all declared server and client certificates, V(all) the CA too. After V(all) engines and
        clients trust each other again only when both have received their new files. V(all) is refused with a CA from
        outside.
      - V(ca_begin), V(ca_clients) and V(ca_end) replace the CA without downtime. Each changes only what is not yet as
        that stage has it, so an interrupted stage is run again. V(none) keeps the stage as it is.
      - V(ca_begin) puts a new CA, or that of O(ca_cert), in front of the present one and issues the servers'
        certificates with it; clients keep theirs. Then give every client its new C(ca.pem), and after that every engine
        all of its files.
      - V(ca_clients) issues the clients' certificates with the new CA. Run it when every engine trusts both CAs, and
        give every client its new files.
      - V(ca_end) drops the CA that is replaced. Run it when every engine and every client has a certificate of the new
        one, and give all of them their new C(ca.pem).
    type: str
    choices: [none, certificates, all, ca_begin, ca_clients, ca_end]
    default: none
notes:
  - Validity begins an hour in the past, for hosts whose clocks are late.
  - A CA on disk that cannot be used (damaged, not a CA, with a key that does not fit) fails the task. It is never
    replaced unless O(rotate=all).
  - The CA's key can be stored elsewhere. The task needs it only when something is to be issued.
  - A run that was interrupted is continued by the next one. Runs for the same directory wait for each other.
seealso:
  - module: buildfarm.multiarch.docker_listener
  - module: buildfarm.multiarch.docker_context
  - name: Protect the Docker daemon socket
    description: What Docker says about certificates for its engine.
    link: https://docs.docker.com/engine/security/protect-access/
"""

EXAMPLES = r"""
- name: Issue what the farm needs
  buildfarm.multiarch.docker_certificates:
    servers:
      - name: amd1.example.com
      - name: arm1.example.com
        sans:
          - arm1
          - 192.0.2.17
  register: certificates

- name: Issue a certificate for each node of the inventory under all its names, and one for each of two users
  buildfarm.multiarch.docker_certificates:
    directory: /etc/buildfarm/certificates
    servers: "{{ groups['buildx_nodes'] | buildfarm.multiarch.farm_servers(hostvars) }}"
    clients:
      - builder
      - monitoring

- name: Short-lived certificates, from a task that runs daily
  buildfarm.multiarch.docker_certificates:
    servers:
      - name: amd1.example.com
    validity_days: 14
    renew_before_days: 7

- name: Encrypt the CA's key
  buildfarm.multiarch.docker_certificates:
    servers:
      - name: amd1.example.com
    ca_passphrase: "{{ vault_ca_passphrase }}"

- name: Issue with a CA of the company, below its root
  buildfarm.multiarch.docker_certificates:
    servers:
      - name: amd1.example.com
    ca_cert: /etc/pki/farm-ca-and-root.pem
    ca_key: /etc/pki/private/farm-ca-key.pem
    ca_passphrase: "{{ vault_ca_passphrase }}"

- name: Begin anew at once after the CA's key was copied by someone
  buildfarm.multiarch.docker_certificates:
    servers:
      - name: amd1.example.com
    rotate: all
"""

RETURN = r"""
ca:
  description: The CA.
  returned: success
  type: dict
  contains:
    path:
      description: File of its certificate.
      type: str
      sample: /root/.config/buildfarm/certificates/ca.pem
    pem:
      description:
        - What engines and clients have to trust, the content of that file. Its certificate, and while it replaces
          another CA that one's. V(null) in check mode if it would change.
      type: str
      sample: "-----BEGIN CERTIFICATE-----\n..."
    certificate:
      description: Its certificate alone. V(null) in check mode if it would change.
      type: str
      sample: "-----BEGIN CERTIFICATE-----\n..."
    replaces:
      description: The fingerprints of the CAs that are trusted beside it.
      type: list
      elements: str
      sample: []
    not_after:
      description: Its end, in UTC. V(null) in check mode if it would change.
      type: str
      sample: "2036-01-30T12:00:00Z"
    fingerprint:
      description: SHA-256 of the certificate. V(null) in check mode if it would be issued.
      type: str
      sample: "7A:5C:0B:..."
servers:
  description: The declared servers' certificates by name.
  returned: success
  type: dict
  sample:
    arm1.example.com:
      ca_path: /root/.config/buildfarm/certificates/servers/arm1.example.com/ca.pem
      cert_path: /root/.config/buildfarm/certificates/servers/arm1.example.com/cert.pem
      certificate: "-----BEGIN CERTIFICATE-----\n..."
      fingerprint: "04:D1:77:..."
      key_path: /root/.config/buildfarm/certificates/servers/arm1.example.com/key.pem
      not_after: "2027-01-30T12:00:00Z"
      sans: [192.0.2.17, arm1, arm1.example.com]
  contains:
    NAME:
      description: One entry for each server.
      type: dict
      contains:
        ca_path:
          description: File of the copy of the CA's certificate.
          type: str
        cert_path:
          description: File of the certificate.
          type: str
        key_path:
          description: File of its key.
          type: str
        certificate:
          description: The certificate in PEM. V(null) in check mode if it would be issued.
          type: str
        fingerprint:
          description: SHA-256 of the certificate. V(null) in check mode if it would be issued.
          type: str
        not_after:
          description: Its end, in UTC. V(null) in check mode if it would be issued.
          type: str
        sans:
          description: The names that it is valid for, sorted.
          type: list
          elements: str
clients:
  description: The declared clients' certificates by name, as RV(servers) without C(sans).
  returned: success
  type: dict
  sample:
    client:
      ca_path: /root/.config/buildfarm/certificates/clients/client/ca.pem
      cert_path: /root/.config/buildfarm/certificates/clients/client/cert.pem
      certificate: "-----BEGIN CERTIFICATE-----\n..."
      fingerprint: "9F:20:E6:..."
      key_path: /root/.config/buildfarm/certificates/clients/client/key.pem
      not_after: "2027-01-30T12:00:00Z"
actions:
  description: What was, or in check mode would be, done. Each entry is a list of one sentence.
  returned: success
  type: list
  elements: list
  sample: [["issue server 'arm1.example.com': it expires 2026-02-20T08:00:00Z"]]
"""

from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.authority import ROTATIONS
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.x509 import KEY_TYPES
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.module import main

ARGUMENT_SPEC = {
    "directory": {"type": "path", "default": "~/.config/buildfarm/certificates"},
    "servers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "sans": {"type": "list", "elements": "str"},
            "certificate": {"type": "str"},
            "ca": {"type": "str"},
        },
    },
    "clients": {"type": "list", "elements": "str", "default": ["client"]},
    "validity_days": {"type": "int", "default": 365},
    "client_validity_days": {"type": "int"},
    "renew_before_days": {"type": "int", "default": 30},
    "ca_common_name": {"type": "str", "default": "Docker build farm CA"},
    "ca_validity_days": {"type": "int", "default": 3650},
    "ca_cert": {"type": "path"},
    "ca_key": {"type": "path", "no_log": False},
    "ca_cert_pem": {"type": "str"},
    "ca_key_pem": {"type": "str", "no_log": True},
    "create_ca": {"type": "bool", "default": True},
    "ca_passphrase": {"type": "str", "no_log": True},
    "ca_previous_passphrase": {"type": "str", "no_log": True},
    "key_type": {"type": "str", "choices": list(KEY_TYPES), "default": KEY_TYPES[0], "no_log": False},
    "rotate": {"type": "str", "choices": list(ROTATIONS), "default": ROTATIONS[0]},
}

if __name__ == "__main__":
    main(ARGUMENT_SPEC, run)
