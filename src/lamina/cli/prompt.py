"""Asks before something is removed."""

from __future__ import annotations

import sys


def agreed(warning: str) -> bool:
    """Whether the user says yes; the end of input is no."""
    sys.stdout.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
