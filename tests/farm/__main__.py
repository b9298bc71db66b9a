"""The farm's command line: `python3 tests/farm [--name NAME] COMMAND`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import cache
import farm
import seed
from hosts import Host


def declared(text: str) -> Host:
    """A host as the command line gives it: NAME=BASE[@GROUP]."""
    name, _equals, rest = text.partition("=")
    base, _at, group = rest.partition("@")
    return Host(name, base or "trixie", group)


def main() -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="farm", description="A farm of real hosts on this machine (as root).")
    parser.add_argument("--name", default="farm", help="the farm's name (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a farm, over whatever one of this name left")
    up.add_argument("hosts", nargs="+", metavar="NAME=BASE[@GROUP]", type=declared, help="amd1=trixie+engine, say")
    up.add_argument("--empty", action="store_true", help="with nothing in the registry")
    prepare = commands.add_parser("prepare", help="build what farms are made of (may take long), start nothing")
    prepare.add_argument("bases", nargs="*", metavar="BASE", help="trixie+engine, say")
    commands.add_parser("down", help="end it and remove what it made; `--name all` means every farm")
    commands.add_parser("status", help="list hosts and addresses")
    commands.add_parser("inventory", help="print its Ansible inventory")
    ssh = commands.add_parser("ssh", help="open a shell on a host, or run a command there")
    ssh.add_argument("host")
    ssh.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    options = parser.parse_args()
    this = farm.Farm(options.name)
    try:
        if options.command == "up":
            this.up(options.hosts, None if options.empty else seed.store())
        elif options.command == "prepare":
            with ThreadPoolExecutor() as pool:
                waiting = [pool.submit(Host("", base).prepare) for base in options.bases]
                seed.store()
                for each in waiting:
                    each.result()
        elif options.command == "down":
            for name in farm.names() if options.name == "all" else [options.name]:
                farm.Farm(name).down()
        elif options.command == "status":
            for row in this.status():
                print("{:<12} {:<16} {}".format(*row))
        elif options.command == "inventory":
            print(json.dumps(this.inventory(), indent=2))
        else:
            argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
            os.execvp("ssh", this.ssh(options.host, *argv))
    except (OSError, cache.ToolError) as exc:
        print(f"farm: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
