"""Subnets and the addresses in them: what is free, what was asked for. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from lamina.network.model import Address, InvalidNetwork, NetworkForbidden, NoAddress, Pool, Subnet

POOLS: tuple[tuple[str, int], ...] = (*((f"172.{number}.0.0/16", 16) for number in range(17, 32)), ("192.168.0.0/16", 20))
"""Docker's: what automatic subnets are cut from, and the length of their prefix."""
_LEAST = 30
"""The longest prefix of a subnet with room for a gateway and a container."""
OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"


@dataclass(slots=True)
class AddressPool:
    """The addresses of one subnet. The lowest free one is given; `reserved` never are."""

    subnet: Subnet
    range: Subnet
    reserved: frozenset[int]
    used: set[int]

    @classmethod
    def of(cls, pool: Pool) -> AddressPool:
        """All of a network's subnet but its ends, the gateway and what the user set aside."""
        subnet = ip_network(pool.subnet)
        apart = {int(ip_address(address)) for address in (pool.gateway, *pool.auxiliary.values()) if address}
        return cls(subnet, ip_network(pool.range or pool.subnet), frozenset(apart | subnet_ends(subnet)), set())

    def take(self, wanted: str = "") -> str:
        """An address, or just the one that is `wanted`.

        Raises:
            NetworkForbidden: the wanted one is somebody's.
            NoAddress: all are in use.
        """
        if wanted:
            number = int(ip_address(wanted))
            if number in self.used or number in self.reserved:
                raise NetworkForbidden("Address already in use")
        else:
            number = self._lowest()
        self.used.add(number)
        return str(type(self.subnet.network_address)(number))

    def _lowest(self) -> int:
        first, last = int(self.range.network_address), int(self.range.broadcast_address)
        # One more candidate than are taken is enough.
        for number in range(first, min(last, first + len(self.used) + len(self.reserved)) + 1):
            if number not in self.used and number not in self.reserved:
                return number
        raise NoAddress("no available addresses on this pool")

    def claim(self, address: str) -> None:
        """Note that an address is in use, whoever has it."""
        self.used.add(int(ip_address(address)))

    def give_back(self, address: str) -> None:
        """Let others have it; repeating does nothing."""
        self.used.discard(int(ip_address(address)))


def subnet_ends(subnet: Subnet) -> set[int]:
    """The addresses that mean a subnet itself, and all who are in it: nobody has them."""
    if subnet.prefixlen >= subnet.max_prefixlen - 1:
        return set()
    return {int(subnet.network_address)} | ({int(subnet.broadcast_address)} if subnet.version == 4 else set())


def free_subnet(taken: Iterable[Subnet], pools: Sequence[tuple[str, int]] = POOLS) -> Subnet:
    """The first subnet of `pools` that overlaps with nothing that is taken.

    Raises:
        InvalidNetwork: there is none.
    """
    known = list(taken)
    for text, prefix in pools:
        for candidate in ip_network(text).subnets(new_prefix=prefix):
            if not any(overlap(candidate, other) for other in known):
                return candidate
    raise InvalidNetwork("all predefined address pools have been fully subnetted")


def address_pools(value: object) -> tuple[tuple[str, int], ...]:
    """What automatic subnets are cut from, of daemon.json: [{"base": "10.10.0.0/16", "size": 24}]. IPv6 subnets have a prefix of their own.

    Raises:
        InvalidNetwork: it is something else.
    """
    found = []
    for each in value if isinstance(value, list) else [None]:
        base, size = (each.get("base"), each.get("size")) if isinstance(each, dict) else (None, None)
        subnet = parse_subnet(base) if isinstance(base, str) else None
        if not isinstance(subnet, IPv4Network) or not isinstance(size, int) or not subnet.prefixlen <= size <= _LEAST:
            raise InvalidNetwork(
                f"default-address-pools: base {str(base)[:50]} with size {str(size)[:20]} is no IPv4 network to cut subnets from",
                hint='write it as base=10.10.0.0/16,size=24, in the file as {"base": "10.10.0.0/16", "size": 24}',
            )
        found.append((str(subnet), size))
    return tuple(found)


def overlap(one: Subnet, other: Subnet) -> bool:
    """Whether they have an address in common."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def local_prefix(seed: str) -> str:
    """The /48 of unique local addresses (RFC 4193) that a data root cuts its IPv6 subnets from; `seed` is hex digits."""
    return f"fd{seed[:2]}:{seed[2:6]}:{seed[6:10]}::/48"


def first_address(subnet: Subnet, within: str = "") -> str:
    """The address that a gateway gets where none was asked for: the lowest."""
    space = ip_network(within) if within else subnet
    first = int(space.network_address)
    lowest = first if first != int(subnet.network_address) or subnet.prefixlen >= subnet.max_prefixlen - 1 else first + 1
    return str(type(subnet.network_address)(lowest))


def with_gateway(pool: Pool) -> Pool:
    """A pool that was asked for, with the gateway that it gets where none was.

    Raises:
        NetworkForbidden: the host would have an address that was set aside for somebody else.
    """
    gateway = pool.gateway or first_address(ip_network(pool.subnet), pool.range)
    for name, address in pool.auxiliary.items():
        if ip_address(address) == ip_address(gateway):
            raise NetworkForbidden(f"failed to allocate secondary ip address ({name}:{address}): Address already in use")
    return replace(pool, gateway=gateway)


def parse_address(text: str) -> Address | None:
    """An address, or None where the text is not one."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def parse_subnet(text: str) -> Subnet | None:
    """A subnet in CIDR notation, of which bits may be set behind its prefix; None where the text is not one."""
    address, _, prefix = text.partition("/")
    if not (prefix.isascii() and prefix.isdigit()) or (prefix[0] == "0" and prefix != "0") or "%" in address:
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
