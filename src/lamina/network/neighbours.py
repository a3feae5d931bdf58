"""Other packet filters on the same host. A dockerd drops what it does not know, and has a chain where others say what may pass; a
firewalld refuses to forward for interfaces that are in no zone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable

from lamina.errors import LaminaError
from lamina.linux import nftables
from lamina.linux.netlink import NETFILTER, Netlink

CHAIN = "DOCKER-USER"
FIREWALLD = "firewalld"
"""firewalld's table of nf_tables: there as long as it runs."""
_ZONE = "--zone=trusted"
_PATIENCE = 30.0
"""Seconds that iptables may take, which waits for its lock, and firewall-cmd, which waits for the end of a reload."""


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


def trust(bridges: Iterable[str], run: Callable[..., bool] | None = None) -> None:
    """Put bridges into firewalld's zone `trusted`, until it ends. What the host's administrator put into another zone stays there."""
    words = [f"--add-interface={bridge}" for bridge in bridges]
    if words:
        (run or firewall_cmd)(_ZONE, *words)


def distrust(bridge: str, run: Callable[..., bool] | None = None) -> None:
    """Take that back; a bridge that is not there changes nothing."""
    (run or firewall_cmd)(_ZONE, f"--remove-interface={bridge}")


def firewall_cmd(*words: str) -> bool:
    """Whether a running firewalld did it. Without one this is quick."""
    program = shutil.which("firewall-cmd")
    return program is not None and _firewalld_runs() and _done([program, "--quiet", *words])


def _firewalld_runs() -> bool:
    try:
        with Netlink(NETFILTER) as connection:
            return any(name == FIREWALLD for _, name in nftables.tables(connection))
    except (OSError, LaminaError):
        return False


def iptables(*words: str) -> bool:
    """Whether iptables(8) did it: the one that is installed, as dockerd uses it, be it of nftables or of old."""
    program = shutil.which("iptables")
    return program is not None and _done([program, "-w", *words])


def _done(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
