"""Bytes of a tar out of its compressed form, as a stream. Inflating releases the GIL; nothing here looks at entries."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from lamina.errors import Corrupt, LaminaError
from lamina.image.model import InvalidArchive

_BUFFER = 1 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}


def compression_of(head: bytes) -> str:
    """What a stream that begins so is compressed with; "" where it is not."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def decompressed(file: BinaryIO, compression: str) -> BinaryIO:
    """`file` inflated; closing the result closes it. `compression` is "", "gzip", "zstd", "bzip2" or "xz".

    Raises, when read:
        Corrupt: the stream is cut or damaged.
    """
    if not compression:
        return file
    return cast(BinaryIO, io.BufferedReader(_Inflated(_reader(file, compression), file), _BUFFER))


def _reader(file: BinaryIO, compression: str) -> io.BufferedIOBase:
    if compression == "gzip":
        from isal import igzip

        return cast(io.BufferedIOBase, igzip.IGzipFile(fileobj=file, mode="rb"))  # type: ignore[no-untyped-call,unused-ignore]
    if compression == "zstd":
        return _zstd(file)
    if compression == "bzip2":
        import bz2

        return bz2.BZ2File(file)
    if compression == "xz":
        import lzma

        return lzma.LZMAFile(file)
    raise InvalidArchive(f"unknown compression: {compression[:20]}")


def _zstd(file: BinaryIO) -> io.BufferedIOBase:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from backports import zstd
    return cast(io.BufferedIOBase, zstd.ZstdFile(file))


class _Inflated(io.RawIOBase):
    """Reads of an inflating file, its many exceptions made one."""

    def __init__(self, inner: io.BufferedIOBase, file: BinaryIO) -> None:
        self._inner, self._file = inner, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        try:
            return self._inner.readinto(buffer)  # type: ignore[arg-type]
        except LaminaError:
            raise
        except (EOFError, OSError, ValueError) as error:
            raise Corrupt(f"a compressed stream is cut or damaged: {error}") from None
        except Exception as error:
            # Each library has an error class of its own (IGzipError, ZstdError, LZMAError) straight below Exception.
            raise Corrupt(f"a compressed stream is damaged: {error}") from None

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
            self._file.close()
        super().close()
