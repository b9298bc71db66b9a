# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the environment of a task may say, and what of it the programs get that are run for the task.

``docs/environment.md`` has the same table with the reasons; a test compares the two.

Sources: docker/cli ``cli/command/cli.go``, ``cli/context/docker/load.go``, ``cmd/docker/builder.go``; docker/buildx
``commands/``, ``build/``, ``util/``; docker/go-connections ``sockets/``; golang.org/x/net ``http/httpproxy``;
``git rev-parse --local-env-vars``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from fnmatch import fnmatchcase
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .errors import FarmError

#: What says that this is a container: podman's and Docker's own files, and what Kubernetes gives each.
CONTAINER_FILES, CONTAINER_VARIABLE = ("/run/.containerenv", "/.dockerenv"), "KUBERNETES_SERVICE_HOST"
#: As for docker itself; counts as a module's option where the task does not give that; has no effect; has a value of
#: ours. The second and the third reach no program.
KEPT, OPTION, REMOVED, OURS = "kept", "option", "removed", "ours"

#: Names or patterns of variables, and what becomes of them. The first that fits counts; what fits none is passed on.
RULES: Tuple[Tuple[Tuple[str, ...], str], ...] = (
    (("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), KEPT),
    (("NO_PROXY", "no_proxy"), OURS),
    (("ALL_PROXY", "all_proxy"), REMOVED),
    (("SSL_CERT_FILE", "SSL_CERT_DIR"), KEPT),
    (("DOCKER_CONFIG",), KEPT),
    (("DOCKER_AUTH_CONFIG",), KEPT),
    (("DOCKER_CUSTOM_HEADERS", "DOCKER_CONTENT_TRUST*"), KEPT),
    (("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"), KEPT),
    (("DOCKER_CLI_EXPERIMENTAL",), KEPT),
    (("DOCKER_DEFAULT_PLATFORM",), REMOVED),
    (("DOCKER_API_VERSION",), REMOVED),
    (("DOCKER_BUILDKIT", "DOCKER_CLI_HINTS", "DOCKER_CLI_PLUGIN_*"), REMOVED),
    (("BUILDX_BUILDER",), OPTION),
    (("BUILDX_CONFIG",), KEPT),
    (("BUILDX_BAKE_GIT_AUTH_TOKEN", "BUILDX_BAKE_GIT_AUTH_HEADER", "BUILDX_BAKE_GIT_SSH"), KEPT),
    (("BUILDX_*",), REMOVED),
    (("SOURCE_DATE_EPOCH",), OPTION),
    (("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY",), KEPT),
    (("BUILDKIT_NO_CLIENT_TOKEN",), KEPT),
    (("BUILDKIT_*", "PROGRESS_NO_TRUNC"), REMOVED),
    (("COMPOSE_*",), REMOVED),
    (("KUBECONFIG",), KEPT),
    (("QEMU_*",), REMOVED),
    (("SSH_AUTH_SOCK",), KEPT),
    (("SSH_CONNECTION",), KEPT),
    (("BUILDFARM_SSH_KNOWN_HOSTS",), OPTION),
    (("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE"), REMOVED),
    (("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"), REMOVED),
    (("GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE", "GIT_NAMESPACE", "GIT_PREFIX"), REMOVED),
    (("GIT_INTERNAL_*", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS"), REMOVED),
    (("GIT_CONFIG_*",), KEPT),
    (("OTEL_*", "DOCKER_CLI_OTEL_*"), KEPT),
    (("HOME",), OURS),
    (("TMPDIR", "PATH", "XDG_STATE_HOME", "REQUEST_METHOD"), KEPT),
    (("LANG", "LC_*"), OURS),
    (("LANGUAGE",), REMOVED),
)

#: For the engine that docker talks to where nothing names one, no value at all: for commands that have nothing to do
#: with it, and would still fail for certificates of it that are missing.
NO_ENGINE: Mapping[str, str] = dict.fromkeys(
    ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"), ""
)
_PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
#: From a command and its environment to ``HOST:PORT`` of the engines that it may connect to.
EngineFinder = Callable[[Sequence[str], Mapping[str, str]], List[str]]
_engine_finders: List[EngineFinder] = []


def register_engine_finder(find: EngineFinder) -> None:
    """Have docker commands reach the engines that a function finds past the proxies of the environment.

    What knows contexts and builders stands above this package, which runs the commands.
    """
    if find not in _engine_finders:
        _engine_finders.append(find)


def treatment(name: str) -> str:
    """Return what becomes of a variable: KEPT, OPTION, REMOVED or OURS."""
    return next((kind for names, kind in RULES if any(fnmatchcase(name, pattern) for pattern in names)), KEPT)


def option(name: str) -> Optional[str]:
    """Return the value of a variable that counts as an option; None where it is not set, or empty."""
    return os.environ.get(name) or None


def for_program(argv: Sequence[str], more: Mapping[str, str]) -> Dict[str, str]:
    """Return the environment of a program that is run for a task.

    :param argv: the program with its arguments.
    :param more: variables that the logic sets itself.
    """
    passed = {name: value for name, value in os.environ.items() if treatment(name) not in (REMOVED, OPTION)}
    passed.update(more, LC_ALL="C.UTF-8")
    if argv[0] == "docker" and any(passed.get(name) for name in _PROXIES):
        passed.update(_past_proxies(argv, passed))
    return passed


def home() -> str:
    """Return the user's home directory as docker finds it: ``$HOME``, else that of the user's account.

    Source: docker/cli ``cli/config/config.go``, moby ``pkg/homedir`` from Docker 19.03 to 29.

    :raises FarmError: there is neither.
    """
    account = _account()
    found = os.environ.get("HOME") or (account.pw_dir if account else "")
    if not found:
        raise FarmError(
            f"user {user()} has no home directory: HOME is not set, and there is no account with this number; set HOME"
            " in the task's environment, or give an absolute path (docker_config for docker's configuration)"
        )
    return found


def expanded(path: str) -> str:
    """Return a path with ``~`` or ``~USER`` at its beginning replaced, absolute.

    :raises FarmError: there is no such directory known.
    """
    first, _slash, rest = path.partition("/")
    if first == "~":
        path = os.path.join(home(), rest)
    elif first.startswith("~"):
        path = os.path.expanduser(path)
        if path.startswith("~"):
            raise FarmError(f"{path}: there is no user {first[1:]!r} here; give an absolute path")
    return os.path.abspath(path)


def user() -> str:
    """Return the name of the user that this runs as, or its number where it has no account."""
    account = _account()
    return account.pw_name if account else str(os.getuid())


def in_container() -> bool:
    """Say whether this is a container of podman, Docker or Kubernetes."""
    return CONTAINER_VARIABLE in os.environ or any(map(os.path.exists, CONTAINER_FILES))


def settle() -> None:
    """Make the paths in this process's environment what is meant by them, before Ansible and programs go by them."""
    with contextlib.suppress(FarmError):
        os.environ["HOME"] = home()
    for name in ("DOCKER_CONFIG", "DOCKER_CERT_PATH", "BUILDX_CONFIG"):
        # What no shell has read still has it.
        if os.environ.get(name, "").startswith("~"):
            with contextlib.suppress(FarmError):
                os.environ[name] = expanded(os.environ[name])


def _account() -> Optional[pwd.struct_passwd]:
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:
        return None


def _past_proxies(argv: Sequence[str], environment: Mapping[str, str]) -> Dict[str, str]:
    """Return what lets a docker command reach engines past proxies, which are for registries.

    Docker would go through a proxy even to the node next door unless NO_PROXY names it.
    """
    given = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    # With its port: a registry on the same host stays where it is.
    direct = [*_listed(given), *(address for find in _engine_finders for address in find(argv, environment))]
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(dict.fromkeys(direct)))


def _listed(text: str) -> Iterable[str]:
    return (item.strip() for item in text.split(",") if item.strip())
