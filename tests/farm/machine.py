"""What a farm changes on the machine itself, and how it is put back.

A farm forwards packets, and its hosts share the machine's kernel, so a handler
that one of them registers is the machine's. The state before the first farm is
kept in a file; it is put back when the last farm is gone.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: Settings of the kernel, and what a farm needs of them. Each systemd uses several inotify instances of root's.
_SETTINGS = {Path("/proc/sys/net/ipv4/ip_forward"): "1", Path("/proc/sys/fs/inotify/max_user_instances"): "1024"}


def handlers() -> dict[str, str]:
    """The registered binfmt_misc entries by name, with the kernel's description of each."""
    if not (BINFMT / "register").exists():
        return {}
    entries = (entry for entry in BINFMT.iterdir() if entry.name not in ("register", "status"))
    return {entry.name: entry.read_text() for entry in entries}


def mount_binfmt() -> None:
    """Make the handlers visible on the machine, as they are in its containers."""
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)


def prepare(path: Path) -> None:
    """Make the machine ready for a farm; keep its state before the first one in a file."""
    if not path.exists():
        mounted = (BINFMT / "register").exists()
        mount_binfmt()
        settings = {str(setting): setting.read_text().strip() for setting in _SETTINGS}
        state = {"settings": settings, "mounted": mounted, "handlers": handlers()}
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(state, indent=2))
        temporary.rename(path)
    for setting, wanted in _SETTINGS.items():
        if int(setting.read_text()) < int(wanted):
            setting.write_text(wanted)


def restore(path: Path) -> None:
    """Put the machine back as `prepare` found it."""
    if not path.exists():
        return
    state = json.loads(path.read_text())
    mount_binfmt()
    for name, text in handlers().items():
        if state["handlers"].get(name) != text:
            (BINFMT / name).write_text("-1")
    for name, text in state["handlers"].items():
        if name not in handlers():
            (BINFMT / "register").write_text(_registration(name, text))
    if not state["mounted"]:
        subprocess.run(["umount", str(BINFMT)], check=False)
    for setting, text in state["settings"].items():
        Path(setting).write_text(text)
    path.unlink()


def _registration(name: str, text: str) -> str:
    """The line that registers an entry again, from the kernel's description of it.

    Form: `:name:type:offset:magic:mask:interpreter:flags`, see
    Documentation/admin-guide/binfmt-misc.rst. Only the interpreter's content at
    registration (flag F) cannot be told from it: the file of that name is taken.
    """
    fields = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    magic, mask = (
        "".join(f"\\x{value[at : at + 2]}" for at in range(0, len(value), 2))
        for value in (fields.get("magic", ""), fields.get("mask", ""))
    )
    flags = fields.get("flags:", "").replace("O", "") if "C" in fields.get("flags:", "") else fields.get("flags:", "")
    return f":{name}:M:{fields.get('offset', '0')}:{magic}:{mask}:{fields['interpreter']}:{flags}"
