"""What `build` and `cp` send, read back with the standard library."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from lamina.cli.layoutdir import earlier, is_layout, unpack
from lamina.cli.packing import Packer, below
from lamina.errors import Conflict, LaminaError


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


def test_a_link_is_followed_where_a_slash_stands_behind_it(tmp_path: Path) -> None:
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("d")
    assert [name for _, name in below(f"{tmp_path}/link/", "top")] == ["top", "top/sub"]
    assert [name for _, name in below(f"{tmp_path}/link", "top")] == ["top"]


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


# -- directories of images


def layout(*blobs: str, named: bool = True) -> dict[str, bytes]:
    notes = {"io.containerd.image.name": "x:1", "org.opencontainers.image.ref.name": "1"} if named else None
    index = {"manifests": [{"digest": f"sha256:{blobs[0]}", **({"annotations": notes} if notes else {})}]}
    return {"oci-layout": b"{}", "index.json": json.dumps(index).encode(), **{f"blobs/sha256/{blob}": blob.encode() for blob in blobs}}


def packed(files: dict[str, bytes], **links: str) -> bytes:
    packer = Packer(keep_owner=False)
    pieces = [piece for name, data in files.items() for piece in packer.add_bytes(name, data)]
    out = io.BytesIO(b"".join([*pieces, *packer.finish()]))
    with tarfile.open(fileobj=out, mode="a") as tar:
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


A, B, C = ("a" * 64, "b" * 64, "c" * 64)
OLD = {f"{A}/VERSION": b"1.0", f"{A}/json": b"{}", f"{A}/layer.tar": b"tar"}


@pytest.mark.parametrize("before", [layout(A, B), layout(A, named=False) | {"manifest.json": b"[]", "repositories": b"{}"}, OLD, {}])
def test_a_save_to_a_directory_replaces_an_earlier_one(tmp_path: Path, before: dict[str, bytes]) -> None:
    for files in (before, layout(C)):
        unpack(iter([packed(files)]), str(tmp_path / "d"))
        assert tree(tmp_path / "d") == files


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ({"notes.txt": b"mine"}, "notes.txt"),
        ({**layout(A), "blobs/sha256/notes": b"mine"}, "blobs/sha256/notes"),
        ({"index.json": b"{}"}, "a layout"),
        ({"manifest.json": b"{}"}, "a layout"),
        ({"repositories": b"{}"}, "a layout"),
        ({**OLD, "index.json": b"{}"}, "a layout"),
        ({**layout(A), "index.json": b'{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"1"}}]}'}, "a layout"),
        ({**layout(A), "index.json": b"[]"}, "a layout"),
    ],
)
def test_a_directory_of_anything_else_stays_as_it_is(tmp_path: Path, others: dict[str, bytes], told: str) -> None:
    for name, data in others.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with pytest.raises(LaminaError, match=f"holds {told} that no save"):
        earlier(str(tmp_path))
    with pytest.raises(LaminaError, match=f"holds {told} that no save"):
        unpack(iter([packed(layout(C))]), str(tmp_path))
    assert tree(tmp_path) == others


def test_a_save_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    unpack(iter([packed(layout(A))]), str(tmp_path / "d"))
    for wrong in (packed({**layout(B), "../out": b"x"}), packed(layout(B), **{f"{A}/layer.tar": "../../out"}), packed(layout(B))[:700]):
        for target in ("d", "new"):
            with pytest.raises((LaminaError, tarfile.TarError)):
                unpack(iter([wrong]), str(tmp_path / target))
    assert [path.name for path in tmp_path.iterdir()] == ["d"] and tree(tmp_path / "d") == layout(A)


def test_links_of_the_old_layout_come_along(tmp_path: Path) -> None:
    unpack(iter([packed({**OLD, f"{B}/VERSION": b"1.0", f"{B}/json": b"{}"}, **{f"{B}/layer.tar": f"../{A}/layer.tar"})]), str(tmp_path))
    assert (tmp_path / B / "layer.tar").is_symlink() and (tmp_path / B / "layer.tar").read_bytes() == b"tar"
    assert is_layout(str(tmp_path)) and len(earlier(str(tmp_path))) == 2
