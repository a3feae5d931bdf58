"""What requests are refused, and what documents say, where only a comparison with dockerd shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest
from msgspec.structs import replace as replaced

from lamina.apitypes.filters import InvalidFilter
from lamina.container.choosing import check_listing
from lamina.container.execs import ExecNotFound
from lamina.container.logdrivers import check_log
from lamina.container.model import ContainerNotFound, State, WrongState
from lamina.container.requests import CommitRequest
from lamina.errors import InvalidArgument
from lamina.network.choosing import listed, prunable
from lamina.network.describe import network_document
from lamina.network.fixed import fixed, members
from lamina.network.model import Network
from lamina.spec.config import History
from lamina.spec.digest import Digest
from tests.container.fakes import World, world
from tests.harness import eventually

__all__ = ["world"]


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"PidMode": "container:absent"}, "No such container: absent"),
        ({"IpcMode": "container:absent"}, "No such container: absent"),
        ({"NetworkMode": "container:"}, "invalid container format container:<name|id>"),
        ({"VolumesFrom": [""]}, "volumes-from specification cannot be an empty string"),
    ],
)
def test_a_create_that_names_no_container_is_refused(world: World, host: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        world.containers.create({"Image": "base"}, host)


def test_a_tmpfs_by_its_flag_is_no_mount_and_volumes_have_dockers_mode(world: World) -> None:
    mounts = [{"Type": "tmpfs", "Target": "/long"}, {"Type": "volume", "Target": "/anonymous"}]
    host = {"Tmpfs": {"/flag/": ""}, "Binds": ["named:/named", "/alone"], "Mounts": mounts}
    world.containers.create({"Image": "base"}, host, name="it")
    shown = {mount["Destination"]: mount["Mode"] for mount in world.containers.inspect("it")["Mounts"]}
    assert shown == {"/long": "", "/anonymous": "z", "/named": "z", "/alone": "z"}
    assert len(world.containers.list(all=True)[0]["Mounts"]) == 4


def test_an_update_passes_over_what_only_a_create_sets(world: World) -> None:
    world.run()
    before = world.containers.inspect("it")["HostConfig"]
    world.containers.update("it", {"Ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 5}], "OomKillDisable": True, "CpuCount": 5})
    assert world.containers.inspect("it")["HostConfig"] == before
    with pytest.raises(InvalidArgument, match="BlkioDeviceReadIOps must not hold a NUL"):
        world.containers.update("it", {"BlkioDeviceReadIOps": [{"Path": "\0", "Rate": 1}]})


def test_a_commits_configuration_is_merged_with_the_containers(world: World) -> None:
    world.run(Env=["A=1", "B=1"], ExposedPorts={"80/tcp": {}}, Cmd=["sleep", "5"])
    said = {"Env": ["B=2"], "ExposedPorts": {"90/tcp": {}}, "Entrypoint": ["other"]}
    config = world.containers.commit("it", CommitRequest(config=said)).config.config
    assert {"A=1", "B=2"} <= set(config.env) and "B=1" not in config.env
    assert set(config.exposed_ports) == {"80/tcp", "90/tcp"}
    assert (config.entrypoint, config.cmd or None) == (("other",), None)


def test_what_a_stopped_container_uses_is_zero_in_every_field(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    found = next(iter(world.containers.stats("it", stream=False)))
    for key in ("cpu_stats", "precpu_stats"):
        assert found[key]["cpu_usage"]["total_usage"] == found[key]["throttling_data"]["periods"] == 0
    assert found["blkio_stats"]["io_service_bytes_recursive"] is None


def test_values_of_filters_are_checked_although_nothing_is_there() -> None:
    with pytest.raises(InvalidFilter, match="is-task=perhaps"):
        check_listing({"is-task": ["perhaps"]})
    with pytest.raises(InvalidFilter, match="'dangling'"):
        listed([], {"dangling": ["perhaps"]}, set())
    for key in ("exited", "publish", "expose"):
        for value in ("²", "9" * 5000, "80-70"):
            with pytest.raises(InvalidFilter, match=f"invalid filter '{key}="):
                check_listing({key: [value]})


def test_an_empty_id_and_what_is_no_expression_find_nothing(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    for filters in ({"id": [""]}, {"name": ["["]}):
        assert world.containers.list(all=True, filters=filters) == []


def test_ancestor_is_what_the_name_means_now(world: World) -> None:
    world.containers.create({"Image": "base"}, name="old")
    old = world.images.image
    world.images.others = [old]
    config = world.images.image.config
    world.images.image = replace(old, id=Digest.of(b"another"), config=replaced(config, history=(History(created_by="LABEL a=b"),)))
    world.containers.create({"Image": "base"}, name="new")
    for name, found in (("base", ["/new"]), (str(old.id), ["/old"]), ("absent", [])):
        assert [row["Names"][0] for row in world.containers.list(all=True, filters={"ancestor": [name]})] == found


def test_a_prune_removes_what_its_labels_let_through(world: World) -> None:
    world.containers.create({"Image": "base", "Labels": {"a": ""}}, name="one")
    world.containers.create({"Image": "base", "Labels": {"a": "", "b": ""}}, name="both")
    assert world.containers.prune({"label!": []}).removed == ()
    assert len(world.containers.prune({"label!": ["a", "b"]}).removed) == 1
    assert [row["Names"] for row in world.containers.list(all=True)] == [["/both"]]
    moment = Network("1" * 64, "net", "bridge", labels={"a": ""}, created_ns=0)
    assert prunable([moment], {"label!": []}, 1) == [] != prunable([moment], {"label!": ["b"]}, 1)
    with pytest.raises(InvalidArgument, match="more than one until filter specified"):
        prunable([moment], {"until": ["1h", "2h"]}, 1)


def test_filters_of_a_prune_are_checked_although_nothing_is_there(world: World) -> None:
    for filters in ({"bogus": ["1"]}, {"until": ["never"]}, {"until": ["1h", "2h"]}, {"until": []}):
        with pytest.raises(InvalidArgument):
            world.containers.prune(filters)


def test_a_container_that_a_filter_names_and_is_not_there_is_told_although_nothing_runs(world: World) -> None:
    for key in ("before", "since"):
        with pytest.raises(ContainerNotFound, match="No such container: nosuch"):
            world.containers.list(filters={key: ["nosuch"]})


def test_a_container_is_not_renamed_to_what_it_is_called(world: World) -> None:
    world.containers.create({"Image": "base"}, name="it")
    with pytest.raises(InvalidArgument, match="same name as its current name"):
        world.containers.rename("it", "it")


def test_networks_are_chosen_by_expressions_as_dockers() -> None:
    networks = [Network("1a", "web"), Network("2a", "web-2"), Network("3a", "a+b")]
    for pattern, names in (("^web$", ["web"]), ("web", ["web", "web-2"]), ("a+b", ["a+b"]), ("[", [])):
        assert [network.name for network in listed(networks, {"name": [pattern]}, set())] == names
    assert [network.name for network in listed(networks, {"id": ["^2"]}, set())] == ["web-2"]


def test_a_container_without_network_has_none(world: World) -> None:
    world.run(NetworkDisabled=True)
    shown = world.containers.inspect("it")
    assert (shown["HostConfig"]["NetworkMode"], shown["Config"]["NetworkDisabled"]) == ("none", True)
    assert [*shown["NetworkSettings"]["Networks"]] == ["none"]
    world.run("other", NetworkDisabled=False)
    assert "NetworkDisabled" not in world.containers.inspect("other")["Config"]


def test_who_is_on_the_networks_that_are_always_there_is_known(world: World) -> None:
    process = world.run(host={"NetworkMode": "none"})
    world.run("hosts", host={"NetworkMode": "host"})
    connector: Any = world.parts.networks.connector
    fixed_id = world.containers.get("it").id
    assert connector.on("none") == [(fixed_id, "it")]
    none = fixed("none", "/root")
    shown = network_document(none, members(none, connector.on("none")))["Containers"]
    assert shown == {fixed_id: {**dict.fromkeys(("MacAddress", "IPv4Address", "IPv6Address"), ""), "Name": "it", "EndpointID": ANY}}
    settings = world.containers.inspect("it")["NetworkSettings"]
    assert settings["Networks"]["none"]["EndpointID"] and settings["SandboxID"] == fixed_id
    process.end(0)
    eventually(lambda: connector.on("none") == [])


@pytest.mark.parametrize("mode", ["none", "host", "bridge", "default"])
@pytest.mark.parametrize("asked", [{"IPAMConfig": {"IPv4Address": "1.2.3.4"}}, {"Aliases": ["a"]}])
def test_nothing_is_asked_of_networks_that_are_always_there(world: World, mode: str, asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=f"invalid config for network {mode}: .*\n.* user[ -]defined networks"):
        world.containers.create({"Image": "base"}, {"NetworkMode": mode}, {"EndpointsConfig": {mode: asked}})
    assert world.containers.list(all=True) == []


def test_a_listing_shows_the_id_where_a_name_is_another_images_now(world: World) -> None:
    world.containers.create({"Image": "base"}, {"Annotations": {"a": "b"}}, name="it")
    (row,) = world.containers.list(all=True)
    assert (row["Image"], row["HostConfig"]["Annotations"]) == ("base", {"a": "b"})
    before = world.images.image
    world.images.others = [before]
    world.images.configure(labels={"built": "again"})
    world.images.image = replace(world.images.image, id=Digest.of(b"another"))
    (row,) = world.containers.list(all=True)
    assert row["Image"] == row["ImageID"] == str(before.id)


def test_an_exec_begins_with_the_size_that_its_creation_said(world: World) -> None:
    world.run()
    exec_id = world.containers.exec_create("it", {"Cmd": ["ls"], "Tty": True, "ConsoleSize": [24, 80]})
    world.containers.exec_start(exec_id)
    assert world.runtime.processes[-1].sizes == [(24, 80)]


def test_what_has_ended_has_no_terminal_to_resize(world: World) -> None:
    process = world.run(Tty=True)
    exec_id = world.containers.exec_create("it", {"Cmd": ["ls"], "Tty": True})
    world.containers.exec_resize(exec_id, 24, 80)
    world.containers.exec_start(exec_id)
    world.runtime.processes[-1].end(0)
    eventually(lambda: world.containers.exec_inspect(exec_id)["ExitCode"] == 0)
    with pytest.raises(ExecNotFound, match=f"no such exec: {exec_id}"):
        world.containers.exec_resize(exec_id, 24, 80)
    process.end(0)
    eventually(lambda: world.containers.get("it").state.status is State.EXITED)
    with pytest.raises(WrongState, match="is not running"):
        world.containers.resize("it", 24, 80)
    assert "resize" not in world.actions()


def test_a_terminal_begins_with_the_size_that_its_creation_said(world: World) -> None:
    world.run(Tty=True, host={"ConsoleSize": [24, 80]})
    assert world.runtime.launches[-1].spec["process"]["consoleSize"] == {"height": 24, "width": 80}
    for config, host in (({}, {"ConsoleSize": [24, 80]}), ({"Tty": True}, {"ConsoleSize": [0, 0]}), ({"Tty": True}, {})):
        world.run(f"other-{len(world.runtime.launches)}", host=host, **config)
        assert "consoleSize" not in world.runtime.launches[-1].spec["process"]


def test_the_log_driver_none_passes_over_options() -> None:
    check_log("none", {"max-size": "1m"})
