"""Which ports a container wants of the host."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.network.bindings import InvalidPort, Wanted, exposed_ports, parse_port, wanted_ports


def test_one_port_each_a_range_and_an_ephemeral_one() -> None:
    asked = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5300-5310"}, {"HostPort": ""}]}
    assert wanted_ports(asked) == [
        Wanted("tcp", 80, "", 8080, 8080),
        Wanted("udp", 53, "127.0.0.1", 5300, 5310),
        Wanted("udp", 53),
    ]


def test_all_exposed_ports_get_one_but_those_that_have_one() -> None:
    exposed = exposed_ports(({"80": {}, "90-91/udp": {}},))
    assert exposed == [(80, "tcp"), (90, "udp"), (91, "udp")]
    found = wanted_ports({"80/tcp": [{"HostPort": "1"}]}, exposed, publish_all=True)
    assert [(port.port, port.low) for port in found] == [(80, 1), (90, 0), (91, 0)]


@pytest.mark.parametrize("text", ["", "x", "0", "65536", "80/ipx", "-1", "80/", "8_0", "٣", "9" * 5000])
def test_what_is_no_port_is_refused(text: str) -> None:
    if text == "80/":
        assert wanted_ports({text: [{}]}) == [Wanted("tcp", 80)]
        return
    with pytest.raises(InvalidPort):
        wanted_ports({text: [{}]})


@pytest.mark.parametrize(
    "entry",
    [{"HostPort": "70000"}, {"HostPort": "9-8"}, {"HostPort": "a"}, {"HostPort": "1-"}, {"HostPort": "9" * 5000}, {"HostIp": "nowhere"}],
)
def test_what_is_no_place_on_the_host_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidPort):
        wanted_ports({"80/tcp": [entry]})


@given(
    st.dictionaries(
        st.text(max_size=9), st.none() | st.lists(st.dictionaries(st.sampled_from(["HostIp", "HostPort"]), st.text(max_size=9)))
    )
)
def test_any_binding_is_read_or_refused(bindings: dict[str, Any]) -> None:
    try:
        wanted_ports(bindings)
    except InvalidPort:
        pass


@pytest.mark.parametrize("text", ["²", "9" * 5000, "1-" + "9" * 5000])
def test_what_is_no_port_of_the_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidPort):
        wanted_ports({"80/tcp": [{"HostPort": text}]}, [])
    with pytest.raises(InvalidPort):
        parse_port(text)
