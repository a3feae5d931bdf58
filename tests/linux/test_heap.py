"""Freed memory is used again."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from lamina.linux.libc import libc

_SCRIPT = """
import resource, sys
from lamina.linux.heap import keep_freed
if sys.argv[1] == "keep":
    keep_freed()
for _ in range(4):
    bytes(1 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    held = [b"x" * (3 << 20), b"y" * (3 << 20)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


_GIVEN_BACK = """
import os
from lamina.linux.heap import give_back, keep_freed
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
keep_freed()
held = [b"x" * (1 << 20) for _ in range(40)]
del held
before = resident()
give_back()
print(before - resident())
"""


def said(script: str, *words: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    return int(done.stdout)


def faults(how: str) -> int:
    return said(_SCRIPT, how)


@pytest.mark.skipif(not hasattr(libc, "mallopt"), reason="a C library without mallopt")
def test_buffers_that_come_and_go_need_no_fresh_pages() -> None:
    pages = 100 * (6 << 20) // resource.getpagesize()
    assert faults("keep") < pages / 10


@pytest.mark.skipif(not hasattr(libc, "malloc_trim"), reason="a C library without malloc_trim")
def test_what_was_kept_is_given_back() -> None:
    assert said(_GIVEN_BACK) > 30 << 20
