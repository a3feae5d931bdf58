"""nftables over netlink: tables, chains, rules, sets and maps as requests (linux/netfilter/nf_tables.h).

A table is made and changed in one transaction (`commit`): the kernel takes all of it or nothing. An expression is a function
here that gives one step of a rule; values are in network order unless a function says otherwise. Registers: keys are built
from KEY on, 4 bytes each (`KEY + 1` is the next); what a map answers lies from DATA on.
"""

from __future__ import annotations

import struct

from lamina.linux import netlink
from lamina.linux.netlink import Netlink, Request, attribute, nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

INET = 1
"""The family of tables for both versions of IP."""

PREROUTING, FORWARD, OUTPUT, POSTROUTING = 0, 2, 3, 4
"""Hooks of base chains."""

ACCEPT, DROP, RETURN = 1, 0, -5
"""Verdicts."""

ADDRESS4, ADDRESS6, PROTOCOL, PORT, INTERFACE = (7, 4), (8, 16), (12, 1), (13, 2), (41, 16)
"""Types of what sets hold: the number that nft(8) shows them by, bytes."""

KEY, DATA = 8, 16
"""First registers of keys and of what maps give."""

ESTABLISHED_RELATED = 0x2 | 0x4
DESTINATION_CHANGED = 1 << 5
"""Bits of connection tracking's state and status: belongs to a known connection; its destination was translated."""

_SUBSYSTEM = 10 << 8
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE, _NEW_CHAIN, _GET_CHAIN, _NEW_RULE, _NEW_SET, _NEW_ELEMENTS, _DELETE_ELEMENTS = (
    0,
    1,
    2,
    3,
    4,
    6,
    9,
    12,
    14,
)
_DELETE_RULE = 8
_BEGIN, _END = 0x10, 0x11
_MAP = 8
_GENERIC = struct.Struct("!BBH")
_VERDICT_REGISTER = 0
_HOST_ORDER = bytes((0, 4)) + struct.pack("=I", 1)  # NFTNL_UDATA_SET_KEYBYTEORDER


def _be(value: int) -> bytes:
    return struct.pack("!I", value & 0xFFFFFFFF)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, _be(value))


def _text(kind: int, value: str) -> bytes:
    return netlink.text(kind, value)


def _request(kind: int, family: int, *parts: bytes, flags: int = 0) -> Request:
    return Request(_SUBSYSTEM | kind, flags, _GENERIC.pack(family, 0, 0) + b"".join(parts))


def commit(connection: Netlink, requests: Sequence[Request]) -> None:
    """Do all of them, or none.

    Raises:
        NetlinkError: nothing was changed.
    """
    frame = _GENERIC.pack(0, 0, 10)
    connection.transact(Request(_BEGIN, 0, frame), requests, Request(_END, 0, frame))


# --- tables, chains, rules


def new_table(name: str, *, family: int = INET) -> Request:
    """Make a table; one that is there stays as it is."""
    return _request(_NEW_TABLE, family, _text(1, name), flags=netlink.CREATE)


def delete_table(name: str, *, family: int = INET) -> Request:
    """Remove a table and all that is in it."""
    return _request(_DELETE_TABLE, family, _text(1, name))


def new_base_chain(table: str, name: str, kind: str, hook: int, priority: int, *, family: int = INET) -> Request:
    """A chain of kind filter or nat that packets enter at `hook`; what no rule decides goes on."""
    place = nested(4, _number(1, hook), _number(2, priority))
    return _request(_NEW_CHAIN, family, _text(1, table), _text(3, name), place, _text(7, kind), _number(5, ACCEPT), flags=netlink.CREATE)


def new_rule(
    table: str, chain: str, expressions: Iterable[bytes], comment: str = "", *, family: int = INET, first: bool = False
) -> Request:
    """A rule at the end of a chain, or as its first."""
    remark = comment.encode()[:250] + b"\0"
    parts = [_text(1, table), _text(2, chain), nested(4, *expressions)]
    parts += [attribute(7, bytes((0, len(remark))) + remark)] if comment else []
    return _request(_NEW_RULE, family, *parts, flags=netlink.CREATE | (0 if first else netlink.APPEND))


# --- sets and maps


def new_set(table: str, name: str, key: Sequence[tuple[int, int]], data: Sequence[tuple[int, int]] = (), *, family: int = INET) -> Request:
    """A set of keys; with `data` a map. Several types are joined, each padded to 4 bytes."""
    parts = [_text(1, table), _text(2, name), _number(3, _MAP if data else 0), _number(4, _joined(key)), _number(5, _length(key))]
    parts += [_number(6, _joined(data)), _number(7, _length(data))] if data else []
    # Without it nft(8) shows names of interfaces as empty.
    parts += [attribute(13, _HOST_ORDER)] if list(key) == [INTERFACE] else []
    return _request(_NEW_SET, family, *parts, _number(10, 1), flags=netlink.CREATE)


def _joined(types: Sequence[tuple[int, int]]) -> int:
    number = 0
    for kind, _ in types:
        number = number << 6 | kind
    return number


def _length(types: Sequence[tuple[int, int]]) -> int:
    return types[0][1] if len(types) == 1 else sum((size + 3) & ~3 for _, size in types)


def joined(*parts: bytes) -> bytes:
    """A key or a map's value of several types."""
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def interface(name: str) -> bytes:
    """An interface's name as sets and comparisons want it."""
    return name.encode().ljust(16, b"\0")


def add_elements(table: str, name: str, elements: Iterable[tuple[bytes, bytes]], *, family: int = INET) -> Request:
    """Put (key, value) pairs into a map, or keys (with b"") into a set. One that is there with the same value is not an error."""
    return _elements(_NEW_ELEMENTS, table, name, elements, family, netlink.CREATE)


def delete_elements(table: str, name: str, keys: Iterable[bytes], *, family: int = INET) -> Request:
    """Take keys out; one that is not there is an error (ENOENT)."""
    return _elements(_DELETE_ELEMENTS, table, name, ((key, b"") for key in keys), family, 0)


def _elements(kind: int, table: str, name: str, elements: Iterable[tuple[bytes, bytes]], family: int, flags: int) -> Request:
    listed = [nested(1, nested(1, attribute(1, key)), *([nested(2, attribute(1, value))] if value else [])) for key, value in elements]
    return _request(kind, family, _text(1, table), _text(2, name), nested(3, *listed), flags=flags)


# --- expressions: what a rule asks, and what it does


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(1, _text(1, name), nested(2, *parts))


def load_meta(key: int, register: int = KEY) -> bytes:
    """Load a fact of the packet: see IN_NAME and the like."""
    return _expression("meta", _number(2, key), _number(1, register))


IN_NAME, OUT_NAME, NETWORK_PROTOCOL, TRANSPORT_PROTOCOL = 6, 7, 15, 16
"""Keys of `load_meta`: names of the interfaces (16 bytes), IP's version (one byte: 2 or 10), TCP, UDP … (one byte)."""


def load_network(offset: int, length: int, register: int = KEY) -> bytes:
    """Load bytes of the IP header."""
    return _expression("payload", _number(1, register), _number(2, 1), _number(3, offset), _number(4, length))


def load_transport(offset: int, length: int, register: int = KEY) -> bytes:
    """Load bytes of the transport header."""
    return _expression("payload", _number(1, register), _number(2, 2), _number(3, offset), _number(4, length))


def load_tracking(key: int, register: int = KEY) -> bytes:
    """Load a fact of connection tracking, in this machine's order: STATE or STATUS."""
    return _expression("ct", _number(2, key), _number(1, register))


STATE, STATUS = 0, 2


def load_address_type(register: int = KEY) -> bytes:
    """Load what kind of address the destination is, in this machine's order: LOCAL is one of the host's."""
    return _expression("fib", _number(1, register), _number(2, 3), _number(3, 2))


LOCAL = struct.pack("=I", 2)


def masked(mask: bytes, register: int = KEY) -> bytes:
    """Keep the bits of `mask` only."""
    zero = nested(5, attribute(1, bytes(len(mask))))
    return _expression("bitwise", _number(1, register), _number(2, register), _number(3, len(mask)), nested(4, attribute(1, mask)), zero)


def equal(value: bytes, register: int = KEY) -> bytes:
    """Go on only where the register holds `value`."""
    return _compare(0, value, register)


def unequal(value: bytes, register: int = KEY) -> bytes:
    """Go on only where it does not."""
    return _compare(1, value, register)


def _compare(operation: int, value: bytes, register: int) -> bytes:
    return _expression("cmp", _number(1, register), _number(2, operation), nested(3, attribute(1, value)))


def within(name: str, register: int = KEY, *, invert: bool = False) -> bytes:
    """Go on only where a set has the key (`invert`: has it not)."""
    return _expression("lookup", _text(1, name), _number(2, register), *([_number(5, 1)] if invert else []))


def mapped(name: str, register: int = KEY, target: int = DATA) -> bytes:
    """Load what a map has for the key; go on only where it has something."""
    return _expression("lookup", _text(1, name), _number(2, register), _number(3, target))


def verdict(code: int) -> bytes:
    """Decide."""
    return _expression("immediate", _number(1, _VERDICT_REGISTER), nested(2, nested(2, _number(1, code))))


def load(value: bytes, register: int = DATA) -> bytes:
    """Load a constant."""
    return _expression("immediate", _number(1, register), nested(2, attribute(1, value)))


def translate_destination(family: int, address: int = DATA, port: int = DATA + 1) -> bytes:
    """Send it to the address and port in these registers; `family` is AF_INET or AF_INET6."""
    return _expression("nat", _number(1, 1), _number(2, family), _number(3, address), _number(5, port))


def translate_source(family: int, address: int = DATA) -> bytes:
    """Let it come from the address in this register."""
    return _expression("nat", _number(1, 0), _number(2, family), _number(3, address))


def masquerade() -> bytes:
    """Let it come from the address of the interface it leaves by."""
    return _expression("masq")


# --- what is there


def tables(connection: Netlink) -> Iterator[tuple[int, str]]:
    """Every table: (family, name)."""
    for kind, body in connection.dump(_request(_GET_TABLE, 0)):
        if kind == _SUBSYSTEM | _NEW_TABLE:
            yield body[0], netlink.attributes(body, 4)[1].rstrip(b"\0").decode()


def chains(connection: Netlink, family: int) -> Iterator[tuple[str, str]]:
    """Every chain of a family: (table, name)."""
    for kind, body in connection.dump(_request(_GET_CHAIN, family)):
        if kind == _SUBSYSTEM | _NEW_CHAIN:
            found = netlink.attributes(body, 4)
            yield found[1].rstrip(b"\0").decode(), found[3].rstrip(b"\0").decode()


# --- what others do

CHANGES = 7
"""The group that is told of every change (NFNLGRP_NFTABLES)."""
_REMOVALS = frozenset((_DELETE_TABLE, 5, _DELETE_RULE, 11, _DELETE_ELEMENTS))  # of a table, chain, rule, set, element
_WITH_CHAIN = {_NEW_CHAIN: 3, 5: 3, _DELETE_RULE: 2}
"""The attribute that names the chain."""


class Change:
    """One change: of which table and chain, whether something was removed or a chain made, and the number of the socket that asked for
    it."""

    __slots__ = ("chain", "made_chain", "removed", "sender", "table")

    def __init__(self, kind: int, sender: int, named: dict[int, bytes]) -> None:
        self.sender = sender
        self.table = named.get(1, b"").rstrip(b"\0").decode(errors="replace")
        self.chain = named.get(_WITH_CHAIN.get(kind, 0), b"").rstrip(b"\0").decode(errors="replace")
        self.removed, self.made_chain = kind in _REMOVALS, kind == _NEW_CHAIN


def changes(packet: bytes) -> Iterator[Change]:
    """What a packet of the group tells of tables, chains, rules, sets and elements."""
    for kind, sender, body in netlink.told(packet):
        if kind & 0xFF00 == _SUBSYSTEM and (kind & 0xFF in _REMOVALS or kind & 0xFF == _NEW_CHAIN):
            yield Change(kind & 0xFF, sender, netlink.attributes(body, 4))
