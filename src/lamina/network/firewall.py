"""The engine's nftables table: kept as networks and ports want it, nobody else's touched."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address

from lamina.linux import conntrack, nftables
from lamina.linux.netlink import NETFILTER, Netlink, NetlinkError, Request
from lamina.network import ruleset
from lamina.network.model import NetworkUnavailable, Published

_DEFAULT_ROOT = "/var/lib/lamina"
_MISSING = (errno.EOPNOTSUPP, errno.ENOENT, errno.EPROTONOSUPPORT, errno.EPERM)


class Firewall:
    """One table. Thread-safe. `state` tells what it should hold: networks, published ports, whether 127.0.0.1 goes through the kernel."""

    def __init__(self, table: str, state: Callable[[], tuple[Sequence[ruleset.Rules], Sequence[Published], bool]]) -> None:
        self.table = table
        self._state = state
        self._lock = threading.Lock()
        self._connection: Netlink | None = None
        self._changes = 0

    def renew(self) -> None:
        """Write the whole table, in one transaction.

        Raises:
            NetworkUnavailable: this kernel lacks what it needs.
        """
        # Not with the lock: what should be in the table is asked of those who hold locks of theirs while they publish a port. So a change
        # may come between; written all the same, the table would lack it.
        while True:
            known = self._changes
            networks, published, loopback = self._state()
            if self._commit(ruleset.table(self.table, networks, published, loopback=loopback), known):
                return

    def publish(self, published: Sequence[Published]) -> None:
        """Lead ports into containers. Where the table was lost (`nft flush ruleset`) it is made again."""
        self._change(ruleset.publish(self.table, published))
        self.forget_flows(published)

    def withdraw(self, published: Sequence[Published]) -> None:
        """End that."""
        self._change(ruleset.withdraw(self.table, published))
        self.forget_flows(published)

    def forget_flows(self, published: Sequence[Published]) -> None:
        """Who goes on sending datagrams to a port would go on to reach the container that had it, or who has its address by now."""
        ports = {(ip_address(port.host_address).version, port.host_port) for port in published if port.protocol == "udp"}
        with self._lock:
            for version, port in ports:
                with suppress(OSError):  # a kernel that tells nobody of its flows; they end when nobody sends
                    conntrack.forget(self._connected(), ruleset.FAMILY[version], conntrack.UDP, port)

    def remove(self) -> None:
        """Take the table away; absent is fine."""
        self._commit([nftables.new_table(self.table), nftables.delete_table(self.table)])

    def sender(self) -> int:
        """The number of the socket that asks for changes; 0 where none was made yet."""
        connection = self._connection
        return connection.address if connection is not None else 0

    def close(self) -> None:
        """Let go; the rules stay."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _change(self, requests: Sequence[Request]) -> None:
        if not requests:
            return
        try:
            with self._lock:
                self._changes += 1
                nftables.commit(self._connected(), requests)
        except NetlinkError:
            # The table, or an element of it, is not as we left it; what it should hold is known.
            self.renew()

    def _commit(self, requests: Sequence[Request], known: int | None = None) -> bool:
        """Write; not, and False, where there were other changes than those `known`."""
        try:
            with self._lock:
                if known not in (None, self._changes):
                    return False
                self._changes += 1
                self._write(requests)
                return True
        except NetlinkError as error:
            if error.errno in _MISSING:
                raise NetworkUnavailable(
                    f"packets cannot be filtered and translated: {str(error.strerror).lower()}",
                    hint="the kernel needs nf_tables with inet, nat, masquerade and fib, the engine CAP_NET_ADMIN; --network none and host go without",
                ) from None
            raise

    def _write(self, requests: Sequence[Request]) -> None:
        """With the lock. What was not answered is asked once more: the table is written whole, so twice is as once."""
        try:
            nftables.commit(self._connected(), requests)
        except NetlinkError as error:
            if error.errno != errno.ETIMEDOUT:
                raise
            nftables.commit(self._connected(), requests)

    def _connected(self) -> Netlink:
        if self._connection is None:
            self._connection = Netlink(NETFILTER)
        return self._connection


def tag_of(root: str) -> str:
    """What interfaces and tables of the engine on this data root carry in their names: nothing for the usual root."""
    real = os.path.realpath(root)
    return "" if real == _DEFAULT_ROOT else hashlib.sha256(real.encode()).hexdigest()[:6]


def table_of(tag: str) -> str:
    """The name of the engine's table."""
    return f"lamina-{tag}" if tag else "lamina"
