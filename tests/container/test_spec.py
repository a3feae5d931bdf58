"""From documents to what is started, as Docker merges them."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.container.checking import check_config, check_host
from lamina.container.document import InvalidDocument
from lamina.container.logdrivers import InvalidLog
from lamina.container.model import Container
from lamina.container.resources import checked
from lamina.container.spec import (
    NoCommand,
    adjusted,
    limits,
    merged_config,
    merged_env,
    merged_host_config,
    runtime_arguments,
)
from lamina.errors import InvalidArgument, LaminaError
from lamina.network.mode import network_mode
from lamina.runtime.abilities import Abilities
from lamina.runtime.runtimes import Runtimes
from lamina.spec.config import ContainerConfig
from lamina.spec.signals import InvalidSignal, signal_number

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
CONFIG_KEYS = st.sampled_from(["Cmd", "Entrypoint", "Env", "User", "Labels", "Volumes", "Tty", "StopTimeout", "ExposedPorts", "Hostname"])
HOST_KEYS = st.sampled_from(["Binds", "Memory", "RestartPolicy", "LogConfig", "CapAdd", "Ulimits", "AutoRemove", "ShmSize", "PidsLimit"])


def merged(config: dict[str, Any], **image: Any) -> dict[str, Any]:
    return merged_config(config, ContainerConfig(**image), image_name="base", hostname="host")


@pytest.mark.parametrize(
    ("config", "entrypoint", "cmd"),
    [
        ({}, ["/e"], ["c"]),
        ({"Cmd": ["own"]}, ["/e"], ["own"]),
        ({"Cmd": "own"}, ["/e"], ["own"]),
        ({"Entrypoint": ["/own"]}, ["/own"], None),
        ({"Entrypoint": ["/own"], "Cmd": ["x"]}, ["/own"], ["x"]),
        ({"Entrypoint": [""], "Cmd": ["x"]}, None, ["x"]),
        ({"Entrypoint": [], "Cmd": None}, ["/e"], ["c"]),
    ],
)
def test_entrypoint_and_command_are_merged_as_dockers(config: dict[str, Any], entrypoint: object, cmd: object) -> None:
    document = merged(config, entrypoint=("/e",), cmd=("c",))
    assert (document["Entrypoint"], document["Cmd"]) == (entrypoint, cmd)


@pytest.mark.parametrize(
    ("asked", "kept"), [("/newx/../newy", "/newy"), ("//newx/..", "/"), ("/a/../../b/", "/b"), ("/", "/"), ("", "/image"), (None, "/image")]
)
def test_the_working_directory_is_cleaned(asked: str | None, kept: str) -> None:
    assert merged({"Cmd": ["c"], "WorkingDir": asked}, working_dir="/image/./")["WorkingDir"] == kept
    assert merged({"Cmd": ["c"]})["WorkingDir"] == ""


def test_nothing_to_run_is_refused() -> None:
    for config in ({}, {"Entrypoint": [""]}):
        with pytest.raises(NoCommand, match="no command specified"):
            merged(config)


def test_variables_of_the_request_win_and_one_without_a_value_is_taken_away() -> None:
    assert merged_env(["A=own", "GONE"], ["PATH=/bin", "A=image", "GONE=x"]) == ["A=own", "GONE", "PATH=/bin"]


def test_labels_and_volumes_are_added_to_the_images() -> None:
    document = merged({"Labels": {"a": "own"}, "Volumes": {"/v": {}}}, cmd=("c",), labels={"a": "image", "b": "2"}, volumes={"/w": {}})
    assert document["Labels"] == {"a": "own", "b": "2"}
    assert sorted(document["Volumes"]) == ["/v", "/w"]


@given(st.dictionaries(CONFIG_KEYS, JSON), st.dictionaries(HOST_KEYS, JSON))
def test_any_document_is_accepted_or_refused(config: dict[str, Any], host: dict[str, Any]) -> None:
    try:
        whole = merged_config(config, ContainerConfig(cmd=("c",)), image_name="base", hostname="host")
        hosts = merged_host_config(host, network_mode("none"))
        record = Container("i" * 64, "n", 0, "x", "x", "", "c", (), "/d", whole, hosts)
        runtime_arguments(record, network_mode("none"), ())
    except LaminaError:
        pass


def test_wrong_types_are_named() -> None:
    with pytest.raises(InvalidArgument, match="Cmd must be a list of strings"):
        merged({"Cmd": [1]})
    with pytest.raises(InvalidArgument, match="Tty must be true or false"):
        merged({"Tty": "yes", "Cmd": ["c"]})


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"RestartPolicy": {"Name": "sometimes"}}, "unknown policy 'sometimes'"),
        ({"RestartPolicy": {"Name": "always"}, "AutoRemove": True}, "can't create 'AutoRemove' container with restart policy"),
        ({"Memory": 1024}, "Minimum memory limit allowed is 6MB"),
        ({"LogConfig": {"Type": "gelf"}}, "no log driver named 'gelf'"),
        ({"LogConfig": {"Type": "json-file", "Config": {"max-size": "0"}}}, "max-size must be a positive number"),
        ({"LogConfig": {"Type": "json-file", "Config": {"tag": "{{.Name}}{{.Nope}}"}}}, "can't evaluate field Nope"),
        ({"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "q"}]}, "bad mode specified: q"),
        ({"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "rr"}]}, "bad mode specified: rr"),
        ({"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "rel"}]}, "rel is not an absolute path"),
        ({"CgroupParent": "/a\nb"}, "cannot hold a line break"),
        ({"Binds": ["/tmp/a\0:/b"]}, "Binds must not hold a NUL"),
        ({"Tmpfs": {"/a\0": ""}}, "Tmpfs must not hold a NUL"),
    ],
)
def test_contradictions_are_refused_in_dockers_words(host: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        check_host({}, host, Runtimes())
        checked(host, Abilities())
        merged_host_config(host, network_mode("none"))


@pytest.mark.parametrize("config", [{"Env": ["a\0b=1"]}, {"Cmd": ["a\0"]}, {"Cmd": "a\0"}, {"Healthcheck": {"Test": ["CMD", "\0"]}}])
def test_what_the_kernel_would_cut_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument, match="must not hold a NUL"):
        check_config(config)
    check_config({"Labels": {"free": "\0"}})


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("RTMAX-2", signal.SIGRTMAX - 2),
        ("SIGTERM", 15),
        ("term", 15),
        ("9", 9),
        ("+9", 9),
        ("RTMIN+3", signal.SIGRTMIN + 3),
        ("SigUsr1", 10),
    ],
)
def test_signals_are_read_by_name_and_number(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["", "0", "99", "FOO", "SIG", "-1", "SIG_DFL", "TERM+x", "٣", "RTMIN+99", "TERM+1", "RTMAX+1"])
def test_what_is_no_signal_is_refused(name: str) -> None:
    with pytest.raises(InvalidSignal):
        signal_number(name)


@pytest.mark.parametrize("name", ["99", "-1", "+5", "RTMIN+3"])
def test_any_number_but_none_may_stop_a_container(name: str) -> None:
    check_config({"StopSignal": name})
    for refused in ("0", "-0", "FOO", "RTMIN+99", "9" * 30):
        with pytest.raises(InvalidSignal, match="invalid signal: "):
            check_config({"StopSignal": refused})


def test_limits_keep_dockers_units() -> None:
    found = limits({"Memory": 1 << 30, "NanoCpus": 1500000000, "PidsLimit": -1, "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
                    "BlkioDeviceReadBps": [{"Path": "/dev/x", "Rate": 7}]}, lambda path: (8, len(path)))  # fmt: skip
    assert (found.memory, found.nano_cpus, found.pids, found.rlimits) == (1 << 30, 1500000000, -1, {"nofile": (1, 2)})
    assert found.throttles == {"throttleReadBpsDevice": ((8, 6, 7),)}


def test_namespaces_of_the_host_and_of_others_are_put_in() -> None:
    record = Container(
        "i" * 64,
        "n",
        0,
        "x",
        "x",
        "",
        "c",
        (),
        "/d",
        {},
        {"PidMode": "host", "IpcMode": "container:x", "ReadonlyRootfs": True, "MaskedPaths": []},
    )
    entry = {"destination": "/etc/hosts", "options": ["rbind"]}
    spec = {"process": {}, "mounts": [entry], "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]}}
    done = adjusted(spec, record, {"IpcMode": "/proc/1/ns/ipc"})
    assert done["linux"]["namespaces"] == [{"type": "uts"}, {"type": "mount"}, {"type": "ipc", "path": "/proc/1/ns/ipc"}]
    assert (done["mounts"][0]["options"], done["linux"]["maskedPaths"]) == (["rbind", "ro"], [])
    host = replace(record, host_config={"UTSMode": "host"})
    assert "hostname" not in adjusted({"hostname": "x", **spec}, host, {})


def test_of_a_domain_name_the_kernel_gets_what_it_can_hold() -> None:
    record = Container("i" * 64, "n", 0, "x", "x", "", "c", (), "/d", {"Domainname": "d" * 63 + "üx"}, {})
    assert adjusted({"mounts": [], "linux": {"namespaces": []}}, record, {})["domainname"] == "d" * 63


@pytest.mark.parametrize(
    ("asked", "shown"),
    [({}, None), ({"IpcMode": "", "PidsLimit": 0, "OomKillDisable": None}, None), ({"PidsLimit": -1}, None), ({"PidsLimit": 5}, 5)],
)
def test_what_is_not_asked_for_is_shown_as_dockers(asked: dict[str, Any], shown: int | None) -> None:
    host = merged_host_config(asked, network_mode("none"))
    assert (host["IpcMode"], host["PidsLimit"], host["OomKillDisable"]) == ("private", shown, False)


@pytest.mark.parametrize(
    "options",
    [
        {"max-size": "-1"},
        {"max-size": ""},
        {"max-size": "0"},
        {"max-size": "1m", "max-file": ""},
        {"max-size": "9" * 5000},
        {"max-size": "1m", "max-file": "9" * 5000},
        {"tag": "{{.Nosuch}}"},
        {"tag": "{{.Name"},
        {"tag": "{{.Name}}{{lower .ID}}"},
    ],
)
def test_log_options_that_say_nothing_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidLog):
        merged_host_config({"LogConfig": {"Type": "json-file", "Config": options}}, network_mode("none"))


def test_ports_are_shown_where_there_are_some() -> None:
    assert "ExposedPorts" not in merged({}, cmd=("c",))
    assert merged({}, cmd=("c",), exposed_ports={"80/tcp": {}})["ExposedPorts"] == {"80/tcp": {}}
