# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Building one image: its platforms on their nodes side by side, then, behind the gate, its tags."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .._buildx.cli import Buildx, Version
from .._buildx.progress import StepEvent
from .._buildx.store import Node
from .._core.errors import FarmError
from .._core.parallel import each
from .._core.plan import Step
from .._core.progress import Progress
from .._core.runner import CommandError
from .._platform.platform import Platform
from .command import Build, Built
from .declaration import Image
from .destination import Destination
from .failure import build_error, is_of_the_node, last_line
from .farm import Farm
from .gate import pass_gate
from .joining import Archive
from .order import Bases
from .output import Output
from .schedule import NoNodeLeft, Slots
from .shares import Orders, Share, common_nodes
from .watch import Watch

#: How often platforms are built again on another node.
_AGAIN = 2


@dataclass(frozen=True)
class Attempt:
    """A build that a node did not finish.

    :ivar reason: what buildx printed last.
    """

    node: str
    platforms: Share
    reason: str

    def as_dict(self) -> Dict[str, Any]:
        """Return the values as JSON types."""
        return {"node": self.node, "platforms": [str(one) for one in self.platforms], "reason": self.reason}


class NodeLost(Exception):
    """A node went away while it built.

    :param error: what is raised where no other node may try.
    """

    def __init__(self, attempt: Attempt, error: FarmError) -> None:
        super().__init__(error.message)
        self.attempt = attempt
        self.error = error


@dataclass(frozen=True)
class BuiltShare:
    """What one node built.

    :ivar node: its name, empty where buildx chose the nodes.
    :ivar parts: its parts of the archives that are joined, by their destinations.
    """

    node: str
    platforms: Share
    built: Built
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Result:
    """What became of an image.

    :ivar lost: the attempts that ended with their nodes.
    :ivar archives: those that are joined of the shares.
    """

    shares: List[BuiltShare] = field(default_factory=list)
    lost: List[Attempt] = field(default_factory=list)
    archives: List[Archive] = field(default_factory=list)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What buildx wrote about the image; by the nodes' names where several built it."""
        if len(self.shares) == 1:
            return self.shares[0].built.metadata
        return {share.node: share.built.metadata for share in self.shares}


@dataclass
class World:
    """What images are built with.

    :ivar on_nodes: environment of the buildx for which each node is a builder.
    :ivar results: by the positions of the images in the list.
    :ivar published: what they stand for by digest, likewise.
    """

    buildx: Buildx
    farm: Farm
    on_nodes: Mapping[str, str]
    slots: Slots
    watch: Watch
    progress: Progress
    results: Dict[int, Result] = field(default_factory=dict)
    published: Dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildImage(Step[World]):
    """Build an image.

    :ivar number: its position in the list.
    :ivar builder: the builder's name.
    :ivar orders: the nodes for each platform; empty where buildx chooses them, and moves the tags itself.
    :ivar shares: the platforms by the runs of buildx that build them.
    :ivar bases: the images of the list that it is built from.
    :ivar placed: the nodes that buildx chooses, as far as they are known.
    """

    image: Image
    number: int
    builder: str
    version: Version
    destinations: Tuple[Destination, ...]
    orders: Orders
    shares: Tuple[Share, ...]
    bases: Bases
    placed: Mapping[Platform, Optional[Node]] = field(default_factory=dict)

    @property
    def nodes(self) -> Tuple[str, ...]:
        """The names of the nodes that take part, as far as they are known."""
        chosen = [self._first(share) for share in self.shares] if self.orders else []
        return tuple(dict.fromkeys(chosen + [node.name for node in self.placed.values() if node]))

    @property
    def is_gated(self) -> bool:
        """Whether the tags are written after the builds, and not by buildx."""
        return bool(self.orders) and any(output.pushes for output in self.image.outputs)

    @property
    def joined(self) -> Tuple[Output, ...]:
        """The image archives that the shares of several nodes are joined in."""
        return tuple(output for output in self.image.outputs if output.type == "oci") if len(self.shares) > 1 else ()

    @property
    def actions(self) -> List[List[str]]:
        """The runs of buildx, each on its first choice of a node, and the tags and archives that are written after."""
        runs = [self.build(share).action(self._first(share)) for share in self.shares]
        tags = [["push", str(tag)] for tag in self.image.references] if self.is_gated else []
        copies = [["copy", str(name)] for name in self.image.copy_references]
        return runs + tags + copies + [["join", output.dest] for output in self.joined]

    def apply(self, world: World) -> None:
        """Build the image, and store in ``world`` what was built where.

        :raises FarmError: a build failed by its own fault, none of its nodes is left, what was built is not as
            declared, or a tag could not be moved.
        """
        result = world.results.setdefault(self.number, Result())
        with ExitStack() as stack:
            result.archives += [Archive.of(stack, output) for output in self.joined]
            for shares in each(self.shares, lambda share: self._built(share, world, result)):
                result.shares += shares
            for archive in result.archives:
                archive.join(self.image, [share.parts[archive.output.dest] for share in result.shares])
            if self.is_gated:
                nodes = {platform: share.node for share in result.shares for platform in share.platforms}
                pass_gate(self.image, world.farm, [share.built.digest for share in result.shares], nodes)
            for archive in result.archives:
                archive.install()

    def built_on(self, world: World) -> Dict[Platform, Optional[Node]]:
        """Return the node that built each platform, as far as it is known."""
        found = dict(self.placed)
        for share in world.results[self.number].shares if self.orders else ():
            found.update(dict.fromkeys(share.platforms, world.farm.node(share.node)))
        return found

    def build(self, share: Share) -> Build:
        """Return the run of buildx that builds a share."""
        outputs: Sequence[Output] = self.image.outputs
        named_later = self.is_gated or bool(self.joined)
        if named_later:
            # The image's own result comes last, as buildx's metadata is that of the last output.
            ordered = sorted(outputs, key=lambda output: output.pushes)
            outputs = [self._part(output) for output in ordered]
        if len(self.image.platforms) > 1 and len(share) == 1:
            outputs = [output.below(share[0]) for output in outputs]
        return Build(self.image, share, self.version, tuple(outputs), () if named_later else self.image.tags)

    def _part(self, output: Output) -> Output:
        part = output.by_digest(self.image.tags, self.image.repositories)
        return part.as_part() if output in self.joined else part

    def _first(self, share: Share) -> str:
        return common_nodes(share, self.orders)[0] if self.orders else self.builder

    def _built(self, share: Share, world: World, result: Result, lost: Tuple[str, ...] = ()) -> List[BuiltShare]:
        """Build a share on the first of its nodes that does not go away meanwhile.

        :param lost: the nodes that went away while they built it.
        :raises FarmError: the build failed, or no node is left.
        """
        if not self.orders:
            return [self._run(share, world, "", f"with builder {self.builder!r}")]
        nodes = common_nodes(share, self.orders)
        left = tuple(node for node in nodes if node not in lost)
        if not left and len(share) > 1:
            # No other node may build all of them, but each may have one of its own.
            parts = each(share, lambda platform: self._built((platform,), world, result, lost))
            return [one for part in parts for one in part]
        # The only one may have come back, as an engine does that was upgraded.
        nodes = left or nodes
        try:
            with world.slots.taken(nodes) as node:
                return [self._run(share, world, node, f"for {_join(share)} on node {node!r}")]
        except NodeLost as exc:
            result.lost.append(exc.attempt)
            where = f"{self.image.short_name} {_join(share)}@{exc.attempt.node}"
            world.progress.report(f"{where} LOST: {exc.attempt.reason}")
            if len(lost) == _AGAIN:
                raise exc.error from exc
            return self._built(share, world, result, (*lost, exc.attempt.node))
        except NoNodeLeft as exc:
            names = ", ".join(repr(name) for name in nodes)
            raise FarmError(f"no node is left that could build {_join(share)}: {names} went away") from exc

    def _run(self, share: Share, world: World, node: str, where: str) -> BuiltShare:
        """Build a share.

        :param node: its name, empty where buildx chooses it.
        :param where: it is built, for messages.
        :raises NodeLost: the node went away.
        :raises FarmError: the build failed.
        """
        bases = {name: world.published[position] for name, position in self.bases.items() if position in world.published}
        build, environment = self.build(share), world.on_nodes if node else {}
        parts = {archive.output.dest: archive.new_part() for archive in world.results[self.number].archives}
        try:
            with world.watch.listed(node) as started:
                report = self._reporter(world, share, node)
                built = build.run(world.buildx, node or self.builder, bases, environment, report, started, parts)
                return BuiltShare(node, share, built, parts)
        except CommandError as exc:
            error = build_error(exc, self.image, where, build.action(node or self.builder))
            if node and self._is_of(node, exc, world):
                raise NodeLost(Attempt(node, share, last_line(exc)), error) from exc
            raise error from exc

    def _reporter(self, world: World, share: Share, node: str) -> Callable[[StepEvent], None]:
        """Return what reports the steps of a share with the image, the platform and the node that they are of."""
        name = self.image.short_name

        def report(event: StepEvent) -> None:
            platform = event.platform or _join(share)
            where = f"{platform}@{node}" if node else platform
            world.progress.report(" ".join(filter(None, (name, where, world.farm.how(node, share), str(event)))))

        return report

    @staticmethod
    def _is_of(node: str, error: CommandError, world: World) -> bool:
        """Return whether a build failed because its node went away, which then gets no more builds."""
        if world.farm.unanswering([node]):
            world.slots.lose(node)
            return True
        return is_of_the_node(error.result.stderr)


def _join(share: Share) -> str:
    return ", ".join(str(platform) for platform in share)
