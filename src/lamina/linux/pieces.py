"""How much one system call moves where much is to be moved.

A kernel that is not interrupted in its own work (PREEMPT_NONE, usual on servers) leaves a processor to nobody else before a call is over,
however urgent. A megabyte written into fresh pages takes 2 to 6 ms where a virtual machine must first get them from its host: then every
answer on that processor waits for that long. More calls for the same bytes cost little beside the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

PIECE = 1 << 17
"""Bytes that a call reads from a network, or writes to a file, at most."""
_MOST = 1024  # UIO_MAXIOV


def first(views: Sequence[memoryview]) -> list[memoryview]:
    """What one call writes of them: PIECE bytes from their beginning, or all where that is less."""
    taken, room = [], PIECE
    for view in views[:_MOST]:
        taken.append(view[:room])
        room -= len(taken[-1])
        if not room:
            break
    return taken
