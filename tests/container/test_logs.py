"""Reading logs: the tail without the rest, frames, times, following, rotation."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.container.live import Live
from lamina.container.loglines import nanoseconds, padded, render
from lamina.container.logs import Logs, Reader, tail_offset
from lamina.container.model import Container, ContainerState, State
from lamina.container.requests import LogQuery, WaitResult
from lamina.runtime.logfile import LogFile


def line(text: str, stream: str = "stdout", time: str = "2026-11-21T04:14:02.5Z") -> bytes:
    return json.dumps({"log": text, "stream": stream, "time": time}).encode()


def container(directory: Path, *, tty: bool = False, status: State = State.EXITED) -> Live:
    record = Container(
        "a" * 64, "x", 0, "sha256:" + "0" * 64, "x", "", "sh", (), str(directory), {"Tty": tty}, {}, state=ContainerState(status=status)
    )
    return Live(record)


@given(st.binary(max_size=400).map(lambda data: data.replace(b"\r", b"\n")), st.integers(0, 20))
def test_the_tail_is_what_splitting_the_whole_would_give(data: bytes, count: int) -> None:
    offset, lines = tail_offset(lambda size, at: data[at : at + size], len(data), count)
    *whole, rest = data.split(b"\n")
    expected = [part + b"\n" for part in whole] + ([rest] if rest else [])
    wanted = expected[-count:] if count else []
    assert data[offset:] == b"".join(wanted)
    assert lines == len(wanted)


def test_times_are_read_to_the_nanosecond_and_shown_with_nine_digits() -> None:
    assert nanoseconds("1970-01-01T00:00:01.000000002Z") == 1_000_000_002
    assert nanoseconds("1970-01-01T01:00:00+01:00") == 0
    assert padded("2026-11-21T04:14:02.5Z") == "2026-11-21T04:14:02.500000000Z"


def test_each_line_has_its_frame_and_streams_are_chosen() -> None:
    lines = [line("out\n"), line("err\n", "stderr"), b"{broken"]
    both = render(lines, LogQuery(), framed=True).data
    assert both == b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n"
    assert render(lines, LogQuery(stdout=False), framed=False).data == b"err\n"
    assert render(lines, LogQuery(stderr=False, timestamps=True), framed=False).data == b"2026-11-21T04:14:02.500000000Z out\n"


def test_since_and_until_bound_the_lines() -> None:
    lines = [line(f"{second}\n", time=f"1970-01-01T00:00:0{second}Z") for second in range(5)]
    query = LogQuery(since_ns=10**9, until_ns=3 * 10**9)
    assert render(lines, query, framed=False) == (b"1\n2\n3\n", True)


def test_tail_goes_over_rotated_parts(tmp_path: Path) -> None:
    live = container(tmp_path, tty=True)
    log = Path(live.container.log_path)
    Path(f"{log}.2").write_bytes(b"".join(line(f"{n}\n") + b"\n" for n in range(3)))
    Path(f"{log}.1").write_bytes(b"".join(line(f"{n}\n") + b"\n" for n in range(3, 6)))
    log.write_bytes(b"".join(line(f"{n}\n") + b"\n" for n in range(6, 8)))
    assert b"".join(Logs().read(live, LogQuery())) == b"0\n1\n2\n3\n4\n5\n6\n7\n"
    assert b"".join(Logs().read(live, LogQuery(tail=4))) == b"4\n5\n6\n7\n"
    assert b"".join(Logs().read(live, LogQuery(tail=0))) == b""


def test_a_tail_lets_go_of_the_compressed_parts_before_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number in (2, 1):
        log.with_name(f"log.{number}.gz").write_bytes(gzip.compress(b"%d\n" % number))
    log.write_bytes(b"0\n")
    before = len(os.listdir("/proc/self/fd"))
    reader = Reader(str(log))
    reader.seek_tail(1)
    assert list(reader.lines()) == [[b"0"]]
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_following_sees_lines_as_they_come_and_over_a_rotation_and_ends_with_the_container(tmp_path: Path) -> None:
    live = container(tmp_path, tty=True, status=State.RUNNING)
    log = Path(live.container.log_path)
    chunks = (chunk for chunk in Logs().read(live, LogQuery(follow=True)) if chunk)
    log.write_bytes(line("first\n") + b"\n")
    assert next(chunks) == b"first\n"
    later = threading.Timer(0.05, lambda: _append(log, line("second\n") + b"\n"))
    later.start()
    assert next(chunks) == b"second\n"
    log.rename(f"{log}.1")
    _append(log, line("third\n") + b"\n")
    assert next(chunks) == b"third\n"
    _append(log, line("last\n") + b"\n")
    live.container = container(tmp_path, tty=True).container
    live.waiters.exited(WaitResult(0))
    assert b"".join(chunks) == b"last\n"


def test_no_line_is_lost_while_the_log_rotates_all_the_time(tmp_path: Path) -> None:
    live = container(tmp_path, tty=True, status=State.RUNNING)

    def write() -> None:
        log = LogFile(live.container.log_path, max_size=2000, max_file=500)
        for number in range(3000):
            log.write("stdout", b"%d\n" % number)
        log.close()
        live.container = container(tmp_path, tty=True).container
        live.waiters.exited(WaitResult(0))

    chunks = Logs().read(live, LogQuery(follow=True))
    writer = threading.Thread(target=write)
    writer.start()
    assert b"".join(chunks) == b"".join(b"%d\n" % number for number in range(3000))
    writer.join()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("status", [State.CREATED, State.RESTARTING])
def test_following_a_container_between_runs_or_before_the_first_ends_at_once(tmp_path: Path, status: State) -> None:
    live = container(tmp_path, tty=True, status=status)
    _append(Path(live.container.log_path), line("here\n") + b"\n")
    assert b"".join(Logs().read(live, LogQuery(follow=True))) == b"here\n"


@pytest.mark.timeout(20)
def test_following_a_log_that_somebody_cuts_goes_on_at_its_beginning(tmp_path: Path) -> None:
    live = container(tmp_path, tty=True, status=State.RUNNING)
    log = Path(live.container.log_path)
    _append(log, line("first\n") + b"\n" + line("half")[:9])
    chunks = (chunk for chunk in Logs().read(live, LogQuery(follow=True)) if chunk)
    assert next(chunks) == b"first\n"
    os.truncate(log, 0)
    _append(log, line("new\n") + b"\n")
    assert next(chunks) == b"new\n"
    chunks.close()


def test_following_a_container_that_has_no_log_yet_waits_for_it(tmp_path: Path) -> None:
    live = container(tmp_path, tty=True, status=State.RUNNING)
    chunks = Logs().read(live, LogQuery(follow=True))
    threading.Timer(0.05, lambda: _append(Path(live.container.log_path), line("here\n") + b"\n")).start()
    assert next(chunk for chunk in chunks if chunk) == b"here\n"
    chunks.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [State.RUNNING, State.EXITED])
@pytest.mark.parametrize("follow", [False, True])
def test_what_was_logged_comes_also_where_the_container_is_removed_meanwhile(tmp_path: Path, status: State, *, follow: bool) -> None:
    directory = tmp_path / "c"
    directory.mkdir()
    live = container(directory, tty=True, status=status)
    _append(Path(live.container.log_path), line("here\n") + b"\n")
    chunks = Logs().read(live, LogQuery(follow=follow))
    assert next(chunks) == b""
    shutil.rmtree(directory)
    threading.Timer(0.05, lambda: setattr(live, "removing", True)).start()
    assert b"".join(chunks) == b"here\n"


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_line_that_is_half_written_waits_for_its_end(tmp_path: Path, pieces: int) -> None:
    whole = line("x" * 100 + "\n") + b"\n"
    path = tmp_path / "log"
    path.write_bytes(b"")
    reader = Reader(str(path))
    reader.seek_tail(None)
    seen: list[bytes] = []
    for start in range(0, len(whole), pieces):
        _append(path, whole[start : start + pieces])
        seen += [each for lines in reader.lines() for each in lines]
    reader.close()
    assert seen == [whole[:-1]]


def _append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)
