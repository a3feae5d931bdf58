"""A tar put together again from its skeleton and its tree."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lamina.layer.errors import LayerDamaged
from lamina.layer.skeleton import SkeletonWriter, rebuilt

COUNT = 300
LARGE = 100


def content_of(n: int) -> bytes:
    """Twenty megabytes in all; one is larger than the pieces that are read."""
    return b"content %d" % n * (300_000 if n == LARGE else 40 * n + 1)


@pytest.fixture
def made(tmp_path: Path) -> tuple[str, str, bytes]:
    """Skeleton, tree and what they are together: more files than are opened at a time, every seventh content in none."""
    tree, skeleton = tmp_path / "tree", tmp_path / "tree.skeleton"
    tree.mkdir()
    whole = b""
    with open(skeleton, "w+b") as file:
        writer = SkeletonWriter(file.fileno())
        for n in range(COUNT):
            head, content = b"head %d " % n, content_of(n)
            writer.literal(head)
            writer.content(len(content))
            whole += head + content
        writer.literal(b"end")
        writer.table()
        for n in range(COUNT):
            content = content_of(n)
            if n % 7 == 0:
                writer.lost(len(content), [content[:3], content[3:]])
            else:
                (tree / f"f{n}").write_bytes(content)
                writer.file(b"f%d" % n)
        writer.finish()
    return str(skeleton), str(tree), whole + b"end"


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_files_and_contents_that_are_in_none(made: tuple[str, str, bytes]) -> None:
    skeleton, tree, whole = made
    before = descriptors()
    pieces = list(rebuilt(skeleton, tree))
    assert b"".join(pieces) == whole
    assert {len(piece) for piece in pieces[:-1]} == {1 << 20}
    assert descriptors() <= before


@pytest.mark.parametrize("damage", ["nothing there", "too short", "a directory", "a pipe"])
def test_what_comes_before_a_damaged_file_is_given_and_the_file_named(made: tuple[str, str, bytes], damage: str) -> None:
    skeleton, tree, whole = made
    damaged = Path(tree, "f200")
    if damage == "too short":
        os.truncate(damaged, 10)
    else:
        damaged.unlink()
    if damage == "a directory":
        damaged.mkdir()
    elif damage == "a pipe":
        os.mkfifo(damaged)
    before, found = descriptors(), b""
    with pytest.raises(LayerDamaged, match="f200"):
        for piece in rebuilt(skeleton, tree):
            found += piece
    assert found == whole[: len(found)]
    assert b"head 180 " in found  # All but what the megabyte has that the damaged file ends in.
    assert descriptors() <= before


def test_what_could_not_be_opened_is_not_called_missing(made: tuple[str, str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    skeleton, tree, _ = made
    opened = os.open

    def full(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"f200":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opened(path, flags, mode, dir_fd=dir_fd)

    before = descriptors()
    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="Too many open files"):
        b"".join(rebuilt(skeleton, tree))
    assert descriptors() <= before


def test_whoever_stops_reading_leaves_nothing_open(made: tuple[str, str, bytes]) -> None:
    skeleton, tree, _ = made
    before = descriptors()
    pieces = rebuilt(skeleton, tree)
    next(pieces)
    assert len(descriptors()) > len(before)
    pieces.close()
    assert descriptors() <= before
