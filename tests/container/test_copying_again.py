"""cp over what was copied before: a file nobody uses is written over, any other is replaced, and nobody can tell but by its inode."""

from __future__ import annotations

import io
import mmap
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lamina.container.refusals import BadArchive
from tests.container.conftest import Box
from tests.container.test_archive import made
from tests.harness import eventually

pytestmark = pytest.mark.root
OLD, LONGER, SHORTER = b"old" * 5000, b"longer" * 5000, b"new"


@pytest.fixture
def written(box: Box) -> Path:
    """Where the container's writes lie on the host; `/app` and two files in it were copied there."""
    box.write("/", made(("app", None), ("app/a", OLD), ("app/b", OLD)))
    return upper(box)


def upper(box: Box) -> Path:
    """The host directory that the container writes to."""
    return Path(box.containers.inspect(box.id)["GraphDriver"]["Data"]["UpperDir"])


@contextmanager
def held(file: Path) -> Iterator[int]:
    """The number of an inode, which no other is given meanwhile; nobody has it open by that."""
    fd = os.open(file, os.O_PATH | os.O_NOFOLLOW)
    try:
        yield os.fstat(fd).st_ino
    finally:
        os.close(fd)


@pytest.mark.parametrize("content", [LONGER, SHORTER, b""])
def test_a_file_nobody_uses_is_written_over(box: Box, written: Path, content: bytes) -> None:
    with held(written / "app/a") as before:
        box.write("/", made(("app", None), ("app/a", content), mtime=1_700_000_000))
        after = (written / "app/a").stat()
    assert (written / "app/a").read_bytes() == content
    assert (after.st_mtime, stat.S_IMODE(after.st_mode), after.st_uid) == (1_700_000_000, 0o644, 0)
    assert (after.st_ino == before) is (box.containers.inspect(box.id)["Driver"] != "native")
    assert (written / "app/b").read_bytes() == OLD


def test_whoever_has_it_open_keeps_what_it_was(box: Box, written: Path) -> None:
    with open(written / "app/a", "rb") as file:
        box.write("/app", made(("a", SHORTER)))
        assert file.read() == OLD
    assert (written / "app/a").read_bytes() == SHORTER


def test_whoever_has_it_mapped_keeps_what_it_was(box: Box, written: Path) -> None:
    with open(written / "app/a", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        file.close()
        box.write("/app", made(("a", SHORTER)))
        assert mapped[:] == OLD
    assert (written / "app/a").read_bytes() == SHORTER


def test_a_process_in_the_container_keeps_what_it_runs_and_reads(make: Callable[..., Box]) -> None:
    box = make(config={"Cmd": ["/busybox", "sh", "-c", "exec 3< /notes; : > /ready; exec /busybox sleep 1000"]})
    with tarfile.open(fileobj=io.BytesIO(box.read("/bin/busybox"))) as archive:
        member = archive.extractfile("busybox")
        assert member is not None
        tool = member.read()

    def copy(notes: bytes) -> tuple[int, int]:
        box.write("/", made(("busybox", tool), mode=0o755))
        box.write("/", made(("notes", notes)))
        return (upper(box) / "busybox").stat().st_ino, (upper(box) / "notes").stat().st_ino

    first = copy(OLD)
    box.containers.start(box.id)
    eventually(lambda: (upper(box) / "ready").exists())
    second = copy(SHORTER)
    assert (first[0] != second[0], first[1] != second[1]) == (True, True)
    assert box.containers.inspect(box.id)["State"]["Running"]


def test_another_name_keeps_what_it_was(box: Box, written: Path) -> None:
    os.link(written / "app/a", written / "app/other")
    box.write("/app", made(("a", SHORTER)))
    assert ((written / "app/a").read_bytes(), (written / "app/other").read_bytes()) == (SHORTER, OLD)


def changed_mode(file: Path) -> None:
    file.chmod(0o600)


def changed_owner(file: Path) -> None:
    os.chown(file, 1000, 1000)


def marked(file: Path) -> None:
    os.setxattr(file, "user.mark", b"x")


def linked(file: Path) -> None:
    file.unlink()
    file.symlink_to("b")


@pytest.mark.parametrize("change", [changed_mode, changed_owner, marked, linked])
def test_what_looks_otherwise_is_replaced(make: Callable[..., Box], change: Callable[[Path], Any]) -> None:
    box = make()
    box.write("/", made(("app", None), ("app/a", OLD), ("app/b", OLD)))
    file = upper(box) / "app/a"
    change(file)
    with held(file) as before:
        box.write("/app", made(("a", SHORTER)))
        after = file.lstat()
    assert after.st_ino != before
    assert (file.read_bytes(), stat.S_IMODE(after.st_mode), after.st_uid, os.listxattr(file)) == (SHORTER, 0o644, 0, [])
    assert (upper(box) / "app/b").read_bytes() == OLD


def test_a_file_of_the_image_is_replaced_and_the_image_keeps_its_own(box: Box, make: Callable[..., Box]) -> None:
    box.write("/folder/deep", made(("big", SHORTER)))
    assert SHORTER in box.read("/folder/deep/big")
    assert len(make().read("/folder/deep/big")) > 3 << 20


def test_a_cut_archive_leaves_what_came_of_it(box: Box, written: Path) -> None:
    archive = made(("a", LONGER))
    with pytest.raises(BadArchive):
        box.write("/app", archive[: 512 + 1000])
    assert LONGER.startswith((written / "app/a").read_bytes())
    assert (written / "app/b").read_bytes() == OLD
