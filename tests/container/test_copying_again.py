"""cp over what was copied before: a file nobody uses is written over, any other is replaced, and nobody can tell but by its inode."""

from __future__ import annotations

import fcntl
import io
import mmap
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lamina.container import reuse
from lamina.container.refusals import BadArchive
from lamina.container.reuse import Looks, Reuse, reusing
from lamina.linux.removing import remove_tree
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


@pytest.mark.parametrize(("file", "content"), [("stock/below/item", "in stock"), ("folder/file", "hello")])
def test_a_process_keeps_a_file_of_the_image_that_was_copied_up_since(make: Callable[..., Box], file: str, content: str) -> None:
    box = make(
        True, config={"Cmd": ["sh", "-c", f"mkfifo /go; exec 3< /{file}; : > /ready; read go < /go; read line <&3; echo $line > /told"]}
    )
    eventually(lambda: (upper(box) / "ready").exists())
    inside = Path(f"/proc/{box.containers.inspect(box.id)['State']['Pid']}/root")
    os.chown(inside / file, 0, 0)
    (inside / file).chmod(0o644)
    box.write("/", made((file, b"another")))
    with open(inside / "go", "r+b", buffering=0) as go:
        go.write(b"now\n")
        eventually(lambda: (upper(box) / "told").exists() and (upper(box) / "told").read_text() != "")
    assert (upper(box) / "told").read_text() == f"{content}\n"
    assert (upper(box) / file).read_bytes() == b"another"


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


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with one file."""
    (tmp_path / "a").write_bytes(OLD)
    (tmp_path / "a").chmod(0o644)
    return tmp_path


@contextmanager
def opened(path: str | Path) -> Iterator[int]:
    """A directory's descriptor."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def found_by_all(place: Path) -> Iterator[Reuse]:
    """What writes over files below a directory, as if that were an overlay's."""
    with opened(place) as root, reusing(root, "/") as found:
        assert found is not None
        yield found


LOOKS = Looks(0, 0, 0o644)


def test_whoever_takes_a_lease_at_the_last_moment_is_not_waited_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = os.open(place / "a", os.O_RDONLY)

    def taken(*_: object) -> bool:
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        return True

    monkeypatch.setattr(reuse, "_idle", taken)
    with found_by_all(place) as found, opened(place) as parent:
        assert found.opened(parent, "a", LOOKS) is None
        os.close(holder)


def test_two_that_find_a_file_idle_do_not_both_write_over_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "_idle", lambda *_: True)
    with found_by_all(place) as found, opened(place) as parent:
        first = found.opened(parent, "a", LOOKS)
        assert first is not None
        assert found.opened(parent, "a", LOOKS) is None
        os.close(first)
        again = found.opened(parent, "a", LOOKS)
        assert again is not None
        os.close(again)


def test_a_directory_deeper_than_a_path_can_say_is_no_failure(place: Path) -> None:
    with found_by_all(place) as found, opened(place) as top:
        here = os.dup(top)
        for _ in range(20):
            os.mkdir("d" * 250, dir_fd=here)
            below = os.open("d" * 250, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("a", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=here))
        assert found.opened(here, "a", LOOKS) is None
        os.close(here)
    remove_tree(str(place / ("d" * 250)))


def test_a_directory_of_another_file_system_is_not_taken_for_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "_idle", lambda *_: True)
    places = [tmp_path / "own", tmp_path / "volume"]
    for each in places:
        each.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", str(each)], check=True)
        (each / "a").write_bytes(OLD)
        (each / "a").chmod(0o644)
    try:
        with found_by_all(places[0]) as found, opened(places[0]) as parent:
            own = found.opened(parent, "a", LOOKS)
            assert own is not None
            os.close(own)
            with opened(places[1]) as other:
                assert os.fstat(other).st_ino == os.fstat(parent).st_ino
                os.dup2(other, parent)
            assert found.opened(parent, "a", LOOKS) is None
    finally:
        for each in places:
            subprocess.run(["umount", "-l", str(each)], check=True)
