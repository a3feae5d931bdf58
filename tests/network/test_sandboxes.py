"""What a container gets of networks and gives back, without a kernel: fakes behind everything that would ask it."""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lamina.errors import Unavailable
from lamina.linux import cabling, channel
from lamina.network.bindings import Wanted
from lamina.network.forwarding import Flow, Stream
from lamina.network.hostports import HostPorts
from lamina.network.mode import NetworkMode
from lamina.network.model import InvalidNetwork, Network, NetworkForbidden, NetworkUnavailable, Pool, PortTaken, Published, Sandbox
from lamina.network.sandboxes import Sandboxes
from lamina.network.switchboard import SOCKET, Switchboard
from lamina.network.wiring import Member

BOTH = Network("a" * 64, "both", bridge="br-a", pools=(Pool("10.9.0.0/24", "10.9.0.1"), Pool("fd00:9::/64", "fd00:9::1")), ipv6=True)
FOUR = Network("b" * 64, "four", bridge="br-b", pools=(Pool("10.8.0.0/24", "10.8.0.1"),))
BY_ID = {network.id: network for network in (FOUR, BOTH)}
BAD = {"DriverOpts": {"com.docker.network.endpoint.sysctls": "net.bogus=1"}}


def nothing(box: Sandbox) -> None:
    """Notes nothing."""


class FakeInterfaces:
    """Notes what the kernel is asked for; all but those in `missing` are there."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.missing: set[str] = set()

    def exists(self, name: str) -> bool:
        return name not in self.missing

    def perform(self, *requests: object) -> None:
        self.asked += requests


class FakeFirewall:
    """Lets everything happen; `fails` is raised by the next withdrawal."""

    def __init__(self) -> None:
        self.fails: Exception | None = None

    def publish(self, published: Sequence[Published]) -> None: ...

    def withdraw(self, published: Sequence[Published]) -> None:
        if self.fails is not None:
            raise self.fails


class FakeSwitching:
    """Notes who was told of; `fails` is raised by the next ports that are handed over."""

    directory = "/nowhere"

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}
        self.leads: tuple[str, str] | None = None
        self.fails: Exception | None = None

    def names(self, container: str, endpoints: Sequence[Any], **others: object) -> None:
        self.known[container] = [endpoint.network_name for endpoint in endpoints if endpoint.names]

    def ports(self, container: str, held: Sequence[object]) -> None:
        if self.fails is not None:
            raise self.fails

    def lead(self, container: str, to4: str, to6: str) -> None:
        self.leads = (to4, to6)

    def watch(self, container: str, pidfd: int) -> None: ...

    def drop(self, container: str) -> None:
        self.known.pop(container, None)


class House:
    """Sandboxes on fakes."""

    def __init__(self) -> None:
        ids = (f"{number:064x}" for number in itertools.count(1 << 240))
        self.interfaces, self.firewall, self.switching = FakeInterfaces(), FakeFirewall(), FakeSwitching()
        self.boxes = Sandboxes(self.interfaces, self.firewall, HostPorts(), lambda: next(ids), "/nowhere")  # type: ignore[arg-type]
        self.boxes._switching = self.switching  # type: ignore[assignment]

    def join(self, name: str, network: Network, settings: dict[str, Any] | None = None, ports: Sequence[Wanted] = ()) -> str:
        """Its IPv4 address."""
        member = Member(name * 64, name, name, NetworkMode("bridge", network.name), {network.name: settings or {}}, ports)
        return self.boxes.join(member, [(network, settings or {})], [7])[0].endpoints[0].address4


@pytest.fixture
def house() -> House:
    return House()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        return int(sock.getsockname()[1])


def test_of_two_addresses_the_first_is_given_back_where_the_second_is_somebodys(house: House) -> None:
    house.join("1", BOTH, {"IPAMConfig": {"IPv6Address": "fd00:9::5"}})
    asked = {"IPAMConfig": {"IPv4Address": "10.9.0.9", "IPv6Address": "fd00:9::5"}}
    with pytest.raises(NetworkForbidden, match="already in use"):
        house.join("2", BOTH, asked)
    assert house.join("2", BOTH, {"IPAMConfig": {"IPv4Address": "10.9.0.9"}}) == "10.9.0.9"


def test_a_join_that_fails_at_its_wiring_has_nothing(house: House) -> None:
    wanted = [Wanted("tcp", 80, "127.0.0.1", *(free_port(),) * 2)]
    with pytest.raises(InvalidNetwork, match="sysctl"):
        house.join("1", FOUR, BAD, wanted)
    assert (house.boxes.get("1" * 64), house.switching.known) == (None, {})
    assert house.join("2", FOUR, {"IPAMConfig": {"IPv4Address": "10.8.0.2"}}, wanted) == "10.8.0.2"


def test_ports_that_cannot_be_handed_over_are_free_again(house: House) -> None:
    wanted = [Wanted("tcp", 80, "127.0.0.1", *(free_port(),) * 2)]
    house.switching.fails = Unavailable("no answer")
    with pytest.raises(Unavailable):
        house.join("1", FOUR, ports=wanted)
    house.switching.fails = None
    house.join("2", FOUR, ports=wanted)


def test_who_leaves_has_nothing_more_whatever_of_it_fails(house: House) -> None:
    wanted = [Wanted("tcp", 80, "127.0.0.1", *(free_port(),) * 2)]
    assert house.join("1", FOUR, ports=wanted) == "10.8.0.2"
    house.firewall.fails = OSError(110, "the kernel does not answer")
    with pytest.raises(OSError, match="does not answer"):
        house.boxes.leave("1" * 64)
    house.firewall.fails = None
    assert house.switching.known == {}
    assert house.join("2", FOUR, ports=wanted) == "10.8.0.2"


@pytest.mark.parametrize("settings", [BAD, {}], ids=["what is asked for", "the kernel"])
def test_a_connection_that_fails_leaves_no_interface_no_address_and_no_name(
    house: House, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(cabling, "connect", refuse)
    house.join("1", FOUR)
    member = Member("1" * 64, "1", "1", NetworkMode("bridge", "four"))
    with pytest.raises((InvalidNetwork, NetworkUnavailable)):
        house.boxes.connect(member, BOTH, 8, settings, 1, BY_ID, nothing)
    assert len(house.interfaces.asked) == 1  # the pair, which another start of its namespace would end
    assert house.switching.known == {"1" * 64: ["four"]}
    assert house.join("2", BOTH) == "10.9.0.2"


def test_what_a_connection_makes_is_written_down_before(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[tuple[str, ...]] = []

    def killed(*_: object) -> None:
        assert noted == [("four", "both")]
        raise SystemExit

    monkeypatch.setattr(cabling, "connect", killed)
    house.join("1", FOUR)
    member = Member("1" * 64, "1", "1", NetworkMode("bridge", "four"))
    with pytest.raises(SystemExit):
        house.boxes.connect(
            member, BOTH, 8, {}, 1, BY_ID, lambda box: noted.append(tuple(endpoint.network_name for endpoint in box.endpoints))
        )


@pytest.mark.parametrize(("gone", "begun"), [("four", ""), ("both", ""), ("both", "veth-both")], ids=["off one", "off the other", "on"])
def test_what_a_killed_engine_was_connecting_or_disconnecting_is_not_there(
    house: House, monkeypatch: pytest.MonkeyPatch, gone: str, begun: str
) -> None:
    wires: list[object] = []
    monkeypatch.setattr(cabling, "connect", lambda *asked: wires.append(asked[1:3]))
    house.join("1", FOUR, ports=[Wanted("tcp", 80, "127.0.0.1", *(free_port(),) * 2)])
    member = Member("1" * 64, "1", "1", NetworkMode("bridge", "four"))
    box = house.boxes.connect(member, BOTH, 8, {"GwPriority": -1}, 1, BY_ID, nothing)
    box = replace(box, endpoints=tuple(replace(endpoint, host=f"veth-{endpoint.network_name}") for endpoint in box.endpoints))
    wires.clear()

    after = House()
    after.interfaces.missing = {f"veth-{gone}"} - {begun}
    after.boxes.restore(box, begun, os.getpid(), BY_ID)
    assert len(after.interfaces.asked) == (1 if begun else 0)
    after.switching.containers = lambda: {"1" * 64: ["names", "ports", "end"]}  # type: ignore[attr-defined]
    after.boxes.recover()
    found = after.boxes.get("1" * 64)
    left, address = ("four", "10.8.0.2") if gone == "both" else ("both", "10.9.0.2")
    assert found is not None
    assert [endpoint.network_name for endpoint in found.endpoints] == after.switching.known["1" * 64] == [left]
    assert [port.address for port in found.published] == [address]
    assert after.switching.leads is not None
    assert after.switching.leads[0] == address
    assert wires == ([([], ["10.9.0.1", "fd00:9::1"])] if gone == "four" else [])
    assert after.join("2", FOUR) == ("10.8.0.3" if gone == "both" else "10.8.0.2")


def test_clients_of_a_port_go_with_its_container(tmp_path: Path) -> None:
    inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    inner.bind(("127.0.0.1", 0))
    outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    outer.bind(("127.0.0.1", 0))
    board = Switchboard(channel.listen(str(tmp_path), SOCKET), str(tmp_path))
    before = len(board._handlers)
    fd = outer.detach()
    board._perform({"op": "ports", "container": "c", "ports": [["udp", *inner.getsockname()]]}, [fd])
    with socket.socket(fileno=os.dup(fd)) as shown, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"hello", shown.getsockname())
    handlers: dict[int, Callable[[int], None]] = board._handlers
    handlers[fd](1)
    assert inner.recv(100) == b"hello"
    inner.close()
    assert len(handlers) == before + 2
    board._perform({"op": "drop", "container": "c"}, [])
    assert len(handlers) == before


def test_who_was_told_of_and_not_watched_is_watched_by_the_next_engine(house: House) -> None:
    watched: list[str] = []
    house.switching.watch = lambda container, pidfd: watched.append(container)  # type: ignore[method-assign]
    house.join("1", FOUR)
    box = house.boxes.get("1" * 64)
    assert box is not None
    house.boxes.restore(box, "", os.getpid(), BY_ID)
    house.switching.containers = lambda: {"1" * 64: ["names"]}  # type: ignore[attr-defined]
    house.boxes.recover()
    house.switching.containers = lambda: {"1" * 64: ["end", "names"]}  # type: ignore[attr-defined]
    house.boxes.recover()
    assert watched == ["1" * 64]


def test_ports_of_who_is_taken_off_its_network_are_free_until_it_is_on_another(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address may be another container's by then."""
    monkeypatch.setattr(cabling, "connect", lambda *_: None)
    wanted = [Wanted("tcp", 80, "127.0.0.1", *(free_port(),) * 2)]
    house.join("1", FOUR, ports=wanted)
    off = house.boxes.disconnect("1" * 64, FOUR.id, 0, BY_ID)
    assert off is not None
    assert (off.published, house.boxes.published(), house.switching.known) == ((), [], {})
    house.join("2", FOUR, ports=wanted)
    member = Member("1" * 64, "1", "1", NetworkMode("bridge", "four"), ports=wanted)
    with pytest.raises(PortTaken):
        house.boxes.connect(member, BOTH, 8, {}, os.getpid(), BY_ID, nothing)
    house.boxes.leave("2" * 64)
    again = house.boxes.connect(member, BOTH, 8, {}, os.getpid(), BY_ID, nothing)
    assert [port.address for port in again.published] == ["10.9.0.2"]


INSIDE = Network("c" * 64, "inside", bridge="br-c", pools=(Pool("10.7.0.0/24", "10.7.0.1"),), internal=True)
WITH_INSIDE = {**BY_ID, INSIDE.id: INSIDE}


def test_ports_of_who_had_no_way_outside_are_published_when_it_gets_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cabling, "connect", lambda *_: None)
    port = free_port()
    wanted = [Wanted("tcp", 80, "127.0.0.1", port, port)]
    house.join("1", INSIDE, ports=wanted)
    assert house.boxes.published() == []
    member = Member("1" * 64, "1", "1", NetworkMode("bridge", "inside"), ports=wanted)
    box = house.boxes.connect(member, FOUR, 8, {}, os.getpid(), WITH_INSIDE, nothing)
    assert box.published == (Published("tcp", "127.0.0.1", port, "10.8.0.2", 80),)
    with pytest.raises(PortTaken):
        house.join("2", FOUR, ports=wanted)


def test_ports_of_a_connection_that_an_engine_left_half_made_are_free(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[Sandbox] = []

    def fails(*_: object) -> None:
        raise OSError(errno.EEXIST, "File exists")

    monkeypatch.setattr(cabling, "connect", fails)
    wanted = [Wanted("tcp", 80, "127.0.0.1", *(free_port(),) * 2)]
    house.join("1", INSIDE)
    member = Member("1" * 64, "1", "1", NetworkMode("bridge", "inside"), ports=wanted)
    with pytest.raises(NetworkUnavailable):
        house.boxes.connect(member, FOUR, 8, {}, os.getpid(), WITH_INSIDE, noted.append)
    monkeypatch.setattr(cabling, "connect", lambda *_: None)

    box = replace(noted[0], endpoints=tuple(replace(each, host=f"veth-{each.network_name}") for each in noted[0].endpoints))
    after = House()
    after.boxes.restore(box, "veth-four", os.getpid(), WITH_INSIDE)
    dropped: list[str] = []
    after.switching.drop = dropped.append  # type: ignore[method-assign]
    after.switching.containers = lambda: {"1" * 64: ["end", "names", "ports"]}  # type: ignore[attr-defined]
    after.boxes.recover()
    assert (dropped, after.switching.known) == (["1" * 64], {"1" * 64: ["inside"]})
    after.join("2", FOUR, ports=wanted)


def test_a_connection_whose_ports_are_somebody_elses_leaves_everything_as_it_was(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cabling, "connect", lambda *_: None)
    taken, free = free_port(), free_port()
    house.join("1", FOUR, ports=[Wanted("tcp", 80, "127.0.0.1", taken, taken)])
    wanted = [Wanted("tcp", 80, "127.0.0.1", free, free)]
    house.join("2", INSIDE)
    both = Member("2" * 64, "2", "2", NetworkMode("bridge", "inside"), ports=[*wanted, Wanted("tcp", 80, "127.0.0.1", taken, taken)])
    with pytest.raises(PortTaken):
        house.boxes.connect(both, FOUR, 8, {}, os.getpid(), WITH_INSIDE, nothing)
    one = Member("2" * 64, "2", "2", NetworkMode("bridge", "inside"), ports=wanted)
    with pytest.raises(InvalidNetwork, match="sysctl"):
        house.boxes.connect(one, FOUR, 8, BAD, os.getpid(), WITH_INSIDE, nothing)
    assert [port.host_port for port in house.boxes.published()] == [taken]
    assert house.switching.known["2" * 64] == ["inside"]
    assert house.join("3", FOUR, ports=wanted) == "10.8.0.3"


def test_the_switchboard_turns_clients_away_where_a_port_leads_nowhere(tmp_path: Path) -> None:
    board = Switchboard(channel.listen(str(tmp_path), SOCKET), str(tmp_path))
    with socket.socket() as inner, socket.socket() as outer, socket.socket() as first, socket.socket() as second:
        for sock in (inner, outer):
            sock.bind(("127.0.0.1", 0))
            sock.listen()
        fd = os.dup(outer.fileno())
        address, port = inner.getsockname()
        board._perform({"op": "ports", "container": "c", "ports": [["tcp", "127.0.0.9", port]]}, [fd])
        board._perform({"op": "lead", "container": "c", "to": ["", ""]}, [])
        first.connect(outer.getsockname())
        board._handlers[fd](1)
        first.settimeout(10)
        assert first.recv(1) == b""
        board._perform({"op": "lead", "container": "c", "to": [address, ""]}, [])
        second.connect(outer.getsockname())
        board._handlers[fd](1)
        inner.settimeout(10)
        inner.accept()[0].close()
        board._perform({"op": "drop", "container": "c"}, [])


def test_interfaces_go_at_once_where_others_keep_their_namespace(house: House) -> None:
    for name, shared in (("1", False), ("2", True)):
        house.join(name, FOUR)
        before = len(house.interfaces.asked)
        house.boxes.leave(name * 64, shared=shared)
        assert len(house.interfaces.asked) - before == int(shared)


def test_a_stream_that_never_runs_dry_leaves_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loop:
        def watch(self, fd: int, handler: Callable[[int], None], events: int = 0) -> None: ...

        def forget(self, fd: int) -> None: ...

    moves = itertools.count()

    def move(flow: Flow) -> bool:
        assert next(moves) < 1000
        return True

    monkeypatch.setattr(Flow, "move", move)
    with socket.socket() as inner, socket.socket() as client:
        inner.bind(("127.0.0.1", 0))
        inner.listen()
        client.connect(inner.getsockname())
        stream = Stream(Loop(), os.dup(client.fileno()), *inner.getsockname())
        stream._ready(1)
        stream._close()
