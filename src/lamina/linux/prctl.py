"""prctl(2), keyrings and the like: what a process says about itself."""

from __future__ import annotations

import ctypes
import os

from lamina.linux.libc import check, libc, machine, syscall

_PDEATHSIG, _DUMPABLE, _KEEPCAPS, _NAME = 1, 4, 8, 15
_CHILD_SUBREAPER, _NO_NEW_PRIVS = 36, 38
_SECUREBITS, _NO_SETUID_FIXUP = 28, 4
_KEYCTL = {"x86_64": 250, "aarch64": 219}[machine]
_JOIN_SESSION_KEYRING = 1


def _prctl(what: str, option: int, *values: int) -> None:
    passed = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    check(libc.prctl(option, *passed), what)


def die_with_parent(number: int = 9) -> None:
    """Ask for a signal when the thread that made this process ends. Changing ids forgets it."""
    _prctl("PR_SET_PDEATHSIG", _PDEATHSIG, number)


def set_undumpable() -> None:
    """Nobody unprivileged may trace this process or read its memory, descriptors, executable."""
    _prctl("PR_SET_DUMPABLE", _DUMPABLE, 0)


def keep_capabilities(*, keep: bool) -> None:
    """Whether leaving uid 0 keeps the permitted capabilities."""
    _prctl("PR_SET_KEEPCAPS", _KEEPCAPS, int(keep))


def set_file_ids(uid: int, gid: int) -> None:
    """Whose the files are that this thread makes; unlike with seteuid its capabilities stay. 0, 0 gives root back."""
    _prctl("PR_SET_SECUREBITS", _SECUREBITS, _NO_SETUID_FIXUP)
    libc.setfsgid(gid)
    libc.setfsuid(uid)
    if not uid and not gid:
        _prctl("PR_SET_SECUREBITS", _SECUREBITS, 0)


def set_name(name: str) -> None:
    """The process's name as ps shows it, cut at 15 bytes."""
    buffer = ctypes.create_string_buffer(os.fsencode(name)[:15])
    _prctl("PR_SET_NAME", _NAME, ctypes.addressof(buffer))


def set_no_new_privileges() -> None:
    """No execve gives privileges any more."""
    _prctl("PR_SET_NO_NEW_PRIVS", _NO_NEW_PRIVS, 1)


def adopt_orphans(*, adopt: bool) -> None:
    """Whether orphans below become this process's children."""
    _prctl("PR_SET_CHILD_SUBREAPER", _CHILD_SUBREAPER, int(adopt))


def join_new_keyring(name: str) -> None:
    """A session keyring of its own: the host's keys are out of reach."""
    syscall(_KEYCTL, "keyctl", _JOIN_SESSION_KEYRING, os.fsencode(name))
