"""Subnets and addresses."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.network.model import InvalidNetwork, NetworkForbidden, NoAddress, Pool
from lamina.network.pools import POOLS, AddressPool, first_address, free_subnet, local_prefix, overlap, with_gateway
from lamina.network.requests import NetworkRequest, asked_pools, check, is_mac


def test_the_first_free_subnet_is_dockers() -> None:
    assert str(free_subnet([])) == "172.17.0.0/16"
    assert str(free_subnet([ip_network("172.17.3.0/24")])) == "172.18.0.0/16"


def test_a_subnet_that_holds_all_of_a_pool_is_overlapped_too() -> None:
    assert str(free_subnet([ip_network("172.16.0.0/12")])) == "192.168.0.0/20"


def test_when_every_pool_is_used_up_it_is_said() -> None:
    with pytest.raises(InvalidNetwork, match="fully subnetted"):
        free_subnet([ip_network(pool) for pool, _ in POOLS])


@given(
    st.lists(st.sampled_from([ip_network(text) for text in ("172.17.0.0/16", "172.18.5.0/24", "192.168.0.0/17", "10.0.0.0/8", "fd00::/8")]))
)
def test_a_free_subnet_overlaps_with_nothing(taken: list[object]) -> None:
    chosen = free_subnet(taken)  # type: ignore[arg-type]
    assert not any(overlap(chosen, other) for other in taken)  # type: ignore[arg-type]


def test_addresses_are_given_from_the_lowest_and_given_back() -> None:
    pool = AddressPool.of(Pool("10.1.0.0/24", "10.1.0.1", auxiliary={"router": "10.1.0.3"}))
    assert [pool.take(), pool.take(), pool.take()] == ["10.1.0.2", "10.1.0.4", "10.1.0.5"]
    pool.give_back("10.1.0.4")
    pool.give_back("10.1.0.4")
    assert pool.take() == "10.1.0.4"


def test_a_wanted_address_is_given_once() -> None:
    pool = AddressPool.of(Pool("10.1.0.0/24", "10.1.0.1"))
    assert pool.take("10.1.0.77") == "10.1.0.77"
    for taken in ("10.1.0.77", "10.1.0.1", "10.1.0.255"):
        with pytest.raises(NetworkForbidden, match="Address already in use"):
            pool.take(taken)


def test_a_range_is_kept_to_unless_an_address_is_named() -> None:
    pool = AddressPool.of(Pool("10.1.0.0/16", "10.1.0.1", "10.1.5.0/24"))
    assert pool.take() == "10.1.5.0"
    assert pool.take("10.1.9.9") == "10.1.9.9"


def test_a_full_subnet_says_so() -> None:
    pool = AddressPool.of(Pool("10.1.0.0/30", "10.1.0.1"))
    assert pool.take() == "10.1.0.2"
    with pytest.raises(NoAddress, match="no available addresses"):
        pool.take()


@pytest.mark.parametrize(("subnet", "gateway"), [("10.1.0.0/24", "10.1.0.0"), ("10.1.0.0/24", "10.1.0.255"), ("fd00:1::/64", "fd00:1::")])
def test_a_gateway_at_a_subnets_end_is_refused(subnet: str, gateway: str) -> None:
    with pytest.raises(NetworkForbidden, match=rf"failed to allocate gateway \({gateway}\): Address already in use"):
        asked_pools([{"Subnet": subnet, "Gateway": gateway}], ipv4=True, ipv6=True)


@pytest.mark.parametrize(
    "subnet",
    ["10.1.0.5", "fe80::1", "10.1.0.0/255.255.0.0", "10.1.0.0/", "10.1.0.0/024", "10.1.0.0/٢٤", "fe80::%lo/64", "10.1.0.0/24/24", "/24"],
)
def test_a_subnet_or_a_range_that_is_not_in_cidr_notation_is_refused(subnet: str) -> None:
    with pytest.raises(InvalidNetwork, match=r"invalid subnet .*: invalid CIDR block notation"):
        asked_pools([{"Subnet": subnet}], ipv4=True, ipv6=True)
    with pytest.raises(InvalidNetwork, match=r"invalid ip-range .*: invalid CIDR block notation"):
        asked_pools([{"Subnet": "10.0.0.0/8", "IPRange": subnet}], ipv4=True, ipv6=True)


@pytest.mark.parametrize("asked", [{"AuxiliaryAddresses": {"a": ""}}, {"Gateway": "fd00:1::1%lo"}, {"Gateway": "١٠.1.0.1"}])
def test_what_is_no_address_of_the_subnet_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(InvalidNetwork, match=r"invalid (auxiliary address|gateway)"):
        asked_pools([{"Subnet": "fd00:1::/64", **asked}], ipv4=True, ipv6=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("driver.mtu", value) for value in ("²", "9" * 5000, "١٥٠٠", "67", "-1")),
        *(("bridge.name", value) for value in ("a\0b", "..", "a:b", "br%d", "a b", "é" * 8)),
        *(("container_iface_prefix", value) for value in ("averylongprefix", "a/b", "\0")),
    ],
)
def test_options_that_the_kernel_would_not_take_are_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidNetwork):
        check(NetworkRequest("it", options={f"com.docker.network.{name}": value}))


def test_an_ethernet_address_is_six_times_two_digits() -> None:
    assert is_mac("02:42:AC:11:00:02") and is_mac("02-42-ac-11-00-02")
    assert not any(is_mac(text) for text in ("02:+2:ac:11:00:02", "02: 2:ac:11:00:02", "03:42:ac:11:00:02", "02:42:ac:11:00", ""))


def test_a_subnet_of_two_has_no_ends() -> None:
    assert asked_pools([{"Subnet": "10.1.0.0/31", "Gateway": "10.1.0.0"}], ipv4=True, ipv6=False) == [Pool("10.1.0.0/31", "10.1.0.0")]


@given(st.integers(min_value=20, max_value=31), st.integers(min_value=1, max_value=40))
def test_no_address_is_given_twice_and_all_are_in_the_subnet(prefix: int, count: int) -> None:
    subnet = ip_network(f"10.0.0.0/{prefix}")
    pool = AddressPool.of(Pool(str(subnet), first_address(subnet)))
    given_out: list[str] = []
    try:
        for _ in range(count):
            given_out.append(pool.take())
    except NoAddress:
        pass
    assert len(set(given_out)) == len(given_out)
    assert all(ip_address(address) in subnet and address != first_address(subnet) for address in given_out)


def test_ipv6_subnets_are_cut_from_a_prefix_of_the_roots_own() -> None:
    prefix = local_prefix("0123456789abcdef")
    assert ip_network(prefix).subnet_of(ip_network("fd00::/8"))
    assert ip_network(prefix).prefixlen == 48
    first = free_subnet([], ((prefix, 64),))
    assert str(free_subnet([first], ((prefix, 64),))) != str(first)
    assert AddressPool.of(Pool(str(first), first_address(first))).take() == str(first.network_address + 2)


@pytest.mark.parametrize(("gateway", "aside"), [("", "10.9.0.1"), ("10.9.0.7", "10.9.0.7"), ("", "fd00:9:0::1")])
def test_the_host_takes_no_address_that_was_set_aside(gateway: str, aside: str) -> None:
    subnet = "fd00:9::/64" if ":" in aside else "10.9.0.0/24"
    with pytest.raises(NetworkForbidden, match=f"failed to allocate secondary ip address \\(router:{aside}\\): Address already in use"):
        with_gateway(Pool(subnet, gateway, auxiliary={"router": aside}))
    assert with_gateway(Pool("10.9.0.0/24", auxiliary={"router": "10.9.0.2"})).gateway == "10.9.0.1"
