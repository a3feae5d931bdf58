from __future__ import annotations

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cli.commands.build import pack
from lamina.cli.contextpacking import ContextPacker, joined
from lamina.errors import Conflict


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: info for info in tar}


def test_every_kind_of_entry_is_what_tarfile_reads(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o750)
    (tmp_path / "d/file").write_bytes(b"x" * 700)
    os.link(tmp_path / "d/file", tmp_path / "d/hard")
    (tmp_path / "link").symlink_to("d/file")
    (tmp_path / ("n" * 150)).write_text("long")
    (tmp_path / "unicode-é").write_text("é")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        data = b"".join(pack(str(tmp_path), lambda path: True, extra={"more": b"extra"}))
    found = members(data)
    assert sorted(found) == sorted(["d", "d/file", "d/hard", "link", "n" * 150, "unicode-é", "pipe", "more"])
    assert (found["d"].mode, found["d/file"].size, found["d/file"].uid) == (0o750, 700, 0)
    assert (found["d/hard"].islnk(), found["d/hard"].linkname, found["link"].linkname) == (True, "d/file", "d/file")
    assert found["pipe"].isfifo() and found["d/file"].mtime == int(os.stat(tmp_path / "d/file").st_mtime)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        content = tar.extractfile("d/file")
        assert content is not None and content.read() == b"x" * 700


def test_a_directory_that_is_left_out_is_read_only_for_what_may_be_kept(tmp_path: Path) -> None:
    for name in ("d/e/needed", "d/e/other", "d/f/lost", "d/g/kept"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    data = b"".join(pack(str(tmp_path), lambda path: path.count("/") == 2, lambda path: path in ("d", "d/g"), always=("d/e/needed",)))
    assert sorted(members(data)) == ["d", "d/e", "d/e/needed", "d/e/other", "d/g", "d/g/kept"]


@given(st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=90), st.binary(max_size=2000))
def test_any_name_and_content_come_back(name: str, content: bytes) -> None:
    packer = ContextPacker()
    data = b"".join(joined([*packer.add_bytes(f"x{name}", content), *packer.finish()]))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        (info,) = tar
        file = tar.extractfile(info)
        assert info.name == f"x{name}" and file is not None and file.read() == content


def test_a_file_that_shrinks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    pieces = ContextPacker().add(str(tmp_path / "a"), "a")
    next(pieces)
    os.truncate(tmp_path / "a", 3)
    with pytest.raises(Conflict, match="became shorter"):
        list(pieces)


def test_small_pieces_are_joined() -> None:
    assert [len(piece) for piece in joined([b"x" * 1000] * 600)] == [263_000, 263_000, 74_000]
