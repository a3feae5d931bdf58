"""Programs started while other threads go on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from lamina.linux import spawn


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def told(reader: int, writer: int, code: str) -> tuple[spawn.Child, list[str]]:
    """What a program writes to descriptor `f` before it ends."""
    child = spawn.start([sys.executable, "-I", "-S", "-c", f"import os; f = {spawn.FIRST}\n{code}"], {"A": "ü"}, writer)
    assert child.wait(120) == 0
    return child, os.read(reader, 4096).decode().splitlines()


def test_a_program_has_the_descriptor_and_environment_it_was_given_and_little_else(pipe: tuple[int, int]) -> None:
    inherited = os.dup(pipe[0])  # Python's descriptors do not outlive execve
    code = "os.write(f, '\\n'.join([os.environ['A'], str(len(os.environ)), os.getcwd(), os.readlink('/proc/self/fd/0'), *os.listdir('/proc/self/fd')]).encode())"
    _, lines = told(*pipe, code)
    os.close(inherited)
    assert lines[0] == "ü" and lines[2:4] == ["/", "/dev/null"]
    assert {int(number) for number in lines[4:]} <= {0, 1, 2, 3, 4}  # 4: the directory that is listed


def test_a_program_is_in_this_session_and_in_a_process_group_of_its_own(pipe: tuple[int, int]) -> None:
    child, lines = told(*pipe, "os.write(f, f'{os.getsid(0)}\\n{os.getpgid(0)}'.encode())")
    assert lines == [str(os.getsid(0)), str(child.pid)]


def test_the_end_is_told_once_and_again(pipe: tuple[int, int]) -> None:
    child = spawn.start([sys.executable, "-I", "-S", "-c", f"import os; os.read({spawn.FIRST}, 1)"], {}, pipe[0])
    assert child.wait(0) is None
    child.kill()
    assert child.wait() == child.wait(0) == -signal.SIGKILL
    child.kill()  # nobody else is hit
    assert not os.path.exists(f"/proc/{child.pid}")


def test_what_cannot_be_executed_is_an_error(pipe: tuple[int, int]) -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        spawn.start(["/nowhere"], {}, pipe[0])


def test_the_call_gives_the_interpreters_lock_away() -> None:
    keeps_the_lock = 0x4  # ctypes.h: FUNCFLAG_PYTHONAPI, what PyDLL sets
    assert not spawn._libc.posix_spawn._flags_ & keeps_the_lock
