"""What `build` and `cp` send, read back with the standard library."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from lamina.cli.packing import Packer, below
from lamina.errors import Conflict


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_bytes(b"content" * 100)
    (tmp_path / "d" / ("long" * 60)).write_bytes(b"")
    (tmp_path / "d" / "link").symlink_to("file")
    os.link(tmp_path / "d" / "file", tmp_path / "d" / "same")
    packer = Packer(keep_owner=False)
    pieces = [piece for path, name in below(str(tmp_path / "d"), "d") for piece in packer.add(path, name)]
    pieces += [*packer.add_bytes("more", b"bytes"), *packer.finish()]
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        assert tar.getnames() == ["d", "d/file", "d/link", f"d/{'long' * 60}", "d/same", "more"]
        assert {member.uid for member in tar} == {0}
        for name, content in (("d/file", b"content" * 100), ("d/same", b"content" * 100), ("more", b"bytes")):
            file = tar.extractfile(name)
            assert file is not None and file.read() == content
        assert tar.getmember("d/link").linkname == "file"


def test_owners_modes_and_times_of_ordinary_files_are_told_exactly(tmp_path: Path) -> None:
    facts = {"whole": 1_500_000_000 * 10**9, "parts": 1_500_000_000 * 10**9 + 123_456_789, "old": 7 * 10**9 + 1, "older": -5 * 10**9}
    for name, moment in facts.items():
        (tmp_path / name).write_bytes(name.encode())
        os.chmod(tmp_path / name, 0o4751)
        os.utime(tmp_path / name, ns=(moment, moment))
    packer = Packer(keep_owner=True)
    data = b"".join(piece for name in facts for piece in packer.add(str(tmp_path / name), name))  # type: ignore[misc]
    with tarfile.open(fileobj=io.BytesIO(data + b"".join(packer.finish()))) as tar:
        for member in tar:
            assert (member.mode, member.uid, member.gid) == (0o4751, os.getuid(), os.getgid())
            assert abs(float(member.pax_headers.get("mtime", member.mtime)) - facts[member.name] / 1e9) < 1e-6
        assert tar.getmember("parts").pax_headers["mtime"] == "1500000000.123456789"


def test_a_large_file_goes_from_the_kernel_to_where_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"0123456789" * 100_000)
    (tmp_path / "small").write_bytes(b"small")
    packer = Packer(keep_owner=True)
    with open(tmp_path / "tar", "wb", buffering=0) as out:
        for name in ("large", "small"):
            for piece in packer.add(str(tmp_path / name), name):
                out.write(piece) if isinstance(piece, bytes) else piece.send(out.fileno())
        out.write(b"".join(packer.finish()))
    with tarfile.open(tmp_path / "tar") as tar:
        for name in ("large", "small"):
            file = tar.extractfile(name)
            assert file is not None and file.read() == (tmp_path / name).read_bytes()
    (tmp_path / "large").write_bytes(b"0123456789" * 100_000)
    with open(os.devnull, "wb") as out, pytest.raises(Conflict, match="became shorter"):
        for piece in packer.add(str(tmp_path / "large"), "large"):
            os.truncate(tmp_path / "large", 1000)
            out.write(piece) if isinstance(piece, bytes) else piece.send(out.fileno())
