"""What the C library does with memory that is freed (mallopt(3))."""

from __future__ import annotations

from lamina.linux.libc import libc

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed(*, most: int = 64 << 20, mapped: int = 16 << 20) -> None:
    """Use freed memory again instead of giving it back, up to `most` bytes; blocks of `mapped` bytes and more are given back.

    For processes that take and free buffers of a megabyte all the time and do not live long: fresh pages must be cleared by
    the kernel, and a virtual machine may have to fetch them from its host, which costs more than what is done with them.
    A C library without these options (musl) stays as it is.
    """
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, mapped)
        mallopt(_TRIM_THRESHOLD, most)


def give_back() -> None:
    """Give the system what is free, also what `keep_freed` kept (malloc_trim(3)); elsewhere than in the GNU C library nothing happens."""
    trim = getattr(libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
