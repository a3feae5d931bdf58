"""The keeper: descriptors by name that outlive who gave them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness import eventually, helpers

from lamina.linux import channel
from lamina.linux.channel import ChannelTimeout
from lamina.runtime import keeping
from lamina.runtime.keeper import Keeper
from lamina.runtime.keeping import KeptFds


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[str]:
    deep = tmp_path / ("x" * 100)  # longer than a socket's name may be
    deep.mkdir()
    yield str(deep)
    KeptFds(str(deep)).end()


def content(fd: int | None) -> bytes:
    """What the file of a descriptor holds."""
    assert fd is not None
    return os.pread(fd, 100, 0)


def memory_file(data: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, data)
    return fd


def test_a_descriptor_is_held_replaced_and_dropped(directory: str) -> None:
    kept = KeptFds(directory)
    assert kept.get("a") is None
    kept.hold("a", memory_file(b"one"))
    kept.hold("b", memory_file(b"two"))
    assert (content(kept.get("a")), kept.names()) == (b"one", ["a", "b"])
    kept.hold("a", memory_file(b"three"))
    assert content(kept.get("a")) == b"three"
    kept.drop("a")
    kept.drop("a")
    assert (kept.get("a"), kept.names()) == (None, ["b"])
    kept.close()


def test_what_is_dropped_stays_open_for_who_has_it(directory: str) -> None:
    kept = KeptFds(directory)
    kept.hold("a", memory_file(b"one"))
    had = kept.get("a")
    kept.hold("a", memory_file(b"two"))
    other = kept.get("a")
    kept.drop("a")
    kept.close()
    assert (content(had), content(other)) == (b"one", b"two")
    assert had is not None
    number = int(had)
    del had
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_what_is_held_outlives_the_process_that_gave_it(directory: str) -> None:
    code = "import os,sys; from lamina.runtime.keeping import KeptFds; k=KeptFds(sys.argv[1]); fd=os.memfd_create('x'); os.write(fd,b'left'); k.hold('x',fd); os.kill(os.getpid(),9)"
    subprocess.run([sys.executable, "-c", code, directory], check=False)
    kept = KeptFds(directory)
    assert content(kept.get("x")) == b"left"
    kept.close()


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptFds(directory)
    kept.hold("a", memory_file(b"one"))
    kept.hold("b", memory_file(b"two"))
    kept.close()
    kept = KeptFds(directory)
    (pid,) = helpers(Path(directory))
    os.kill(pid, signal.SIGSTOP)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(keeping, "_PATIENCE", 0.05)
            with pytest.raises(ChannelTimeout, match="no answer came within"):
                kept.get("a")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert content(kept.get("b")) == b"two"
    kept.close()


def test_a_killed_keeper_is_replaced_by_an_empty_one(directory: str) -> None:
    kept = KeptFds(directory)
    kept.hold("a", memory_file(b"one"))
    kept.end()
    assert kept.names() == []
    kept.hold("b", memory_file(b"two"))
    assert content(KeptFds(directory).get("b")) == b"two"
    kept.close()


def test_a_keeper_ends_with_the_last_that_lets_go_unless_it_holds_something(directory: str) -> None:
    first, second = KeptFds(directory), KeptFds(directory)
    (keeper,) = helpers(Path(directory))
    first.close()
    assert second.names() == []
    second.hold("a", memory_file(b"one"))
    second.close()
    third = KeptFds(directory)
    assert content(third.get("a")) == b"one"
    assert helpers(Path(directory)) == [keeper]
    third.drop("a")
    third.close()
    eventually(lambda: not helpers(Path(directory)), "the keeper stays")


def test_a_keeper_without_descriptors_left_goes_on(tmp_path: Path) -> None:
    keeper = Keeper(channel.listen(str(tmp_path), "socket"), str(tmp_path))
    asking = channel.connect(str(tmp_path), "socket")
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = next(fd for fd in range(3, 4096) if not Path(f"/proc/self/fd/{fd}").is_symlink())
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, allowed[1]))
    try:
        keeper._accept()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    assert not keeper._connections
    keeper._accept()
    assert len(keeper._connections) == 1
    asking.close()
