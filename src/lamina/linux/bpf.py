"""bpf(2): programs that decide which devices the processes of a version 2 cgroup may use."""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

_CALL = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_CGROUP_DEVICE_PROGRAM, _CGROUP_DEVICE_ATTACH, _ALLOW_MULTI = 15, 6, 2
_INSTRUCTION = struct.Struct("<BBhi")
_LOAD_WORD, _AND, _SHIFT_RIGHT, _MOVE, _MOVE_VALUE = 0x61, 0x54, 0x74, 0xBC, 0xB4
_UNLESS_EQUAL, _UNLESS_EQUAL_REGISTER, _IF_EQUAL, _EXIT = 0x55, 0x5D, 0x15, 0x95
_KINDS = {"b": 1, "c": 2}
_ACCESSES = {"m": 1, "r": 2, "w": 4}
_EVERY_ACCESS = 7


def device_program(rules: Sequence[Mapping[str, Any]]) -> bytes:
    """The instructions for OCI `linux.resources.devices`: the last rule that fits decides, nothing fits means no."""
    out = [
        _instruction(_LOAD_WORD, 2, 1, 0),  # r2 = kind, the low half of access_type
        _instruction(_AND, 2, 0, 0, 0xFFFF),
        _instruction(_LOAD_WORD, 3, 1, 0),  # r3 = what is asked for
        _instruction(_SHIFT_RIGHT, 3, 0, 0, 16),
        _instruction(_LOAD_WORD, 4, 1, 4),  # r4 = major
        _instruction(_LOAD_WORD, 5, 1, 8),  # r5 = minor
    ]
    for rule in reversed(rules):
        out += _rule(rule)
        if _fits_all(rule):
            # The verifier refuses programs with instructions that are never reached.
            return b"".join(out)
    out += [_instruction(_MOVE_VALUE, 0, 0, 0, 0), _instruction(_EXIT)]
    return b"".join(out)


def _fits_all(rule: Mapping[str, Any]) -> bool:
    numbers = [rule.get("major"), rule.get("minor")]
    return (
        (rule.get("type") or "a") == "a"
        and all(number is None or number < 0 for number in numbers)
        and set(rule.get("access") or "rwm") >= set(_ACCESSES)
    )


def _rule(rule: Mapping[str, Any]) -> Iterator[bytes]:
    """Compare, and decide if all fits; each comparison skips what is left of this rule."""
    tests: list[tuple[int, int, int, int]] = []  # opcode, destination, source, value
    allow = bool(rule.get("allow"))
    if (kind := rule.get("type") or "a") in _KINDS:
        tests.append((_UNLESS_EQUAL, 2, 0, _KINDS[kind]))
    for register, key in ((4, "major"), (5, "minor")):
        number = rule.get(key)
        if number is not None and number >= 0:
            tests.append((_UNLESS_EQUAL, register, 0, number))
    access = sum(_ACCESSES[letter] for letter in set(rule.get("access") or "rwm"))
    masked = access != _EVERY_ACCESS
    length = len(tests) + (3 if masked else 0) + 2
    for position, (opcode, destination, source, value) in enumerate(tests):
        yield _instruction(opcode, destination, source, length - position - 1, value)
    if masked:
        yield _instruction(_MOVE, 1, 3)
        yield _instruction(_AND, 1, 0, 0, access)
        # Allowed only if all that is asked for is granted; refused if any of it is.
        yield _instruction(_UNLESS_EQUAL_REGISTER, 1, 3, 2) if allow else _instruction(_IF_EQUAL, 1, 0, 2, 0)
    yield _instruction(_MOVE_VALUE, 0, 0, 0, int(allow))
    yield _instruction(_EXIT)


def _instruction(opcode: int, destination: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return _INSTRUCTION.pack(opcode, source << 4 | destination, offset, value)


def attach_device_program(cgroup: int, program: bytes) -> None:
    """Attach a program to a cgroup's directory, an open descriptor; it holds as long as the cgroup does.

    Raises:
        OSError: the kernel refused; needs CAP_SYS_ADMIN or CAP_BPF with CAP_NET_ADMIN.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    license_name = ctypes.create_string_buffer(b"Apache")
    load = struct.pack(
        "<IIQQIIQII",
        _CGROUP_DEVICE_PROGRAM,
        len(program) // _INSTRUCTION.size,
        ctypes.addressof(instructions),
        ctypes.addressof(license_name),
        0,
        0,
        0,
        0,
        0,
    )
    loaded = _bpf(_PROG_LOAD, load)
    try:
        _bpf(_PROG_ATTACH, struct.pack("<IIII", cgroup, loaded, _CGROUP_DEVICE_ATTACH, _ALLOW_MULTI))
    finally:
        os.close(loaded)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    result = int(ctypes.CDLL(None, use_errno=True).syscall(_CALL[os.uname().machine], command, buffer, len(buffer)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf: {os.strerror(number)}")
    return result
