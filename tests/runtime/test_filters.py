"""Compiled filters, kept in memory and on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.linux import seccomp
from lamina.runtime.bundle import CAPABILITIES
from lamina.runtime.filters import Filters, filter_key
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
