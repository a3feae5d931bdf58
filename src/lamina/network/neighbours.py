"""Other engines' packet filters on the same host: dockerd drops what it does not know, and has a chain where others say what may pass."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

CHAIN = "DOCKER-USER"
_PATIENCE = 10.0
"""Seconds that iptables may take, which waits for its lock."""


def admit(bridge: str, run: Callable[..., bool] | None = None) -> bool:
    """Let a bridge's packets pass a dockerd's filter, where there is one; whether there is. Repeating changes nothing."""
    run = run or iptables
    if not run("-n", "-L", CHAIN):
        return False
    for side in ("-i", "-o"):
        if not run("-C", CHAIN, side, bridge, "-j", "ACCEPT"):
            run("-I", CHAIN, side, bridge, "-j", "ACCEPT")
    return True


def dismiss(bridge: str, run: Callable[..., bool] | None = None) -> None:
    """Take that back; where nothing was said nothing is done."""
    run = run or iptables
    if run("-n", "-L", CHAIN):
        for side in ("-i", "-o"):
            run("-D", CHAIN, side, bridge, "-j", "ACCEPT")


def iptables(*words: str) -> bool:
    """Whether iptables(8) did it: the one that is installed, as dockerd uses it, be it of nftables or of old."""
    program = shutil.which("iptables")
    if program is None:
        return False
    try:
        done = subprocess.run([program, "-w", *words], capture_output=True, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
