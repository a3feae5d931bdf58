"""Files that are sealed with fs-verity once they are durable: by a kernel that is made up, and by this one where it can."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lamina.content.durability import Durability, Verity
from lamina.content.local import LocalContent
from lamina.content.store import BlobDamaged
from lamina.linux import fsverity
from lamina.spec.digest import Digest

DATA = bytes(range(256)) * 512
DIGEST = Digest.of(DATA)
SEAL = "user.lamina.verity"


@dataclass
class Kernel:
    """Remembers what was sealed, by inode."""

    sealed: dict[int, bytes] = field(default_factory=dict)
    asked: int = 0
    supported: bool = True

    def enable(self, fd: int) -> bool:
        self.asked += 1
        if self.supported:
            self.sealed[os.fstat(fd).st_ino] = hashlib.sha256(os.pread(fd, 1 << 20, 0)).digest()
        return self.supported

    def measure(self, fd: int) -> bytes | None:
        return self.sealed.get(os.fstat(fd).st_ino)


def opened(root: Path, kernel: Kernel) -> tuple[LocalContent, Durability]:
    durability = Durability(str(root), "boot", delay=0.0, verity=Verity(kernel.enable, kernel.measure))
    return LocalContent(str(root), durability), durability


def place(root: Path) -> Path:
    return root / "blobs/sha256" / DIGEST.encoded


def replaced(path: Path, data: bytes) -> None:
    """Another file in the place, which says of itself all that the first did."""
    marks = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    status = path.stat()
    beside = path.with_name("beside")
    beside.write_bytes(data)
    os.utime(beside, ns=(status.st_mtime_ns, status.st_mtime_ns))
    for name, value in marks.items():
        os.setxattr(beside, name, value)
    beside.rename(path)


def test_a_durable_blob_is_sealed_and_its_digest_noted(tmp_path: Path) -> None:
    kernel = Kernel()
    content, durability = opened(tmp_path, kernel)
    content.put(DATA, "")
    durability.flush()
    assert os.getxattr(place(tmp_path), SEAL) == hashlib.sha256(DATA).digest()
    assert durability.sealed(str(place(tmp_path))) is True
    assert content.path(DIGEST)


def test_another_file_in_the_place_of_a_sealed_one_is_known_though_it_looks_the_same(tmp_path: Path) -> None:
    content, durability = opened(tmp_path, Kernel())
    content.put(DATA, "")
    durability.flush()
    replaced(place(tmp_path), bytes(len(DATA)))
    with pytest.raises(BlobDamaged):
        content.path(DIGEST)


def test_the_same_bytes_in_another_file_are_hashed_once_and_sealed_again(tmp_path: Path) -> None:
    content, durability = opened(tmp_path, Kernel())
    content.put(DATA, "")
    durability.flush()
    replaced(place(tmp_path), DATA)
    assert durability.sealed(str(place(tmp_path))) is False
    content.path(DIGEST)
    durability.flush()
    assert durability.sealed(str(place(tmp_path))) is True


def test_where_it_cannot_be_done_it_is_tried_once(tmp_path: Path) -> None:
    kernel = Kernel(supported=False)
    content, durability = opened(tmp_path, kernel)
    for number in range(3):
        content.put(DATA + bytes([number]), "")
        durability.flush()
    assert kernel.asked == 1
    content.verify(Digest.of(DATA + b"\0"))


def test_small_files_are_not_sealed(tmp_path: Path) -> None:
    kernel = Kernel()
    content, durability = opened(tmp_path, kernel)
    content.put(b"small", "")
    durability.flush()
    assert kernel.asked == 0


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """A file system that was made with verity, on a kernel that has it."""
    image, target = tmp_path / "image", tmp_path / "mounted"
    target.mkdir()
    mkfs = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if mkfs is None:
        pytest.skip("mkfs.ext4 is not installed")
    with open(image, "wb") as file:
        file.truncate(32 << 20)
    subprocess.run([mkfs, "-q", "-O", "verity", "-b", "4096", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(target)], capture_output=True, check=False).returncode:
        pytest.skip("this kernel does not mount ext4 with the verity feature: CONFIG_FS_VERITY is not set")
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


@pytest.mark.root
def test_a_sealed_blob_cannot_be_written_to(ext4: Path) -> None:
    probe = ext4 / "probe"
    probe.write_bytes(DATA)
    with open(probe, "rb") as file:
        if not fsverity.enable(file.fileno()):
            pytest.skip("this kernel has no fs-verity: CONFIG_FS_VERITY is not set")
    durability = Durability(str(ext4), "boot", delay=0.0)
    content = LocalContent(str(ext4), durability)
    content.put(DATA, "")
    durability.flush()
    assert durability.sealed(str(place(ext4))) is True
    with pytest.raises(PermissionError):
        open(place(ext4), "r+b")
    assert content.path(DIGEST)
    content.verify(DIGEST)
    replaced(place(ext4), bytes(len(DATA)))
    with pytest.raises(BlobDamaged):
        content.path(DIGEST)


@pytest.mark.root
def test_the_kernel_measures_nothing_of_a_file_that_is_not_sealed(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(DATA)
    with open(tmp_path / "plain", "rb") as file:
        assert fsverity.measure(file.fileno()) is None


def test_a_file_that_is_being_written_to_is_left_as_it_is(tmp_path: Path) -> None:
    def busy(fd: int) -> bool:
        raise OSError(errno.ETXTBSY, "busy")

    durability = Durability(str(tmp_path), "boot", delay=0.0, verity=Verity(busy, lambda fd: None))
    content = LocalContent(str(tmp_path), durability)
    content.put(DATA, "")
    durability.flush()
    assert durability.sealed(str(place(tmp_path))) is None
    assert content.path(DIGEST)
