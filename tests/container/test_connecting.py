"""Files of /etc that a container has mounted, and so writes to as it likes, as the engine changes them while it runs."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from lamina.container import store
from lamina.container.connecting import RECORD, networks_of, remove_names, serve_names
from lamina.container.links import _forget_host
from lamina.container.model import Container
from lamina.network.model import Endpoint, Network, NetworkUnavailable, Pool, Sandbox
from lamina.network.wiring import Member
from tests.container.fakes import FakeNetworks, World, world

__all__ = ["world"]
MINE = Network("n" * 64, "mine", bridge="br-n", pools=(Pool("10.9.0.0/24", "10.9.0.1"),))
ENDPOINT = Endpoint("e", "n", "mine", "veth0", "eth0", "", address4="10.0.0.5", names=("it",))


def container(directory: Path) -> Container:
    return Container("i" * 64, "it", 0, "x", "x", "", "c", (), str(directory), {"Hostname": "it"}, {})


def test_lines_of_an_address_that_it_has_no_more_go(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1\tlocalhost\n10.0.0.5\tit\n")
    remove_names(container(tmp_path), ENDPOINT)
    assert (tmp_path / "hosts").read_text() == "127.0.0.1\tlocalhost\n"


@pytest.mark.parametrize("text", ["[]", "5", "null", "{}", '{"endpoints": [5], "published": []}', "x"])
def test_a_damaged_note_of_a_runs_networks_is_none(world: World, text: str) -> None:
    world.run()
    Path(world.containers.get("it").directory, RECORD).write_text(text)
    after = world.again()
    after.containers.recover()
    assert str(after.containers.get("it").state.status) == "exited"


def test_files_that_it_made_large_are_not_read(tmp_path: Path) -> None:
    for name in ("hosts", "resolv.conf"):
        (tmp_path / name).write_text(f"10.0.0.5\tdb\n{' ' * (1 << 20)}")
    before = {name: (tmp_path / name).read_bytes() for name in ("hosts", "resolv.conf")}
    remove_names(container(tmp_path), ENDPOINT)
    serve_names(container(tmp_path), Sandbox("i" * 64, "it", (ENDPOINT,)))
    _forget_host(str(tmp_path / "hosts"), "db")
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_who_has_just_ended_is_on_a_network_from_its_next_start_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def plug(*_: object) -> Sandbox:
        raise NetworkUnavailable("container it cannot be connected: No such process")

    world.run()
    monkeypatch.setattr(FakeNetworks, "plug", plug, raising=False)
    connector = world.parts.networks.connector
    assert connector is not None
    for pid, on in ((os.getpid(), False), (1 << 30, True)):
        world.containers._roster.find("it").note(pid=pid)
        with nullcontext() if on else pytest.raises(NetworkUnavailable):
            connector.connect(MINE, "it", {})
        assert ("mine" in networks_of(world.containers.get("it"))) == on


def test_a_connection_that_cannot_be_written_down_is_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    unplugged: list[str] = []

    def plug(networks: FakeNetworks, network: Network, member: Member, settings: object, pid: int, note: object) -> Sandbox:
        return Sandbox(member.id, member.name, (ENDPOINT,))

    def unplug(networks: FakeNetworks, network: Network, container: str, pid: int) -> None:
        unplugged.append(container)

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    world.run()
    for name, method in (("plug", plug), ("unplug", unplug)):
        monkeypatch.setattr(FakeNetworks, name, method, raising=False)
    monkeypatch.setattr(store, "write_file", full)
    connector = world.parts.networks.connector
    assert connector is not None
    with pytest.raises(OSError, match="No space left"):
        connector.connect(MINE, "it", {})
    assert unplugged == [world.containers.get("it").id]
    assert "mine" not in networks_of(world.containers.get("it"))
