# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Building one image: its platforms on their nodes side by side, then, behind the gate, its tags."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .._buildx.cli import Buildx, Version
from .._buildx.progress import StepEvent
from .._buildx.store import Node
from .._core.errors import FarmError
from .._core.parallel import each
from .._core.plan import Step
from .._core.progress import Progress
from .._core.runner import CommandError
from .._key.fetcher import Fetcher
from .._key.inputs import Inputs
from .._key.record import Record
from .._key.sources import Source
from .._platform.platform import Platform, listed
from .command import Build, Built
from .decision import Kept
from .declaration import Image
from .destination import Destination, Location
from .failure import build_error, is_of_the_node, last_line
from .farm import Farm
from .gate import pass_gate, pass_on
from .inputs import sent_as
from .joining import Archive
from .linking import Link
from .order import Bases
from .output import REGISTRY, Output
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
    :ivar link: what others take.
    :ivar fetched: what was fetched for it, with what is needed to compare it later.
    :ivar sent_as: the last part of the path by which its context is sent.
    """

    shares: List[BuiltShare] = field(default_factory=list)
    lost: List[Attempt] = field(default_factory=list)
    archives: List[Archive] = field(default_factory=list)
    link: Optional[Link] = None
    fetched: Tuple[Source, ...] = ()
    sent_as: str = ""

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
    :ivar layouts: the directory of what others take.
    :ivar published: what images stand for, by their positions, as buildx takes it for a context.
    """

    buildx: Buildx
    farm: Farm
    on_nodes: Mapping[str, str]
    slots: Slots
    watch: Watch
    progress: Progress
    fetcher: Fetcher
    layouts: str
    results: Dict[int, Result] = field(default_factory=dict)
    published: Dict[int, str] = field(default_factory=dict)

    def sent_as(self, image: Image, inputs: Mapping[Location, Inputs]) -> str:
        """Return the last part of the path by which an image's context is sent, empty where it is no directory."""
        if image.is_remote or not inputs:
            return ""
        return sent_as(image, next(iter(inputs.values())), str(self.farm.store.directory / "buildfarm" / "sent"))


@dataclass(frozen=True)
class BuildImage(Step[World]):
    """Build an image.

    :ivar number: its position in the list.
    :ivar builder: the builder's name.
    :ivar orders: the nodes for each platform; empty where buildx chooses them, and moves the tags itself.
    :ivar shares: the platforms by the runs of buildx that build them.
    :ivar bases: the images of the list that it is built from.
    :ivar placed: the nodes that buildx chooses, as far as they are known.
    :ivar inputs: what its results are made of.
    :ivar kept: what the image takes over from an earlier build.
    :ivar exported: whether others take its result from a layout.
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
    inputs: Mapping[Location, Inputs] = field(default_factory=dict)
    kept: Optional[Kept] = None
    exported: bool = False

    @property
    def nodes(self) -> Tuple[str, ...]:
        """The names of the nodes that take part, as far as they are known."""
        chosen = [self._first(share) for share in self.shares] if self.orders else []
        return tuple(dict.fromkeys(chosen + [node.name for node in self.placed.values() if node]))

    @property
    def is_gated(self) -> bool:
        """Whether the tags are written after the builds, and not by buildx."""
        return bool(self.orders) and self.image.is_pushed

    @property
    def is_annotated(self) -> bool:
        """Whether what the tags stand for holds the record of the build."""
        return self.is_gated and not self.image.has_docker_types

    @property
    def joined(self) -> Tuple[Output, ...]:
        """The image archives that are made here: of the shares of several nodes, or with an index as the tags' own."""
        options = self.image.options
        has_own_index = self.is_gated and (options.index_annotations or options.descriptor_annotations)
        if len(self.shares) < 2 and not has_own_index:
            return ()
        return tuple(output for output in self.image.outputs if output.type == "oci")

    @property
    def actions(self) -> List[List[str]]:
        """The runs of buildx, each on its first choice of a node, and the tags and archives that are written after."""
        runs = [self.build(share).action(self._first(share)) for share in self.shares]
        names = _named(self.image) if self.is_gated else []
        return runs + names + [["join", output.dest] for output in self.joined]

    def apply(self, world: World) -> None:
        """Build the image, and store in ``world`` what was built where.

        :raises FarmError: a build failed by its own fault, none of its nodes is left, what was built is not as
            declared, or a tag could not be moved.
        """
        result = world.results.setdefault(self.number, Result())
        result.sent_as = world.sent_as(self.image, self.inputs)
        with ExitStack() as stack:
            result.archives += [Archive.of(stack, output) for output in self.joined]
            result.link = Link.of(world.layouts) if self.exported else None
            for shares in each(self.shares, lambda share: self._built(share, world, result)):
                result.shares += shares
            if self.inputs or result.link:
                result.fetched = self._fetched(world)
            for archive in result.archives:
                archive.join(self.image, [share.parts[archive.output.dest] for share in result.shares])
            if self.is_gated:
                nodes = {platform: share.node for share in result.shares for platform in share.platforms}
                digests = [share.built.digest for share in result.shares]
                pass_gate(self.image, world.farm, digests, nodes, self.kept, self._recorder(result))
            for archive in result.archives:
                archive.install()
            if result.link:
                parts = [share.parts[result.link.path] for share in result.shares]
                world.published[self.number] = result.link.join(self.image, parts)

    def built_on(self, world: World) -> Dict[Platform, Optional[Node]]:
        """Return the node that built each platform, as far as it is known."""
        found = dict(self.placed)
        for share in world.results[self.number].shares if self.orders else ():
            found.update(dict.fromkeys(share.platforms, world.farm.node(share.node)))
        return found

    def _fetched(self, world: World) -> Tuple[Source, ...]:
        """Return what was fetched for the image, with what is needed to compare it later."""
        built = [source for share in world.results[self.number].shares for source in share.built.sources]
        built += self._sources_of_links(world)
        return world.fetcher.completed(dict.fromkeys(built)) + (_sources(self.kept) if self.kept else ())

    def _sources_of_links(self, world: World) -> List[Source]:
        """Return what was fetched for the images whose results were taken, which are in no registry."""
        targets = tuple(map(str, self.image.platforms))
        results = [world.results[base] for base in sorted(set(self.bases.values())) if base in world.results]
        return [replace(source, targets=targets) for result in results if result.link for source in result.fetched]

    def _recorder(self, result: Result) -> Callable[[Mapping[str, str]], Record]:
        inputs = self.inputs[Location(REGISTRY, self.image.tags[0])]
        return lambda images: Record.of(inputs, result.fetched, images)

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
                return [self._run(share, world, node, f"for {listed(share)} on node {node!r}")]
        except NodeLost as exc:
            result.lost.append(exc.attempt)
            where = f"{self.image.short_name} {listed(share)}@{exc.attempt.node}"
            world.progress.report(f"{where} LOST: {exc.attempt.reason}")
            if len(lost) == _AGAIN:
                raise self._lost(share, (*lost, exc.attempt.node), exc) from exc
            return self._built(share, world, result, (*lost, exc.attempt.node))
        except NoNodeLeft as exc:
            returned = world.farm.returned(nodes)
            for node in returned:
                world.slots.regain(node)
            if returned:
                return self._built(share, world, result, lost)
            names = ", ".join(repr(name) for name in nodes)
            gone = f"{names} went away or were drained"
            raise FarmError(f"no node is left that could build {listed(share)}: {gone}") from exc

    def _lost(self, share: Share, lost: Sequence[str], last: NodeLost) -> FarmError:
        """Return the error for a share that as many nodes as may have not finished."""
        return FarmError(
            f"building {self.image.context} for {listed(share)} failed: the node that built it went away {len(lost)}"
            f" times ({', '.join(lost)}; {last.attempt.reason}), as where engines are restarted one after the other;"
            " run it again",
            **last.error.details,
        )

    def _run(self, share: Share, world: World, node: str, where: str) -> BuiltShare:
        """Build a share.

        :param node: its name, empty where buildx chooses it.
        :param where: it is built, for messages.
        :raises NodeLost: the node went away.
        :raises FarmError: the build failed.
        """
        done = world.published
        bases = {name: done[position] for name, position in self.bases.items() if position in done}
        build, environment = self.build(share), world.on_nodes if node else {}
        result = world.results[self.number]
        parts = {archive.output.dest: archive.new_part() for archive in result.archives}
        if result.link:
            build = replace(build, outputs=(result.link.output, *build.outputs))
            parts[result.link.path] = result.link.new_part()
        try:
            with world.watch.listed(node) as started:
                report = self._reporter(world, share, node)
                name = node or self.builder
                built = build.run(world.buildx, name, bases, environment, report, started, parts, result.sent_as)
                return BuiltShare(node, share, built, parts)
        except CommandError as exc:
            error = build_error(exc, self.image, where, build.action(node or self.builder))
            if node and self._is_of(node, exc, world):
                raise NodeLost(Attempt(node, share, self.image.options.hide(last_line(exc))), error) from exc
            raise error from exc

    def _reporter(self, world: World, share: Share, node: str) -> Callable[[StepEvent], None]:
        """Return what reports the steps of a share with the image, the platform and the node that they are of."""
        name = self.image.short_name

        def report(event: StepEvent) -> None:
            platform = event.platform or listed(share)
            where = f"{platform}@{node}" if node else platform
            how = world.farm.how(node, [one for one in share if str(one) == event.platform] or share)
            world.progress.report(" ".join(filter(None, (name, where, how, str(event)))))

        return report

    @staticmethod
    def _is_of(node: str, error: CommandError, world: World) -> bool:
        """Return whether a build failed because its node went away, which then gets no more builds."""
        if world.farm.unanswering([node]):
            world.slots.lose(node)
            return True
        return is_of_the_node(error.result.stderr)


@dataclass(frozen=True)
class PassOn(Step[World]):
    """Let all tags of an image stand for what one of them stands for, or for some platforms of it.

    :ivar kept: what they are to stand for.
    """

    image: Image
    kept: Kept

    @property
    def actions(self) -> List[List[str]]:
        """The tags and copies that are written, where they do not stand for it already."""
        return _named(self.image)

    def apply(self, world: World) -> None:
        """Write the tags.

        :raises FarmError: a tag could not be moved.
        """
        kept = replace(self.kept.record, sources=_sources(self.kept))
        pass_on(self.image, world.farm, self.kept, lambda images: replace(kept, images=images))


def _named(image: Image) -> List[List[str]]:
    """Return what is reported of giving an image its names."""
    tags = [["push", str(tag)] for tag in image.references]
    return tags + [["copy", str(name)] for name in image.copy_references]


def _sources(kept: Kept) -> Tuple[Source, ...]:
    """Return what was fetched for the platforms that are taken over."""
    wanted = [str(platform) for platform in kept.platforms]
    found = [
        replace(source, targets=tuple(target for target in source.targets if target in wanted))
        for source in kept.record.sources
    ]
    return tuple(source for source in found if source.targets)
