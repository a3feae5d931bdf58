"""Archives that cp takes out of containers, beside tarfile."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from lamina.cli.unpacking import Entry, extract

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


def test_a_damaged_header_is_refused_as_by_tarfile() -> None:
    data = bytearray(archive(tarfile.USTAR_FORMAT, member("a"), member("b")).getvalue())
    data[10] ^= 1
    with pytest.raises(tarfile.ReadError), tarfile.open(fileobj=BytesIO(data), mode="r|", tarinfo=Entry) as tar:
        list(tar)


def unpacked(source: BytesIO, target: Path) -> None:
    with tarfile.open(fileobj=source, mode="r|", tarinfo=Entry) as tar:
        for found in tar:
            extract(tar, found, str(target))


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


def test_an_archive_that_ends_within_a_file_is_an_error(tmp_path: Path) -> None:
    data = archive(tarfile.USTAR_FORMAT, member("a", size=100_000)).getvalue()
    with pytest.raises(tarfile.ReadError):
        unpacked(BytesIO(data[:50_000]), tmp_path)
