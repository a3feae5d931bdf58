"""save: a docker-archive of images, the same bytes for the same images, that old and new loaders read.

    <v1 id>/VERSION  <v1 id>/json  <v1 id>/layer.tar      one folder a layer and stack; a tar that came before is a symlink
    <config hex>.json   manifest.json   repositories

The size is known before the first byte, and layers go from file to descriptor through the kernel alone.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec

from lamina.content.store import full_disk
from lamina.image.layers import Layers
from lamina.image.lookup import created_seconds
from lamina.image.model import Image
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference

_BLOCK, _RECORD = 512, 10240
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Chosen:
    """An image to be saved, with the names it is saved under."""

    image: Image
    names: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes as they are, or the whole tar of a layer (`size` bytes)."""

    data: bytes = b""
    layer: Digest | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class SavePlan:
    """An archive to be written. `size` is the bytes it will have."""

    pieces: tuple[_Piece, ...]
    layers: Layers

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    def write(self, target: int) -> None:
        """Write the archive to a descriptor: file, pipe or socket.

        Raises:
            DiskFull: what `target` leads to is full.
        """
        with full_disk("the archive"):
            for piece in self.pieces:
                if piece.layer is None:
                    _write(target, piece.data)
                else:
                    _copy_layer(self.layers, piece, target)


def planned(chosen: Iterable[Chosen], layers: Layers) -> SavePlan:
    """The archive of these images, in this order; an image that comes twice is there once, with all its names."""
    images: dict[Digest, Chosen] = {}
    for each in chosen:
        before = images.get(each.image.id)
        names = tuple(dict.fromkeys((*(before.names if before else ()), *each.names)))
        images[each.image.id] = Chosen(each.image, names)
    writer = _Writer(layers)
    for each in images.values():
        writer.add(each)
    return SavePlan(tuple(writer.finished()), layers)


class _Writer:
    """Collects the pieces of one archive."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._pieces: list[_Piece] = []
        self._first: dict[Digest, str] = {}
        self._folders: set[str] = set()
        self._manifest: list[dict[str, object]] = []
        self._repositories: dict[str, dict[str, str]] = {}

    def add(self, chosen: Chosen) -> None:
        image, moment = chosen.image, created_seconds(chosen.image)
        parent, paths = "", []
        stack = self._layers.chain(image.layers[-1]) if image.layers else ()
        for facts in stack:
            top = facts is stack[-1]
            v1_id = Digest.of(f"{parent} {facts.id}{f' {image.id}' if top else ''}".encode()).encoded
            document = self._v1(image, v1_id, parent, top=top)
            paths.append(self._folder(v1_id, document, facts.diff_id, facts.tar_size, moment))
            parent = v1_id
        config = f"{image.id.encoded}.json"
        self._file(config, image.config_bytes, moment)
        tags = [name.familiar for name in chosen.names]
        self._manifest.append({"Config": config, "RepoTags": tags or None, "Layers": paths})
        for name in chosen.names:
            self._repositories.setdefault(name.familiar_name, {})[name.tag] = parent

    def finished(self) -> list[_Piece]:
        self._file("manifest.json", msgspec.json.encode(self._manifest), 0)
        if self._repositories:
            self._file("repositories", msgspec.json.encode(self._repositories, order="sorted"), 0)
        used = sum(piece.size for piece in self._pieces) + 2 * _BLOCK
        return [*self._pieces, _bytes(bytes(2 * _BLOCK + -used % _RECORD))]

    def _folder(self, v1_id: str, document: bytes, diff_id: Digest, size: int, moment: int) -> str:
        """One layer's folder; returns the path of its tar."""
        path = f"{v1_id}/layer.tar"
        if v1_id in self._folders:
            return path
        self._folders.add(v1_id)
        self._header(f"{v1_id}/", tarfile.DIRTYPE, 0, moment, mode=0o755)
        self._file(f"{v1_id}/VERSION", b"1.0", moment)
        self._file(f"{v1_id}/json", document, moment)
        if diff_id in self._first:
            self._header(path, tarfile.SYMTYPE, 0, moment, mode=0o777, target=f"../{self._first[diff_id]}")
            return path
        self._first[diff_id] = path
        self._header(path, tarfile.REGTYPE, size, moment)
        self._pieces += [_Piece(layer=diff_id, size=size), _bytes(bytes(-size % _BLOCK))]
        return path

    def _v1(self, image: Image, v1_id: str, parent: str, *, top: bool) -> bytes:
        """The description of one layer that loaders before Docker 1.10 read."""
        document: dict[str, object] = {"id": v1_id}
        if parent:
            document["parent"] = parent
        if not top:
            return msgspec.json.encode({**document, "created": "1970-01-01T00:00:00Z", "os": image.config.os})
        document |= {
            "created": image.config.created or "1970-01-01T00:00:00Z",
            "architecture": image.config.architecture,
            "os": image.config.os,
        }
        return msgspec.json.encode({**document, "config": image.config.config}, order="deterministic")

    def _file(self, name: str, data: bytes, moment: int) -> None:
        self._header(name, tarfile.REGTYPE, len(data), moment)
        self._pieces.append(_bytes(data + bytes(-len(data) % _BLOCK)))

    def _header(self, name: str, kind: bytes, size: int, moment: int, *, mode: int = 0o644, target: str = "") -> None:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime, info.mode, info.linkname = kind, size, moment, mode, target
        # GNU, since a layer of 8 GiB and more needs a size that ustar has no digits for.
        self._pieces.append(_bytes(info.tobuf(tarfile.GNU_FORMAT)))


def _bytes(data: bytes) -> _Piece:
    return _Piece(data, None, len(data))


def _copy_layer(layers: Layers, piece: _Piece, target: int) -> None:
    assert piece.layer is not None
    with layers.open_tar(piece.layer) as source:
        if layers.tar_blob(piece.layer) is not None:
            copy_file(source.fileno(), target, piece.size)
            return
        for chunk in _chunks(source, piece.size):
            _write(target, chunk)


def _chunks(source: object, size: int) -> Iterator[bytes]:
    read: Callable[[int], bytes] = source.read  # type: ignore[attr-defined]
    while size:
        chunk = read(min(size, _CHUNK))
        if not chunk:
            raise OSError(errno.EIO, "a layer's tar ended early")
        size -= len(chunk)
        yield chunk


def copy_file(source: int, target: int, size: int) -> None:
    """Copy `size` bytes from the start of the file `source` to `target` without their passing through this process."""
    offset = 0
    ranged = stat.S_ISREG(os.fstat(target).st_mode)
    while offset < size:
        try:
            moved = (
                os.copy_file_range(source, target, size - offset, offset) if ranged else os.sendfile(target, source, offset, size - offset)
            )
        except OSError as error:
            # Another file system, or a target opened for appending: the next way still does it in the kernel.
            if not ranged or error.errno not in (errno.EXDEV, errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            ranged = False
            continue
        if not moved:
            raise OSError(errno.EIO, "a layer's tar ended early")
        offset += moved


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
