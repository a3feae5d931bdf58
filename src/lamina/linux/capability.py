"""capabilities(7): names, the sets of this thread, the bounding set."""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN "
    "NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
).split()
"""By number, without `CAP_`."""

_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 24, 47, 2, 4
_libc = ctypes.CDLL(None, use_errno=True)
_known: list[int] = []


def mask(names: Iterable[str]) -> int:
    """The bits of capabilities, with or without `CAP_`.

    Raises:
        KeyError: there is no capability of that name.
    """
    bits = 0
    for name in names:
        plain = name.upper().removeprefix("CAP_")
        if plain not in NAMES:
            raise KeyError(name)
        bits |= 1 << NAMES.index(plain)
    return bits


def last() -> int:
    """The highest capability's number that this kernel knows. Read once: whoever forks later finds it here."""
    if not _known:
        with open("/proc/sys/kernel/cap_last_cap", "rb") as file:  # text would load a codec, which init cannot
            _known.append(int(file.read()))
    return _known[0]


def held() -> tuple[int, int, int]:
    """This thread's effective, permitted and inheritable sets."""
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(struct.pack("Ii", _VERSION_3, 0), data))
    low = struct.unpack("6I", data.raw)
    return tuple(low[index] | low[index + 3] << 32 for index in range(3))


def bounding() -> int:
    """This thread's bounding set."""
    with open("/proc/thread-self/status", encoding="ascii") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd:"))


def set_sets(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for this thread."""
    parts = [value >> shift & 0xFFFFFFFF for shift in (0, 32) for value in (effective, permitted, inheritable)]
    _check(_libc.capset(struct.pack("Ii", _VERSION_3, 0), struct.pack("6I", *parts)))


def drop_bounding(keep: int, highest: int) -> None:
    """Leave only `keep` in the bounding set; needs CAP_SETPCAP. `highest` is `last()`, asked before /proc is gone."""
    for number in range(highest + 1):
        if not keep >> number & 1:
            _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))


def set_ambient(bits: int, highest: int) -> None:
    """Replace the ambient set; all of it must be permitted and inheritable."""
    _check(_libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0))
    for number in range(highest + 1):
        if bits >> number & 1:
            _check(_libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, number, 0, 0))


def _check(result: int) -> None:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
