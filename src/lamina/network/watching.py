"""Hears when somebody else takes rules away: `nft flush ruleset`, a reload of the host's filter, a dockerd that makes its chains anew.

The kernel tells every change of nf_tables (the group NFNLGRP_NFTABLES) with the number of the socket that asked for it, so our own are
passed over.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress

from lamina.linux import nftables
from lamina.linux.netlink import NETFILTER, Netlink
from lamina.network.neighbours import CHAIN, FIREWALLD

_SETTLING = 200.0
"""Milliseconds of silence that are waited for before rules are written again: who reloads takes many away one by one."""


class Watch:
    """One thread, once `begin` was called. `sender` is the number of the socket that writes `table`; `changed` is called when something
    of it was taken away, a dockerd beside made or emptied its chain for others, or a firewalld was started or reloaded."""

    def __init__(self, table: str, sender: Callable[[], int], changed: Callable[[], None]) -> None:
        self._table, self._sender, self._changed = table, sender, changed
        self._lock = threading.Lock()
        self._connection: Netlink | None = None
        self._woken, self._wake = -1, -1
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Listen from now on; repeating does nothing. Where the kernel does not tell, nothing is heard."""
        with self._lock:
            if self._thread is not None:
                return
            try:
                self._connection = self._connection or Netlink(NETFILTER, groups=(nftables.CHANGES,))
            except OSError:
                return
            if self._wake < 0:
                self._woken, self._wake = os.pipe2(os.O_CLOEXEC)
            thread = threading.Thread(target=self._run, name="rules", daemon=True)
            with suppress(RuntimeError):  # there is no room for one: who begins next tries again
                thread.start()
                self._thread = thread

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            if self._thread is None or self._connection is None:
                return
            os.write(self._wake, b"x")
            self._thread.join(5)
            self._connection.close()
            os.close(self._wake)
            os.close(self._woken)
            self._thread = self._connection = None
            self._woken = self._wake = -1

    def _run(self) -> None:
        assert self._connection is not None
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        changed = False
        while True:
            ready = poll.poll(_SETTLING if changed else None)
            if any(fd == self._woken for fd, _ in ready):
                return
            if ready:
                changed |= self._heard()
            else:
                self._changed()
                changed = False

    def _heard(self) -> bool:
        """Whether rules of ours are gone, a dockerd changed the chain that ours are in, or a firewalld made its own anew."""
        assert self._connection is not None
        try:
            changes = list(nftables.changes(self._connection.heard()))
        except OSError:  # too much came at once, and some of it was dropped
            return True
        own = self._sender()
        return any(
            (change.removed and change.table == self._table and change.sender != own)
            or (change.chain == CHAIN and (change.made_chain or change.removed))
            or (change.table == FIREWALLD and change.made_chain)
            for change in changes
        )
