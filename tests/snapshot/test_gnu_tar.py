"""A tree packed by GNU tar, in each of its formats, comes out of each driver as GNU tar itself unpacks it."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from lamina.layer.compression import inflater
from lamina.layer.index import LayerIndex
from lamina.snapshot.protocol import TarSource
from tests.contracts.snapshotter import WHEN, Rig, listing

FORMATS = [
    ("gnu", ["--format=gnu"]),
    ("oldgnu sparse", ["--format=oldgnu", "--sparse"]),
    ("ustar", ["--format=ustar"]),
    ("v7", ["--format=v7"]),
    ("pax", ["--format=pax", "--xattrs", "--xattrs-include=*"]),
    ("pax sparse 0.0", ["--format=pax", "--sparse", "--sparse-version=0.0"]),
    ("pax sparse 0.1", ["--format=pax", "--sparse", "--sparse-version=0.1"]),
    ("pax sparse 1.0", ["--format=pax", "--sparse", "--sparse-version=1.0"]),
    ("pax global", ["--format=pax", "--pax-option=globexthdr.name=/tmp/g,comment=x"]),
]

pytestmark = [pytest.mark.root, pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")]


def plant(top: Path, form: str) -> None:
    """All that the format can hold."""
    (top / "dir/sub").mkdir(parents=True)
    (top / "dir/file").write_bytes(b"content\n" * 1000)
    (top / "dir/empty").write_bytes(b"")
    (top / "dir/exact").write_bytes(b"x" * 1024)
    os.link(top / "dir/file", top / "dir/sub/hard")
    os.symlink("../dir/file", top / "dir/link")
    os.symlink("x" * 95 if form in ("v7", "ustar") else "target/" * 300, top / "dir/longlink")
    os.link(top / "dir/longlink", top / "dir/hardsym", follow_symlinks=False)
    if form != "v7":
        os.mkfifo(top / "dir/fifo", 0o640)
        os.mknod(top / "dir/char", stat.S_IFCHR | 0o600, os.makedev(4, 65))
        os.mknod(top / "dir/block", stat.S_IFBLK | 0o660, os.makedev(259, 5000))
    (top / "dir/suid").write_bytes(b"s")
    os.chown(top / "dir/suid", 65534, 1234)
    os.chmod(top / "dir/suid", 0o6755)
    os.chmod(top / "dir/sub", 0o1777)
    if form not in ("v7", "ustar"):
        deep = top / ("d" * 120) / ("e" * 200)
        deep.mkdir(parents=True)
        (deep / ("f" * 255)).write_bytes(b"long name")
        (top / "dir/ümlaut \xff\udcff".replace("\xff", "")).write_bytes(b"odd")
        os.chown(top / "dir/exact", 3_000_000, 4_000_000)
    with (top / "sparse").open("wb") as sparse:
        sparse.truncate(40 << 20)
        for at in (0, 1 << 20, 5 << 20, (40 << 20) - 4096):
            sparse.seek(at)
            sparse.write(bytes([at >> 20 & 255 or 1]) * 4096)
    with (top / "manyruns").open("wb") as sparse:
        for i in range(60):
            sparse.seek(i * 16384)
            sparse.write(b"%04d" % i * 1024)
        sparse.truncate(60 * 16384 + 777)
    with (top / "hole").open("wb") as sparse:
        sparse.truncate((1 << 28) + 5 if "sparse" in form else 5000)
    if form == "pax":
        os.setxattr(top / "dir/file", "user.note", bytes(range(256)))
        os.setxattr(top / "dir", "user.dir", b"")
        os.setxattr(top / "dir/exact", "security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        os.setxattr(top / "dir/link", "trusted.on_link", b"1", follow_symlinks=False)
    seconds = WHEN // 10**9 * 10**9
    for here, directories, files in os.walk(top, topdown=False):
        for i, name in enumerate(sorted(directories + files)):
            when = WHEN + i if form.startswith("pax") else seconds + i * 10**9
            os.utime(f"{here}/{name}", ns=(when, when), follow_symlinks=False)


def without_trusted(found: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return [(*item[:-1], tuple(pair for pair in item[-1] if not pair[0].startswith("trusted."))) for item in found]  # type: ignore[union-attr]


@pytest.mark.parametrize("driver", ["erofs", "overlay", "native"])
@pytest.mark.parametrize(("form", "options"), FORMATS, ids=[form for form, _ in FORMATS])
def test_what_gnu_tar_packs_comes_out_as_gnu_tar_unpacks_it(
    tmp_path: Path, request: pytest.FixtureRequest, driver: str, form: str, options: list[str]
) -> None:
    rig: Rig = request.getfixturevalue(f"{driver}_rig")
    source, unpacked, archive = tmp_path / "source", tmp_path / "unpacked", tmp_path / "layer.tar"
    source.mkdir()
    unpacked.mkdir()
    plant(source, form)
    subprocess.run(["tar", "-C", str(source), "--numeric-owner", *options, "-cf", str(archive), "."], check=True)
    subprocess.run(
        ["tar", "-C", str(unpacked), "--numeric-owner", "--same-owner", "-p", "--xattrs", "--xattrs-include=*", "-xf", str(archive)],
        check=True,
    )
    with archive.open("rb") as opened:
        staged = rig.snapshotter.stage(TarSource(opened.fileno()), str(rig.scratch))
    rig.adopt(staged)
    rig.snapshotter.publish(staged, staged.diff_id.encoded, [])
    rig.published.append(staged.diff_id.encoded)
    expected = without_trusted(listing(str(unpacked)))
    with rig.mounted() as top:
        for mine, theirs in zip(without_trusted(listing(top)), expected, strict=True):
            assert mine == theirs
    rig.snapshotter.check(staged.diff_id.encoded, deep=True)
    with LayerIndex.open(rig.snapshotter.index(staged.diff_id.encoded)) as index, archive.open("rb") as tar:
        sparse = index.lookup(b"sparse")
        assert sparse is not None
        content = bytearray(sparse.size)
        for start, length, offset in sparse.extents if sparse.extents is not None else ((0, sparse.size, sparse.offset),):
            content[start : start + length] = os.pread(tar.fileno(), length, offset)
        assert bytes(content) == (source / "sparse").read_bytes()


@pytest.mark.parametrize("driver", ["erofs", "overlay", "native"])
def test_a_tree_made_a_layer_comes_back_through_gnu_tar(tmp_path: Path, request: pytest.FixtureRequest, driver: str) -> None:
    rig: Rig = request.getfixturevalue(f"{driver}_rig")
    source, unpacked = tmp_path / "source", tmp_path / "unpacked"
    source.mkdir()
    unpacked.mkdir()
    plant(source, "pax")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{os.open(source, os.O_RDONLY)}/left-out.sock")
    expected = without_trusted([item for item in listing(str(source)) if item[0] != "left-out.sock"])
    staged = rig.snapshotter.stage_upper(str(source), [], str(rig.scratch))
    if driver == "erofs":
        [blob] = staged.blobs
    else:
        rig.snapshotter.publish(staged, staged.diff_id.encoded, [])
        blob = rig.snapshotter.copy(staged.diff_id.encoded, staged.diff_id, str(rig.scratch))
    stream = inflater("" if driver == "erofs" else "zstd")
    packed = tmp_path / "packed.tar"
    packed.write_bytes(b"".join(stream.feed(Path(blob.path).read_bytes())))
    subprocess.run(
        ["tar", "-C", str(unpacked), "--numeric-owner", "--same-owner", "-p", "--xattrs", "--xattrs-include=*", "-xf", str(packed)],
        check=True,
    )
    assert without_trusted(listing(str(unpacked))) == expected
    rig.snapshotter.discard(staged)
