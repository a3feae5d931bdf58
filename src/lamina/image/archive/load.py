"""load: an archive of images comes in, from a file or as a stream, and nothing it says is believed before it is checked.

A stream is read once: each member that can be a layer goes into a stage job as it arrives, before manifest.json, which
comes last, has told what it is. Of a file only the headers and documents are read, then the layers that are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from lamina.image.archive import outer, plan
from lamina.image.archive.outer import OuterMember
from lamina.image.archive.plan import ArchivedImage
from lamina.image.archive.source import Source, StageJob, stage
from lamina.image.layers import Layers
from lamina.image.model import Image, InvalidArchive, LayerFacts, LayerNote
from lamina.image.tarbytes import compression_of
from lamina.snapshot.protocol import Staged, TarSource
from lamina.spec.chain import chain_ids
from lamina.spec.config import LIMIT, History, ImageConfig
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, Update

_DOCUMENTS_LIMIT = 256 << 20
_LINKS_LIMIT = 40
_LAYER_NAMES = (".tar", ".tar.gz", ".tgz")
Create = Callable[[ArchivedImage, list[LayerFacts]], Image]


@dataclass(slots=True)
class _Contents:
    """What was found in an archive, by member. `parts` are layers in a file: (offset, length); `staged` those of a stream."""

    documents: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    staged: dict[str, Callable[[], Staged]] = field(default_factory=dict)

    def name(self, member: str) -> str:
        """The member that a name leads to, through links inside the archive."""
        for _ in range(_LINKS_LIMIT):
            if member not in self.links:
                return member
            member = self.links[member]
        raise InvalidArchive(f"the archive has a loop of links at {member[:200]!r}")

    def document(self, member: str) -> bytes:
        try:
            return self.documents[self.name(member)]
        except KeyError:
            raise InvalidArchive(f"the archive lacks {member[:200]!r}") from None


class Loader:
    """One load. `create` makes an image of what was checked."""

    def __init__(self, layers: Layers, create: Create, platform: Platform, sink: Sink) -> None:
        self._layers, self._create, self._platform, self._sink = layers, create, platform, sink

    def load(self, given: int | BinaryIO, scratch: str) -> list[Image]:
        """Bring all images of the archive here.

        Raises:
            InvalidArchive, Corrupt, Exhausted: no image was made and no layer registered.
        """
        source = Source(given)
        contents = _Contents()
        try:
            self._read(source, contents, scratch)
            images = self._planned(contents)
            staged = self._stage(images, source, contents, scratch)
            for image in images:
                self._check(image, contents, staged)
            return [self._create(image, self._register(image, contents, staged)) for image in images]
        finally:
            self._finish(contents)

    def _read(self, source: Source, contents: _Contents, scratch: str) -> None:
        """Take in all members: documents are kept, layers noted or staged."""
        kept = 0
        for member in outer.members(source):
            if member.kind in ("symlink", "hardlink"):
                contents.links[member.name] = _target(member)
            elif member.kind != "file":
                source.skip(member.size)
            elif _is_document(member, source):
                kept += member.size
                if kept > _DOCUMENTS_LIMIT:
                    raise InvalidArchive(f"the archive has more than {_DOCUMENTS_LIMIT} bytes of documents")
                contents.documents[member.name] = source.read(member.size)
            elif source.part_fd is not None:
                contents.parts[member.name] = (source.position, member.size)
                source.skip(member.size)
            else:
                self._take_layer(member, source, contents, scratch)
        # What a writer pads with: a pipe must be read to its end, or who fills it fails.
        if source.part_fd is None:
            while source.peek(1):
                source.read(len(source.peek(1 << 16)))

    def _take_layer(self, member: OuterMember, source: Source, contents: _Contents, scratch: str) -> None:
        if member.name in contents.staged:
            raise InvalidArchive(f"the archive has {member.name[:200]!r} twice")
        contents.staged[member.name] = stage(self._layers, source, member.size, scratch, self._progress(member.name, member.size))

    def _planned(self, contents: _Contents) -> list[ArchivedImage]:
        if "manifest.json" in contents.documents:
            images = plan.from_manifest(contents.documents["manifest.json"], contents.document)
        elif "index.json" in contents.documents:
            images = plan.from_layout(contents.documents["index.json"], contents.document, self._platform)
        else:
            raise InvalidArchive("the archive has neither manifest.json nor index.json", hint="a root file system is brought in by import")
        if not images:
            raise InvalidArchive(f"the archive has no image for {self._platform}")
        return images

    def _stage(self, images: list[ArchivedImage], source: Source, contents: _Contents, scratch: str) -> dict[str, Staged]:
        """Wait for what a stream brought, and stage what of a file is needed and not here; by member."""
        wanted = {contents.name(member) for image in images for member in self._missing(image)}
        jobs = {member: job for member, job in contents.staged.items() if member in wanted}
        for member in sorted(wanted & contents.parts.keys(), key=lambda name: contents.parts[name]):
            offset, size = contents.parts[member]
            assert source.part_fd is not None
            job = StageJob(self._layers, scratch, self._progress(member, size))
            job.start(TarSource(source.part_fd, offset, size))
            jobs[member] = contents.staged[member] = job.result
        return {member: job() for member, job in jobs.items()}

    def _missing(self, image: ArchivedImage) -> list[str]:
        chain = chain_ids(image.config.diff_ids)
        parents = (None, *chain[:-1])
        pairs = zip(parents, image.config.diff_ids, image.members, strict=False)
        return [member for parent, diff_id, member in pairs if self._layers.find(parent, diff_id) is None]

    def _check(self, image: ArchivedImage, contents: _Contents, staged: dict[str, Staged]) -> None:
        missing = set(self._missing(image))
        for diff_id, member in zip(image.config.diff_ids, image.members, strict=True):
            if member not in missing:
                continue
            found = staged.get(contents.name(member))
            if found is None:
                raise InvalidArchive(f"the archive lacks the layer {member[:200]!r}")
            if found.diff_id != diff_id:
                raise InvalidArchive(f"layer {member[:200]!r} of the archive is {found.diff_id}, but the image was made with {diff_id}")

    def _register(self, image: ArchivedImage, contents: _Contents, staged: dict[str, Staged]) -> list[LayerFacts]:
        done: list[LayerFacts] = []
        for diff_id, member, note in zip(image.config.diff_ids, image.members, notes(image.config), strict=True):
            parent = done[-1].id if done else None
            facts = self._layers.find(parent, diff_id) or self._layers.reuse(parent, diff_id, note)
            done.append(facts or self._layers.register(staged[contents.name(member)], parent, note))
        return done

    def _progress(self, member: str, size: int) -> Callable[[int], None]:
        shown = _short(member)

        def report(done: int) -> None:
            self._sink(Update(status="Loading layer", id=shown, current=done, total=size))

        return report

    def _finish(self, contents: _Contents) -> None:
        """No job outlives the load: its scratch directory goes."""
        for job in contents.staged.values():
            with suppress(Exception):
                job()


def notes(config: ImageConfig) -> list[LayerNote]:
    """What the history says of each layer, base first; as many as there are layers."""
    steps = [step for step in config.history if not step.empty_layer]
    steps += [History(created=config.created)] * (len(config.rootfs.diff_ids) - len(steps))
    return [LayerNote(step.created, step.created_by, instruction(step.created_by)) for step in steps[: len(config.rootfs.diff_ids)]]


def instruction(created_by: str) -> str:
    """The Dockerfile's instruction that a history entry's `created_by` tells of, as far as it can be told."""
    text = created_by.removesuffix(" # buildkit").strip()
    shell, nop, rest = text.partition("#(nop)")
    if nop and shell.startswith("/bin/sh -c"):
        return rest.strip()
    if text.startswith("/bin/sh -c "):
        return "RUN " + text.removeprefix("/bin/sh -c ")
    return text


def _is_document(member: OuterMember, source: Source) -> bool:
    """Whether a member is JSON or text rather than a layer: a layer's name ends in .tar, or its first bytes are a tar's."""
    if member.name.endswith(_LAYER_NAMES) or member.size > LIMIT:
        return False
    head = source.peek(min(member.size, outer.BLOCK))
    return not (compression_of(head) or head[257:262] == b"ustar" or (len(head) == outer.BLOCK and not any(head)))


def _target(member: OuterMember) -> str:
    if member.kind == "hardlink":
        return outer.cleaned(member.target)
    directory = member.name.rpartition("/")[0]
    return outer.cleaned(member.target if member.target.startswith("/") else f"{directory}/{member.target}")


def _short(member: str) -> str:
    """A layer's short ID as far as its member's name gives one."""
    parts = [part.removesuffix(".tar") for part in member.split("/") if part != "layer.tar"]
    return (parts or [member])[-1][:12]
