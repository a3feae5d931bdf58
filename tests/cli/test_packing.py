"""What `build` and `cp` send, read back with the standard library."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from lamina.cli.packing import Packer, below


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
