"""Root file systems of the hosts, and of the places where things are compiled.

Layers, each an artifact of its own: debootstrap's result with what every host
needs (`base`), then that with more packages (`grown`). So a suite is unpacked
from scratch once, whatever is made of it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cache

DEFAULT_MIRROR = "http://deb.debian.org/debian"
HOST_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "python3-apt",
    "openssh-server",
    "iproute2",
    "iptables",
    "ca-certificates",
    "procps",
)
# bookworm's docker.io holds the CLI too and has no packaged buildx.
ENGINE_PACKAGES = {
    "bookworm": ["docker.io"],
    "trixie": ["docker.io", "docker-cli", "docker-buildx"],
    "forky": ["docker.io", "docker-cli", "docker-buildx"],
}
# What an engine's host has besides its packages, by its path there.
_ENGINE_FILES = {
    "bookworm": {
        # This machine may lack capabilities.
        "usr/local/sbin/runc": f"#!/usr/bin/python3\n{(Path(__file__).parent / 'sources/runc/runc.py').read_text()}",
        # Between two collections of garbage containerd 1.6 waits fifty times as long as one takes (`run` in its
        # gc/scheduler/scheduler.go): where there is none that is every 10 ms, a fortieth of a processor.
        "etc/containerd/farm.toml": (
            'version = 2\nimports = ["/etc/containerd/config.toml"]\n'
            '[plugins."io.containerd.gc.v1.scheduler"]\npause_threshold = 0.0005\n'
        ),
        "etc/systemd/system/containerd.service.d/farm.conf": (
            "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --config /etc/containerd/farm.toml\n"
        ),
    }
}
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


def mirror() -> str:
    """Debian's mirror: `$BUILDFARM_MIRROR`, else what this machine's apt uses.

    Reads one-line sources (`deb [options] URI suite …`) and deb822 files
    (`URIs: …`), see sources.list(5). Only a URI that ends in `/debian` counts:
    neither the security archive nor Ubuntu's has the suites wanted here.
    """
    if chosen := os.environ.get("BUILDFARM_MIRROR"):
        return chosen.rstrip("/")
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*"))]
    for file in files:
        if file.suffix not in (".list", ".sources") or not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        lines = re.findall(
            r"^deb\s+(?:\[[^]]*\]\s*)?(\S+)" if file.suffix == ".list" else r"^URIs:(.*)",
            text,
            re.MULTILINE,
        )
        for uri in " ".join(lines).split():
            if re.fullmatch(r"https?://\S+/debian/?", uri):
                return uri.rstrip("/")
    return DEFAULT_MIRROR


def base(suite: str, arch: str = "amd64", packages: Sequence[str] = HOST_PACKAGES) -> Path:
    """Debootstrap's minbase variant of `suite` with `packages` and apt lists.

    Another architecture than this machine's needs arm64.emulation meanwhile.
    """
    inputs = [2, suite, arch, list(packages), mirror(), _apt_settings()]
    about = "debootstrap, about 1 minute, once"
    if arch == "arm64":
        about = "debootstrap under emulation, about 5 minutes, once"

    def build(root: Path) -> None:
        scripts = Path("/usr/share/debootstrap/scripts")
        # A debootstrap older than the suite lacks its script; sid's is the
        # same one for every release since buster.
        script = [] if (scripts / suite).exists() else [scripts / "sid"]
        # Not the directory that apt shares: it would be locked for minutes.
        debs = cache.directory(f"debootstrap-{suite}-{arch}")
        cache.run(
            [
                *_PRIVATE,
                "debootstrap",
                "--variant=minbase",
                f"--arch={arch}",
                f"--keyring={_KEYRING}",
                f"--cache-dir={debs}",
                f"--include={','.join(packages)}",
                suite,
                root,
                mirror(),
                *script,
            ],
            env={**_QUIET, "DPKG_FORCE": "unsafe-io"},
        )
        for path, text in _apt_settings().items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        # The package leaves one; every host has to make its own.
        (root / "etc/machine-id").write_text("")
        apt(root, "update")

    return cache.artifact(f"base-{suite}-{arch}", inputs, build, about)


def grown(name: str, lower: Path, packages: Sequence[str], about: str, files: Mapping[str, str] | None = None) -> Path:
    """The root file system `lower` with `packages` installed too, and `files` (path inside → text) written."""
    files = files or {}

    def build(root: Path) -> None:
        with sharing(lower, root):
            install(root, packages)
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
            (root / path).chmod(0o755 if text.startswith("#!") else 0o644)

    return cache.artifact(name, [2, lower.name, list(packages), *files.items()], build, about)


def host_base(suite: str, engine: bool = False) -> Path:
    """What a host boots from; with `engine`, Docker is installed, never started."""
    lower = base(suite)
    if not engine:
        return lower
    return grown(
        f"engine-{suite}",
        lower,
        ENGINE_PACKAGES[suite],
        "Docker's packages, under 1 minute, once",
        _ENGINE_FILES.get(suite),
    )


def copy(source: Path, target: Path) -> None:
    """Copy a root file system into a directory; shares blocks where it can."""
    target.mkdir(parents=True, exist_ok=True)
    cache.run(["cp", "-a", "--reflink=auto", f"{source}/.", target])


@contextmanager
def sharing(source: Path, target: Path) -> Iterator[None]:
    """Copy a root file system into a directory, for more packages; both share the files below /usr.

    So hosts of one suite share them in memory too, whatever else they have. dpkg writes a file anew and renames it
    into the old one's place (`tarobject` in its src/main/archives.c); that maintainer scripts do so too is checked.

    :raises cache.ToolError: a shared file was written into.
    """
    target.mkdir(parents=True, exist_ok=True)
    own = [entry for entry in source.iterdir() if entry.name != "usr"]
    cache.run(["cp", "-a", "--reflink=auto", *own, target])
    cache.run(["cp", "-a", "--link", source / "usr", target])
    started = time.time()
    yield
    for folder, _folders, names in os.walk(target / "usr"):
        for name in names:
            found = os.lstat(os.path.join(folder, name))
            if found.st_nlink > 1 and found.st_mtime >= started:
                raise cache.ToolError(f"{folder}/{name} was written into; {source}, which shares it, has to be deleted")


def known_packages(root: Path, packages: Sequence[str]) -> dict[str, str]:
    """An index for a root file system's apt that lists `packages`, what they need, and what is installed.

    apt reads an index each time: a whole suite's takes it a third of a second, more where sources are new. It takes
    another one only once the mirror's has changed.

    :returns: the index by its path in the root; nothing where that has no apt.
    """
    indexes = [*root.glob("var/lib/apt/lists/*_main_binary-*_Packages")]
    if not indexes:
        return {}

    def build(folder: Path) -> None:
        listed = _stanzas(indexes[0])
        providers: dict[str, list[str]] = {}
        for name, fields in listed.items():
            for virtual in _names(fields.get("Provides", "")):
                providers.setdefault(virtual, []).append(name)
        kept: dict[str, str] = {}
        waiting = [*packages, *_stanzas(root / "var/lib/dpkg/status")]
        while waiting:
            name = waiting.pop()
            if name in kept:
                continue
            if name not in listed:
                waiting += providers.pop(name, [])
                continue
            fields = listed[name]
            kept[name] = "".join(f"{field}: {value}\n" for field, value in fields.items())
            waiting += [
                needed for field in ("Pre-Depends", "Depends", "Recommends") for needed in _names(fields.get(field, ""))
            ]
        (folder / "index").write_text("\n".join(kept[name] for name in sorted(kept)))

    inputs = [1, root.name, *packages]
    index = cache.artifact("index", inputs, build, f"of what {root.name} may install, seconds, once") / "index"
    return {str(indexes[0].relative_to(root)): index.read_text()}


def _stanzas(path: Path) -> dict[str, dict[str, str]]:
    """The packages of a file as apt and dpkg have them (deb-control(5)): fields by name, by the package's name."""
    packages = map(fields_of, filter(None, path.read_text().split("\n\n")))
    return {fields["Package"]: fields for fields in packages if "Package" in fields}


def fields_of(stanza: str) -> dict[str, str]:
    """The fields of one package, as deb-control(5) writes them, by name."""
    return dict(re.findall(r"^([A-Za-z0-9-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE))


def _names(relations: str) -> list[str]:
    """The names in a field of relations between packages, alternatives too."""
    return re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]+)", relations)


def install(root: Path, packages: Sequence[str]) -> None:
    """Install packages into a root file system, without recommended ones.

    Updates the lists first: a cached root's may name files that the mirror
    has replaced since.
    """
    apt(root, "update")
    wanted = ["--no-install-recommends", "install", *packages]
    # Only downloading needs the shared directory for itself, so several roots
    # can be filled at a time.
    with cache.downloads():
        apt(root, "--download-only", *wanted)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # no service starts
    policy.chmod(0o755)
    try:
        apt(root, "-o", "Debug::NoLocking=1", *wanted)
    finally:
        policy.unlink()


def unpack(suite: str, packages: Sequence[str], target: Path, root: Path | None = None) -> list[str]:
    """Unpack packages, of any architecture (`runc:arm64`), without installing.

    No dependency is followed and no maintainer script runs. Returns the names
    of the .deb files: `NAME_VERSION_ARCH.deb`, an epoch's colon as `%3a`.

    :param root: whose apt knows the packages, both_arches(suite) if left out.
    """
    root = root or both_arches(suite)
    # What lies in the current directory is neither listed nor fetched again.
    script = (
        'fetch() { cd /; apt-get -q download --print-uris "$@"; '
        'cd /var/cache/apt/archives; apt-get -q download "$@" >&2; }; '
        # The mirror may have newer versions than the cached lists.
        'fetch "$@" || { apt-get -q update >&2; fetch "$@"; }'
    )
    with cache.downloads() as debs:
        listing = chroot(root, ["sh", "-c", script, "sh", *packages], capture=True)
    names = sorted(set(re.findall(r"^'\S+' (\S+\.deb) ", listing, re.MULTILINE)))
    if len(names) != len(set(packages)):
        raise cache.ToolError(f"apt-get download {' '.join(packages)}: got only {names}")
    for name in names:
        cache.run(["dpkg", "-x", debs / name, target])
    return names


def skeleton(root: Path) -> None:
    """Make the directories and links that unpacked packages rely on, and root's account."""
    for directory in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / directory).mkdir(parents=True)
        (root / directory).symlink_to(f"usr/{directory}")
    for directory in ("etc/ssl/certs", "root", "proc", "sys", "dev"):
        (root / directory).mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")


def both_arches(suite: str) -> Path:
    """`base(suite)` that also knows the packages of arm64."""
    lower = base(suite)

    def build(root: Path) -> None:
        copy(lower, root)
        learn(root, ["arm64"])

    return cache.artifact(f"both-{suite}", [1, lower.name], build, "a copy, 10 seconds, once")


def learn(root: Path, arches: Sequence[str]) -> None:
    """Let a root file system's apt know the packages of further architectures, by their Debian names."""
    for arch in arches:
        chroot(root, ["dpkg", "--add-architecture", arch])
    apt(root, "update")


def apt(root: Path, *arguments: str) -> None:
    """Run apt-get in a root file system."""
    chroot(root, ["apt-get", "-q", "-y", *arguments])


def chroot(
    root: Path,
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    binds: Mapping[Path, str] | None = None,
    capture: bool = False,
) -> str:
    """Run a command in a root file system; returns its stdout if `capture`.

    /proc, /sys, /dev and `binds` (a path of the machine → a path inside) are
    mounted in a mount namespace of the command's own, and it is process 1 of a
    process namespace: so whatever happens, neither a mount nor a process
    outlives it.
    """
    lend_network(root)
    mounts = {cache.directory("apt"): "/var/cache/apt/archives", **(binds or {})}
    script = [
        'root=$1; shift; mount -t proc proc "$root/proc"',
        'mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"',
    ]
    pairs: list[str] = []
    for outside, inside in mounts.items():
        (root / inside.lstrip("/")).mkdir(parents=True, exist_ok=True)
        script.append('mount --bind "$1" "$root$2"; shift 2')
        pairs += [str(outside), inside]
    script.append('exec chroot "$root" "$@"')
    return cache.run(
        [*_PRIVATE, "sh", "-ec", "\n".join(script), "sh", root, *pairs, *argv],
        env={**_QUIET, **(env or {})},
        capture=capture,
        what=" ".join(["chroot", str(root), *argv]),
    )


def name_servers() -> str:
    """This machine's `resolv.conf`, empty where it has none."""
    servers = Path("/run/systemd/resolve/resolv.conf")  # the file without the local stub
    if not servers.exists():
        servers = Path("/etc/resolv.conf")
    return servers.read_text() if servers.exists() else ""


def lend_network(root: Path) -> None:
    """Give a root file system this machine's name servers and certificates.

    A copy, also of the certificates that an administrator added: downloads
    may pass a proxy that is signed by a company's own authority.
    """
    bundle = Path("/") / _BUNDLE
    texts = {"etc/resolv.conf": name_servers(), _BUNDLE: bundle.read_text() if bundle.exists() else ""}
    for inside, text in texts.items():
        target = root / inside
        if text and target.parent.is_dir():
            # In one step, and in the place of a symlink rather than through it.
            fresh = target.with_name(f".{target.name}.{os.getpid()}")
            fresh.write_text(text)
            fresh.replace(target)


# --propagation is private by default, see unshare(1).
_PRIVATE = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
_QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TMPDIR": "/tmp",
}


def _apt_settings() -> dict[str, str]:
    """Files of apt's and dpkg's settings, by their path in a root."""
    return {
        # The Release file of a suite in development is at times older than the
        # week for which it says it holds.
        "etc/apt/apt.conf.d/90farm": ('Acquire::Check-Valid-Until "false";\nAcquire::Languages "none";\n'),
        # A root that a power cut spoils is built again.
        "etc/dpkg/dpkg.cfg.d/farm": "force-unsafe-io\n",
    }
