"""Turns on a processor: who waits for little gets one at once, who has much to do takes long ones (sched(7), sched_setattr(2)).

Since Linux 6.12 a thread can ask for the length of its turns: one that wakes up with shorter turns interrupts one with longer
ones, where it would have waited for the end of that turn (3 to 4 ms, with every processor taken). Shares of processor time do
not change by it. Older kernels ignore the length. Threads and processes inherit what the one that starts them has.

These are hints: where the kernel refuses one, all goes on as before.
"""

from __future__ import annotations

import ctypes
import os
import struct

from lamina.linux.libc import machine, syscall

_SCHED_SETATTR, _SCHED_GETATTR = {"x86_64": (314, 315), "aarch64": (274, 275)}[machine]
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, deadline, period: the call's first version
_OTHER, _BATCH, _IDLE = 0, 3, 5
_SHORT, _USUAL, _LONG = 100_000, 0, 20_000_000  # nanoseconds; the kernel takes 0.1 to 100 ms, 0 is its own default
_BACKGROUND = 10


def take_short_turns() -> None:
    """The calling thread answers somebody: it interrupts what takes longer turns."""
    _ask(0, _OTHER, _SHORT)


def take_usual_turns() -> None:
    """The calling thread is like any other, whatever started it."""
    _ask(0, _OTHER, _USUAL)


def take_long_turns() -> None:
    """The calling thread moves many bytes. It keeps its share, since it may hold the interpreter's lock."""
    _ask(0, _BATCH, _LONG)


def work_in_the_background(thread: int = 0) -> None:
    """A thread (0: the calling one), and those it starts from now on, take a small share of the processors: a tenth of another's."""
    _ask(thread, _BATCH, _LONG, _BACKGROUND)


class WhatIsLeft:
    """While inside, a thread that works in the background, and those it starts, leave the processors at once to whoever else wants them.

    A small share does not do that: who has waited for it long enough gets a whole turn, and somebody else's answer waits for its end.
    Where others compute without end, nothing is left: somebody has to look (`lamina.worker.patience`). Other threads stay as they are.
    """

    __slots__ = ("_lowered",)

    def __enter__(self) -> None:
        self._lowered = turns()[0] == _BATCH
        if self._lowered:
            _ask(0, _IDLE, _LONG, _BACKGROUND)

    def __exit__(self, *_raised: object) -> None:
        if self._lowered:
            work_in_the_background()


def turns(thread: int = 0) -> tuple[int, int, int]:
    """What a thread has (0: the calling one): policy (os.SCHED_…), nice value, length of a turn in nanoseconds (0 before Linux 6.12)."""
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    syscall(_SCHED_GETATTR, "sched_getattr", thread, buffer, len(buffer), 0)
    _, policy, _, nice, _, length, _, _ = _ATTRIBUTES.unpack(buffer.raw)
    return policy, nice, length


def _ask(thread: int, policy: int, length: int, least: int = -20) -> None:
    """The nice value becomes `least` where it is lower, and stays otherwise."""
    try:
        nice = max(least, os.getpriority(os.PRIO_PROCESS, thread))
        attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, 0, nice, 0, length, 0, 0)
        syscall(_SCHED_SETATTR, "sched_setattr", thread, attributes, 0)
    except OSError:
        pass
