"""seccomp(2): compile an OCI `linux.seccomp` document to a filter with libseccomp, and load a compiled one.

Compiling takes some 15 ms, so callers keep what it gives; loading needs nothing but the bytes. Before the
compiled filter, unless its default is to allow, stands a prelude that answers ENOSYS to calls newer than everything the document names:
with EPERM a C library would take the kernel to refuse what it only does not know.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from lamina.errors import InvalidArgument, Unsupported
from lamina.linux.libc import machine, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_INSTRUCTION = struct.Struct("<HBBI")
_LOAD, _EQUAL, _GREATER, _AT_LEAST, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_RETURN_ENOSYS = 0x00050000 | errno.ENOSYS
_X32_BIT = 0x40000000
_SET_MODE_FILTER = 1
_SYSCALL = {"x86_64": 317, "aarch64": 277}
_AUDIT = {
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
    "SCMP_ARCH_ARM": 0x40000028,
}
_NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
"""Defaults under which a call that the document does not name goes on: there the newest are no exception."""
_UNKNOWN_CALL = -1
_ATTRIBUTE_NO_NEW_PRIVILEGES, _ATTRIBUTE_OPTIMISE, _BINARY_TREE = 3, 8, 2


class InvalidFilter(InvalidArgument):
    """The document is not a seccomp filter."""


class SeccompUnavailable(Unsupported):
    """libseccomp is not installed, or the kernel has no seccomp."""


class _Argument(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint), ("op", ctypes.c_int), ("value", ctypes.c_uint64), ("other", ctypes.c_uint64)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def compile_filter(document: Mapping[str, Any]) -> bytes:
    """The BPF program of a `linux.seccomp` document, for `load`.

    Raises:
        InvalidFilter: an action, operator or architecture that does not exist.
        SeccompUnavailable: there is no libseccomp.
    """
    library = _library()
    context = library.seccomp_init(_action(document.get("defaultAction", ""), document.get("defaultErrnoRet")))
    if not context:
        raise InvalidFilter(f"no such seccomp action: {document.get('defaultAction')}")
    try:
        library.seccomp_attr_set(context, _ATTRIBUTE_NO_NEW_PRIVILEGES, 0)
        library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMISE, _BINARY_TREE)
        architectures = _add_architectures(library, context, document.get("architectures") or [])
        for rule in document.get("syscalls") or []:
            _add_rule(library, context, rule, document)
        prelude = b"" if document.get("defaultAction") in _PERMISSIVE else _prelude(library, document, architectures)
        return prelude + _export(library, context)
    finally:
        library.seccomp_release(context)


def load(program: bytes) -> None:
    """Confine this thread to a compiled filter, for good. Needs CAP_SYS_ADMIN, or no_new_privs set before.

    Raises:
        OSError: the kernel refused.
    """
    header = _Program(len(program) // _INSTRUCTION.size, program)
    syscall(_SYSCALL[machine], "seccomp", _SET_MODE_FILTER, 0, ctypes.byref(header))


def _library() -> Any:
    try:
        library: Any = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        raise SeccompUnavailable("libseccomp is not installed", hint="apt-get install libseccomp2") from None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Argument)]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    return library


def _action(name: str, errno_value: int | None) -> int:
    """libseccomp's number of an OCI action (seccomp.h)."""
    value = errno.EPERM if errno_value is None else errno_value
    actions = {
        "SCMP_ACT_KILL": 0,
        "SCMP_ACT_KILL_THREAD": 0,
        "SCMP_ACT_KILL_PROCESS": 0x80000000,
        "SCMP_ACT_TRAP": 0x00030000,
        "SCMP_ACT_ERRNO": 0x00050000 | value,
        "SCMP_ACT_LOG": 0x7FFC0000,
        "SCMP_ACT_ALLOW": 0x7FFF0000,
        "SCMP_ACT_TRACE": 0x7FF00000 | value,
    }
    if name not in actions:
        raise InvalidFilter(f"no such seccomp action: {name[:100]}")
    return actions[name]


def _add_architectures(library: Any, context: int, names: list[str]) -> list[str]:
    """Add all to the filter; gives them with the native one first."""
    native = _NATIVE[os.uname().machine]
    for name in names:
        if name not in _AUDIT:
            raise InvalidFilter(f"no such seccomp architecture: {name[:100]}")
        if name != native and (code := library.seccomp_arch_add(context, _AUDIT[name])):
            raise InvalidFilter(f"seccomp architecture {name}: {os.strerror(-code)}")
    return [native, *(name for name in names if name != native)]


def _add_rule(library: Any, context: int, rule: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    action = _action(rule.get("action", ""), rule.get("errnoRet"))
    if action == _action(document["defaultAction"], document.get("defaultErrnoRet")):
        return  # libseccomp refuses rules that say what the default says
    arguments = [_argument(argument) for argument in rule.get("args") or []]
    # Several comparisons of one argument mean "any of them", which libseccomp has as several rules.
    indexes = [argument.index for argument in arguments]
    groups = [[argument] for argument in arguments] if len(set(indexes)) < len(indexes) else [arguments]
    for name in rule.get("names") or []:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_CALL:
            continue  # a call this libseccomp does not know: the default, or ENOSYS, is what it gets
        for group in groups:
            array = (_Argument * len(group))(*group)
            if code := library.seccomp_rule_add_array(context, action, number, len(group), array):
                raise InvalidFilter(f"seccomp rule for {name}: {os.strerror(-code)}")


def _argument(document: Mapping[str, Any]) -> _Argument:
    operator = str(document.get("op", "")).removeprefix("SCMP_CMP_")
    if operator not in _OPERATORS:
        raise InvalidFilter(f"no such seccomp operator: {operator[:100]}")
    return _Argument(document.get("index", 0), _OPERATORS[operator], document.get("value", 0), document.get("valueTwo", 0))


def _export(library: Any, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        if code := library.seccomp_export_bpf(context, fd):
            raise InvalidFilter(f"a seccomp filter cannot be compiled: {os.strerror(-code)}")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _prelude(library: Any, document: Mapping[str, Any], architectures: list[str]) -> bytes:
    """Instructions that answer ENOSYS to what is newer than the newest call the document names, by architecture."""
    names = [name.encode() for rule in document.get("syscalls") or [] for name in rule.get("names") or []]
    newest = {}
    for architecture in architectures:
        numbers = [library.seccomp_syscall_resolve_name_arch(_AUDIT[architecture], name) for name in names]
        newest[architecture] = max((number & ~_X32_BIT for number in numbers if number >= 0), default=0)
    return b"".join(_prelude_instructions(newest))


def _prelude_instructions(newest: Mapping[str, int]) -> Iterator[bytes]:
    """One block an architecture: skip it if another's, else compare the number; a block's last instruction returns ENOSYS."""
    for architecture, number in newest.items():
        if architecture == "SCMP_ARCH_X32":
            continue  # its calls have x86_64's architecture and a bit in the number
        x32 = architecture == "SCMP_ARCH_X86_64"
        yield _INSTRUCTION.pack(_LOAD, 0, 0, _ARCHITECTURE)
        yield _INSTRUCTION.pack(_EQUAL, 0, 5 if x32 else 3, _AUDIT[architecture])
        yield _INSTRUCTION.pack(_LOAD, 0, 0, _NUMBER)
        if x32:
            yield _INSTRUCTION.pack(_AT_LEAST, 0, 1, _X32_BIT)
            yield _INSTRUCTION.pack(_GREATER, 1, 2, _X32_BIT | newest.get("SCMP_ARCH_X32", number))
            yield _INSTRUCTION.pack(_GREATER, 0, 1, number)
        else:
            yield _INSTRUCTION.pack(_GREATER, 0, 1, number)
        yield _INSTRUCTION.pack(_RETURN, 0, 0, _RETURN_ENOSYS)
