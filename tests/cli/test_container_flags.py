"""What `run` and `create` make of their flags' values, in Docker's words. tests/docker/test_flag_words.py has docker say the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cli.catalog import COMMANDS, SPELLINGS
from lamina.cli.fields import fields
from lamina.cli.flags import Reader, UsageError, table
from lamina.cli.hostconfig import container_config

NO_KEY = "invalid rate for device: {}. The correct format is <device-path>:<number>"
REFUSED = [
    (["-v", ""], "invalid empty volume spec"),
    (["--network", "bridge", "--network", "bridge"], 'network "bridge" is specified multiple times'),
    (["--network", "a", "--network", "host"], "conflicting options: cannot attach both user-defined and non-user-defined network-modes"),
    (["--network", "name=a,colour=b"], "invalid field key colour"),
    (["--network", "alias=b"], "network name/id is not specified"),
    (["--network", "name=a,"], "invalid field "),
    (["--network", "name=a,driver-opt=b"], "invalid key value pair format in driver options"),
    (["--network", "name=a,gw-priority=x"], "invalid gw-priority (x): invalid syntax"),
    (["--network", "host", "--network-alias", "x"], "network-scoped aliases are only supported for user-defined networks"),
    (["--network-alias", "x"], "network-scoped aliases are only supported for user-defined networks"),
    (["--network", "name=a,alias=b", "--network-alias", "c"], "cannot specify both --network-alias and per-network alias"),
    (["--network", "name=a,ip=1.2.3.4", "--ip", "1.2.3.5"], "cannot specify both --ip and per-network IPv4 address"),
    (["--device", "/dev/null:/dev/xx:R"], "bad mode specified: R"),
    (["--device", "/dev/null:/dev/xx:q"], "bad mode specified: q"),
    (["--device", "/dev/null:/dev/xx:rr"], "bad mode specified: rr"),
    (["--device", "/dev/null:/dev/xx:"], "bad mode specified: "),
    (["--device", "/dev/zero:rel:r"], "rel is not an absolute path"),
    (["--device", "rel"], "rel is not an absolute path"),
    (["--device", "/a:/b:/c:r"], "bad format for path: /a:/b:/c:r"),
    (["--device", ":/b"], "bad format for path: :/b"),
    (["--mount", "type=bind,src=/a,dst=/x,readonly=maybe"], "invalid value for readonly: maybe"),
    (["--mount", "type=volume,dst=/x,volume-nocopy=maybe"], "invalid value for volume-nocopy: maybe"),
    (["--mount", "type=tmpfs,dst=/x,tmpfs-mode=999"], "invalid value for tmpfs-mode: 999"),
    (["--mount", "type=tmpfs,dst=/x,tmpfs-mode=0o7"], "invalid value for tmpfs-mode: 0o7"),
    (["--mount", "type=tmpfs,dst=/x,tmpfs-size=-1"], "invalid value for tmpfs-size: -1"),
    (["--mount", "type=bind,src=/a,dst=/x,bind-recursive=foo"], 'foo (must be "enabled", "disabled", "writable", or "readonly")'),
    (["--mount", "type=bind,src=/a,dst=/x,bind-recursive=readonly"], "'bind-recursive=readonly' requires 'readonly' to be specified"),
    (["--mount", "type=bind,src=/a,dst=/x,ro,bind-recursive=readonly"], "requires 'bind-propagation=rprivate' to be specified"),
    (["--mount", "type=volume,dst=/x,bind-propagation=rshared"], "cannot mix 'bind-*' options with mount type 'volume'"),
    (["--mount", "type=bind,src=/a,dst=/x,volume-nocopy"], "cannot mix 'volume-*' options with mount type 'bind'"),
    (["--mount", "type=bind,src=/a,dst=/x,tmpfs-size=1"], "cannot mix 'tmpfs-*' options with mount type 'bind'"),
    (["--mount", "type=volume,dst=/x,image-subpath=q"], "cannot mix 'image-*' options with mount type 'volume'"),
    (["--mount", "type=bind,src=/a,dst"], "invalid field 'dst' must be a key=value pair"),
    (["--mount", "type=bind, src=/a,dst=/b"], "unexpected key ' src' in ' src=/a'"),
    (["--mount", "type=bind,src=/a"], "target is required"),
    (["--mount", "type=,dst=/a"], "type is required"),
    (["--mount", 'a"b'], 'parse error on line 1, column 2: bare " in non-quoted-field'),
    (["--mount", '"a"b'], 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
    (["--mount", '"a'], 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
    (["-p", "published=80"], "no port specified: 80:/tcp<empty>"),
    (["-p", "target=80,foo"], "invalid publish opts format (should be name=value but got 'foo')"),
    (["-p", "80/xyz"], "invalid proto: xyz"),
    (["-p", "70000:80"], "invalid hostPort: 70000"),
    (["-p", "80:a"], "invalid containerPort: a"),
    (["-p", "8000-8002:80-81"], "invalid ranges specified for container and host Ports: 80-81 and 8000-8002"),
    (["--health-cmd", "true", "--no-healthcheck"], "--no-healthcheck conflicts with --health-* options"),
    (["--health-start-interval", "1s", "--no-healthcheck"], "--no-healthcheck conflicts with --health-* options"),
    (["--device-read-iops", "/dev/vda:-4"], NO_KEY.format("/dev/vda:-4")),
    (["--device-write-bps", "/dev/vda:-4"], NO_KEY.format("/dev/vda:-4")),
    (["--device-write-iops", "vda:4"], "bad format for device path: vda:4"),
    (["--device-read-bps", "/dev/vda"], "bad format: /dev/vda"),
    (["--blkio-weight-device", "/dev/vda:5"], "invalid weight for device: /dev/vda:5"),
    (["--gpus", "x=1"], "unexpected key 'x' in 'x=1'"),
]  # fmt: skip
"""Flags, and what the sentence that refuses them says."""

TAKEN: list[tuple[list[str], dict[str, Any]]] = [
    (["--network", "a", "--network", "b"], {"NetworkMode": "a", "EndpointsConfig": {"a": {}, "b": {}}}),
    (["--network", "bridge"], {"NetworkMode": "bridge"}),
    (["--net=a", "--net-alias", "x", "--dns-opt", "y"], {"NetworkMode": "a", "DnsOptions": ["y"], "EndpointsConfig": {"a": {"Aliases": ["x"]}}}),
    (
        ["--network", "name=a,alias=x,alias=y,ip=10.0.0.5,ip6=fd00::5,driver-opt=k.b=v,gw-priority=3,link-local-ip=169.254.1.1", "--network", "b"],
        {"NetworkMode": "a", "EndpointsConfig": {"b": {}, "a": {
            "Aliases": ["x", "y"], "GwPriority": 3, "DriverOpts": {"k.b": "v"},
            "IPAMConfig": {"IPv4Address": "10.0.0.5", "IPv6Address": "fd00::5", "LinkLocalIPs": ["169.254.1.1"]},
        }}},
    ),
    (
        ["--network", "name=a,mac-address=02:42:ac:11:00:02", "--link", "c:d"],
        {"NetworkMode": "a", "Links": ["c:d"], "EndpointsConfig": {"a": {"MacAddress": "02:42:ac:11:00:02", "Links": ["c:d"]}}},
    ),
    (["--device", "/dev/null:r"], {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/null", "CgroupPermissions": "r"}]}),
    (["--device", "/dev/a:/dev/b:mw"], {"Devices": [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "mw"}]}),
    (["--mount", "type=bind,src=/a,dst=/x,readonly=T,consistency=Cached"],
     {"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/x", "ReadOnly": True, "Consistency": "cached"}]}),
    (["--mount", "type=bind,src=/a,dst=/x,ro=0"], {"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/x"}]}),
    (["--mount", 'type=volume,"volume-opt=o=a,""b""",dst=/x,volume-opt=type=nfs,volume-driver=local,volume-label=c=d'],
     {"Mounts": [{"Type": "volume", "Target": "/x", "VolumeOptions": {
         "Labels": {"c": "d"}, "DriverConfig": {"Name": "local", "Options": {"o": 'a,"b"', "type": "nfs"}}}}]}),
    (["--mount", "type=tmpfs,dst=/x,tmpfs-mode=1777,tmpfs-size=1m"],
     {"Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Mode": 0o1777, "SizeBytes": 1 << 20}}]}),
    (["-p", "127.0.0.1:0:80"], {"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]}, "ExposedPorts": {"80/tcp": {}}}),
    (["-p", "published=18999,target=80,protocol=UDP"], {"PortBindings": {"80/udp": [{"HostPort": "18999"}]}, "ExposedPorts": {"80/udp": {}}}),
    (["-p", "[::1]:8000-8002:80"], {"PortBindings": {"80/tcp": [{"HostIp": "::1", "HostPort": "8000-8002"}]}, "ExposedPorts": {"80/tcp": {}}}),
    (["--device-read-iops", "/dev/vda:4"], {"BlkioDeviceReadIOps": [{"Path": "/dev/vda", "Rate": 4}]}),
    (["--gpus", '"device=0,1"'], {"DeviceRequests": [{"DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]}]}),
]  # fmt: skip
"""Flags, and what of the request is about them."""


def asked(words: list[str]) -> dict[str, Any]:
    """The request for a container with these flags."""
    flags = Reader(table(COMMANDS["create"][6]), interspersed=False, spellings=SPELLINGS["create"])
    return container_config(flags.read([*words, "image"]), {"MINE": "yes"})


def about(request: dict[str, Any]) -> dict[str, Any]:
    """What of a request differs by the flags above, without what says nothing."""
    every = {**request["HostConfig"], "ExposedPorts": request.get("ExposedPorts"), **request["NetworkingConfig"]}
    found = {key: _said(every.get(key)) for _, meant in TAKEN for key in meant}
    return {key: value for key, value in found.items() if value and value not in ("default", {"default": {}})}


def _said(value: Any) -> Any:
    if isinstance(value, dict):  # a network's name or a port says something alone, a field of the API does not
        return {key: _said(inner) for key, inner in value.items() if inner or not key[0].isupper()}
    return [_said(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("words", "told"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_cannot_be_meant_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        asked(words)
    assert told in refused.value.message and refused.value.exit_code == 125


@pytest.mark.parametrize(("words", "meant"), TAKEN, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_is_meant_is_asked_for(words: list[str], meant: dict[str, Any]) -> None:
    assert about(asked(words)) == meant


def test_numbers_of_any_length_are_refused() -> None:
    for flag, told in (("-p", "invalid containerPort: 999"), ("--memory-swappiness", "it takes a whole number")):
        with pytest.raises(UsageError, match=told):
            asked([flag, "9" * 5000])


def test_words_of_the_program_are_not_read_as_older_flags() -> None:
    assert asked(["--net", "none", "image", "--net", "x"])["Cmd"] == ["--net", "x", "image"]


def test_a_variable_that_the_caller_has_not_is_taken_away_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("IN_FILE\nABSENT_IN_FILE\n")
    flags = Reader(table(COMMANDS["create"][6]), interspersed=False)
    arguments = flags.read(["--env-file", str(tmp_path / "env"), "-e", "HERE", "-e", "ABSENT", "-e", "A=", "image"])
    assert container_config(arguments, {"IN_FILE": "1", "HERE": "2"})["Env"] == ["IN_FILE=1", "HERE=2", "ABSENT", "A="]


def test_a_file_of_variables_has_names_without_blanks(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# A B\n\n  A=1 2\nC =2\n")
    with pytest.raises(UsageError) as refused:
        asked(["--env-file", str(file)])
    assert refused.value.message == f"invalid env file ({file}): variable 'C ' contains whitespaces"
    file.write_text("=1\n")
    with pytest.raises(UsageError, match="no variable name on line '=1'"):
        asked(["--label-file", str(file)])
    file.write_text("# A B\n\n  A=1 2\n")
    assert asked(["--env-file", str(file)])["Env"] == ["A=1 2"]


def test_a_variable_that_the_caller_does_not_have_is_taken_away_by_a_flag_and_passed_over_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("MINE\nNOBODYS\n")
    assert asked(["--env-file", str(file), "-e", "MINE", "-e", "NOBODYS", "-e", "A="])["Env"] == ["MINE=yes", "MINE=yes", "NOBODYS", "A="]


def test_sources_that_begin_with_a_dot_are_relative_to_us() -> None:
    found = asked(["--mount", "type=bind,src=./a,dst=/x", "-v", "../b:/y", "-v", "named:/z"])["HostConfig"]
    assert found["Mounts"][0]["Source"] == f"{os.getcwd()}/a"
    assert found["Binds"] == [f"{os.path.dirname(os.getcwd())}/b:/y", "named:/z"]


def test_a_volume_that_is_said_twice_is_meant_once() -> None:
    assert asked(["-v", "/a:/x", "-v", "b:/y", "-v", "/a:/x"])["HostConfig"]["Binds"] == ["/a:/x", "b:/y"]


@given(st.lists(st.text(), min_size=1))
def test_fields_in_quotes_are_read_back(values: list[str]) -> None:
    assert fields(",".join('"' + value.replace('"', '""') + '"' for value in values)) == values


@given(st.text(alphabet='a,"'))
def test_any_line_of_fields_is_accepted_or_refused(line: str) -> None:
    try:
        assert len(fields(line)) <= line.count(",") + 1
    except UsageError as refused:
        assert '"' in line and refused.message.startswith("parse error")
