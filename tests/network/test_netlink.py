"""Messages to the kernel, without one."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.linux import netlink


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=6))
def test_attributes_are_read_as_they_were_written(pairs: list[tuple[int, bytes]]) -> None:
    body = b"".join(netlink.attribute(kind, data) for kind, data in pairs)
    assert list(netlink.attribute_list(body)) == pairs
    assert len(body) % 4 == 0


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.binary(max_size=40)), max_size=6))
def test_messages_are_read_as_they_were_written(parts: list[tuple[int, int, bytes]]) -> None:
    packet = b"".join(netlink.message(kind, 0, sequence, body) for kind, sequence, body in parts)
    assert list(netlink.messages(packet)) == parts


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_a_crash(packet: bytes) -> None:
    for _, _, body in netlink.messages(packet):
        list(netlink.attribute_list(body))
    list(netlink.attribute_list(packet))


def test_an_answer_that_is_lost_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "_PATIENCE", 1)
    with netlink.Netlink() as connection, pytest.raises(netlink.NetlinkError) as refused:
        connection.receive()
    assert refused.value.errno == errno.ETIMEDOUT
