"""Mounting: mount(2), the descriptor calls (fsopen, fsconfig, fsmount, move_mount, open_tree) and loop devices.

Each function is one call and raises OSError with the name of what failed. Only light modules of
the standard library are imported: a container's init uses this too.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_NOATIME = 1, 2, 4, 8, 32, 1024
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 4096, 16384, 1 << 18, 1 << 19, 1 << 20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
_ATTR_IDMAP = 0x100000
_MADE_UP = frozenset({0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x64626720, 0x74726163, 0x73636673})
"""linux/magic.h: proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs."""
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000

# These numbers are the same on every architecture (asm-generic/unistd.h).
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_SET_FLAG, _SET_STRING, _SET_FD, _CREATE = 0, 1, 5, 6
_CLOEXEC = 1
_OPEN_TREE_CLONE = 1
_MOVE_FROM_EMPTY, _MOVE_TO_EMPTY = 0x4, 0x40

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE, _LOOP_SET_CAPACITY = 0x4C82, 0x4C0A, 0x4C07
_LO_READ_ONLY, _LO_AUTOCLEAR = 1, 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")
    return result


def _syscall(number: int, what: str, *arguments: int | bytes | None) -> int:
    """One raw system call; integers are passed as longs, bytes as pointers."""
    passed = [ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value) for value in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *passed), what)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). `kind` is the file system's type; both it and `data` may be empty."""
    encoded = [os.fsencode(text) if text else None for text in (source or "none", target, kind)]
    _check(_libc.mount(*encoded, flags, os.fsencode(data) if data else None), f"mount {kind or 'flags'} on {target}")


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def fsopen(kind: str) -> int:
    """A descriptor of a new file system context; the caller closes it."""
    return _syscall(_FSOPEN, f"fsopen {kind}", os.fsencode(kind), _CLOEXEC)


def set_string(context: int, key: str, value: str) -> None:
    """Give a context one option with a value."""
    _configure(context, _SET_STRING, key, os.fsencode(value), 0)


def set_flag(context: int, key: str) -> None:
    """Give a context one option without a value."""
    _configure(context, _SET_FLAG, key, None, 0)


def set_fd(context: int, key: str, fd: int) -> None:
    """Give a context an open file as an option's value (overlayfs: since Linux 6.13)."""
    _configure(context, _SET_FD, key, None, fd)


def create(context: int) -> None:
    """Make the superblock, or find it, from the options given."""
    _configure(context, _CREATE, "", None, 0)


def _configure(context: int, command: int, key: str, value: bytes | None, aux: int) -> None:
    what = f"fsconfig {key or 'create'}"
    try:
        _syscall(_FSCONFIG, what, context, command, os.fsencode(key) if key else None, value, aux)
    except OSError as error:
        said = _messages(context)
        raise OSError(error.errno, f"{what}: {said or os.strerror(error.errno or 0)}") from None


def _messages(context: int) -> str:
    """What the kernel wrote into the context's log, in one line."""
    lines: list[str] = []
    try:
        while len(lines) < 8:
            lines.append(os.read(context, 512).decode(errors="replace").strip()[2:])
    except OSError:
        pass
    return "; ".join(lines)


def fsmount(context: int, attributes: int = 0) -> int:
    """A descriptor of a detached mount of a created context; closing it unmounts, unless it was moved."""
    return _syscall(_FSMOUNT, "fsmount", context, _CLOEXEC, attributes)


def open_tree(path: str, *, recursive: bool = False, directory: int = AT_FDCWD) -> int:
    """A descriptor of a detached copy (a bind mount) of what is at `path`; empty: of `directory` itself."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    return _syscall(_OPEN_TREE, f"open_tree {path}", directory, os.fsencode(path), flags)


def move_mount(fd: int, target: str, *, directory: int = AT_FDCWD) -> None:
    """Attach a detached mount at `target`; empty: on `directory` itself."""
    flags = _MOVE_FROM_EMPTY | (0 if target else _MOVE_TO_EMPTY)
    _syscall(_MOVE_MOUNT, f"move_mount to {target}", fd, b"", directory, os.fsencode(target), flags)


def set_attributes(fd: int, add: int, remove: int = 0, *, recursive: bool = False, propagation: int = 0) -> None:
    """mount_setattr(2) on the mount that `fd` is of."""
    attributes = struct.pack("QQQQ", add, remove, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall(_MOUNT_SETATTR, "mount_setattr", fd, b"", flags, attributes, len(attributes))


def map_ids(fd: int, owner: int, *, recursive: bool = False) -> None:
    """Let a detached mount show and store ids as a user namespace (a descriptor of one) sees them: its root's files are 0's on disk.

    Raises:
        OSError: EINVAL where a file system below cannot.
    """
    attributes = struct.pack("QQQQ", _ATTR_IDMAP, 0, 0, owner)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall(_MOUNT_SETATTR, "mount_setattr idmap", fd, b"", flags, attributes, len(attributes))


def made_up(fd: int) -> bool:
    """Whether what a descriptor is of lies in /proc, /sys or a file system like those: the kernel writes its files when they are read, and
    their sizes say nothing."""
    # struct statfs begins with f_type, a long; nothing in it is as long as what is left for it here.
    found = (ctypes.c_ulong * 64)()
    _check(_libc.fstatfs(fd, found), "fstatfs")
    return found[0] in _MADE_UP


def loop_attach(path: str, *, write: bool = False) -> tuple[int, str]:
    """Put a file behind a free loop device, read-only or not, freed by its last user. The caller closes the descriptor."""
    mode = os.O_RDWR if write else os.O_RDONLY
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    backing = -1
    try:
        backing = os.open(path, mode | os.O_CLOEXEC)
        while True:
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            fd = os.open(device, mode | os.O_CLOEXEC)
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, _loop_config(backing, 0 if write else _LO_READ_ONLY))
                return fd, device
            except OSError as error:
                os.close(fd)
                if error.errno != 16:  # EBUSY: somebody else took it first
                    raise
    finally:
        os.close(control)
        if backing >= 0:
            os.close(backing)


def loop_grow(device: str) -> None:
    """Tell a loop device that its file has grown."""
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _LOOP_SET_CAPACITY)
    finally:
        os.close(fd)


def _loop_config(backing: int, flags: int) -> bytes:
    """struct loop_config of linux/loop.h: descriptor, block size, loop_info64, reserved."""
    information = struct.pack("=QQQQQIIII", 0, 0, 0, 0, 0, 0, 0, 0, flags | _LO_AUTOCLEAR)
    return struct.pack("=II", backing, 512) + information.ljust(232, b"\0") + bytes(64)
