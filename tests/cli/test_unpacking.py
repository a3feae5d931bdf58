"""Archives that cp takes out of containers, beside tarfile."""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from lamina.cli.landing import land
from lamina.cli.packing import Packer
from lamina.cli.unpacking import Entry, Unpacking
from lamina.errors import InvalidArgument

KINDS = (tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)


def archive(form: int, *members: tarfile.TarInfo) -> BytesIO:
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member in members:
            tar.addfile(member, BytesIO(b"x" * member.size))
    out.seek(0)
    return out


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.mode = kind, size, 0o640
    for key, value in fields.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_are_read_as_tarfile_reads_them(form: int) -> None:
    long = "d" * 90 + "/" + "n" * 90
    members = [member(f"name {number}", kind, linkname="to" if kind in KINDS[1:3] else "") for number, kind in enumerate(KINDS)]
    members += [
        member(long, size=700),
        member("ä", size=1, mtime=1234567890),
        member("owned", uid=65536, gid=2**20, uname="who", mode=0o4755),
    ]
    if form != tarfile.USTAR_FORMAT:
        members += [member("m" * 300, size=3), member("far", uid=2**31, mtime=2**34)]
    if form == tarfile.PAX_FORMAT:
        members += [member("fraction", mtime=1234567890.25), member("said", pax_headers={"comment": "c"})]
    data = archive(form, *members).getvalue()
    fields = ("name", "mode", "uid", "gid", "size", "mtime", "type", "linkname", "offset", "offset_data", "pax_headers")
    with tarfile.open(fileobj=BytesIO(data), mode="r|") as one, tarfile.open(fileobj=BytesIO(data), mode="r|", tarinfo=Entry) as other:
        expected = [[getattr(found, field) for field in fields] for found in one]
        assert [[getattr(found, field) for field in fields] for found in other] == expected
    assert len(expected) == len(members)


@pytest.mark.parametrize("cut", [512, 700, 1 << 20], ids=["blocks", "odd pieces", "all at once"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_come_out_as_tarfile_gives_them_whatever_comes_between(form: int, cut: int) -> None:
    members = [member("one", size=700, mtime=5), member("d", tarfile.DIRTYPE), member("l", tarfile.SYMTYPE, linkname="one")]
    members += [member("h", tarfile.LNKTYPE, linkname="one"), member("empty"), member("e" * 60 + "/" + "e" * 60, size=512, uid=7, gid=8)]
    if form == tarfile.PAX_FORMAT:
        members += [member("fraction", mtime=1234567890.25, size=3), member("ü", size=1)]
    if form != tarfile.USTAR_FORMAT:
        members += [member("m" * 300, size=3), member("far", uid=2**31, mtime=2**34, size=9)]
    members += [member("pipe", tarfile.FIFOTYPE), member("last", size=1)]
    data = archive(form, *members).getvalue()
    fields = ("name", "mode", "uid", "gid", "size", "mtime", "type", "linkname")
    with tarfile.open(fileobj=BytesIO(data), mode="r|") as tar:
        expected = [[getattr(found, field) for field in fields] for found in tar]
    assert [[getattr(found, field) for field in fields] for found in Unpacking(pieces(data, cut))] == expected
    assert len(expected) == len(members)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def test_a_sparse_file_among_others_keeps_its_holes(tmp_path: Path) -> None:
    (tmp_path / "holes").write_bytes(b"")
    os.truncate(tmp_path / "holes", 10 << 20)
    with open(tmp_path / "holes", "r+b") as file:
        file.seek(5 << 20)
        file.write(b"middle")
    packer = Packer(keep_owner=True)
    (tmp_path / "before").write_bytes(b"before")
    (tmp_path / "after").write_bytes(b"after")
    data = b"".join(piece for name in ("before", "holes", "after") for piece in packer.add(str(tmp_path / name), name))  # type: ignore[misc]
    (tmp_path / "out").mkdir()
    unpacked(BytesIO(data + b"".join(packer.finish())), tmp_path / "out")
    for name in ("before", "holes", "after"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_an_archive_without_its_end_is_taken_and_an_empty_one_is_not(tmp_path: Path) -> None:
    data = archive(tarfile.USTAR_FORMAT, member("a", size=512)).getvalue()
    assert [found.name for found in Unpacking(iter([data[:1024]]))] == ["a"]
    assert not list(Unpacking(iter([bytes(1024)])))
    with pytest.raises(tarfile.ReadError):
        list(Unpacking(iter([])))
    with pytest.raises(tarfile.ReadError):
        list(Unpacking(iter([data[:900]])))


def test_a_damaged_header_is_refused_as_by_tarfile() -> None:
    data = bytearray(archive(tarfile.USTAR_FORMAT, member("a"), member("b")).getvalue())
    data[10] ^= 1
    with pytest.raises(tarfile.ReadError), tarfile.open(fileobj=BytesIO(data), mode="r|", tarinfo=Entry) as tar:
        list(tar)


def unpacked(source: BytesIO, target: Path) -> None:
    archive = Unpacking(iter(lambda: source.read(100_000), b""))
    for found in archive:
        archive.extract(found, str(target))


def test_files_are_written_with_mode_and_time(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("something longer that was there")
    files = [member("there", size=4, mtime=1000), member("sub/dir/large", size=(5 << 20) + 7, mtime=2000.5), member("empty")]
    unpacked(archive(tarfile.PAX_FORMAT, *files, member("link", tarfile.SYMTYPE, linkname="there")), tmp_path)
    assert (tmp_path / "there").read_bytes() == b"xxxx"
    assert (tmp_path / "sub/dir/large").read_bytes() == b"x" * ((5 << 20) + 7)
    assert (tmp_path / "empty").read_bytes() == b""
    assert (tmp_path / "link").readlink() == Path("there")
    status = (tmp_path / "sub/dir/large").stat()
    assert (status.st_mode & 0o7777, status.st_mtime) == (0o640, 2000.5)


@pytest.mark.parametrize(
    ("said", "nanoseconds"), [("1600000000.123456789", 1600000000123456789), ("-3.25", -3250000000), ("7", 7 * 10**9), ("1e1", 10**10)]
)
def test_times_keep_their_nanoseconds(tmp_path: Path, said: str, nanoseconds: int) -> None:
    folder, file, link = ((f"d{name}", kind) for name, kind in (("", tarfile.DIRTYPE), ("/f", tarfile.REGTYPE), ("/l", tarfile.SYMTYPE)))
    members = [member(name, kind, linkname="x", pax_headers={"mtime": said}) for name, kind in (folder, file, link)]
    data = archive(tarfile.PAX_FORMAT, *members).getvalue()
    land(Unpacking(pieces(data, 700)), "d", str(tmp_path), only_content=False, keep_owner=False)
    assert [(tmp_path / name).lstat().st_mtime_ns for name, _ in (folder, file, link)] == [nanoseconds] * 3


def test_what_was_there_is_replaced_and_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """Whoever has an old file open, runs it or has it under another name notices nothing."""
    members = [member("file", size=4), member("was a link", size=4), member("first", size=4)]
    members += [member("second", tarfile.LNKTYPE, linkname="first"), member("link", tarfile.SYMTYPE, linkname="/nowhere")]
    members += [member("link again", tarfile.LNKTYPE, linkname="link"), member("pipe", tarfile.FIFOTYPE), member("d", tarfile.DIRTYPE)]
    (tmp_path / "file").write_text("old")
    (tmp_path / "same file").hardlink_to(tmp_path / "file")
    (tmp_path / "elsewhere").write_text("other")
    (tmp_path / "was a link").symlink_to("elsewhere")
    for _ in range(2):
        unpacked(archive(tarfile.PAX_FORMAT, *members), tmp_path)
        assert [(tmp_path / name).read_text() for name in ("file", "was a link", "same file", "elsewhere")] == [
            "xxxx",
            "xxxx",
            "old",
            "other",
        ]
        assert (tmp_path / "second").samefile(tmp_path / "first") and (tmp_path / "first").stat().st_nlink == 2
        assert [(tmp_path / name).readlink() for name in ("link", "link again")] == [Path("/nowhere")] * 2
        assert (tmp_path / "pipe").is_fifo() and (tmp_path / "d").is_dir()


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_directory_and_what_is_none_do_not_replace_each_other(tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    with pytest.raises(InvalidArgument, match=r"cannot overwrite directory .*/directory with non-directory"):
        unpacked(archive(tarfile.PAX_FORMAT, member("directory", kind, linkname="link")), tmp_path)
    with pytest.raises(InvalidArgument, match=r"cannot overwrite non-directory .*/link with directory"):
        unpacked(archive(tarfile.PAX_FORMAT, member("link", tarfile.DIRTYPE)), tmp_path)


def test_a_file_that_finds_no_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left") as failed:
        unpacked(archive(tarfile.USTAR_FORMAT, member("large", size=100_000)), tmp_path)
    assert failed.value.filename == str(tmp_path / "large")


def test_an_archive_that_ends_within_a_file_is_an_error(tmp_path: Path) -> None:
    data = archive(tarfile.USTAR_FORMAT, member("a", size=100_000)).getvalue()
    with pytest.raises(tarfile.ReadError):
        unpacked(BytesIO(data[:50_000]), tmp_path)
