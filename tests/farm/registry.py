"""The farm's registry: plain HTTP on port 5000, TLS with a password on port 5443 and without one on 443, one store."""

from __future__ import annotations

import subprocess
from pathlib import Path

import bases
import cache
from hosts import Cgroup

PLAIN, SECURE, OPEN = 5000, 5443, 443
USER, PASSWORD = "farmer", "a-password-for-tests"
# The password above as `htpasswd -nbB` writes it: the registry takes bcrypt only.
_HTPASSWD = "farmer:$2b$05$SfHGg4p5PlUQZLkEt7KO0uXppX7fBYnhIZ7wybxBoE.RAgoK7Hrc.\n"

CONFIG = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {store}}}
  delete: {{enabled: true}}
http:
  addr: "{address}"
{more}"""
_TLS = """\
  tls: {certificate: /mnt/certificate.pem, key: /mnt/key.pem}
"""
_PASSWORD = """\
auth:
  htpasswd: {realm: farm, path: /mnt/htpasswd}
"""


def start(cgroup: Cgroup, namespace: str, directory: Path, names: list[str], seed: Path | None = None) -> None:
    """Start the registries in a namespace, with their files and store in `directory`.

    :param names: names and addresses for the certificate.
    :param seed: a store to begin with, shared and never changed.
    """
    farm = directory / "farm"
    store = farm / "store"
    store.mkdir(parents=True)
    if seed:
        layers = [directory / name for name in ("upper", "work")]
        for layer in layers:
            layer.mkdir()
        options = f"lowerdir={seed},upperdir={layers[0]},workdir={layers[1]}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(store)], check=True)
    certificate(farm, names)
    (farm / "htpasswd").write_text(_HTPASSWD)
    (farm / "plain.yml").write_text(CONFIG.format(store="/mnt/store", address=f":{PLAIN}", more=""))
    (farm / "secure.yml").write_text(CONFIG.format(store="/mnt/store", address=f":{SECURE}", more=_TLS + _PASSWORD))
    (farm / "open.yml").write_text(CONFIG.format(store="/mnt/store", address=f":{OPEN}", more=_TLS))
    for config in ("plain.yml", "secure.yml", "open.yml"):
        cgroup.start(["ip", "netns", "exec", namespace, *command(farm, config)], directory / "registry.log")


def command(files: Path, config: str) -> list[str]:
    """The argument list that serves a registry whose files are in `files`, seen as `/mnt`."""
    root = bases.grown("registry", bases.base("trixie"), ["docker-registry"], "the registry's package, seconds, once")
    # A mount namespace of its own, so that nothing has to be unmounted when it is killed.
    script = 'mount --rbind "$1" "$2/mnt" && exec chroot "$2" docker-registry serve "/mnt/$3"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", str(files), str(root), config]


def certificate(directory: Path, names: list[str]) -> None:
    """Make a self-signed certificate for the registry; it is its own authority."""
    kinds = ["IP" if name.replace(".", "").isdigit() else "DNS" for name in names]
    alternatives = ",".join(f"{kind}:{name}" for kind, name in zip(kinds, names))
    cache.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + ["-days", "30", "-subj", "/CN=farm registry", "-addext", f"subjectAltName={alternatives}"]
        + ["-keyout", directory / "key.pem", "-out", directory / "certificate.pem"]
    )
