"""openat2: below a directory as if it were the root."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from lamina.linux import inotify, openat2
from lamina.linux.openat2 import open_in_root, open_regular, open_regular_in_root

_IN_OPEN = 0x20


def test_renames_elsewhere_are_no_failure(tmp_path: Path) -> None:
    """The kernel says EAGAIN where a rename or mount anywhere meets a `..`: whoever renames all day would stop others' containers."""
    for name in ("a", "b", "busy"):
        (tmp_path / name).mkdir()
    (tmp_path / "b/file").write_text("found")
    ended = threading.Event()

    def rename() -> None:
        there, other = f"{tmp_path}/busy", f"{tmp_path}/other"
        while not ended.is_set():
            os.rename(there, other)
            os.rename(other, there)

    thread = threading.Thread(target=rename)
    thread.start()
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(3000):
            os.close(open_in_root(root, "a/../a/../a/../../../b/file"))
    finally:
        ended.set()
        thread.join()
        os.close(root)


def test_what_a_rename_met_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without the race: the kernel's answer is EAGAIN three times."""
    (tmp_path / "file").write_text("found")
    system_call, met = openat2._libc.syscall, iter(range(3))

    def meets_renames(*args: object) -> int:
        if next(met, None) is None:
            return int(system_call(*args))
        ctypes.set_errno(errno.EAGAIN)
        return -1

    monkeypatch.setattr(openat2._libc, "syscall", meets_renames)
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.close(open_in_root(root, "../file"))
    finally:
        os.close(root)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR])
def test_what_is_no_regular_file_is_not_even_opened(tmp_path: Path, kind: int) -> None:
    """To open a device does something: a watchdog begins to count, a tape rewinds."""
    os.mknod(tmp_path / "passwd", kind | 0o600, os.makedev(1, 3))
    (tmp_path / "link").symlink_to("passwd")
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    watch = inotify.instance()
    inotify.add(watch, str(tmp_path / "passwd"), _IN_OPEN)
    try:
        for attempt in (
            lambda: open_regular("passwd", root),
            lambda: open_regular_in_root(root, "/passwd"),
            lambda: open_regular_in_root(root, "/link"),
        ):
            with pytest.raises(FileNotFoundError):
                attempt()
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
        os.close(os.open(tmp_path / "passwd", os.O_RDWR | os.O_NONBLOCK))
        assert os.read(watch, 4096)
    finally:
        os.close(root)
        os.close(watch)
