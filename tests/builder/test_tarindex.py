from __future__ import annotations

import io
import tarfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.builder.files import Files, TarFiles
from lamina.builder.tarindex import IndexedTar, write_index

NAMES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map("/".join)


def everything(files: Files, path: bytes = b"") -> dict[bytes, object]:
    """All that a tree shows, by path."""
    item = files.lookup(path)
    assert item is not None
    content = b"".join(files.read(path, item)) if item.is_file else b""
    found: dict[bytes, object] = {path: (*item[:8], item.same is None, item.implied, content)}
    for name in files.names(path):
        found |= everything(files, path + b"/" + name if path else name)
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(entries=st.lists(st.tuples(NAMES, st.sampled_from(["file", "dir", "link"]), st.binary(max_size=600)), max_size=12))
def test_the_index_shows_what_the_scan_shows(tmp_path: Path, entries: list[tuple[str, str, bytes]]) -> None:
    path = tmp_path / "context.tar"
    taken: set[str] = set()
    with tarfile.open(path, "w") as tar:
        for name, kind, content in entries:
            parents = {name[:at] for at, character in enumerate(name) if character == "/"}
            if name in taken or parents & taken or any(other.startswith(f"{name}/") for other in taken):
                continue
            taken.add(name)
            info = tarfile.TarInfo(name)
            info.type = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}[kind]
            info.size, info.linkname = (len(content), "") if kind == "file" else (0, "x" if kind == "link" else "")
            tar.addfile(info, io.BytesIO(content))
    with open(path, "rb") as file:
        scanned = TarFiles.scan(file.fileno())
        write_index(scanned.root, f"{path}.index")
        indexed = IndexedTar.open(file.fileno(), f"{path}.index")
        assert indexed is not None
        assert everything(indexed) == everything(scanned)


def test_hard_links_stay_the_same_file_and_no_index_is_none(tmp_path: Path) -> None:
    path = tmp_path / "context.tar"
    with tarfile.open(path, "w") as tar:
        one, other = tarfile.TarInfo("a"), tarfile.TarInfo("b")
        one.size = 1
        other.type, other.linkname = tarfile.LNKTYPE, "a"
        tar.addfile(one, io.BytesIO(b"x"))
        tar.addfile(other)
    with open(path, "rb") as file:
        assert IndexedTar.open(file.fileno(), f"{path}.index") is None
        write_index(TarFiles.scan(file.fileno()).root, f"{path}.index")
        indexed = IndexedTar.open(file.fileno(), f"{path}.index")
        assert indexed is not None
        one_item, other_item = indexed.lookup(b"a"), indexed.lookup(b"b")
        assert one_item is not None and other_item is not None and one_item.same == other_item.same is not None
        assert indexed.lookup(b"a/b") is None and indexed.names(b"a") == []
