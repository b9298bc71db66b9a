# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Ansible machine's part of C(buildx_build): finds sources and sends what is built of them, and shows the build."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from ansible.module_utils.common.validation import check_type_bool
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.apply import find_source
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.ignore import spelled
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.sources import Sources
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.folders import source_folders
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.live import LiveAction

_SEND = "buildfarm.multiarch.build_context"


@dataclass(frozen=True)
class Sourced:
    """An image whose sources are on the Ansible machine.

    :ivar options: of the image in the task; what the module gets is written into them.
    :ivar position: of the image among the module's results.
    """

    options: Dict[str, Any]
    position: int
    source: str
    force: bool

    @property
    def context(self) -> str:
        """The directory on the controller."""
        return str(self.options["context"]).rstrip("/")

    @property
    def dockerfile(self) -> Optional[str]:
        """The Dockerfile's path in the source, or absolute where it is elsewhere; None where it is in no file."""
        if self.options.get("dockerfile_inline"):
            return None
        named = str(self.options.get("file") or "")
        if named:
            return named[len(self.context) + 1 :] if named.startswith(f"{self.context}/") else named
        return spelled(self.source, "Dockerfile")

    @property
    def has_contexts(self) -> bool:
        """Whether directories in the source may be further contexts, which no rule of the source's is for."""
        return bool(self.options.get("contexts"))

    @property
    def is_told_there(self) -> bool:
        """Whether only the controller has all that the image is made of."""
        return self.has_contexts or (self.dockerfile or "").startswith("/")

    def read(self) -> Sources:
        """Return what a build would be sent, as ``build_context`` sends it.

        :raises FarmError: it cannot be read.
        """
        file = None if self.dockerfile is None else os.path.join(self.source, self.dockerfile)
        return Sources.read(self.source, file, every_xattr=False)


def _is_forced(value: Any) -> bool:
    """Return the option ``force``, which may be a text, as variables of the command line are.

    :raises FarmError: it is neither true nor false.
    """
    try:
        return value not in (None, "") and bool(check_type_bool(value))
    except TypeError as exc:
        raise FarmError(f"force {value!r}: wanted true or false") from exc


def _refuse_mixed(sourced: Sequence[Sourced]) -> None:
    """Refuse sources that would overwrite each other in one context.

    :raises FarmError: there are such.
    """
    sources: Dict[str, str] = {}
    for one in sourced:
        first = sources.setdefault(one.context, one.source)
        if os.path.realpath(first) != os.path.realpath(one.source):
            raise FarmError(
                f"images: {first} and {one.source} are sources of one context, {one.context!r}; wanted a context for"
                " each source"
            )


class ActionModule(LiveAction):
    """Ansible's entry point."""

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Return the task's result."""
        variables = task_vars or {}
        try:
            sourced = self._sourced(variables)
            if not sourced:
                result: Dict[str, Any] = super().run(tmp, task_vars)
                return result
            return self._sent_and_built(sourced, tmp, variables)
        except FarmError as exc:
            return {"failed": True, "msg": exc.message, **exc.details}

    def _sourced(self, variables: Mapping[str, Any]) -> List[Sourced]:
        """Return the images that have a source; those of a controller that is the Ansible machine are built from that.

        :raises FarmError: a source is nowhere, or two would overwrite each other.
        """
        images = self._task.args.get("images")
        if isinstance(images, list) and not all(isinstance(image, Mapping) for image in images):
            return []  # The module says so.
        options = [dict(image) for image in images] if isinstance(images, list) else [dict(self._task.args)]
        found: List[Sourced] = []
        for position, image in enumerate(options):
            source, force = image.pop("source", None), image.pop("force", False)
            if not source:
                continue
            path = find_source(str(source), source_folders(self, variables))
            if self._connection.transport == "local":
                image["context"] = path
            elif not image.get("context"):
                raise FarmError(f"source {source}: context is missing; wanted the directory on the controller for it")
            else:
                found.append(Sourced(image, position, path, _is_forced(force)))
        _refuse_mixed(found)
        self._task.args = {**self._task.args, "images": options} if isinstance(images, list) else options[0]
        return found

    def _sent_and_built(self, sourced: List[Sourced], tmp: Optional[str], variables: Dict[str, Any]) -> Dict[str, Any]:
        """Send the sources of what is to be built, and build.

        :raises FarmError: a source cannot be read.
        """
        sent_first = [one for one in sourced if self._task.async_val or one.is_told_there]
        failed = self._send(sent_first, sourced, variables)
        if failed:
            return failed
        told = [one for one in sourced if one not in sent_first]
        if told:
            for one in told:
                one.options["sources"] = one.read().as_dict()
            with self._in_check_mode():
                decided: Dict[str, Any] = super().run(tmp, variables)
            done = not any(image["built"] or image["reasons"] for image in decided.get("images", ()))
            if decided.get("failed") or self._task.check_mode or done:
                return decided
            wanted = [one for one in told if decided["images"][one.position]["built"]]
            for one in wanted:
                del one.options["sources"]
            failed = self._send(wanted, sourced, variables)
            if failed:
                return failed
        result: Dict[str, Any] = super().run(tmp, variables)
        return result

    def _send(
        self, wanted: Sequence[Sourced], sourced: Sequence[Sourced], variables: Dict[str, Any]
    ) -> Optional[Dict[str, Any]]:
        """Make contexts what their sources are; returns the first failure.

        :param sourced: all images of the task that have sources, several of which may be built of one context.
        """
        for context in dict.fromkeys(one.context for one in wanted):
            together = [one for one in sourced if one.context == context]
            options = {
                "src": together[0].source,
                "dest": context,
                "force": any(one.force for one in together),
                "dockerfiles": list(dict.fromkeys(one.dockerfile for one in together if one.dockerfile)),
                "send_ignored": any(one.has_contexts for one in together),
            }
            sent = self._run_action(options, variables)
            if sent.get("failed"):
                return sent
        return None

    def _run_action(self, options: Dict[str, Any], variables: Dict[str, Any]) -> Dict[str, Any]:
        task = self._task.copy()
        task.args, task.async_val = options, 0
        action = self._shared_loader_obj.action_loader.get(
            _SEND,
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        try:
            result: Dict[str, Any] = action.run(task_vars=variables)
            return result
        finally:
            action.cleanup()

    @contextlib.contextmanager
    def _in_check_mode(self) -> Iterator[None]:
        check_mode = self._task.check_mode
        self._task.check_mode = True
        try:
            yield
        finally:
            self._task.check_mode = check_mode
