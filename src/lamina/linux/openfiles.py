"""How many files a process may have open (RLIMIT_NOFILE, getrlimit(2))."""

from __future__ import annotations

import resource

MOST = 1 << 16
"""As many as the engine asks for: a higher limit makes programs slow that close all they could have open."""


def allow_many() -> None:
    """Raise this process's soft limit, where its hard one allows, for a stack of layers takes a few files of each. Shells give 1024,
    for the sake of select(2), which nothing here uses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
