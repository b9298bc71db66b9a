"""Compiling Go programs from the sources that Debian packages.

forky's golang-github-docker-docker-dev carries BuildKit's packages with
cmd/buildkitd and cmd/buildctl, but not all that they import. The rest is
provided or replaced while compiling (`Replacements`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import bases
import cache

SOURCES = "/usr/share/gocode/src"

_PACKAGES = [
    "golang-go",
    "golang-github-docker-docker-dev",
    "golang-github-agext-levenshtein-dev",
    "golang-github-containerd-accelerated-container-image-dev",
    "golang-github-coreos-go-systemd-dev",
    "golang-github-gofrs-flock-dev",
    "golang-github-google-shlex-dev",
    "golang-github-hashicorp-go-immutable-radix-v2-dev",
    "golang-github-mitchellh-hashstructure-dev",
    "golang-github-package-url-packageurl-go-dev",
    "golang-github-pkg-profile-dev",
    "golang-github-spdx-tools-golang-dev",
    "golang-github-tonistiigi-go-archvariant-dev",
]
# Unpacked without the packages they depend on: one folder of it is needed.
_UNPACKED = ["golang-github-containerd-stargz-snapshotter-dev"]
# Half of what the dependencies' dependencies hold; nothing here imports it.
_WITHOUT = [
    f"{SOURCES}/{path}/*" for path in ("github.com/aws", "cloud.google.com", "google.golang.org/api", "k8s.io")
] + ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"]


def workroom() -> Path:
    """A forky root with Go and the sources."""
    lower = bases.base("forky")

    def build(root: Path) -> None:
        bases.copy(lower, root)
        lines = [f"path-exclude={pattern}\n" for pattern in _WITHOUT]
        (root / "etc/dpkg/dpkg.cfg.d/without").write_text("".join(lines))
        bases.install(root, _PACKAGES)
        bases.unpack("forky", _UNPACKED, root)

    inputs = [1, lower.name, _PACKAGES, _UNPACKED, _WITHOUT]
    return cache.artifact("gowork", inputs, build, "Go and 400 packages of sources, 1 to 2 minutes, once")


def build(
    programs: Sequence[str],
    arch: str,
    target: Path,
    variables: Mapping[str, str],
    additions: Mapping[str, Path | str],
    replacements: Mapping[str, Path | None] | None = None,
    tags: Sequence[str] = (),
) -> None:
    """Compile static programs, named by import path, into the directory `target`.

    `variables` sets Go string variables while linking. `additions` provides
    packages that nobody packages: import path → a directory of this machine,
    or, as a string, one of the workroom. `replacements` exchanges single files
    of the workroom by files of this machine; None leaves one out. `tags` are
    those of build constraints.
    """
    with tempfile.TemporaryDirectory() as made:
        farm = Path(made)
        for path, provider in additions.items():
            place = farm / "src" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(provider, Path):
                shutil.copytree(provider, place)
            else:
                place.symlink_to(provider)
        # Go's own way to compile with other files than those that lie there:
        # an empty name leaves one out.
        overlay = {}
        for number, (path, replacement) in enumerate((replacements or {}).items()):
            overlay[path] = ""
            if replacement:
                overlay[path] = f"/farm/{number}.go"
                shutil.copy(replacement, farm / f"{number}.go")
        (farm / "overlay.json").write_text(json.dumps({"Replace": overlay}))
        flags = ["-s", "-w", *(f"-X={name}={value}" for name, value in variables.items())]
        bases.chroot(
            workroom(),
            [
                "go",
                "build",
                "-trimpath",
                "-overlay=/farm/overlay.json",
                f"-ldflags={' '.join(flags)}",
                f"-tags={','.join(tags)}",
                "-o=/out/",
                *programs,
            ],
            env={
                "GO111MODULE": "off",
                "GOPATH": "/farm:/usr/share/gocode",
                "GOARCH": arch,
                "GOCACHE": "/go-cache",
                "CGO_ENABLED": "0",
            },
            binds={farm: "/farm", target: "/out", cache.directory("go"): "/go-cache"},
        )
