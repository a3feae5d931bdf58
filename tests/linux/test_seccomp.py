"""The default filter, call by call, against what was recorded of dockerd's: the same or stricter."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.linux import seccomp
from lamina.runtime.bundle import CAPABILITIES
from lamina.runtime.syscalls import default_filter

RECORDED = Path(__file__).parent / "seccomp.dockerd.txt"
AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "x32": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, ENOSYS = 0x7FFF0000, 0x00050000 | 38
STRICTER = {
    "io_uring_setup": "its calls escape every filter; Docker 28 refuses it too",
    "io_uring_enter": "see io_uring_setup",
    "io_uring_register": "see io_uring_setup",
    "socket(38)": "AF_ALG led to the page cache (CVE-2026-31431); Docker 29 refuses it too",
    "socket(40)": "AF_VSOCK reaches the hypervisor past every network namespace; Docker 28 refuses it too",
}


def interpret(program: bytes, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What a classic BPF program returns for one call: only the instructions that seccomp filters use."""
    words = {0: number & 0xFFFFFFFF, 4: architecture}
    for index, value in enumerate(arguments):
        words[16 + 8 * index], words[20 + 8 * index] = value & 0xFFFFFFFF, value >> 32
    position = accumulator = 0
    while True:
        code, yes, no, value = seccomp._INSTRUCTION.unpack_from(program, position * 8)
        position += 1
        match code:
            case 0x20:
                accumulator = words.get(value, 0)
            case 0x06:
                return int(value)
            case 0x05:
                position += value
            case 0x54:
                accumulator &= value
            case 0x15:
                position += yes if accumulator == value else no
            case 0x25:
                position += yes if accumulator > value else no
            case 0x35:
                position += yes if accumulator >= value else no
            case _:
                raise AssertionError(f"an instruction that no filter should have: {code:#x}")


@pytest.fixture(scope="module")
def program() -> bytes:
    return seccomp.compile_filter(default_filter(CAPABILITIES, "x86_64"))


def call_name(number: int, architecture: str) -> str:
    """The name of a call's number."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    found = library.seccomp_syscall_resolve_num_arch(AUDIT[architecture], number)
    return found.decode() if found else str(number)


def recorded() -> list[tuple[str, str, str]]:
    """Architecture, call, verdict of dockerd's filter."""
    return [tuple(line.split()) for line in RECORDED.read_text().splitlines()]  # type: ignore[misc]


@pytest.mark.parametrize("architecture", ["x86_64", "i386", "x32", "aarch64"])
def test_nothing_is_allowed_that_dockerd_refuses_and_little_refused_that_it_allows(program: bytes, architecture: str) -> None:
    weaker, stricter = [], []
    for where, call, verdict in recorded():
        if where != architecture:
            continue
        text, _, argument = call.removesuffix(")").partition("(")
        number = {"personality": 135, "clone": 56, "socket": 41}.get(text) if argument else int(text)
        assert number is not None
        # Without an argument of its own a recorded line means the most harmless one.
        given = (int(argument, 0),) if argument else (0,)
        mine = interpret(program, AUDIT[architecture], number | (0x40000000 if architecture == "x32" else 0), given)
        name = call if argument else call_name(number, architecture)
        if mine == ALLOW and verdict != "ALLOW":
            weaker.append((name, verdict))
        if mine != ALLOW and verdict == "ALLOW" and name not in STRICTER:
            stricter.append(name)
    assert not weaker
    assert not stricter


@pytest.mark.parametrize("architecture", ["x86_64", "i386", "x32"])
def test_sockets_of_all_families_but_two_may_be_made(program: bytes, architecture: str) -> None:
    """CVE-2026-31431: AF_ALG sockets wrote to the page cache of files that could only be read."""
    call = {"x86_64": 41, "i386": 359, "x32": 0x40000000 | 41}[architecture]
    refused = [family for family in range(64) if interpret(program, AUDIT[architecture], call, (family,)) != ALLOW]
    assert refused == [socket.AF_ALG, socket.AF_VSOCK]


def test_what_is_newer_than_the_filter_is_not_there_instead_of_refused(program: bytes) -> None:
    assert interpret(program, AUDIT["x86_64"], 999) == ENOSYS
    assert interpret(program, AUDIT["x86_64"], 0x40000000 | 999) == ENOSYS
    assert interpret(program, AUDIT["i386"], 999) == ENOSYS
    assert interpret(program, AUDIT["x86_64"], 435) == ENOSYS


def test_a_capability_opens_its_calls_and_no_others() -> None:
    plain = seccomp.compile_filter(default_filter(CAPABILITIES, "x86_64"))
    admin = seccomp.compile_filter(default_filter([*CAPABILITIES, "SYS_ADMIN"], "x86_64"))
    mount, reboot = 165, 169
    assert interpret(plain, AUDIT["x86_64"], mount) != ALLOW
    assert interpret(admin, AUDIT["x86_64"], mount) == ALLOW
    assert interpret(admin, AUDIT["x86_64"], 56, (0x10000000,)) == ALLOW
    assert interpret(admin, AUDIT["x86_64"], reboot) != ALLOW


@pytest.mark.parametrize(
    "document",
    [
        {"defaultAction": "SCMP_ACT_NONSENSE"},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NONE"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "x"}]},
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "LIKE"}]}],
        },
    ],
)
def test_a_document_that_is_none_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(seccomp.InvalidFilter):
        seccomp.compile_filter(document)


def test_a_loaded_filter_confines() -> None:
    code = (
        "import ctypes, os; from lamina.linux import seccomp; from lamina.runtime.syscalls import default_filter;"
        "p = seccomp.compile_filter(default_filter([], os.uname().machine)); ctypes.CDLL(None).prctl(38, 1, 0, 0, 0); seccomp.load(p);"
        "print(os.getpid() > 0, ctypes.CDLL(None, use_errno=True).unshare(0x10000000))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "-1"], done.stderr
