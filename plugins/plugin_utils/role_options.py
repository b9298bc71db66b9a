# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles' variables as what C(meta/argument_specs.yml) says they are, whatever form they were given in.

INI inventories, C(-e name=value) and the surveys of AWX send text. Here a text becomes the boolean, number, list or
dictionary that it stands for, a blank field becomes one that was not given, and what stands for nothing is refused.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Tuple

from ansible.module_utils.common.validation import check_type_bool, check_type_dict, check_type_float, check_type_int
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.authorities import read_authorities
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import validate_name
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.urls import mask
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.version import declared_version
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import parse_all

Option = Mapping[str, Any]

_ROLES = Path(__file__).resolve().parents[2] / "roles"
_SECRET = re.compile(r"passphrase|password|secret|_key$|^farm_certificate")
#: How errors name what is wanted.
_WANTED = {
    "bool": "true or false",
    "dict": "a dictionary, or one as JSON",
    "float": "a number",
    "int": "a whole number",
    "list": "a list, or one as JSON, or its elements with commas between them",
    "path": "a path",
    "str": "a text",
}


def _port(value: int) -> None:
    if not 0 < value < 65536:
        raise FarmError("wanted a port, 1 to 65535")


def _platforms_or_all(value: List[str]) -> None:
    parse_all([platform for platform in value if platform != "all"])


def _one_source_each(images: List[Mapping[str, Any]]) -> None:
    """Refuse images whose sources would overwrite each other in one context."""
    sources: Dict[str, Mapping[str, Any]] = {}
    for image in images:
        if "source" in image and "context" in image:
            first = sources.setdefault(image["context"], image)
            if first["source"] != image["source"]:
                raise FarmError(
                    f"{first['name']} and {image['name']} have different sources and one context,"
                    f" {image['context']!r}; wanted a context for each source"
                )


#: Checks of what a type cannot say; each raises FarmError. What engine_version may be depends on the host.
_CHECKS: Dict[str, Callable[[Any], object]] = {
    "buildx_minimum_version": lambda value: declared_version("version", value, "0.13 or 0.13.1", 2),
    "buildx_release": lambda value: declared_version("release", value, "0.29.1 or 0.30.0-rc1", 3, candidates=True),
    "emulators_endpoint": Endpoint.parse,
    "emulators_platforms": _platforms_or_all,
    "emulators_qemu_version": lambda value: declared_version("version", value, "10.0.4 or 10.0"),
    "engine_minimum_version": lambda value: declared_version("version", value, "28.0"),
    "engine_registry_authorities": read_authorities,
    "farm_builder": lambda value: validate_name(value, "builder"),
    "farm_endpoint": Endpoint.parse,
    "farm_node_platforms": parse_all,
    "farm_platforms": parse_all,
    "images_builder": lambda value: validate_name(value, "builder"),
    "images_list": _one_source_each,
    "images_platforms": parse_all,
    "listener_port": _port,
    "mirror_port": _port,
    "platforms": parse_all,
}


def roles() -> List[str]:
    """Return the names of the collection's roles."""
    return sorted(path.parent.parent.name for path in _ROLES.glob("*/meta/argument_specs.yml"))


@functools.lru_cache(maxsize=None)
def specification(role: str) -> Mapping[str, Option]:
    """Return the options of a role by name, those of all its entry points.

    :raises FarmError: there is no such role.
    """
    path = _ROLES / role / "meta" / "argument_specs.yml"
    if not path.is_file():
        raise FarmError(f"there is no role {role!r}; wanted one of {', '.join(roles())}")
    specs = yaml_load(path.read_text(encoding="utf-8"))["argument_specs"]
    found: Dict[str, Option] = {}
    for spec in specs.values():
        found.update(spec.get("options") or {})
    return found


def options(role: str, variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Dict[str, Any]:
    """Return all options of a role by their names without the role's, each of its documented type.

    One that was not given has the default that is documented, else None.

    :param variables: of a host.
    :param template: renders a variable's value.
    :raises FarmError: variables that cannot be meant, all of them.
    """
    found, wrong = {}, []
    for name, option in specification(role).items():
        try:
            found[name[len(role) + 1 :]] = convert(name, option, template(variables.get(name)))
        except FarmError as exc:
            wrong.append(exc.message)
    if wrong:
        raise FarmError("; ".join(wrong))
    return found


def option(name: str, variables: Mapping[str, Any]) -> Any:
    """Return one option of a host whose variables are rendered already, as those in C(hostvars) are.

    :raises FarmError: it cannot be meant.
    """
    return convert(name, specification(name.split("_", 1)[0])[name], variables.get(name))


def unknown(names: Iterable[str]) -> Iterator[str]:
    """Say of each variable that begins with a role's name and is none of its options, what may have been meant."""
    known = {name for role in roles() for name in specification(role)}
    prefixes = tuple(f"{role}_" for role in roles())
    for name in sorted(names):
        if name.startswith(prefixes) and name not in known:
            close = difflib.get_close_matches(name, known, 1, 0.8)
            hint = f"; was {close[0]} meant?" if close else ""
            yield f"{name} is no variable of the role {name.split('_', 1)[0]}, and nothing reads it{hint}"


def convert(name: str, option: Option, value: Any) -> Any:
    """Return a value as what an option is documented to be.

    :param name: of the variable, for messages.
    :param option: as in an argument specification.
    :return: the default where nothing was given, None where there is none.
    :raises FarmError: it stands for nothing of the kind.
    """
    if value is not None and not isinstance(value, (bool, int, float, str, list, tuple, dict)):
        value = str(value)  # What is encrypted by ansible-vault.
    if value is None or (isinstance(value, str) and not value.strip()):
        return option.get("default")
    kind = option.get("type", "str")
    try:
        made = _MAKERS[kind](value)
    except (TypeError, ValueError) as exc:
        raise _refusal(name, value, str(exc) if isinstance(exc, _Hint) else "", _WANTED[kind]) from exc
    if kind == "list":
        return _checked(name, option, _elements(name, option, made))
    if kind == "dict" and "options" in option:
        return _checked(name, option, _members(name, option["options"], made))
    return _checked(name, option, made)


class _Hint(TypeError):
    """What to do about a value of the wrong type."""


def _refusal(name: str, value: Any, hint: str, wanted: str) -> FarmError:
    if _SECRET.search(name):
        shown = "a value that is not shown"
    else:
        text = mask(json.dumps(value, default=str, ensure_ascii=False))
        shown = text if len(text) <= 60 else f"{text[:57]}..."
    return FarmError(f"{name}: found {shown}, wanted {wanted}{hint and '; '}{hint}")


def _text(value: Any) -> str:
    # YAML and INI inventories read 20.10 as 20.1, and no as false: which was written is no longer known.
    if isinstance(value, (bool, float)):
        kind = "true or false" if isinstance(value, bool) else "a number, and 0.30 and 0.3 are the same number"
        raise _Hint(f"without quotes it is {kind}: put it into quotes")
    if isinstance(value, (list, tuple, dict)):
        raise TypeError
    return str(value).strip("\r\n") if "\n" not in str(value).strip("\r\n") else str(value)


def _boolean(value: Any) -> bool:
    return bool(check_type_bool(value.strip() if isinstance(value, str) else value))


def _number(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return int(check_type_int(value.strip() if isinstance(value, str) else value))


def _dictionary(value: Any) -> Dict[str, Any]:
    return dict(check_type_dict(value.strip() if isinstance(value, str) else value))


def as_list(value: Any) -> List[Any]:
    """Return a list that may be given as a text: with commas or lines, or as JSON.

    :raises ValueError: it begins as JSON does, and is none.
    """
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, str):
        return [value]
    text = value.strip()
    if text[:1] in ("[", "{"):
        made = json.loads(text)
        return made if isinstance(made, list) else [made]
    return [part.strip() for part in re.split(r"[,\n]", text) if part.strip()]


_MAKERS: Dict[str, Callable[[Any], Any]] = {
    "bool": _boolean,
    "dict": _dictionary,
    "float": lambda value: float(check_type_float(value)),
    "int": _number,
    "list": as_list,
    "path": _text,
    "str": _text,
}


def _elements(name: str, option: Option, values: List[Any]) -> List[Any]:
    element = {"type": option.get("elements", "str"), **({"options": option["options"]} if "options" in option else {})}
    made = [convert(f"{name}[{place}]", element, value) for place, value in enumerate(values)]
    return [value for value in made if value is not None]


def _members(name: str, members: Mapping[str, Option], value: Mapping[str, Any]) -> Dict[str, Any]:
    """Convert a dictionary whose keys are documented; one that was not given stays out."""
    foreign = [key for key in value if key not in members]
    if foreign:
        raise FarmError(f"{name}: found the key {foreign[0]!r}, wanted some of {', '.join(members)}")
    made = {key: convert(f"{name}.{key}", option, value.get(key)) for key, option in members.items()}
    missing = [key for key, option in members.items() if option.get("required") and made[key] is None]
    if missing:
        raise FarmError(f"{name}: {', '.join(missing)} is missing, and has to be given")
    return {key: one for key, one in made.items() if one is not None}


def _checked(name: str, option: Option, value: Any) -> Any:
    choices = option.get("choices")
    strangers = [one for one in (value if isinstance(value, list) else [value]) if choices and one not in choices]
    if strangers:
        raise _refusal(name, strangers[0], "", f"one of {', '.join(str(choice) for choice in choices or ())}")
    check = _CHECKS.get(re.split(r"[.\]]", name)[-1])
    if check:
        try:
            check(value)
        except FarmError as exc:
            raise FarmError(f"{name}: {exc.message}") from exc
    return value


def problems(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Tuple[str, ...]:
    """Return what is wrong with a host's variables, those of all roles.

    :param template: renders a variable's value; LookupError where that cannot be done yet.
    """
    wrong = []
    for role in roles():
        for name, spec in specification(role).items():
            if name not in variables:
                continue
            try:
                convert(name, spec, template(variables[name]))
            except FarmError as exc:
                wrong.append(exc.message)
            except LookupError:
                # A fact that is still to be gathered, for example: the role will see.
                continue
    return tuple(wrong)
