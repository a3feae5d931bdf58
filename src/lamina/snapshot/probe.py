"""Which driver this kernel and this file system can serve: tried, by reading data, not told from version numbers.

A kernel may mount EROFS and fail every read (files on some disks with `directio`), or know EROFS
but no files as devices (before Linux 6.12), or no 512-byte blocks (before 6.4), or refuse
descriptors for overlayfs (before 6.13, and detached mounts before 6.15).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from lamina.errors import Unsupported
from lamina.layer import tarwrite
from lamina.layer.erofs.writer import write
from lamina.layer.tar.member import Member
from lamina.layer.tar.parser import Parser
from lamina.layer.tree import Tree
from lamina.linux import mount
from lamina.snapshot.erofs import Ways, mount_layer

DRIVERS = ("erofs", "overlay", "native")
_CONTENT = b"lamina reads this through the kernel\n" * 200


class DriverUnavailable(Unsupported):
    """The kernel or the data root's file system cannot serve a storage driver."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The driver to use, why in one sentence, and what each attempt gave, as pairs."""

    driver: str
    reason: str
    ways: Ways
    details: tuple[tuple[str, str], ...] = ()


def probe(root: str, wanted: str = "") -> ProbeResult:
    """Try the drivers on the data root, best first; `wanted` (one of DRIVERS) allows only that one.

    Raises:
        DriverUnavailable: none works, or not the wanted one; says why.
    """
    if wanted not in ("", *DRIVERS):
        raise DriverUnavailable(f"no such storage driver: {wanted}", hint=f"{', '.join(DRIVERS)} are")
    os.makedirs(root, exist_ok=True)
    directory = tempfile.mkdtemp(prefix=".probe-", dir=root)
    try:
        return _Probe(directory).choose(wanted)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Probe:
    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._details: list[tuple[str, str]] = []
        self._forbidden = False

    def choose(self, wanted: str) -> ProbeResult:
        if wanted in ("", "erofs"):
            for loop in (False, True):
                if self._try("erofs through loop devices" if loop else "erofs from files", lambda: self._erofs(loop)):  # noqa: B023
                    descriptors = self._try("overlayfs over detached mounts", lambda: self._descriptors(loop))  # noqa: B023
                    reason = "the kernel mounts layers from their tars" + (", through loop devices" if loop else "")
                    return self._result("erofs", reason, Ways(loop, descriptors))
        if wanted in ("", "overlay") and self._try("overlayfs", self._overlay):
            reason = "asked for" if wanted else f"erofs cannot be used here: {self._details[0][1]}"
            return self._result("overlay", reason, Ways())
        if wanted in ("", "native") and self._try("copies", self._copies):
            reason = "asked for" if wanted else f"overlayfs cannot be used here: {self._details[-2][1]}"
            return self._result("native", reason, Ways())
        said = "; ".join(f"{what}: {how}" for what, how in self._details)
        hint = "an engine mounts: it needs root's rights" if self._forbidden else ""
        raise DriverUnavailable(f"storage driver {wanted or ', '.join(DRIVERS)} cannot be used here: {said}", hint=hint)

    def _result(self, driver: str, reason: str, ways: Ways) -> ProbeResult:
        return ProbeResult(driver, reason, ways, tuple(self._details))

    def _try(self, what: str, attempt: Callable[[], None]) -> bool:
        try:
            attempt()
        except OSError as error:
            self._details.append((what, error.strerror or str(error)))
            self._forbidden = self._forbidden or error.errno in (errno.EPERM, errno.EACCES)
            return False
        self._details.append((what, "works"))
        return True

    def _erofs(self, loop: bool) -> None:
        fd = self._layer(loop)
        try:
            _read(fd, "d/file")
        finally:
            os.close(fd)

    def _descriptors(self, loop: bool) -> None:
        """As `linux.overlay` stacks them, read-only here: the probe must not need an upper directory."""
        opened = [self._layer(loop), self._layer(loop)]
        try:
            context = mount.fsopen("overlay")
            opened.append(context)
            for fd in opened[:2]:
                mount.set_fd(context, "lowerdir+", fd)
            mount.create(context)
            opened.append(mount.fsmount(context))
            _read(opened[-1], "d/file")
        finally:
            for fd in opened:
                os.close(fd)

    def _overlay(self) -> None:
        """Two directories and an upper one: also whether the file system keeps the attributes overlayfs needs."""
        paths = [os.path.join(self._directory, name) for name in ("lower", "upper", "work")]
        for path in paths:
            os.makedirs(path, exist_ok=True)
        with open(os.path.join(paths[0], "file"), "wb") as file:
            file.write(_CONTENT)
        os.setxattr(paths[1], "trusted.overlay.opaque", b"y")
        os.removexattr(paths[1], "trusted.overlay.opaque")
        context = mount.fsopen("overlay")
        opened = [context]
        try:
            for key, path in zip(("lowerdir", "upperdir", "workdir"), paths, strict=True):
                mount.set_string(context, key, path)
            mount.create(context)
            opened.append(mount.fsmount(context))
            _read(opened[-1], "file")
        finally:
            for fd in opened:
                os.close(fd)

    def _copies(self) -> None:
        """A directory as the root of a mount of its own."""
        path = os.path.join(self._directory, "copy")
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, "file"), "wb") as file:
            file.write(_CONTENT)
        fd = mount.open_tree(path)
        try:
            _read(fd, "file")
        finally:
            os.close(fd)

    def _layer(self, loop: bool) -> int:
        tar, metadata = os.path.join(self._directory, "tar"), os.path.join(self._directory, "metadata")
        if not os.path.exists(tar):
            _write_layer(tar, metadata)
        return mount_layer(metadata, [tar], loop=loop)


def _write_layer(tar_path: str, metadata: str) -> None:
    pieces: list[bytes] = []
    writer = tarwrite.TarWriter(pieces.append)
    writer.add(Member(b"d", stat.S_IFDIR | 0o755, 0, 0, 0, 0))
    writer.add(Member(b"d/file", stat.S_IFREG | 0o644, 0, 0, len(_CONTENT), 0), [_CONTENT])
    writer.finish()
    tar, tree = b"".join(pieces), Tree()
    for member in Parser().feed(tar):
        tree.add(member)
    tree.finish()
    for path, data in (
        (tar_path, tar),
        (metadata, write(tree, "0" * 64, len(tar), lambda offset, length: tar[offset : offset + length]).data),
    ):
        with open(path, "wb") as file:
            file.write(data)


def _read(mount_fd: int, path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=mount_fd)
    try:
        if os.read(fd, 1 << 16) != _CONTENT:
            raise OSError(5, "what was read is not what was written")
    finally:
        os.close(fd)
