"""Messages between our own processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.linux import channel

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_PLAIN)
def test_decode_undoes_encode(value: object) -> None:
    assert channel.decode(channel.encode(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        channel.decode(data)
    except channel.BadMessage:
        pass


@pytest.mark.parametrize("size", [0, 10, 65536, 70000, 3_000_000])
def test_a_message_arrives_whole_with_its_descriptors(size: int) -> None:
    left, right = channel.pair()
    reader, writer = os.pipe()
    left.send({"text": "x" * size}, [writer])
    message, fds = right.recv(5)
    assert message == {"v": 1, "text": "x" * size} and len(fds) == 1
    os.write(fds[0], b"through")
    assert os.read(reader, 10) == b"through" and not os.get_inheritable(fds[0])
    channel.close_all([reader, writer, *fds])


def test_the_end_of_the_other_side_is_an_error() -> None:
    left, right = channel.pair()
    right.close()
    with pytest.raises(channel.ChannelClosed):
        left.recv(5)
    with pytest.raises(channel.ChannelClosed):
        left.send({})


def test_what_was_sent_arrives_though_the_sender_went_with_messages_unread() -> None:
    """The kernel says ECONNRESET first: the last word of a monitor that was asked for something as it ended."""
    left, right = channel.pair()
    left.send({"op": "resize"})
    right.send({"event": "exit"})
    right.close()
    assert channel.waits(left.fileno())
    assert left.recv(5)[0] == {"v": 1, "event": "exit"}
    assert not channel.waits(left.fileno())
    with pytest.raises(channel.ChannelClosed):
        left.recv(5)
    left, right = channel.pair()
    left.send({})
    right.send({"event": "exit"})
    right.close()
    assert left.recv(5)[0] == {"v": 1, "event": "exit"}


def test_nothing_in_time_is_an_error() -> None:
    left, _right = channel.pair()
    with pytest.raises(channel.ChannelTimeout):
        left.recv(0.01)


def test_a_newer_version_is_refused() -> None:
    left, right = channel.pair()
    left.send_bytes(channel.encode({"v": channel.VERSION + 1}))
    with pytest.raises(channel.BadMessage, match="newer"):
        right.recv(5)


def test_a_deep_directory_is_no_obstacle(tmp_path: object) -> None:
    directory = f"{tmp_path}/{'d' * 150}"
    os.mkdir(directory)
    listener = channel.listen(directory, "s.sock")
    client = channel.connect(directory, "s.sock")
    server = channel.accept(listener)
    client.send({"hello": 1})
    assert server.recv(5)[0]["hello"] == 1
    assert os.stat(f"{directory}/s.sock").st_mode & 0o777 == 0o600


def test_nobody_listening_is_an_error(tmp_path: object) -> None:
    with pytest.raises(channel.ChannelClosed):
        channel.connect(str(tmp_path), "s.sock")


def test_importing_it_loads_nothing_slow() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import lamina.linux.channel; print(*sorted(sys.modules))"
    source = os.path.dirname(os.path.dirname(os.path.dirname(channel.__file__)))
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code, source], capture_output=True, text=True, check=True).stdout.split()
    assert not {"typing", "re", "enum", "json", "dataclasses", "socket", "selectors", "collections"} & set(loaded)
