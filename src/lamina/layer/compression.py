"""Compressed streams: bytes in, plain bytes out (gzip by ISA-L, zstd by libzstd, bzip2 and xz), and zstd the other way too."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from isal import igzip_lib

from lamina.layer.errors import InvalidArchive, TruncatedArchive, UnsupportedArchive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OUTPUT_LIMIT = 1 << 20
"""The most bytes that come out at once, in bytes: a small input may hold gigabytes."""
_MEMORY = 512 << 20
"""Bytes that unpacking an xz stream may take: `xz -9` asks for 65 MiB, a hostile stream for gigabytes."""
_FURTHER = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_UNSUPPORTED = {b"PK\x03\x04": "zip", b"\x1f\x9d": "compress"}
_GZIP_DAMAGE: tuple[type[Exception], ...] = (igzip_lib.IsalError, zlib.error)  # type: ignore[assignment]
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def detect(head: bytes) -> str:
    """What the stream that starts with `head` (6 bytes at least, if it has them) is: "gzip", "zstd", "bzip2", "xz", or "" for plain.

    Raises:
        UnsupportedArchive: it is compressed in another way, which is named.
    """
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    # A zstd stream may start with a skippable frame (RFC 8878, 3.1.2).
    if head[:4] == _ZSTD_MAGIC or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return "zstd"
    for magic, name in _UNSUPPORTED.items():
        if head.startswith(magic):
            raise UnsupportedArchive(f"{name} archives are not supported", hint="gzip, zstd, bzip2, xz and plain tar are")
    return next((name for magic, name in _FURTHER.items() if head.startswith(magic)), "")


def detect_layer(head: bytes) -> str:
    """See `detect`; of a layer's bytes, which are gzip, zstd or plain (OCI image specification, layer.md).

    Raises:
        UnsupportedArchive: they are compressed in another way, which is named.
    """
    name = detect(head)
    if name in _FURTHER.values():
        raise UnsupportedArchive(f"{name} archives are not supported as layers", hint="gzip, zstd and plain tar are")
    return name


class Inflater(Protocol):
    """Decompresses a stream."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds to the plain stream, in pieces of at most `OUTPUT_LIMIT`. Exhaust it before the next call.

        Raises:
            InvalidArchive: the stream is damaged.
        """

    def finish(self) -> None:
        """Say that there is no more.

        Raises:
            TruncatedArchive: the stream ends in the middle.
        """


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Plain:
    """See `Inflater`; nothing is compressed."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See `Inflater.feed`."""
        if data:
            yield data

    def finish(self) -> None:
        """See `Inflater.finish`."""


class Members:
    """See `Inflater`: a stream of gzip members (RFC 1952, 2.2), zstd frames, bzip2 or xz streams, one after another; zeros may pad its
    end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._decompressor, self._damage = _library(name)
        self._current: _Decompressor | None = None
        self._any = False
        self._padded = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See `Inflater.feed`."""
        try:
            while data:
                if self._current is None:
                    if (self._any and not data[0]) or self._padded:
                        self._pad(data)
                        return
                    self._current, self._any = self._decompressor(), True
                yield from self._drain(self._current, data)
                if not self._current.eof:
                    return
                data = self._current.unused_data
                self._current = None
        except self._damage as error:
            raise InvalidArchive(f"damaged {self._name} stream: {str(error).strip().lower()}") from None

    def _drain(self, current: _Decompressor, data: bytes) -> Iterator[bytes]:
        while True:
            out = current.decompress(data, OUTPUT_LIMIT)
            if out:
                yield out
            if current.eof or (current.needs_input and len(out) < OUTPUT_LIMIT):
                return
            data = b""
            if not out and current.needs_input:
                return

    def _pad(self, data: bytes) -> None:
        self._padded = True
        if data.strip(b"\0"):
            raise InvalidArchive(f"garbage after the end of a {self._name} stream")

    def finish(self) -> None:
        """See `Inflater.finish`."""
        if self._current is not None or not self._any:
            raise TruncatedArchive(f"{self._name} stream is truncated")


def inflater(name: str) -> Inflater:
    """What decompresses `name`, as `detect` says it."""
    return Members(name) if name else Plain()


def _library(name: str) -> tuple[Callable[[], _Decompressor], tuple[type[Exception], ...]]:
    """What makes decompressors, and what these raise where a stream is damaged. The rare ones are imported when they are needed: not every
    Python has them."""
    if name == "gzip":
        return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), _GZIP_DAMAGE
    if name == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, (OSError,)
    if name == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY), (lzma.LZMAError,)
    return zstd.ZstdDecompressor, (zstd.ZstdError,)


class Deflater(Protocol):
    """Compresses a stream."""

    def compress(self, data: bytes | bytearray) -> bytes:
        """What `data` adds to the compressed stream; may be empty."""

    def flush(self) -> bytes:
        """The end of the stream. Nothing may follow."""


def zstd_deflater(level: int = 1, threads: int = 0) -> Deflater:
    """A zstd stream with checksum. `threads` compress beside the caller."""
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {parameter.compression_level: level, parameter.checksum_flag: 1, parameter.nb_workers: threads}
    return zstd.ZstdCompressor(options=options)
