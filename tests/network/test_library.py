"""`engine.networks`: the same in one's own process."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from lamina import Engine
from lamina.linux import nftables
from lamina.linux.netlink import NETFILTER, Netlink
from lamina.network.firewall import table_of, tag_of
from lamina.network.mode import NetworkMode
from lamina.network.model import Network, NetworkExists, NetworkForbidden, NetworkNotFound
from lamina.network.networks import Networks, Parts, erase
from lamina.network.requests import NetworkRequest
from lamina.network.wiring import Member
from tests.harness import end_helpers


@pytest.mark.root
def test_networks_are_made_listed_and_removed_by_the_library(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    try:
        with Engine.open(root) as engine:
            made, warning = engine.networks.create(NetworkRequest("mine", labels={"a": "b"}))
            assert warning == "" and os.path.exists(f"/sys/class/net/{made.bridge}")
            assert [network["Name"] for network in engine.networks.list({"label": ["a=b"]})] == ["mine"]
            with pytest.raises(NetworkExists):
                engine.networks.create(NetworkRequest("mine"))
            with pytest.raises(NetworkForbidden):
                engine.networks.remove("none")
            engine.networks.create(NetworkRequest("ß" * 300))  # longer than a bridge's remark
            engine.networks.remove("ß" * 300)
        with Engine.open(root) as engine:
            assert engine.networks.get(made.id[:12]).pools == made.pools
            engine.networks.remove("mine")
            assert not os.path.exists(f"/sys/class/net/{made.bridge}")
            with pytest.raises(NetworkNotFound):
                engine.networks.get("mine")
    finally:
        end_helpers(tmp_path)
        erase(root)


@pytest.mark.root
def test_what_is_left_of_a_deleted_root_goes_with_the_start_of_another(tmp_path: Path) -> None:
    gone, stays, other = (str(tmp_path / name) for name in ("gone", "stays", "other one"))
    bridges = {}
    try:
        for root in (gone, stays):
            with Engine.open(root) as engine:
                bridges[root] = engine.networks.create(NetworkRequest("mine"))[0].bridge
        assert Path(f"/sys/class/net/{bridges[gone]}/ifalias").read_text() == f"lamina {tag_of(gone)} mine {gone}\n"
        end_helpers(tmp_path / "gone")
        shutil.rmtree(gone)
        with Engine.open(other):
            assert not os.path.exists(f"/sys/class/net/{bridges[gone]}")
            assert os.path.exists(f"/sys/class/net/{bridges[stays]}")
        with Netlink(NETFILTER) as connection:
            tables = {name for _, name in nftables.tables(connection)}
        assert table_of(tag_of(stays)) in tables and table_of(tag_of(gone)) not in tables
    finally:
        end_helpers(tmp_path)
        for root in (stays, other):
            erase(root)


@pytest.mark.root
def test_interfaces_that_others_made_stay_when_a_network_is_refused_or_removed(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    bridge, pair = (f"{kind}{tag_of(root)}" for kind in ("lb", "lp"))
    mine = NetworkRequest("mine", options={"com.docker.network.bridge.name": bridge})
    try:
        subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "add", pair, "type", "veth", "peer", "name", f"{pair}p"], check=True)
        with Engine.open(root) as engine:
            with pytest.raises(NetworkForbidden, match="is not a bridge"):
                engine.networks.create(NetworkRequest("other", options={"com.docker.network.bridge.name": pair}))
            engine.networks.create(mine)
            engine.networks.remove("mine")
            assert all(os.path.exists(f"/sys/class/net/{name}") for name in (bridge, pair))
            assert Path(f"/sys/class/net/{bridge}/ifalias").read_text() == ""
            subprocess.run(["ip", "link", "delete", bridge], check=True)
            engine.networks.create(mine)
            engine.networks.remove("mine")
            assert not os.path.exists(f"/sys/class/net/{bridge}")  # this one the engine made
    finally:
        for name in (bridge, pair):
            subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
        end_helpers(tmp_path)
        erase(root)


@pytest.mark.root
def test_a_start_that_makes_a_bridge_anew_and_a_network_that_is_made_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ids, begun = str(tmp_path), itertools.count(1), threading.Event()
    clock = iter((1, 2))

    def now() -> int:
        if (moment := next(clock)) == 2:  # the second network is being made: now the container starts
            starting.start()
            assert begun.wait(60)
        return moment

    parts = Parts(f"{root}/networks", root, tag_of(root), lambda _: None, now, lambda: f"{next(ids):012x}".ljust(64, "0"), lambda _: None)
    os.mkdir(parts.root)
    networks = Networks(parts)
    look_up = networks._interfaces.index

    def looked_up(name: str) -> int:
        begun.set()
        return look_up(name)

    monkeypatch.setattr(networks._interfaces, "index", looked_up)
    member = Member("c" * 64, "it", "it", NetworkMode("bridge", "first"), {"first": {}})
    starting = threading.Thread(target=lambda: networks.join(member), daemon=True)
    made: list[Network] = []
    making = threading.Thread(target=lambda: made.append(networks.create(NetworkRequest("second"))[0]), daemon=True)
    try:
        first, _ = networks.create(NetworkRequest("first"))
        subprocess.run(["ip", "link", "delete", first.bridge], check=True)  # as after a reboot
        making.start()
        making.join(60)
        starting.join(60)
        assert made and not starting.is_alive() and networks.sandbox(member.id) is not None
    finally:
        end_helpers(tmp_path)
        erase(root)
