"""Pipes and sockets that hold more."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from lamina.linux.pipe import widen_way_out


def test_a_unix_socket_takes_more_before_its_writer_waits() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        widen_way_out(ours.fileno())
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= before
        if os.geteuid() == 0:
            ours.setblocking(False)
            assert ours.send(bytes(1 << 20)) == 1 << 20


def test_what_is_no_unix_socket_stays_as_it_is(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file, socket.socket() as network:
        before = network.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        held = len(os.listdir("/proc/self/fd"))
        for fd in (file.fileno(), network.fileno()):
            widen_way_out(fd)
        assert network.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
        assert len(os.listdir("/proc/self/fd")) <= held
