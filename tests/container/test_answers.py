"""What requests are refused, and what documents say, where only a comparison with dockerd shows it."""

from __future__ import annotations

from typing import Any

import pytest

from lamina.apitypes.filters import InvalidFilter
from lamina.container.choosing import check_listing
from lamina.container.logdrivers import check_log
from lamina.container.requests import CommitRequest
from lamina.errors import InvalidArgument
from lamina.network.choosing import listed
from tests.container.fakes import World, world

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


def test_the_log_driver_none_passes_over_options() -> None:
    check_log("none", {"max-size": "1m"})
