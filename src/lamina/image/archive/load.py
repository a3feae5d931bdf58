"""load: an archive of images comes in, from a file, a directory or as a stream, and nothing it says is believed before it is checked.

A stream is read once: each member that can be a layer goes into a stage job as it arrives, before the document that comes
last has told what it is. Of a file only the headers and documents are read, then the layers that are not here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from lamina.content.store import ContentStore
from lamina.image.archive import old, plan
from lamina.image.archive.contents import Contents, Part, open_file, read, read_directory
from lamina.image.archive.outer import OuterMember
from lamina.image.archive.pieces import copy_file
from lamina.image.archive.plan import Archived, ArchivedImage
from lamina.image.archive.source import Given, Source, StageJob, stage
from lamina.image.history import notes
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.model import Image, InvalidArchive, LayerFacts
from lamina.image.tarbytes import compression_of
from lamina.snapshot.protocol import Staged, TarSource
from lamina.spec import mediatype, v1image
from lamina.spec.chain import chain_ids
from lamina.spec.config import InvalidConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, Update

_AT_ONCE = 8
"""Layers that are staged at once: more than there are workers anywhere small, far fewer than an archive may name."""

Create = Callable[[Archived, list[list[LayerFacts]]], Image]
"""Makes the images of what was checked, whose layers are given for each; the one that the names point to."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where an archive's bytes go."""

    layers: Layers
    content: ContentStore
    leases: Leases


@dataclass(slots=True)
class _Job:
    """A layer on its way in. `spool` is a copy of the bytes as they came, where they may have to be kept as a blob."""

    result: Callable[[], Staged]
    spool: str = ""


@dataclass(slots=True)
class _Arrivals:
    """The layers that are being staged, by member."""

    scratch: str
    jobs: dict[str, _Job] = field(default_factory=dict)
    spools: int = 0
    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_AT_ONCE))

    def spool(self) -> str:
        """The path of a new file for a layer's bytes."""
        self.spools += 1
        return f"{self.scratch}/spool{self.spools}"

    def finish(self) -> None:
        """No job outlives the load: its scratch directory goes."""
        for job in self.jobs.values():
            with suppress(Exception):
                job.result()


class Loader:
    """One load. `create` makes images of what was checked; `wanted` is the platform that names point to, `only`: no other comes."""

    def __init__(self, store: Store, create: Create, wanted: Platform, sink: Sink, *, only: bool = False) -> None:
        self._store, self._create, self._wanted, self._sink, self._only = store, create, wanted, sink, only
        self._layers = store.layers

    def load(self, given: Given | str, scratch: str) -> list[Image]:
        """Bring all images of the archive here: as `Source` takes it, or the path of a directory.

        Raises:
            InvalidArchive, Corrupt, Exhausted: no image was made and no layer registered.
        """
        contents, arrivals = Contents(), _Arrivals(scratch)
        try:
            if isinstance(given, str):
                read_directory(given, contents)
            else:
                with Source(given) as source:
                    read(source, contents, lambda member: self._take(member, source, arrivals))
            found, staged = self._planned(contents, arrivals)
            for archived in found:
                for image in archived.images:
                    self._check(image, contents, staged)
            return [
                self._create(archived, [self._register(image, contents, arrivals, staged) for image in archived.images])
                for archived in found
            ]
        finally:
            arrivals.finish()

    def _take(self, member: OuterMember, source: Source, arrivals: _Arrivals) -> None:
        """Take a layer out of a stream. A compressed blob of an OCI layout is kept as it is: its manifest names those bytes."""
        progress = self._progress(member.name, member.size)
        if not (member.name.startswith("blobs/") and compression_of(source.peek(min(member.size, 6)))):
            arrivals.jobs[member.name] = _Job(stage(self._layers, source, member.size, arrivals.scratch, progress, gate=arrivals.gate))
            return
        path = arrivals.spool()
        with open(path, "xb", buffering=0) as file:
            source.copy(file.fileno(), member.size)
        arrivals.jobs[member.name] = self._spooled(path, arrivals, progress)

    def _planned(self, contents: Contents, arrivals: _Arrivals) -> tuple[list[Archived], dict[str, Staged]]:
        """What comes in, and the layers of it that are not here, staged."""
        if "index.json" not in contents.documents and "manifest.json" not in contents.documents:
            return self._old(contents, arrivals)
        found = described(contents, self._wanted, only=self._only)
        images = [image for archived in found for image in archived.images]
        return found, self._stage({member: row for image in images for member, row in self._missing(image)}, contents, arrivals)

    def _old(self, contents: Contents, arrivals: _Arrivals) -> tuple[list[Archived], dict[str, Staged]]:
        """Of the layout before Docker 1.10: the layers have to be read before it is known what they are."""
        chains = old.chains(contents, contents.folders())
        members = {member for chain in chains for member in chain.members}
        staged = self._stage(dict.fromkeys(members), contents, arrivals)
        found = []
        for chain in chains:
            diff_ids = [self._found(member, contents, staged).diff_id for member in chain.members]
            try:
                image = plan.checked(v1image.config_of(chain.layers, diff_ids), chain.members)
            except InvalidConfig as error:
                raise InvalidArchive(error.message) from None
            if self._only and not image.config.platform.matches(self._wanted):
                continue
            found.append(Archived((image,), chain.names))
        if not found:
            raise InvalidArchive(f"the archive has no image for {self._wanted}")
        return found, staged

    def _stage(self, wanted: dict[str, Descriptor | None], contents: Contents, arrivals: _Arrivals) -> dict[str, Staged]:
        """Wait for what a stream brought, and stage what of a file is needed and not here; by member."""
        rows = {contents.name(member): row for member, row in wanted.items()}
        parts = {name: contents.parts[name] for name in rows if name in contents.parts}
        for name in sorted(parts, key=lambda name: (parts[name].path, parts[name].offset)):
            arrivals.jobs[name] = self._begin(name, parts[name], rows[name], arrivals)
        return {name: arrivals.jobs[name].result() for name in rows if name in arrivals.jobs}

    def _begin(self, name: str, part: Part, row: Descriptor | None, arrivals: _Arrivals) -> _Job:
        """Stage a part of a file; of compressed bytes that a manifest names, a copy, which is then kept."""
        progress = self._progress(name, part.size)
        fd = open_file(part.path) if part.path else os.dup(part.fd)
        if row is None or not mediatype.compression(row.media_type):
            job = StageJob(self._layers, arrivals.scratch, progress, arrivals.gate)
            job.start(TarSource(fd, part.offset, part.size), fd)
            return _Job(job.result)
        path = arrivals.spool()
        try:
            with open(path, "xb", buffering=0) as file:
                copy_file(fd, file.fileno(), part.size, part.offset)
        finally:
            os.close(fd)
        return self._spooled(path, arrivals, progress)

    def _spooled(self, path: str, arrivals: _Arrivals, progress: Callable[[int], None]) -> _Job:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        job = StageJob(self._layers, arrivals.scratch, progress, arrivals.gate)
        job.start(TarSource(fd, 0, os.fstat(fd).st_size, kept=True), fd)
        return _Job(job.result, path)

    def _missing(self, image: ArchivedImage) -> list[tuple[str, Descriptor | None]]:
        """The members whose layers are not here, or not in the form that the image's manifest names; and that form."""
        chain = chain_ids(image.config.diff_ids)
        rows: Sequence[Descriptor | None] = image.manifest.layers if image.manifest else [None] * len(chain)
        missing = []
        for parent, diff_id, member, row in zip((None, *chain[:-1]), image.config.diff_ids, image.members, rows, strict=False):
            facts = self._layers.find(parent, diff_id)
            if facts is None or not _has(facts, row):
                missing.append((member, row))
        return missing

    def _check(self, image: ArchivedImage, contents: Contents, staged: dict[str, Staged]) -> None:
        missing = dict(self._missing(image))
        for diff_id, member in zip(image.config.diff_ids, image.members, strict=True):
            if member not in missing:
                continue
            found = self._found(member, contents, staged)
            if found.diff_id != diff_id:
                raise InvalidArchive(f"layer {member[:200]!r} of the archive is {found.diff_id}, but the image was made with {diff_id}")
            row = missing[member]
            came = found.compressed.digest if found.compressed else found.diff_id
            if row is not None and came != row.digest:
                raise InvalidArchive(f"a blob of the archive does not have its digest: {row.digest}")

    def _found(self, member: str, contents: Contents, staged: dict[str, Staged]) -> Staged:
        found = staged.get(contents.name(member))
        if found is None:
            raise InvalidArchive(f"the archive lacks the layer {member[:200]!r}")
        return found

    def _register(self, image: ArchivedImage, contents: Contents, arrivals: _Arrivals, staged: dict[str, Staged]) -> list[LayerFacts]:
        done: list[LayerFacts] = []
        rows: Sequence[Descriptor | None] = image.manifest.layers if image.manifest else [None] * len(image.members)
        for diff_id, member, note, row in zip(image.config.diff_ids, image.members, notes(image.config), rows, strict=True):
            parent, name = done[-1].id if done else None, contents.name(member)
            source = self._kept(arrivals.jobs.get(name), row)
            facts = self._layers.find(parent, diff_id) or self._layers.reuse(parent, diff_id, note)
            if facts is None:
                facts = self._layers.register(staged[name], parent, note, [source] if source else [])
            elif source is not None:
                facts = self._layers.add_source(facts.id, source)
            done.append(facts)
        return done

    def _kept(self, job: _Job | None, row: Descriptor | None) -> Descriptor | None:
        """Make a blob of the compressed bytes that a manifest names; None where it names none, or they are here."""
        if job is None or not job.spool or row is None:
            return None
        source = replace(row, platform=None, annotations=(), urls=())
        self._store.leases.touch(source.digest)
        if os.path.exists(job.spool):
            self._store.content.adopt(job.spool, source.digest, source.size)
        return source

    def _progress(self, member: str, size: int) -> Callable[[int], None]:
        shown = _short(member)

        def report(done: int) -> None:
            self._sink(Update(status="Loading layer", id=shown, current=done, total=size))

        return report


def described(contents: Contents, wanted: Platform, *, only: bool) -> list[Archived]:
    """What index.json and manifest.json, as far as they are there, say of images; with `only`, of those for `wanted`.

    Raises:
        InvalidArchive: they contradict themselves or each other, or there is no image.
    """
    layout = plan.from_layout(contents, wanted) if "index.json" in contents.documents else []
    docker = plan.from_docker(contents) if "manifest.json" in contents.documents else []
    if only:
        layout, docker = plan.narrowed(layout, docker, wanted)
    found = plan.merged(layout, docker)
    if not found:
        raise InvalidArchive(f"the archive has no image for {wanted}" if only else "the archive has no image")
    return found


def _has(facts: LayerFacts, row: Descriptor | None) -> bool:
    """Whether a layer that is here has the bytes that a manifest names."""
    if row is None or not mediatype.compression(row.media_type):
        return True
    return row.digest in {source.digest for source in facts.sources}


def _short(member: str) -> str:
    """A layer's short ID as far as its member's name gives one."""
    parts = [part.removesuffix(".tar") for part in member.split("/") if part != "layer.tar"]
    return (parts or [member])[-1][:12]
