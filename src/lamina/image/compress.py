"""The worker's job behind push: a tar to gzip, in blocks, on several cores, the same bytes each time.

One gzip member (RFC 1952) without name and time; each block is deflated with the 32 KiB before it as dictionary and
ends on a byte (a sync flush), so that blocks are independent work and their outputs simply follow each other. Where
blocks are cut does not depend on how many threads there are, so neither does the result.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from isal import isal_zlib

from lamina.image.layertar import Seal, TarPlace
from lamina.linux.uncached import Chunk
from lamina.worker.workers import Report

_BLOCK = 1 << 20
_WINDOW = 32 << 10
_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def gzip(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:
    """Job. `tar` is where the tar comes from (`TarPlace.params`); the descriptor is where to write, mostly a pipe.

    `level` is isal's (0 to 3), `threads` how many compress at once. Reports `{"done": bytes of tar}` every 16 MiB.
    Answers `digest` and `size` of what was written.

    Raises:
        LayerDamaged: the tar is not the layer's any more; what was written lacks its end.
    """
    place = TarPlace(**params["tar"])
    seal = Seal(place)
    with ThreadPoolExecutor(params["threads"]) as threads:
        out = _Out(fds[0])
        out.write(_HEAD)
        done, crc = 0, 0
        waiting: deque[Future[tuple[bytes, int, int]]] = deque()

        def settle() -> None:
            nonlocal done, crc
            data, block_crc, length = waiting.popleft().result()
            out.write(data)
            crc = isal_zlib.crc32_combine(crc, block_crc, length)
            done += length
            if not done % (16 * _BLOCK):
                report({"done": done})

        window: Chunk = b""
        for block in place.chunks():
            waiting.append(threads.submit(_deflated, block, window, params["level"]))
            if seal.by_digest:
                seal.update(block)
            window = block[-_WINDOW:]
            if len(waiting) > 2 * params["threads"]:
                settle()
        while waiting:
            settle()
        seal.counted(crc)
        seal.check()
        out.write(isal_zlib.compressobj(params["level"], isal_zlib.DEFLATED, -15).flush())
        out.write(crc.to_bytes(4, "little") + (done & 0xFFFFFFFF).to_bytes(4, "little"))
    return {"digest": f"sha256:{out.hash.hexdigest()}", "size": out.size}


def _deflated(block: Chunk, window: Chunk, level: int) -> tuple[bytes, int, int]:
    compressor = isal_zlib.compressobj(level, isal_zlib.DEFLATED, -15, zdict=window)
    data = compressor.compress(block) + compressor.flush(isal_zlib.Z_SYNC_FLUSH)
    return data, isal_zlib.crc32(block), len(block)


class _Out:
    """Writes to a descriptor, and hashes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self.hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
