"""Turns on a processor: a thread that has little to do gets one at once, one with much to do takes long ones (sched(7), sched_setattr(2)).

Since Linux 6.12 a thread can ask for the length of its turns: one that wakes up with shorter turns interrupts one with longer
ones, where it would have waited for the end of that turn (3 to 4 ms, with every processor taken). Shares of processor time do
not change by it. Older kernels ignore the length. Threads and processes inherit the length from the one that starts them.

Threads that answer also go ahead of other programs (a lower nice value, where the daemon may): each of them may hold the interpreter's
lock, and one that is put aside with it makes all others wait. Those that move bytes stay where they are, since they compute for long
(hash): ahead, they would keep the client waiting that is to read the answer. What a thread that is ahead starts, threads and processes
alike, is not (SCHED_FLAG_RESET_ON_FORK): a container least of all.

Both in moderation. An answer's turn is long enough for the usual answer: a thread whose turn is over gives way at the next wake-up of any
other. And what it takes counts: a client on the same processor, interrupted by the answer that it asked for, may go on only once the others
have got more than it has (EEVDF: whoever is owed nothing waits). A thread far ahead of all others is charged next to nothing for its turn;
then the next turn is a worker's, and the client waits for the timer, 4 ms and more.

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
# Nanoseconds; the kernel takes 0.1 to 100 ms. 0 is its own default: 0.7 ms with one processor, from 1.4 with several.
_SHORT, _USUAL, _LONG = (1_000_000 if (os.cpu_count() or 1) > 1 else 500_000), 0, 20_000_000
_BACKGROUND, _AHEAD = 10, 3
_RESET_ON_FORK = 0x01


def take_short_turns() -> None:
    """The calling thread answers somebody: it goes ahead of other programs, and interrupts what takes longer turns.

    Ahead of the whole process's nice value, lest calling it twice go further; a thread that was put ahead more than that stays there.
    """
    try:
        usual, own = _nice_values()
        _set(0, _OTHER, _RESET_ON_FORK, min(own, usual - _AHEAD), _SHORT)
    except OSError:
        _ask(0, _OTHER, _SHORT)  # not without CAP_SYS_NICE


def take_usual_turns() -> None:
    """The calling thread is like any other of its process, whatever started it."""
    try:
        usual, own = _nice_values()
        _set(0, _OTHER, 0, usual if own == usual - _AHEAD else own, _USUAL)
    except OSError:
        pass  # a hint


def take_long_turns() -> None:
    """The calling thread moves many bytes: threads that answer, and clients that wait for that, interrupt it. It keeps its share."""
    _ask(0, _BATCH, _LONG)


def work_in_the_background(thread: int = 0) -> None:
    """A thread (0: the calling one), and those it starts from now on, take a small share of the processors: a tenth of another's."""
    _ask(thread, _BATCH, _LONG, _BACKGROUND)


class WhatIsLeft:
    """While inside, a thread that works in the background, and those it starts, leave the processors at once to whoever else wants them.

    A small share does not do that: a thread that has waited for it long enough gets a whole turn, and somebody else's answer waits for
    its end. Where others compute without end, nothing is left: somebody has to look (`lamina.worker.patience`). Other threads stay as they
    are.
    """

    __slots__ = ("_lowered",)

    def __enter__(self) -> None:
        try:
            self._lowered = turns()[0] == _BATCH
        except OSError:
            self._lowered = False  # a hint
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


def _nice_values() -> tuple[int, int]:
    """Of this process (its first thread) and of the calling thread."""
    return os.getpriority(os.PRIO_PROCESS, os.getpid()), os.getpriority(os.PRIO_PROCESS, 0)


def _ask(thread: int, policy: int, length: int, least: int = -20) -> None:
    """The nice value becomes `least` where it is lower, and stays otherwise."""
    try:
        _set(thread, policy, 0, max(least, os.getpriority(os.PRIO_PROCESS, thread)), length)
    except OSError:
        pass  # a hint


def _set(thread: int, policy: int, flags: int, nice: int, length: int) -> None:
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, flags, max(-20, nice), 0, length, 0, 0)
    syscall(_SCHED_SETATTR, "sched_setattr", thread, attributes, 0)
