"""Tars for tests, made in memory."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

import msgspec

from lamina.image.model import Image, LayerFacts, LayerNote
from lamina.snapshot.protocol import TarSource
from lamina.spec.config import History, RootFS
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference

from .conftest import Store


def tar(files: dict[str, bytes | None], **links: str) -> bytes:
    """A tar of files (None: a directory) and symbolic links, the same bytes for the same arguments."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.mtime = 1_600_000_000
            info.mode = 0o755 if data is None else 0o644
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            archive.addfile(info, io.BytesIO(data or b""))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mtime = tarfile.SYMTYPE, target, 1_600_000_000
            archive.addfile(info)
    return out.getvalue()


BASE = tar({"bin": None, "bin/sh": b"#!shell\n", "etc": None, "etc/hosts": b"127.0.0.1 localhost\n", "etc/old": b"old\n"}, lib="bin")
SECOND = tar({"etc": None, "etc/hosts": b"changed\n", "etc/.wh.old": b"", "srv": None, "srv/new": b"new file\n"})


def imported(store: Store, name: str = "base", data: bytes = BASE, **kwargs: object) -> Image:
    return store.images.import_(io.BytesIO(data), name=Reference.parse(name).with_default_tag(), **kwargs)  # type: ignore[arg-type]


def stacked(store: Store, parent: Digest | None, data: bytes, created_by: str = "RUN x") -> LayerFacts:
    """A layer of these bytes on top of `parent`."""
    with store.layers.staging() as scratch, tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        staged = store.layers.stage(TarSource(file.fileno()), scratch)
        return store.layers.register(staged, parent, LayerNote("2024-01-01T00:00:00Z", created_by, created_by))


def child(store: Store, base: Image, name: str, data: bytes, *, parent: bool = True) -> Image:
    """An image of one layer more, as a build makes it."""
    with store.leases.hold():
        facts = stacked(store, base.layers[-1], data, f"RUN {name}")
        rootfs = RootFS(diff_ids=(*base.config.rootfs.diff_ids, str(facts.diff_id)))
        history = (*base.config.history, History(created="2024-01-01T00:00:00Z", created_by=f"RUN {name}"))
        config = msgspec.structs.replace(base.config, rootfs=rootfs, history=history)
        chain = store.layers.chain(facts.id)
        return store.images.create(config, chain, names=[Reference.parse(name)], parent=base.id if parent else None)


def read_all(path: Path) -> dict[str, bytes]:
    """The regular files of a tar by name."""
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.isreg()]
        return {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
