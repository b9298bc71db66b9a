# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for AWX's API, version 2: it keeps what it is given, and refuses what AWX refuses.

Every field that is sent has to be one that it knows, of the right type; what a field refers to has to be there; what
AWX checks beyond that, surveys, inputs and injectors of credentials, playbooks of a project, recurrence rules, is
checked as its documentation says. It runs nothing.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jinja2
from jinja2 import meta

Item = dict[str, Any]

_PREFIX = "/api/v2"
_ENCRYPTED = "$encrypted$"
_COMMON = {"name": "text!", "description": "text"}
#: What an object of each kind may have: a type, or what it refers to; `!` where it is required.
FIELDS: dict[str, dict[str, str]] = {
    "organizations": dict(_COMMON),
    "credential_types": {
        **_COMMON,
        "kind": "choice!cloud,net,ssh",
        "managed": "bool",
        "inputs": "object",
        "injectors": "object",
    },
    "credentials": {
        **_COMMON,
        "organization": "->organizations",
        "credential_type": "->credential_types!",
        "inputs": "object",
    },
    "execution_environments": {
        **_COMMON,
        "image": "text!",
        "pull": "choice,always,missing,never",
        "organization": "->organizations",
        "credential": "->credentials",
    },
    "projects": {
        **_COMMON,
        "organization": "->organizations!",
        "scm_type": "choice,git,svn,insights,archive",
        "scm_url": "text",
        "scm_branch": "text",
        "scm_update_on_launch": "bool",
        "allow_override": "bool",
    },
    "inventories": {
        **_COMMON,
        "organization": "->organizations!",
        "kind": "choice,smart,constructed",
        "variables": "text",
    },
    "inventory_sources": {
        **_COMMON,
        "inventory": "->inventories!",
        "source": "choice!scm,ec2,file,constructed",
        "source_path": "text",
        "source_project": "->projects",
        "execution_environment": "->execution_environments",
        "overwrite": "bool",
        "overwrite_vars": "bool",
        "update_on_launch": "bool",
    },
    "job_templates": {
        **_COMMON,
        "organization": "->organizations",
        "job_type": "choice,run,check",
        "inventory": "->inventories",
        "project": "->projects!",
        "playbook": "text!",
        "execution_environment": "->execution_environments",
        "job_slice_count": "int",
        "extra_vars": "text",
        "allow_simultaneous": "bool",
        "survey_enabled": "bool",
        "become_enabled": "bool",
        **{f"ask_{what}_on_launch": "bool" for what in ("job_type", "limit", "tags", "skip_tags", "verbosity")},
    },
    "workflow_job_templates": {**_COMMON, "organization": "->organizations", "survey_enabled": "bool"},
    "workflow_job_template_nodes": {
        "identifier": "text!",
        "workflow_job_template": "->workflow_job_templates!",
        "unified_job_template": "->unified_job_templates",
        "all_parents_must_converge": "bool",
        "extra_data": "object",
    },
    "schedules": {
        **_COMMON,
        "unified_job_template": "->unified_job_templates!",
        "rrule": "text!",
        "enabled": "bool",
        "extra_data": "object",
    },
}
#: What can be run, which is one numbering.
_UNIFIED = ("projects", "inventory_sources", "job_templates", "workflow_job_templates")
#: Lists of other objects that an object has.
_LISTS = {
    "credentials": "credentials",
    "success_nodes": "workflow_job_template_nodes",
    "failure_nodes": "workflow_job_template_nodes",
    "always_nodes": "workflow_job_template_nodes",
}
_UNSET: dict[str, Any] = {"text": "", "bool": False, "int": 1, "object": {}, "choice": ""}
QUESTIONS = ("text", "textarea", "password", "integer", "float", "multiplechoice", "multiselect")


class Refused(Exception):
    """AWX would answer 400, with this."""


class State:
    """All objects, by their kind and number.

    :ivar requests: what was asked for, `METHOD /path`.
    """

    def __init__(self, playbooks: Sequence[str]) -> None:
        self.playbooks = playbooks
        self.requests: list[str] = []
        self.objects: dict[str, dict[int, Item]] = {kind: {} for kind in FIELDS}
        self.lists: dict[tuple[str, int, str], list[int]] = {}
        self.surveys: dict[int, Any] = {}
        self._next = 1
        self.create("organizations", {"name": "Default"})
        fields = [{"id": name, "type": "string", "secret": name != "username"} for name in ("username", "ssh_key_data")]
        self.create("credential_types", {"name": "Machine", "kind": "ssh", "inputs": {"fields": fields}})

    def find(self, kind: str, number: int) -> Item:
        """Return an object.

        :raises KeyError: it is not there.
        """
        kinds = _UNIFIED if kind == "unified_job_templates" else (kind,)
        return next((self.objects[name][number] for name in kinds if number in self.objects[name]), None) or {}[number]

    def all(self, kind: str) -> Iterator[Item]:
        """Return all objects of a kind."""
        for name in _UNIFIED if kind == "unified_job_templates" else (kind,):
            yield from self.objects[name].values()

    def create(self, kind: str, given: Mapping[str, Any]) -> Item:
        """Make an object.

        :raises Refused: it is not as AWX wants it.
        """
        fields = FIELDS[kind]
        missing = [name for name, wanted in fields.items() if "!" in wanted and given.get(name) in (None, "")]
        if missing:
            raise Refused(f"{kind}: required: {', '.join(missing)}")
        empty = {name: _UNSET.get(re.split("[,!]", wanted)[0]) for name, wanted in fields.items()}
        number, self._next = self._next, self._next + 1
        item = {
            **empty,
            "id": number,
            "type": {"inventories": "inventory"}.get(kind, kind.removesuffix("s")),
            "url": f"{_PREFIX}/{kind}/{number}/",
        }
        related = {"survey_spec": f"{item['url']}survey_spec/"} if kind.endswith("job_templates") else {}
        item |= {"related": related, "summary_fields": {}}
        self._set(kind, item, given)
        self.objects[kind][number] = item
        return item

    def change(self, kind: str, number: int, given: Mapping[str, Any]) -> Item:
        """Change an object.

        :raises Refused: it would not be as AWX wants it.
        """
        item = dict(self.find(kind, number))
        self._set(kind, item, given)
        self.objects[kind][number] = item
        return item

    def _set(self, kind: str, item: Item, given: Mapping[str, Any]) -> None:
        for name, value in given.items():
            if name not in FIELDS[kind]:
                if value is None:
                    continue
                raise Refused(f"{kind}: no field {name}")
            self._check(f"{kind}.{name}", FIELDS[kind][name], value)
            item[name] = value
        same = [one for one in self.all(kind) if one["id"] != item["id"] and _identity(one) == _identity(item)]
        if same:
            raise Refused(f"{kind}: there is one of this name")
        check = getattr(self, f"_check_{kind}", None)
        if check:
            check(item)

    def _check(self, what: str, wanted: str, value: Any) -> None:
        kind, _comma, rest = wanted.replace("!", ",").rstrip(",").partition(",")
        if kind.startswith("->"):
            if value is None:
                return
            if not _is(value, int):
                raise Refused(f"{what}: wanted an id, got {value!r}")
            try:
                self.find(kind[2:], value)
            except KeyError:
                raise Refused(f"{what}: Invalid pk {value}") from None
        elif kind == "choice":
            if value not in (None, "", *rest.split(",")):
                raise Refused(f"{what}: {value!r} is not a valid choice")
        elif not _is(value, {"text": str, "bool": bool, "int": int, "object": dict}[kind]):
            raise Refused(f"{what}: wanted {kind}, got {value!r}")

    # What is checked beyond the types

    def _check_credential_types(self, item: Item) -> None:
        """See "Custom credential types" in AWX's user guide."""
        fields = item["inputs"].get("fields", [])
        names = [field["id"] for field in fields]
        for field in fields:
            if set(field) - {"id", "type", "label", "help_text", "secret", "multiline", "format", "choices", "default"}:
                raise Refused(f"inputs: {field}")
            if field.get("type", "string") not in ("string", "boolean"):
                raise Refused(f"inputs: {field['id']}: {field['type']}")
        unknown = set(item["inputs"].get("required", [])) - set(names)
        if unknown or len(set(names)) < len(names):
            raise Refused(f"inputs: {unknown or 'fields must be unique'}")
        files = item["injectors"].get("file", {})
        if set(item["injectors"]) - {"file", "env", "extra_vars"}:
            raise Refused("injectors: wanted file, env and extra_vars")
        if len(files) > 1 and not all(re.fullmatch(r"template\.[A-Za-z_]\w*", name) for name in files):
            raise Refused("injectors: several files are template.NAME each")
        for target, templates in item["injectors"].items():
            for name, text in templates.items():
                tree = jinja2.Environment().parse(text)
                # Files are written before the rest is made.
                known = names if target == "file" else [*names, "tower"]
                unknown = meta.find_undeclared_variables(tree) - set(known)
                wanted = {node.attr for node in tree.find_all(jinja2.nodes.Getattr) if node.attr != "filename"}
                unknown |= wanted - {file.partition(".")[2] for file in files}
                if unknown:
                    raise Refused(f"injectors: {target} {name} uses an undefined field {unknown}")

    def _check_credentials(self, item: Item) -> None:
        inputs = self.find("credential_types", item["credential_type"])["inputs"]
        unknown = set(item["inputs"]) - {field["id"] for field in inputs["fields"]}
        missing = [name for name in inputs.get("required", []) if not item["inputs"].get(name)]
        if unknown or missing:
            raise Refused(f"inputs: unknown {sorted(unknown)}, missing {missing}")

    def _check_projects(self, item: Item) -> None:
        if item["scm_type"] == "git" and not item["scm_url"]:
            raise Refused("scm_url: required for git")

    def _check_inventory_sources(self, item: Item) -> None:
        if item["source"] == "scm" and not item["source_project"]:
            raise Refused("source_project: Project required for scm type sources.")

    def _check_job_templates(self, item: Item) -> None:
        if item["playbook"] not in self.playbooks:
            raise Refused("playbook: Playbook not found for project.")
        if not item["inventory"]:
            raise Refused("inventory: Job Template must provide 'inventory' or allow prompting for it.")
        # It is the project's, whatever was sent.
        item["organization"] = self.find("projects", item["project"])["organization"]

    def _check_schedules(self, item: Item) -> None:
        start, _space, rule = item["rrule"].partition(" ")
        if not re.fullmatch(r"DTSTART(;TZID=[\w/]+)?:\d{8}T\d{6}Z?", start) or not rule.startswith("RRULE:"):
            raise Refused(f"rrule: {item['rrule']}")
        parts = dict(part.split("=") for part in rule.removeprefix("RRULE:").split(";"))
        if parts.get("FREQ") not in ("HOURLY", "DAILY", "WEEKLY", "MONTHLY") or "INTERVAL" not in parts:
            raise Refused("rrule: FREQ and INTERVAL required in rrule")

    # Lists and surveys

    def associate(self, kind: str, number: int, name: str, given: Mapping[str, Any]) -> None:
        """Put an object into a list of another's, or take it out.

        :raises Refused: AWX would not.
        """
        listed = self.lists.setdefault((kind, number, name), [])
        if given.get("disassociate"):
            listed.remove(given["id"])
            return
        try:
            added = self.find(_LISTS[name], given["id"])
        except KeyError:
            raise Refused(f"{name}: no such object {given['id']}") from None
        types = [self.find("credentials", one)["credential_type"] for one in listed] if name == "credentials" else []
        if added.get("credential_type") in types:
            raise Refused("Cannot assign multiple credentials of the same type.")
        if given["id"] not in listed:
            listed.append(given["id"])

    def shown(self, item: Item) -> Item:
        """Return an object as it is shown: without secrets."""
        if item["type"] != "credential":
            return item
        fields = self.find("credential_types", item["credential_type"])["inputs"]["fields"]
        secret = {field["id"] for field in fields if field.get("secret")}
        inputs = {name: _ENCRYPTED if name in secret and value else value for name, value in item["inputs"].items()}
        return {**item, "inputs": inputs}


def _is(value: Any, kind: type) -> bool:
    """Say whether JSON has a value of a type; a boolean is no number."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _identity(item: Item) -> tuple[Any, ...]:
    keys = ("name", "identifier", "organization", "workflow_job_template", "inventory", "credential_type")
    return tuple(item.get(key) for key in keys)


def check_survey(survey: Any) -> None:
    """Check a survey as AWX does before it takes it.

    :raises Refused: it would not.
    """
    if not isinstance(survey, dict):
        raise Refused("survey: wanted an object")
    for key, kind in (("name", str), ("description", str), ("spec", list)):
        if not _is(survey.get(key), kind):
            raise Refused(f"survey: {key} missing, or not {kind.__name__}")
    if not survey["spec"]:
        raise Refused("survey: 'spec' doesn't contain any items.")
    seen: set[str] = set()
    for index, item in enumerate(survey["spec"]):
        where = f"survey question {index}"
        for key, kind in (("question_name", str), ("type", str), ("variable", str), ("required", bool)):
            if not _is(item.get(key), kind):
                raise Refused(f"{where}: {key} missing, or not {kind.__name__}")
        if item["type"] not in QUESTIONS:
            raise Refused(f"{where}: {item['type']} is not one of {', '.join(QUESTIONS)}")
        if not re.fullmatch(r"\w+", item["variable"]) or item["variable"] in seen:
            raise Refused(f"{where}: variable {item['variable']!r} is no name, or there twice")
        seen.add(item["variable"])
        _check_question(where, item)


def _check_question(where: str, item: Item) -> None:
    choices, default = item.get("choices", ""), item.get("default", "")
    listed = choices.splitlines() if isinstance(choices, str) else choices
    if not isinstance(listed, list) or not all(_is(choice, str) for choice in listed):
        raise Refused(f"{where}: choices must be text")
    if item["type"] in ("multiplechoice", "multiselect") and not listed:
        raise Refused(f"{where}: {item['type']} must specify choices")
    for key in ("min", "max"):
        if item.get(key) is not None and type(item[key]) not in (int, float):
            raise Refused(f"{where}: {key} is no number")
    if default in ("", None):
        return
    wanted: dict[str, tuple[type, ...]] = {"integer": (int,), "float": (int, float)}
    if type(default) not in wanted.get(item["type"], (str,)):
        raise Refused(f"{where}: default {default!r} is not of type {item['type']}")
    if item["type"] == "multiplechoice" and default not in listed:
        raise Refused(f"{where}: default {default!r} is none of the choices")


def check_answers(survey: Mapping[str, Any], answers: Mapping[str, Any]) -> None:
    """Check the answers of a launch as AWX does.

    :raises Refused: it would not launch.
    """
    questions = {item["variable"]: item for item in survey["spec"]}
    for name, question in questions.items():
        value = answers.get(name, question.get("default") or None)
        if value in (None, ""):
            if question["required"]:
                raise Refused(f"'{name}' value missing")
            continue
        wanted: dict[str, tuple[type, ...]] = {"integer": (int,), "float": (int, float), "multiselect": (list,)}
        if type(value) not in wanted.get(question["type"], (str,)):
            raise Refused(f"'{name}': value {value!r} expected to be of type {question['type']}")
        low, high = question.get("min"), question.get("max")
        size = len(value) if isinstance(value, (str, list)) else value
        if (low is not None and size < low) or (high is not None and size > high):
            raise Refused(f"'{name}': value {value!r} is too small or too large")
        if question["type"] == "multiplechoice" and value not in question["choices"]:
            raise Refused(f"'{name}': value {value!r} is not one of the choices")


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    state: State
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        given = json.loads(self.rfile.read(length) or b"{}") if length else {}
        self.state.requests.append(f"{self.command} {parts.path}")
        try:
            if not self.headers.get("Authorization", "").startswith(("Bearer ", "Basic ")):
                return self._send(401, {"detail": "Authentication credentials were not provided."})
            self._send(*self._found(parts.path.removeprefix(_PREFIX).strip("/").split("/"), parts.query, given))
        except Refused as exc:
            self._send(400, {"detail": str(exc)})
        except (KeyError, ValueError, StopIteration):
            self._send(404, {"detail": "Not found."})
        return None

    do_GET = do_POST = do_PATCH = do_DELETE = _answer

    def _found(self, path: list[str], query: str, given: Any) -> tuple[int, Any]:
        state, kind = self.state, path[0]
        if kind == "tokens":
            return 201, {"id": 1, "token": "none-is-checked"}
        if len(path) == 1 and self.command == "POST":
            return 201, state.shown(state.create(kind, given))
        if len(path) == 1:
            wanted = dict(parse_qsl(query))
            return 200, _page([state.shown(item) for item in state.all(kind) if _matches(item, wanted)])
        number = int(path[1])
        if len(path) == 2 and self.command == "PATCH":
            return 200, state.shown(state.change(kind, number, given))
        if len(path) == 2:
            return 200, state.shown(state.find(kind, number))
        state.find(kind, number)
        if path[2] == "survey_spec":
            if self.command == "POST":
                check_survey(given)
                state.surveys[number] = given
            return 200, state.surveys.get(number, {})
        if self.command == "POST":
            state.associate(kind, number, path[2], given)
            return 204, None
        listed = state.lists.get((kind, number, path[2]), [])
        return 200, _page([state.shown(state.find(_LISTS[path[2]], one)) for one in listed])

    def _send(self, status: int, value: Any) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", "24.6.1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing of one's own."""


def _page(items: list[Item]) -> Item:
    return {"count": len(items), "next": None, "previous": None, "results": items}


def _matches(item: Item, wanted: Mapping[str, str]) -> bool:
    return all(str(item.get(name)) == value for name, value in wanted.items())


@contextmanager
def served(playbooks: Sequence[str]) -> Iterator[tuple[str, State]]:
    """Serve an AWX on this machine for a while.

    :param playbooks: those that its projects have.
    :returns: its address, and what it keeps.
    """
    state = State(playbooks)
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", state
        finally:
            server.shutdown()
            thread.join()
