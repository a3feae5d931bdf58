"""Compiled filters, kept in memory and on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lamina.linux import seccomp
from lamina.runtime.bundle import CAPABILITIES
from lamina.runtime.filters import Filters, filter_key
from lamina.runtime.profiles import InvalidOption, filter_of
from lamina.runtime.syscalls import default_filter

DOCUMENT = default_filter(CAPABILITIES, os.uname().machine)


def content(fd: int) -> bytes:
    return os.pread(fd, 1 << 20, 0)


def test_a_filter_is_compiled_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Filters(str(tmp_path))
    program = content(first.descriptor(DOCUMENT))
    assert first.descriptor(DOCUMENT) == first.descriptor(dict(DOCUMENT))

    def never(document: object) -> bytes:
        raise AssertionError(f"compiled again: {document}")

    monkeypatch.setattr(seccomp, "compile_filter", never)
    assert content(Filters(str(tmp_path)).descriptor(DOCUMENT)) == program


def test_containers_with_the_same_capabilities_share_one_filter_that_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filters, machine = Filters(str(tmp_path)), os.uname().machine
    fd = filters.descriptor(default_filter(CAPABILITIES, machine))
    other = filters.descriptor(default_filter([*CAPABILITIES, "SYS_ADMIN"], machine))
    monkeypatch.setattr("lamina.runtime.filters.filter_key", None)
    assert filters.descriptor(default_filter(reversed(CAPABILITIES), machine)) == fd
    assert filters.descriptor(default_filter([*CAPABILITIES, "SYS_ADMIN"], machine)) == other != fd
    assert content(fd) != content(other)


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 9000])
def test_a_damaged_one_is_compiled_again(tmp_path: Path, damage: bytes) -> None:
    program = content(Filters(str(tmp_path)).descriptor(DOCUMENT))
    (kept,) = tmp_path.glob("seccomp-*.bpf")
    kept.write_bytes(damage)
    assert content(Filters(str(tmp_path)).descriptor(DOCUMENT)) == program
    flipped = bytearray(kept.read_bytes())
    flipped[100] ^= 1
    kept.write_bytes(flipped)
    assert content(Filters(str(tmp_path)).descriptor(DOCUMENT)) == program


def test_the_key_depends_on_capabilities_and_machine() -> None:
    other = default_filter([*CAPABILITIES, "SYS_ADMIN"], "x86_64")
    assert len({filter_key(DOCUMENT, "x86_64"), filter_key(other, "x86_64"), filter_key(DOCUMENT, "aarch64")}) == 3


PROFILE: dict[str, object] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}, {"architecture": "SCMP_ARCH_S390", "subArchitectures": []}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "always"}, {"name": "write", "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arm_only"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}}, {"names": ["not_amd64"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}}, {"names": ["future"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("held", "names"), [((), ["read", "write", "clone3", "ptrace"]), (("SYS_ADMIN",), ["read", "write", "mount", "ptrace"])]
)
def test_a_profile_in_dockers_format_holds_for_this_host_and_these_capabilities(held: tuple[str, ...], names: list[str]) -> None:
    found = filter_of(json.dumps(PROFILE), held, "x86_64", "6.1.0-generic")
    assert [name for rule in found["syscalls"] for name in rule["names"]] == names
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert all(set(rule) <= {"names", "action", "errnoRet", "args"} for rule in found["syscalls"])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"defaultAction": 5}', '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 5}', '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [5]}]}',
     '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"]}]}', '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"includes": {"minKernel": "x"}}]}'],
)  # fmt: skip
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption):
        filter_of(text, (), "x86_64", "6.1.0")


def test_where_everything_is_allowed_the_newest_calls_are_too() -> None:
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}
    allowing = seccomp.compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    refusing = seccomp.compile_filter({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{**rule, "action": "SCMP_ACT_ALLOW"}]})
    not_there = (0x00050000 | 38).to_bytes(4, "little")
    assert not_there not in allowing and not_there in refusing
