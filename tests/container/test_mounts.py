"""Mounts as they are asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.container.model import MountPoint
from lamina.container.mounts import InvalidMount, asked_mounts, parse_bind, parse_mount, runtime_mounts


def test_a_bind_a_name_and_a_target_alone_are_told_apart() -> None:
    bind = parse_bind("/host//dir:/in/../x:ro,rslave")
    assert (bind.kind, bind.source, bind.target, bind.read_only, bind.propagation) == ("bind", "/host/dir", "/x", True, "rslave")
    named = parse_bind("data:/x")
    assert (named.kind, named.name, named.copy, named.owned) == ("volume", "data", True, False)
    assert parse_bind("data:/x:nocopy").copy is False
    with pytest.raises(InvalidMount, match="VolumeOptions"):
        parse_bind("/host:/x:nocopy")
    with pytest.raises(InvalidMount, match="BindOptions"):
        parse_bind("data:/x:rslave")
    alone = parse_bind("/x")
    assert (alone.kind, alone.name, alone.owned) == ("volume", "", True)


@pytest.mark.parametrize(
    "bind",
    [
        "",
        ":",
        "a:b",
        "a:/b:c:d",
        "/a:/",
        "a:/x:wrong",
        "/a:relative",
        "a::ro",
        "/a:/b:rw,ro",
        "/a:/b:ro,ro",
        "/a:/b:z,Z",
        "/a:/b:shared,slave",
    ],
)
def test_malformed_binds_are_refused(bind: str) -> None:
    with pytest.raises(InvalidMount):
        parse_bind(bind)


@given(st.text(alphabet="/a:.,ro \0é", max_size=16))
def test_any_bind_is_accepted_or_refused(text: str) -> None:
    try:
        point = parse_bind(text)
    except InvalidMount:
        return
    assert point.target.startswith("/")
    assert ".." not in point.target.split("/")


@pytest.mark.parametrize(
    ("mount", "point"),
    [
        (
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 10, "Mode": 0o700}},
            MountPoint("tmpfs", "/t", data="size=10,mode=700"),
        ),
        ({"Type": "volume", "Target": "/t"}, MountPoint("volume", "/t", copy=True, owned=True, mode="z")),
        (
            {"Type": "bind", "Target": "/t", "Source": "/s", "ReadOnly": True},
            MountPoint("bind", "/t", "/s", read_only=True, must_exist=True),
        ),
    ],
)
def test_mounts_by_their_long_spelling(mount: dict[str, Any], point: MountPoint) -> None:
    assert parse_mount(mount) == point


def test_unknown_kinds_and_relative_sources_are_refused() -> None:
    for mount in ({"Type": "npipe", "Target": "/t"}, {"Type": "bind", "Target": "/t", "Source": "s"}, {"Type": "volume", "Target": "t"}):
        with pytest.raises(InvalidMount):
            parse_mount(mount)


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({}, 'for type "": field Target must not be empty'),
        ({"Type": "bind", "Target": "/t"}, "field Source must not be empty"),
        ({"Type": "bind", "Target": "/t", "Source": "/s", "VolumeOptions": {}}, "field VolumeOptions must not be specified"),
        ({"Type": "volume", "Target": "/t", "BindOptions": {}}, "field BindOptions must not be specified"),
        ({"Type": "tmpfs", "Target": "/t", "BindOptions": {}}, "field BindOptions must not be specified"),
        ({"Type": "volume", "Target": "/t", "ReadOnly": True}, "must not set ReadOnly mode when using anonymous volumes"),
        ({"Type": "volume", "Target": "t"}, "for type \"volume\": invalid mount path: 't' mount path must be absolute"),
        ({"Type": "volume", "Target": "/"}, "for type \"volume\": invalid specification: destination can't be '/'"),
    ],
)
def test_a_mount_has_what_its_kind_has_and_nothing_else(mount: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidMount, match=f"invalid mount config .*{words}"):
        parse_mount(mount)


@pytest.mark.parametrize(
    "data", ["size=abc", "size=-1", "size=", "size=1.5g", "mode=9", "uid=root", "nr_inodes=many", "color=red", "bright"]
)
def test_what_a_tmpfs_cannot_be_is_refused(data: str) -> None:
    with pytest.raises(InvalidMount, match="invalid tmpfs option"):
        asked_mounts({}, {"Tmpfs": {"/t": f"ro,{data}"}})
    size = {"SizeBytes": -1}
    with pytest.raises(InvalidMount, match="size=-1"):
        parse_mount({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": size})


def test_what_a_tmpfs_can_be_is_kept() -> None:
    data = "rw,noexec,size=64M,mode=1777,uid=5,gid=0,nr_inodes=1k,nr_blocks=0x10,huge=never,mpol=local"
    assert asked_mounts({}, {"Tmpfs": {"/t": data}})[0].data == data
    assert asked_mounts({}, {"Tmpfs": {"/t": "size=50%"}})[0].data == "size=50%"


def test_explicit_mounts_win_over_the_images_volumes_and_two_on_one_target_are_refused() -> None:
    config: dict[str, Any] = {"Volumes": {"/data": {}, "/own": {}}}
    found = asked_mounts(config, {"Binds": ["/host:/data"]})
    assert [(mount.target, mount.kind) for mount in found] == [("/data", "bind"), ("/own", "volume")]
    with pytest.raises(InvalidMount, match="Duplicate mount point: /x"):
        asked_mounts({}, {"Binds": ["/a:/x"], "Tmpfs": {"/x": ""}})


def test_a_relative_volume_of_an_image_lies_below_the_root() -> None:
    assert [mount.target for mount in asked_mounts({"Volumes": {"data/x": {}, "/own": {}}}, {})] == ["/data/x", "/own"]
    with pytest.raises(InvalidMount, match="destination can't be '/'"):
        asked_mounts({"Volumes": {".": {}}}, {})


def test_parents_are_mounted_before_children() -> None:
    points = [MountPoint("bind", target, "/s") for target in ("/a/b/c", "/a", "/a/b")]
    assert [mount.target for mount in runtime_mounts(points, {})] == ["/a", "/a/b", "/a/b/c"]


@pytest.mark.parametrize(
    ("source", "asked", "propagation"),
    [
        ("/host", "", "rprivate"),
        ("/host", "shared", "shared"),
        ("/data", "", "rprivate"),
        ("/data/root-of-others", "", "rprivate"),
        ("/", "", "rslave"),
        ("/data/root", "", "rslave"),
        ("/data/root/containers", "", "rslave"),
        ("/data", "rshared", "rshared"),
        ("/data/root/x", "rslave", "rslave"),
    ],
)
def test_a_bind_that_shows_the_data_root_is_told_of_what_is_unmounted_there(source: str, asked: str, propagation: str) -> None:
    root = "/data/root" if source != "/data" or asked else "/elsewhere"
    mount = {"Type": "bind", "Source": source, "Target": "/x", "BindOptions": {"Propagation": asked}}
    for host in ({"Binds": [f"{source}:/x" + (f":{asked}" if asked else "")]}, {"Mounts": [mount]}):
        [found] = asked_mounts({}, host, root=root)
        assert found.propagation == propagation


@pytest.mark.parametrize("asked", ["private", "rprivate", "slave", "shared"])
def test_other_propagations_of_the_data_root_are_refused(asked: str) -> None:
    for source in ("/", "/data", "/data/root", "/data/root/x"):
        with pytest.raises(InvalidMount, match='must use either propagation mode "rslave" or "rshared"'):
            asked_mounts({}, {"Binds": [f"{source}:/x:{asked}"]}, root="/data/root")
