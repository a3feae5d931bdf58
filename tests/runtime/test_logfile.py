"""The json-file log, byte for byte as Docker writes it."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.runtime import logfile
from lamina.runtime.logfile import LogFile


def go_quote(data: bytes) -> str:
    """Docker's rules one character at a time, the slow way."""
    text = data.decode("utf-8", "surrogateescape")
    out = []
    for character in text:
        code = ord(character)
        if character in '"\\':
            out.append("\\" + character)
        elif character == "\n":
            out.append("\\n")
        elif character == "\r":
            out.append("\\r")
        elif code < 0x20 or character in "<>&":
            out.append(f"\\u00{code:02x}")
        elif 0xDC80 <= code <= 0xDCFF:
            out.append("\\ufffd")
        elif code in (0x2028, 0x2029):
            out.append(f"\\u{code:04x}")
        else:
            out.append(character)
    return "".join(out)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "ignore")) | st.text(alphabet='\t\n\\n"\0\1<&\b').map(str.encode))
def test_quoting_is_dockers(data: bytes) -> None:
    assert logfile.quote(data) == go_quote(data)


@given(st.lists(st.binary(max_size=50)), st.binary(max_size=20))
def test_rendering_a_chunk_is_rendering_its_lines(lines: list[bytes], rest: bytes) -> None:
    data = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines) + rest.replace(b"\n", b"")
    parts = [part + b"\n" for part in data.split(b"\n")[:-1]]
    if not data.endswith(b"\n") and data:
        parts.append(data.rsplit(b"\n", 1)[-1])
    wanted = "".join(f'{{"log":"{go_quote(part)}","stream":"stdout","time":"1970-01-01T00:00:01.5Z"}}\n' for part in parts)
    assert logfile.render("stdout", data, 1_500_000_000).decode() == wanted


def test_times_leave_out_trailing_zeros() -> None:
    assert logfile.timestamp(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456789Z"
    assert logfile.timestamp(1_700_000_000_100_000_000) == "2023-11-14T22:13:20.1Z"
    assert logfile.timestamp(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_cutting_the_output_anywhere_changes_no_log_line(data: bytes, cuts: list[int]) -> None:
    import tempfile

    def logged(chunks: list[bytes]) -> list[tuple[str, str]]:
        with tempfile.TemporaryDirectory() as directory:
            log = LogFile(f"{directory}/log")
            for chunk in chunks:
                log.write("stderr", chunk)
            log.close()
            entries = [json.loads(line) for line in Path(directory, "log").read_text().splitlines()]
            return [(entry["log"], entry["stream"]) for entry in entries]

    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert logged([data]) == logged([data[a:b] for a, b in itertools.pairwise(edges)])


def test_a_long_line_is_cut_at_16_kib(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"))
    log.write("stdout", b"x" * 20000 + b"\nshort\n" + b"y" * 40000)
    log.close()
    entries = [json.loads(line)["log"] for line in (tmp_path / "log").read_text().splitlines()]
    assert [len(entry) for entry in entries] == [16384, 3617, 6, 16384, 16384, 7232]
    assert entries[1].endswith("\n") and entries[2] == "short\n"


def test_no_room_for_the_next_part_touches_no_descriptor_of_others_and_holds_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogFile(str(tmp_path / "log"), max_size=10, max_file=2, compress=True)
    log.write("stdout", b"one\n")

    def full(log: LogFile) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LogFile, "_open", full)
        with pytest.raises(OSError, match="No space left"):
            log.write("stdout", b"two\n")
        other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)  # gets the number that was the log's
        with pytest.raises(OSError, match="No space left"):
            log.write("stdout", b"three\n")
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(folder)
    log.write("stdout", b"four\n")
    log.close()
    assert os.pread(other, 100, 0) == b""
    os.close(other)
    assert "four" in (tmp_path / "log").read_text()


def test_rotation_keeps_so_many_files(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), max_size=200, max_file=3)
    for number in range(20):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert "line 19" in (tmp_path / "log").read_text()


def test_what_may_be_dropped_is_kept_up_to_its_buffer_of_output() -> None:
    """Of output, as Docker counts it: the entries of short lines are many times as long."""
    reading, writing = os.pipe()
    log = LogFile("", lossy=True, buffer=64 << 10, pipe=writing)
    lines = [b"%d\n" % number for number in range(12_000)]
    for start in range(0, len(lines), 1000):
        log.write("stdout", b"".join(lines[start : start + 1000]))
    log.write("stdout", b"dropped\n" * 2000)
    taken = b""
    while log.waiting:
        taken += os.read(reading, 1 << 16)
        log.flush()
    # However small the buffer, what nothing waits before is taken.
    log.write("stdout", b"more than the buffer\n" * 5000)
    while log.waiting:
        taken += os.read(reading, 1 << 16)
        log.flush()
    log.hand_over(0)
    while data := os.read(reading, 1 << 16):
        taken += data
    os.close(reading)
    assert [json.loads(line)["log"].encode() for line in taken.splitlines()] == lines + [b"more than the buffer\n"] * 5000
