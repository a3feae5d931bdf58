"""`image diff`: files, metadata, contents, configuration and packages."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.explore import packages, rpm
from lamina.explore.textdiff import changed_blocks, unified
from lamina.layer.errors import PathNotFound
from lamina.spec.reference import Reference
from tests.contracts.snapshotter import directory, file, symlink

from .conftest import Lab

STATUS = b"Package: %b\nStatus: install ok installed\nArchitecture: amd64\nVersion: %b\n\n"
BASE = [
    directory("etc"), file("etc/hosts", b"one\ntwo\nthree\n"), file("etc/mode", b"m"), file("etc/bin", b"\0a"), symlink("lib", "usr"),
    directory("var"), directory("var/lib"), directory("var/lib/dpkg"), file("var/lib/dpkg/status", STATUS % (b"libc6", b"2.36-9")),
    directory("usr"), directory("usr/gone"), *(file(f"usr/gone/{number}", b"x") for number in range(12)),
]  # fmt: skip
TOP = [
    directory("etc"), file("etc/hosts", b"one\n2\nthree\n"), file("etc/mode", b"m", mode=0o600, uid=7), file("etc/bin", b"\0b"),
    file("etc/same", b"new\n"), symlink("lib", "opt"), directory("usr"), file("usr/.wh.gone"),
    directory("var"), directory("var/lib"), directory("var/lib/dpkg"),
    file("var/lib/dpkg/status", STATUS % (b"libc6", b"2.36-10") + STATUS % (b"apache2", b"2.4")),
    directory("site-packages"), directory("site-packages/requests-2.31.0.dist-info"), file("evil\x1b[2J"),
]  # fmt: skip


def compared(lab: Lab, a: str, b: str, path: str = "/", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.explorer.diff(lab.explorer.subject(a), lab.explorer.subject(b), path, **more).read())
    return found


def test_paths_metadata_contents_and_packages_are_compared(lab: Lab) -> None:
    lab.image("base", BASE)
    lab.image("top", BASE, TOP)
    found = compared(lab, "base", "top")
    changes = {change["path"]: change for change in found["changes"]}
    assert {path: (change["kind"], change["what"]) for path, change in changes.items() if "gone/" not in path} == {
        "/etc/bin": ("M", ["content"]), "/etc/hosts": ("M", ["content"]), "/etc/mode": ("M", ["mode", "owner"]), "/etc/same": ("A", []),
        "/evil\x1b[2J": ("A", []), "/lib": ("M", ["target"]), "/site-packages": ("A", []),
        "/site-packages/requests-2.31.0.dist-info": ("A", []), "/usr/gone": ("D", []), "/var/lib/dpkg/status": ("M", ["content"]),
    }  # fmt: skip
    assert changes["/etc/hosts"]["diff"] == "--- a/etc/hosts\n+++ b/etc/hosts\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
    assert "diff" not in changes["/etc/bin"]
    assert (changes["/etc/mode"]["b"]["mode"] & 0o7777, changes["/etc/mode"]["b"]["uid"], changes["/etc/mode"]["b"]["layer"]) == (
        0o600,
        7,
        1,
    )
    assert found["packages"] == {
        "dpkg": [{"name": "apache2", "a": "", "b": "2.4"}, {"name": "libc6", "a": "2.36-9", "b": "2.36-10"}],
        "python": [{"name": "requests", "a": "", "b": "2.31.0"}],
    }
    assert compared(lab, "top", "top")["changes"] == []
    assert [change["path"] for change in compared(lab, "base", "top", "/etc/hosts")["changes"]] == ["/etc/hosts"]
    assert "diff" in {change["path"]: change for change in compared(lab, "base", "top", new=True)["changes"]}["/etc/same"]
    with pytest.raises(PathNotFound, match="/nowhere"):
        compared(lab, "base", "top", "/nowhere")


def test_people_get_directories_folded_and_no_control_characters(lab: Lab) -> None:
    lab.image("base", BASE)
    lab.image("top", BASE, TOP)
    text = lab.explorer.diff(lab.explorer.subject("base"), lab.explorer.subject("top"), form="text").read().decode()
    for line in (
        "A /evil\\x1b[2J",
        "M /etc/hosts",
        "+1 -1 lines",
        "-rw-r--r-- -> -rw-------, 0:0 -> 7:0",
        "  ~ libc6    2.36-9 -> 2.36-10",
    ):
        assert line in text
    assert "12 entries, 12B" in text and "/usr/gone/1" not in text
    assert "\x1b" not in text
    whole = lab.explorer.diff(lab.explorer.subject("base"), lab.explorer.subject("top"), form="text", whole=True).read().decode()
    assert "D /usr/gone/1\n" in whole or "D /usr/gone/1 " in whole


def test_equal_files_of_different_layers_are_equal_and_other_bytes_are_seen(lab: Lab) -> None:
    lab.image("one", [file("same", b"12"), file("other", b"12")])
    lab.image("two", [file("other", b"34"), file("same", b"12")])
    assert [(change["path"], change["what"]) for change in compared(lab, "one", "two")["changes"]] == [("/other", ["content"])]


@pytest.mark.root
def test_a_container_is_compared_as_it_is_now(lab: Lab) -> None:
    upper = lab.container("box", lab.image("base", BASE))
    (upper / "new").write_text("text\n")
    assert [(change["path"], change["kind"]) for change in compared(lab, "base", "box")["changes"] if change["path"] == "/new"] == [
        ("/new", "A")
    ]
    (upper / "new").unlink()
    assert not [change for change in compared(lab, "base", "box")["changes"] if change["path"] == "/new"]


def test_programs_are_told_all_names_of_an_image(lab: Lab) -> None:
    image = lab.image("base", BASE)
    subject = lab.explorer.subject("base")
    named = replace(subject, image=replace(image, names=(*image.names, Reference.parse("also:2"))))
    found = json.loads(lab.explorer.diff(named, subject).read())
    assert found["a"]["names"] == [image.names[0].familiar, "also:2"] and found["b"]["names"] == [image.names[0].familiar]
    lab.container("box", image)
    assert compared(lab, "base", "box")["b"]["names"] == ["box"]


LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"d\n", b"}\n"]), max_size=30)


@given(LINES, LINES)
def test_changed_blocks_turn_one_text_into_the_other(a: list[bytes], b: list[bytes]) -> None:
    made, at = [], 0
    for low, high, start, end in changed_blocks(a, b):
        made += a[at:low] + b[start:end]
        assert a[low:high] != b[start:end]
        at = high
    assert made + a[at:] == b


def test_a_missing_line_end_is_told_as_diff_does() -> None:
    assert unified(b"a\nb", b"a\nc\n", (b"x", b"y")) == b"--- x\n+++ y\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n"
    assert unified(b"", b"a\n", (b"x", b"y")) == b"--- x\n+++ y\n@@ -0,0 +1 @@\n+a\n"
    assert unified(b"a", b"a", (b"x", b"y")) == b""


def test_packages_are_read_from_dpkg_and_apk() -> None:
    text = STATUS % (b"a", b"1") + (STATUS % (b"b", b"2")).replace(b"ok installed", b"ok not-installed")
    text += STATUS % (b"c", b"3") + (STATUS % (b"c", b"3")).replace(b"amd64", b"i386")
    assert packages.dpkg(text) == {"a": "1", "c:amd64": "3", "c:i386": "3"}
    assert packages.apk(b"C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64\n\nP:zlib\nV:1.3-r0\n\n") == {"musl": "1.2.4-r2", "zlib": "1.3-r0"}


def header(name: str, version: str, release: str, epoch: int = 0) -> bytes:
    data, index = b"", b""
    for tag, text in ((1000, name), (1001, version), (1002, release)):
        index += struct.pack(">IIII", tag, 6, len(data), 1)
        data += text.encode() + b"\0"
    if epoch:
        data += bytes(-len(data) % 4)
        index += struct.pack(">IIII", 1003, 4, len(data), 1)
        data += struct.pack(">I", epoch)
    return struct.pack(">II", len(index) // 16, len(data)) + index + data


HEADERS = [header("bash", "5.2", "1.fc40"), header("vim", "9.1", "2.fc40", 2)]
WANTED = {"bash": "5.2-1.fc40", "vim": "2:9.1-2.fc40"}


def test_rpms_sqlite_database_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rpmdb.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        database.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in HEADERS])
    database.close()
    assert rpm.packages(path.read_bytes()) == WANTED


def test_rpms_ndb_database_is_read() -> None:
    page = bytearray(4096)
    struct.pack_into("<4sIIII", page, 0, b"RpmP", 0, 1, 1, 3)
    body = b""
    for number, blob in enumerate(HEADERS, 1):
        start = (len(page) + len(body)) // 16
        piece = struct.pack("<4sIII", b"BlbS", number, 1, len(blob)) + blob
        piece += bytes(-(len(piece) + 12) % 16) + struct.pack("<II4s", 0, len(blob), b"BlbE")
        struct.pack_into("<4sIII", page, 32 + 16 * (number - 1), b"Slot", number, start, len(piece) // 16)
        body += piece
    assert rpm.packages(bytes(page) + body) == WANTED


def test_rpms_berkeley_database_is_read_inline_and_over_pages() -> None:
    size = 512
    meta = bytearray(size)
    struct.pack_into("<I", meta, 12, 0x061561)
    struct.pack_into("<I", meta, 20, size)
    leaf = bytearray(size)
    long = header("vim", "9.1", "2.fc40", 2) + bytes(600)
    items = [b"\1\1\0\0\0", b"\1" + HEADERS[0], b"\1\2\0\0\0", struct.pack("<BxxxII", 3, 2, len(long))]
    end, offsets = size, []
    for item in items:
        end -= len(item)
        leaf[end : end + len(item)] = item
        offsets.append(end)
    struct.pack_into("<HxxBB", leaf, 20, len(items), 0, 13)
    struct.pack_into(f"<{len(offsets)}H", leaf, 26, *offsets)
    pages = [bytes(meta), bytes(leaf)]
    room = size - 26
    parts = [long[at : at + room] for at in range(0, len(long), room)]
    for number, part in enumerate(parts, 2):
        page = bytearray(size)
        struct.pack_into("<I", page, 16, number + 1 if number - 1 < len(parts) else 0)
        struct.pack_into("<HBB", page, 22, len(part), 0, 7)
        page[26 : 26 + len(part)] = part
        pages.append(bytes(page))
    assert rpm.packages(b"".join(pages)) == WANTED


@given(st.sampled_from([b"", b"RpmP", b"SQLite format 3\0", b"\0" * 12 + struct.pack("<I", 0x061561)]), st.binary(max_size=3000))
def test_a_broken_package_database_gives_nothing_and_never_crashes(head: bytes, rest: bytes) -> None:
    assert isinstance(rpm.packages(head + rest), dict)
    assert isinstance(rpm.packages(rest + os.urandom(600)), dict)
