"""Durability without waiting: files are marked with the boot they were written in, synced behind, then marked durable.

The marks are extended attributes of the files, so they cannot be lost apart from them. Each holds the file's time of
modification, so one that somebody wrote to loses its mark by that. A file with neither this boot's mark nor the durable
one may have lost bytes when the machine went down, or changed: `trusted` says so and its owner looks at it (hashes it,
makes it anew) before use. Where the file system takes no such attributes, files are synced at once.

Where the file system has fs-verity, large files are sealed with it when they are durable, and the digest that the kernel measures is
noted as a third mark: no byte of them can change unseen from then on, and one that was put in their place is known by its digest.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lamina.content.later import Later
from lamina.linux import fsverity

_SEAL = "user.lamina.verity"
_SEALED_FROM = 1 << 16
"""Bytes: smaller files are read whole, and hashed, whenever they are used."""
_BOOT = "user.lamina.boot"
_DURABLE = "user.lamina.durable"
_UNMARKABLE = (errno.ENOTSUP, errno.EPERM, errno.ENOSYS)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def boot_id() -> str:
    """This boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def sync_file_system(path: str) -> None:
    """syncfs(2): what was written to the file system of `path` is on its disk on return. Releases the GIL."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd):
            raise OSError(ctypes.get_errno(), f"cannot sync {path}")
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Verity:
    """How files are sealed and measured: see `linux.fsverity`."""

    enable: Callable[[int], bool] = fsverity.enable
    measure: Callable[[int], bytes | None] = fsverity.measure


class Durability:
    """Marks of the files under one directory. Thread-safe. `delay` is seconds from the first mark to the sync, so that work that comes
    together is synced together."""

    def __init__(
        self,
        directory: str,
        boot: str,
        *,
        delay: float = 2.0,
        sync: Callable[[str], None] = sync_file_system,
        verity: Verity | None = None,
    ) -> None:
        self._directory, self._boot, self._sync, self._verity = directory, boot.encode(), sync, verity or Verity()
        self._lock = threading.Lock()
        self._sealing = True
        self._pending: list[tuple[str, bytes]] = []
        self._unsealed: list[str] = []
        self._later = Later(self._make_durable, delay=delay)

    def settle(self, *paths: str) -> None:
        """Mark files written in this boot and see to it that they become durable; returns at once."""
        stamped = [(path, stamp) for path in paths if (stamp := _stamp(path)) is not None]
        marked = [(path, stamp) for path, stamp in stamped if self._mark(path, _BOOT, self._boot + b" " + stamp)]
        if marked:
            with self._lock:
                self._pending += marked
            self._later.request()

    def trusted(self, path: str) -> bool:
        """Whether no crash of the machine can have hurt the file, and nobody wrote to it: it is durable, or of this boot.

        Raises:
            FileNotFoundError
        """
        try:
            names = os.listxattr(path)
            if _SEAL in names and not self.sealed(path):
                return False
            stamp = b"%d" % os.stat(path).st_mtime_ns
            if _DURABLE in names and os.getxattr(path, _DURABLE) == stamp:
                return True
            return _BOOT in names and os.getxattr(path, _BOOT) == self._boot + b" " + stamp
        except OSError as error:
            if error.errno == errno.ENODATA:
                return False  # Found damaged by another thread at this moment.
            if error.errno in _UNMARKABLE:
                return True
            raise

    def confirm(self, path: str) -> None:
        """Mark durable what was read back from the disk and found right."""
        stamp = _stamp(path)
        if stamp is not None:
            self._mark(path, _DURABLE, stamp)
            self.seal(path)

    def seal(self, path: str) -> None:
        """Seal a file that is right, where the file system can; in the background."""
        if self._sealing:
            with self._lock:
                self._unsealed.append(path)
            self._later.request()

    def sealed(self, path: str) -> bool | None:
        """Whether the kernel measures of a sealed file what was noted; None: it was never sealed."""
        try:
            noted = os.getxattr(path, _SEAL)
        except OSError:
            return None
        return self._measured(path) == noted

    def _measured(self, path: str) -> bytes | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self._verity.measure(fd)
        except OSError:
            return None
        finally:
            os.close(fd)

    def _seal(self, path: str) -> None:
        """What cannot be sealed now is as safe as it was."""
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_size < _SEALED_FROM:
                    return
                self._sealing = self._verity.enable(fd)
                digest = self._verity.measure(fd) if self._sealing else None
                if digest is not None:
                    os.setxattr(fd, _SEAL, digest)
            finally:
                os.close(fd)

    def sync(self) -> None:
        """Return when what was written is on the disk, so that files take there what they will take."""
        self.flush()
        with suppress(OSError):
            self._sync(self._directory)

    def distrust(self, path: str) -> None:
        """Take the marks off what was found damaged: it is looked at again before every use, also after a restart."""
        for name in (_DURABLE, _BOOT, _SEAL):
            with suppress(OSError):
                os.removexattr(path, name)

    def flush(self) -> None:
        """Return when all that was settled is durable."""
        self._later.flush()

    def _make_durable(self) -> None:
        with self._lock:
            batch, self._pending = self._pending, []
            unsealed, self._unsealed = self._unsealed, []
        if batch and not self._made_durable(batch):
            return
        for path in (*unsealed, *(path for path, _ in batch)):
            if self._sealing:
                self._seal(path)

    def _made_durable(self, batch: Sequence[tuple[str, bytes]]) -> bool:
        try:
            self._sync(self._directory)
        except OSError:
            return False  # Not durable then; after a crash these are looked at before use.
        for path, stamp in batch:
            if self._still(path, stamp):
                self._mark(path, _DURABLE, stamp)
        return True

    def _still(self, path: str, stamp: bytes) -> bool:
        """Whether it has the mark that it got when it was settled: what was found damaged since has not."""
        try:
            return os.getxattr(path, _BOOT) == self._boot + b" " + stamp
        except OSError:
            return False

    def _mark(self, path: str, name: str, value: bytes) -> bool:
        """Set one mark; False where there is nothing left to make durable (the file went, or it is synced already).

        A disk too full for a mark costs no more than that: the file is looked at again before its use.
        """
        try:
            os.setxattr(path, name, value)
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in (*_UNMARKABLE, *_FULL):
                raise
        if name == _BOOT:
            self._sync(self._directory)
        return False


def _stamp(path: str) -> bytes | None:
    """When the file was last written to, in nanoseconds; None where there is none."""
    try:
        return b"%d" % os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return None
