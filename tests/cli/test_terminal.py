"""Keys that detach, raw mode that is undone, streams over a pty."""

from __future__ import annotations

import os
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cli.terminal import DetachKeys, Raw, detach_sequence
from lamina.errors import InvalidArgument


def test_the_usual_keys_are_ctrl_p_ctrl_q() -> None:
    assert detach_sequence("ctrl-p,ctrl-q") == b"\x10\x11"
    assert detach_sequence("a,ctrl-@,ctrl-[,ctrl-_") == b"a\x00\x1b\x1f"


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-pp", "ab", "", "ctrl-1"])
def test_other_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        detach_sequence(text)


def test_a_sequence_that_breaks_off_is_passed_on() -> None:
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"a\x10") == (b"a", False)
    assert keys.feed(b"b") == (b"\x10b", False)
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"\x11never") == (b"", True)


@given(st.lists(st.sampled_from([b"x", b"\x10", b"yz", b"\x10\x10"])))
def test_nothing_typed_is_lost(pieces: list[bytes]) -> None:
    keys, passed = DetachKeys(b"\x10\x11"), b""
    for piece in [*pieces, b"."]:
        passed += keys.feed(piece)[0]
    assert passed == b"".join(pieces) + b"."


def test_raw_mode_is_undone_whatever_happens() -> None:
    leader, follower = os.openpty()
    before = termios.tcgetattr(follower)
    with pytest.raises(KeyError), Raw(follower):
        assert not termios.tcgetattr(follower)[3] & termios.ECHO
        raise KeyError
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)
