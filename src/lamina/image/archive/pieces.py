"""An archive to be written, as pieces: headers and documents in memory, layers and blobs where they lie.

The size is known before the first byte. Layers go from file to descriptor through the kernel alone; where the storage driver has to
put a tar together, a worker writes it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

from lamina.content.store import BlobDamaged, BlobNotFound, ContentStore, full_disk
from lamina.image.layers import Layers
from lamina.image.layertar import Seal
from lamina.image.leases import Leases
from lamina.layer.errors import LayerDamaged
from lamina.linux.pipe import widen_way_out
from lamina.snapshot.protocol import LayerNotFound
from lamina.spec.digest import Digest
from lamina.worker import Workers

_BLOCK, _RECORD, _PART = 512, 10240, 1 << 18


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes: `data` as it is, the whole tar of the layer with diff ID `layer`, or the whole blob `blob`."""

    data: bytes = b""
    layer: Digest | None = None
    blob: Digest | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Sources:
    """Where pieces come from."""

    layers: Layers
    content: ContentStore
    leases: Leases
    workers: Workers


@dataclass(frozen=True, slots=True)
class SavePlan:
    """An archive to be written. `size` is the bytes it will have; `keeps` what must stay while it is written."""

    pieces: tuple[Piece, ...]
    sources: Sources
    keeps: tuple[Digest, ...] = ()

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    def look(self) -> None:
        """Look for everything that is to be written; what was found damaged before, or a crash may have hurt, is hashed.

        Raises:
            LayerDamaged, BlobDamaged: names what is lost.
        """
        for piece in self.pieces:
            try:
                if piece.blob is not None:
                    self.sources.content.path(piece.blob)
                elif piece.layer is not None:
                    self.sources.layers.tar(piece.layer)
            except (LayerNotFound, BlobNotFound):
                hint = "pull or load the images again that use it"
                raise LayerDamaged(f"the bytes of layer {piece.layer or piece.blob} are missing", hint=hint) from None

    def write(self, target: int) -> None:
        """Write the archive to a descriptor: file, pipe or socket.

        Raises:
            DiskFull: what `target` leads to is full.
        """
        widen_way_out(target)
        with full_disk("the archive"), self.sources.leases.hold(*self.keeps):
            for piece in self.pieces:
                if piece.layer is None and piece.blob is None:
                    _write(target, piece.data)
                else:
                    _copy(self.sources, piece, target)


class TarPieces:
    """Collects the members of a tar: the same members give the same bytes. `moment` is seconds since 1970."""

    def __init__(self) -> None:
        self._pieces: list[Piece] = []

    def directory(self, name: str, moment: int) -> None:
        """A directory; `name` ends with a slash."""
        self._header(name, tarfile.DIRTYPE, 0, moment, mode=0o755)

    def link(self, name: str, target: str, moment: int) -> None:
        """A symbolic link."""
        self._header(name, tarfile.SYMTYPE, 0, moment, mode=0o777, target=target)

    def document(self, name: str, data: bytes, moment: int) -> None:
        """A file whose bytes are given."""
        self._header(name, tarfile.REGTYPE, len(data), moment)
        self._pieces.append(_bytes(data + bytes(-len(data) % _BLOCK)))

    def file(self, name: str, piece: Piece, moment: int) -> None:
        """A file whose bytes are elsewhere."""
        self._header(name, tarfile.REGTYPE, piece.size, moment)
        self._pieces += [piece, _bytes(bytes(-piece.size % _BLOCK))]

    def finished(self) -> tuple[Piece, ...]:
        """All pieces, with the tar's end."""
        used = sum(piece.size for piece in self._pieces) + 2 * _BLOCK
        return (*self._pieces, _bytes(bytes(2 * _BLOCK + -used % _RECORD)))

    def _header(self, name: str, kind: bytes, size: int, moment: int, *, mode: int = 0o644, target: str = "") -> None:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime, info.mode, info.linkname = kind, size, moment, mode, target
        # GNU, since a layer of 8 GiB and more needs a size that ustar has no digits for.
        self._pieces.append(_bytes(info.tobuf(tarfile.GNU_FORMAT)))


def _bytes(data: bytes) -> Piece:
    return Piece(data, size=len(data))


class _BlobSeal:
    """What `layertar.Seal` is for a tar, for a blob."""

    def __init__(self, digest: Digest) -> None:
        self._wanted, self._digest = digest, hashlib.new(digest.algorithm)

    def update(self, chunk: memoryview) -> None:
        """The next bytes."""
        self._digest.update(chunk)

    def check(self) -> None:
        """Raises BlobDamaged: they are others."""
        if self._digest.hexdigest() != self._wanted.encoded:
            raise BlobDamaged(f"damaged blob: {self._wanted}", hint="pull or load the images again that use it")


def _copy(sources: Sources, piece: Piece, target: int) -> None:
    if piece.layer is None:
        assert piece.blob is not None
        try:
            _copy_sealed(sources.content.path(piece.blob), target, piece.size, _BlobSeal(piece.blob))
        except BlobDamaged:
            # Hashed where it lies, and not trusted from now on.
            sources.content.verify(piece.blob)
            raise
        return
    place = sources.layers.tar(piece.layer)
    try:
        if place.plain:
            _copy_sealed(place.path, target, piece.size, Seal(place))
        else:
            sources.workers.run("lamina.image.layertar:send", place.params(), [target])
    except LayerDamaged:
        sources.layers.distrust(piece.layer)
        raise


def _copy_sealed(path: str, target: int, size: int, seal: Seal | _BlobSeal) -> None:
    """Copy a file of `size` bytes. They are looked at on their way, and the last ones go when they are right.

    Raises:
        LayerDamaged, BlobDamaged: they are not.
    """
    room, offset = memoryview(bytearray(_PART)), 0
    with open(path, "rb", buffering=0) as source:
        while offset < size:
            count = os.preadv(source.fileno(), [room[: size - offset]], offset)
            seal.update(room[:count])
            if not count or offset + count == size:
                seal.check()
            if not count:
                raise OSError(errno.EIO, f"{path} ended early")
            copy_file(source.fileno(), target, count, offset)
            offset += count


def copy_file(source: int, target: int, size: int, start: int = 0) -> None:
    """Copy `size` bytes from `start` of the file `source` to `target` without their passing through this process."""
    offset, end = start, start + size
    ranged = stat.S_ISREG(os.fstat(target).st_mode)
    while offset < end:
        try:
            moved = (
                os.copy_file_range(source, target, end - offset, offset) if ranged else os.sendfile(target, source, offset, end - offset)
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


def unique(digests: Iterable[Digest]) -> tuple[Digest, ...]:
    """Each once, in order."""
    return tuple(dict.fromkeys(digests))
