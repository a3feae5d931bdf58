"""What is the disk's own: durability, layout, leftovers, a full disk."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from lamina.content import BlobDamaged, DiskFull, LocalContent
from lamina.content.durability import Durability, boot_id
from lamina.content.files import write_file
from lamina.content.later import Later
from lamina.spec.digest import Digest

DATA = b"some bytes"
DIGEST = Digest.of(DATA)


class Disk:
    """Counts syncs; a sync can be held up."""

    def __init__(self) -> None:
        self.synced = 0
        self.may_sync = threading.Event()
        self.may_sync.set()

    def sync(self, path: str) -> None:
        self.may_sync.wait(120)
        self.synced += 1


def opened(root: Path, disk: Disk, boot: str = "boot-1") -> tuple[LocalContent, Durability]:
    durability = Durability(str(root), boot, delay=0.0, sync=disk.sync)
    return LocalContent(str(root), durability), durability


def place(root: Path) -> Path:
    return root / "blobs/sha256" / DIGEST.encoded


def test_a_blob_becomes_durable_behind(tmp_path: Path) -> None:
    disk = Disk()
    disk.may_sync.clear()
    content, durability = opened(tmp_path, disk)
    content.put(DATA, "")
    assert "user.lamina.durable" not in os.listxattr(place(tmp_path))
    disk.may_sync.set()
    durability.flush()
    assert disk.synced == 1
    assert "user.lamina.durable" in os.listxattr(place(tmp_path))


def test_after_a_crash_of_the_machine_unmarked_blobs_are_hashed_before_use(tmp_path: Path) -> None:
    disk = Disk()
    disk.may_sync.clear()
    content, _ = opened(tmp_path, disk)
    content.put(DATA, "")
    assert content.path(DIGEST) == str(place(tmp_path))  # The same boot: nothing can have been lost.
    lose_bytes(place(tmp_path))
    after, _ = opened(tmp_path, Disk(), boot="boot-2")
    with pytest.raises(BlobDamaged, match=str(DIGEST)):
        after.path(DIGEST)
    with pytest.raises(BlobDamaged):
        after.open(DIGEST)
    place(tmp_path).write_bytes(DATA)
    assert after.path(DIGEST) == str(place(tmp_path))
    assert "user.lamina.durable" in os.listxattr(place(tmp_path))
    disk.may_sync.set()


def lose_bytes(path: Path) -> None:
    """As a crash of the machine does: the file says that it is what it was."""
    when = path.stat().st_mtime_ns
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, ns=(when, when))


def test_a_blob_that_was_written_to_is_hashed_before_use(tmp_path: Path) -> None:
    content, durability = opened(tmp_path, Disk())
    content.put(DATA, "")
    durability.flush()
    assert content.path(DIGEST) == str(place(tmp_path))
    place(tmp_path).write_bytes(bytes(len(DATA)))
    with pytest.raises(BlobDamaged):
        content.path(DIGEST)
    content.put(DATA, "")
    assert content.read(DIGEST) == DATA
    os.utime(place(tmp_path))
    assert content.path(DIGEST) == str(place(tmp_path))  # touched, and found right


def test_a_disk_too_full_for_marks_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, durability = opened(tmp_path, Disk())
    content.put(DATA, "")

    def full(path: str, name: str, value: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(os, "setxattr", full)
    durability.flush()
    content.put(b"more", "")
    durability.flush()
    assert content.read(DIGEST) == DATA


def test_a_blob_that_was_found_damaged_is_not_trusted_again(tmp_path: Path) -> None:
    content, durability = opened(tmp_path, Disk())
    content.put(DATA, "")
    durability.flush()
    lose_bytes(place(tmp_path))
    assert content.path(DIGEST) == str(place(tmp_path))  # Nothing shows.
    for _ in range(2):
        with pytest.raises(BlobDamaged):
            content.verify(DIGEST)
        with pytest.raises(BlobDamaged):
            opened(tmp_path, Disk())[0].path(DIGEST)


def test_what_is_found_damaged_before_it_is_durable_stays_distrusted(tmp_path: Path) -> None:
    disk = Disk()
    disk.may_sync.clear()
    content, durability = opened(tmp_path, disk)
    content.put(DATA, "")
    durability.distrust(str(place(tmp_path)))
    disk.may_sync.set()
    durability.flush()
    assert not durability.trusted(str(place(tmp_path)))


def test_work_that_fails_keeps_nobody_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    later = Later(fail, delay=0.0)
    for _ in range(2):
        later.request()
        later.flush()
    assert caplog.text.count("work that was put off failed") == 2


def test_work_for_which_there_is_no_thread_is_done_by_who_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    later = Later(lambda: done.append(threading.current_thread().name), delay=0.0)

    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        later.request()
        later.flush()
    later.request()
    later.flush()
    assert done == [threading.current_thread().name, "later"]


def test_a_damaged_blob_is_replaced_by_a_good_one(tmp_path: Path) -> None:
    content, durability = opened(tmp_path, Disk())
    content.put(DATA, "")
    durability.flush()
    place(tmp_path).write_bytes(b"short")
    content.put(DATA, "")
    assert content.read(DIGEST) == DATA


def test_documents_are_always_verified(tmp_path: Path) -> None:
    content, durability = opened(tmp_path, Disk())
    content.put(DATA, "")
    durability.flush()
    place(tmp_path).write_bytes(b"SOME BYTES")
    with pytest.raises(BlobDamaged):
        content.read(DIGEST)


def test_leftovers_of_a_dead_process_go_but_keyed_bytes_stay_a_day(tmp_path: Path) -> None:
    content, _ = opened(tmp_path, Disk())
    ingest = content.ingest()
    ingest.write(DATA)
    with content.ingest("key") as keyed:
        keyed.write(DATA)
    with content.ingest("old") as old:
        old.write(DATA)
        long_ago = time.time() - 90_000
    os.utime(old.path, (long_ago, long_ago))
    (tmp_path / "ingest/scratch").mkdir()
    (tmp_path / "ingest/scratch/file").write_bytes(b"x")
    (tmp_path / "blobs/sha256/x.1.tmp").write_bytes(b"x")
    content.clean()
    assert len(os.listdir(tmp_path / "ingest")) == 1
    assert os.listdir(tmp_path / "blobs/sha256") == []
    with content.ingest("key") as again:
        assert again.offset == len(DATA)


def test_an_unreadable_index_is_no_names(tmp_path: Path) -> None:
    content, _ = opened(tmp_path, Disk())
    for data in (b"", b"{}", b"[]", b'{"manifests":[{}]}', b'{"manifests":{"a":1}}', b"\xff"):
        (tmp_path / "index.json").write_bytes(data)
        assert content.names() == ()


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_file(str(path), b"old")

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", target)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(DiskFull, match="no space left"):
        write_file(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_flush_without_work_returns(tmp_path: Path) -> None:
    durability = Durability(str(tmp_path), boot_id())
    durability.flush()
    durability.flush()


def test_a_flush_waits_for_what_was_asked_before_it_and_for_no_more() -> None:
    done: list[int] = []

    def work() -> None:
        done.append(len(done))
        if len(done) < 10:
            later.request()

    later = Later(work, delay=30.0)
    later.request()
    later.flush()
    assert done == [0]


def test_a_directory_in_the_place_of_a_blob_is_damage_and_makes_way(tmp_path: Path) -> None:
    content, _ = opened(tmp_path, Disk())
    for arrive in (lambda: content.put(DATA, ""), lambda: content.adopt(str(tmp_path / "ingest/file"), DIGEST, len(DATA))):
        (place(tmp_path) / "within").mkdir(parents=True)
        for ask in (content.read, content.verify, content.path):
            with pytest.raises(BlobDamaged, match="cannot be read: Is a directory"):
                ask(DIGEST)
        (tmp_path / "ingest/file").write_bytes(DATA)
        arrive()
        assert content.read(DIGEST) == DATA
        content.delete(DIGEST)
    (place(tmp_path) / "within").mkdir(parents=True)
    content.delete(DIGEST)
    assert not place(tmp_path).exists()
