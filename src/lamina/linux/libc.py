"""The C library and raw system calls, as most files of this folder use them.

Calls keep the interpreter's lock: they are short, and a process made by clone3 must not depend on other threads. Files whose calls may
wait (for a disk in `mount` and `openat2`, for a program in `spawn`) have a `ctypes.CDLL` of their own, which gives the lock away meanwhile.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

libc: Any = ctypes.PyDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
machine = os.uname().machine


def check(result: int, what: str) -> int:
    """`result`, or the error of the call just made.

    Raises:
        OSError: `result` is negative; `what` names the call.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, what: str, *arguments: Any) -> int:
    """One system call by number. Integers go as longs, bytes and ctypes objects as pointers."""
    passed = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return check(int(libc.syscall(ctypes.c_long(number), *passed)), what)
