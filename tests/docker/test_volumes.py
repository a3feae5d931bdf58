"""Volumes through the real docker CLI."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.docker.conftest import BASE
from tests.harness import Daemon, eventually

NONE = ("--network", "none")
_numbers = count(1)
_SWARM = "This node is not a swarm manager"


@pytest.fixture
def volume(daemon: Daemon) -> Iterator[str]:
    """A name for a volume, which is removed at the end."""
    name = f"volume{next(_numbers)}"
    yield name
    daemon.docker("volume", "rm", "--force", name)


def mounted(place: str) -> bool:
    """Whether something is mounted there on the host."""
    return any(line.split()[4] == place for line in Path("/proc/self/mountinfo").read_text().splitlines())


def facts(daemon: Daemon, volume: str) -> dict[str, object]:
    """What inspect says of a volume."""
    return dict(json.loads(daemon.docker("volume", "inspect", volume).stdout)[0])


@pytest.mark.covers(
    "cli:volume create --driver", "cli:volume create --label", "cli:volume create --opt", "cli:volume inspect --format", "cli:volume ls --filter",
    "cli:volume ls --format", "cli:volume ls --quiet", "cli:volume ls --cluster", "cli:volume prune --filter", "cli:volume rm --force", "api:GET /volumes/{name}",
    "api:DELETE /volumes/{name}",
)  # fmt: skip
def test_a_volume_is_as_it_was_asked_for_until_it_is_removed(daemon: Daemon, volume: str) -> None:
    made = daemon.docker(
        "volume", "create", "--driver", "local", "--label", "a=b", "--label", "c", "-o", "type=tmpfs", "-o", "device=tmpfs", volume
    )
    assert made.stdout == f"{volume}\n"
    found = facts(daemon, volume)
    assert (found["Driver"], found["Labels"], found["Options"]) == ("local", {"a": "b", "c": ""}, {"type": "tmpfs", "device": "tmpfs"})
    assert daemon.docker("volume", "inspect", "-f", "{{.Name}} {{.Scope}}", volume).stdout == f"{volume} local\n"
    assert daemon.docker("volume", "ls", "--format", '{{.Name}}={{.Label "a"}}', "--filter", f"name={volume}").stdout == f"{volume}=b\n"
    for wanted in ("label=a", "label=a=b", "dangling=true", "driver=local"):
        assert volume in daemon.docker("volume", "ls", "-q", "--filter", wanted).stdout.split()
    for other in ("label=a=c", "dangling=false", "driver=nfs9", "name=nobody"):
        assert volume not in daemon.docker("volume", "ls", "-q", "--filter", other).stdout.split()
    assert volume not in daemon.docker("volume", "ls", "--cluster").stdout
    assert "invalid filter" in daemon.docker("volume", "ls", "--filter", "what=ever", code=1).stderr
    assert volume not in daemon.docker("volume", "prune", "-af", "--filter", "label=other").stdout
    assert volume in daemon.docker("volume", "prune", "-af", "--filter", "label=a=b").stdout
    assert f"get {volume}: no such volume" in daemon.docker("volume", "rm", volume, code=1).stderr
    daemon.docker("volume", "rm", "--force", volume)


@pytest.mark.docker_cli(23)
@pytest.mark.covers(
    "cli:volume create --availability", "cli:volume create --group", "cli:volume create --limit-bytes", "cli:volume create --required-bytes",
    "cli:volume create --scope", "cli:volume create --secret", "cli:volume create --sharing", "cli:volume create --topology-preferred",
    "cli:volume create --topology-required", "cli:volume create --type", "cli:volume update", "cli:volume update --availability",
    "api:PUT /volumes/{name}",
)  # fmt: skip
def test_what_only_clusters_have_is_refused_as_a_node_without_one_does(daemon: Daemon, volume: str) -> None:
    flags = [
        ("--availability", "active"), ("--group", "g"), ("--limit-bytes", "1g"), ("--required-bytes", "1m"), ("--scope", "single"), ("--secret", "a=b", "--type", "mount"),
        ("--sharing", "none"), ("--topology-preferred", "a=b", "--type", "mount"), ("--topology-required", "a=b", "--type", "mount"), ("--type", "mount"),
    ]  # fmt: skip
    for flag in flags:
        for cli in (daemon.docker, daemon.lamina):
            assert _SWARM in cli("volume", "create", *flag, volume, code=None).stderr, flag
    assert volume not in daemon.docker("volume", "ls", "-q").stdout.split()
    daemon.docker("volume", "create", volume)
    assert "an only update cluster volumes" in daemon.docker("volume", "update", "--availability", "drain", volume, code=1).stderr
    assert "swarm is unavailable" in put(daemon, f"/volumes/{volume}?version=1")


def put(daemon: Daemon, path: str) -> str:
    """PUT nothing; what is answered."""
    import http.client
    import socket

    connection = http.client.HTTPConnection("lamina", timeout=120)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(daemon.socket))
    connection.request("PUT", f"/v1.51{path}", "{}", {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 503
    text = answer.read().decode()
    connection.close()
    return text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["o=bind"], 'missing required option: "device"'),
        (["type=none"], 'missing required option: "device"'),
        (["device=/x"], 'missing required option: "type"'),
        (["type=none", "device=/x", "colour=blue"], 'invalid option: "colour"'),
        (["type=none", "device=/x", "size=1m"], "quota size requested but no quota support"),
    ],
)
def test_options_that_make_no_sense_are_refused(daemon: Daemon, volume: str, options: list[str], reason: str) -> None:
    words = [word for option in options for word in ("-o", option)]
    assert reason in daemon.docker("volume", "create", *words, volume, code=1).stderr
    assert volume not in daemon.docker("volume", "ls", "-q").stdout.split()


def test_a_volume_that_is_a_bind_is_mounted_while_somebody_uses_it(daemon: Daemon, volume: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host's\n")
    daemon.docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", volume)
    place = str(facts(daemon, volume)["Mountpoint"])
    assert not mounted(place)
    daemon.docker("run", "-d", "--name", name, *NONE, "-v", f"{volume}:/v", BASE, "sleep", "1000")
    assert mounted(place)
    said = daemon.docker("run", "--rm", *NONE, "-v", f"{volume}:/v", BASE, "sh", "-c", "cat /v/file; echo more > /v/new").stdout
    assert (said, (tmp_path / "new").read_text()) == ("host's\n", "more\n")
    assert mounted(place)
    daemon.docker("stop", "-t", "0", name)
    assert not mounted(place)
    daemon.docker("cp", f"{name}:/v/file", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "host's\n"
    eventually(lambda: not mounted(place), "it stays mounted after cp")
    daemon.docker("rm", name)
    daemon.docker("volume", "rm", volume)
    assert sorted(os.listdir(tmp_path)) == ["copy", "file", "new"]


def test_a_volume_in_memory_is_shared_while_it_is_used_and_filled_from_the_image(daemon: Daemon, volume: str, name: str) -> None:
    daemon.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,nosuid,mode=0700", volume)
    daemon.docker("run", "-d", "--name", name, *NONE, "-v", f"{volume}:/etc", BASE, "sleep", "1000")
    shown = daemon.docker(
        "run", "--rm", *NONE, "-v", f"{volume}:/v:ro", BASE, "sh", "-c", "grep ' /v ' /proc/mounts; ls /v; stat -c %a /v"
    ).stdout
    assert "tmpfs" in shown and "nosuid" in shown and "size=1024k" in shown and "passwd" in shown
    daemon.docker("rm", "-f", name)
    empty = daemon.docker(
        "run", "--rm", *NONE, "--mount", f"type=volume,src={volume},dst=/etc/x,volume-nocopy", BASE, "ls", "/etc/x"
    ).stdout
    assert empty == ""


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["type=none", "o=bind", "device=/not/there"], "no such file or directory"),
        (["type=nosuchfs", "device=x"], "no such device"),
        (["type=nfs", "o=addr=no-such-host.invalid,ro", "device=:/x"], "error resolving passed in network volume address"),
        (
            ["type=cifs", "o=username=u,password=secret", "device=//no-such-host.invalid/x"],
            "error resolving passed in network volume address",
        ),
        (["type=nfs", "o=addr=127.0.0.1,password=secret", "device=:/x"], "error while mounting volume"),
    ],
)
def test_what_cannot_be_mounted_is_said_in_one_sentence(daemon: Daemon, volume: str, name: str, options: list[str], reason: str) -> None:
    daemon.docker("volume", "create", *[word for option in options for word in ("-o", option)], volume)
    # The CLI takes "no such file or directory" for a missing command's message, and ends with 127.
    failed = daemon.docker("run", "--name", name, *NONE, "-v", f"{volume}:/v", BASE, "true", code=None).stderr
    assert reason in failed and "secret" not in failed
    assert daemon.docker("inspect", "-f", "{{.State.Status}}", name).stdout == "created\n"
    assert not mounted(str(facts(daemon, volume)["Mountpoint"]))
    daemon.docker("rm", name)


def test_a_mount_can_make_its_volume(daemon: Daemon, volume: str, tmp_path: Path) -> None:
    mount = f"type=volume,src={volume},dst=/v,volume-label=k=v,volume-driver=local,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={tmp_path}"
    daemon.docker("run", "--rm", *NONE, "--mount", mount, BASE, "touch", "/v/here")
    assert (tmp_path / "here").exists()
    assert (facts(daemon, volume)["Labels"], facts(daemon, volume)["Options"]) == (
        {"k": "v"}, {"type": "none", "o": "bind", "device": str(tmp_path)},
    )  # fmt: skip


def test_a_part_of_a_volume_is_mounted_and_no_link_leads_out_of_it(daemon: Daemon, volume: str, name: str, tmp_path: Path) -> None:
    daemon.docker(
        "run",
        "--rm",
        *NONE,
        "-v",
        f"{volume}:/v",
        BASE,
        "sh",
        "-c",
        "mkdir -p /v/a/b; echo deep > /v/a/b/f; ln -s /etc /v/out; ln -s a /v/in",
    )
    for part in ("a/b", "in/b", "a/./b"):
        mount = f"type=volume,src={volume},dst=/p,volume-subpath={part}"
        assert daemon.docker("run", "--rm", *NONE, "--mount", mount, BASE, "cat", "/p/f").stdout == "deep\n"
    daemon.docker("create", "--name", name, *NONE, "--mount", f"type=volume,src={volume},dst=/p,volume-subpath=a/b", BASE, "true")
    daemon.docker("cp", f"{name}:/p/f", str(tmp_path / "f"))
    assert (tmp_path / "f").read_text() == "deep\n"
    for part, reason in (
        ("none", "cannot access path"),
        ("out", "cannot access path"),
        ("../x", "must be a relative path within the volume"),
    ):
        mount = f"type=volume,src={volume},dst=/p,volume-subpath={part}"
        assert reason in daemon.docker("run", "--rm", *NONE, "--mount", mount, BASE, "true", code=None).stderr
    anonymous = daemon.docker("run", "--rm", *NONE, "--mount", "type=volume,dst=/p,volume-subpath=a", BASE, "true", code=125).stderr
    assert "must not set Subpath when using anonymous volumes" in anonymous


def test_an_image_is_mounted_read_only_and_kept(daemon: Daemon, name: str, tag: str, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN mkdir /deep && echo content > /deep/file\n")
    daemon.docker("build", "-q", *NONE, "-t", tag, str(context))
    mount = f"type=image,src={tag},dst=/i"
    daemon.docker("run", "-d", "--name", name, *NONE, "--mount", mount, BASE, "sleep", "1000")
    assert daemon.docker("exec", name, "cat", "/i/deep/file").stdout == "content\n"
    assert "Read-only file system" in daemon.docker("exec", name, "touch", "/i/deep/file", code=1).stderr
    assert json.loads(daemon.docker("inspect", name).stdout)[0]["Mounts"][0]["Type"] == "image"
    daemon.docker("rmi", "-f", tag)
    daemon.docker("restart", "-t", "0", name)
    assert daemon.docker("exec", name, "cat", "/i/deep/file").stdout == "content\n"
    daemon.docker("kill", name)
    daemon.docker("cp", f"{name}:/i/deep/file", str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "content\n"
    daemon.docker("rm", name)
    part = daemon.docker(
        "run", "--rm", *NONE, "--mount", f"type=image,src={BASE},dst=/i,image-subpath=etc", BASE, "cat", "/i/passwd"
    ).stdout
    assert "root" in part
    missing = daemon.docker("run", "--rm", *NONE, "--mount", "type=image,src=no/such:1,dst=/i", BASE, "true", code=125).stderr
    assert "no/such" in missing.lower() and "pull" not in missing.lower()
    left = f"{daemon.data}/containers"
    eventually(lambda: left not in Path("/proc/self/mountinfo").read_text(), "an image stays mounted")


def test_volumes_of_another_container_are_its_own_and_counted(daemon: Daemon, volume: str, name: str) -> None:
    daemon.docker(
        "run",
        "--name",
        name,
        *NONE,
        "-v",
        f"{volume}:/v",
        "-v",
        "/anonymous",
        BASE,
        "sh",
        "-c",
        "echo first > /v/f; echo second > /anonymous/f",
    )
    said = daemon.docker("run", "--rm", *NONE, "--volumes-from", name, BASE, "cat", "/v/f", "/anonymous/f").stdout
    assert said == "first\nsecond\n"
    other = f"{name}other"
    daemon.docker("create", "--name", other, *NONE, "--volumes-from", name, BASE, "true")
    rows = json.loads(daemon.docker("system", "df", "-v", "--format", "{{json .Volumes}}").stdout)
    assert {row["Name"]: row["Links"] for row in rows}[volume] == "2"
    refused = daemon.docker("volume", "rm", volume, code=1).stderr
    assert "volume is in use" in refused
    daemon.docker("rm", "-v", name)
    assert "anonymous" in daemon.docker("inspect", "-f", "{{range .Mounts}}{{.Destination}} {{end}}", other).stdout
    assert daemon.docker("volume", "prune", "-f").stdout.count("Deleted Volumes") == 0
    daemon.docker("rm", "-v", other)
    daemon.docker("volume", "prune", "-f")


def test_an_empty_volume_takes_what_the_image_has_once(daemon: Daemon, volume: str, tag: str, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN mkdir /data && echo image > /data/f && chown 5:6 /data && chmod 750 /data\n")
    daemon.docker("build", "-q", *NONE, "-t", tag, str(context))
    nocopy = daemon.docker("run", "--rm", *NONE, "-v", f"{volume}:/data:nocopy", tag, "ls", "/data").stdout
    assert nocopy == ""
    look = ("sh", "-c", "cat /data/f; stat -c '%u %g %a' /data; echo changed > /data/f")
    assert daemon.docker("run", "--rm", *NONE, "-v", f"{volume}:/data", tag, *look).stdout == "image\n5 6 750\n"
    assert daemon.docker("run", "--rm", *NONE, "-v", f"{volume}:/data", tag, "cat", "/data/f").stdout == "changed\n"


def test_a_mounted_volume_is_found_again_and_one_that_nobody_uses_is_unmounted(
    daemon: Daemon, volume: str, name: str, tmp_path: Path
) -> None:
    daemon.docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", volume)
    place = str(facts(daemon, volume)["Mountpoint"])
    daemon.docker("run", "-d", "--name", name, *NONE, "-v", f"{volume}:/v", BASE, "sh", "-c", "sleep 1000")
    daemon.kill()
    daemon.start()
    assert mounted(place)
    pid = int(daemon.docker("inspect", "-f", "{{.State.Pid}}", name).stdout)
    daemon.kill()
    os.kill(pid, 9)
    daemon.start()
    eventually(lambda: not mounted(place), "the volume stays mounted")


@pytest.mark.covers("cli:events --filter", "cli:events --since", "cli:events --until")
def test_events_tell_who_mounts_a_volume(daemon: Daemon, volume: str, name: str) -> None:
    begin = time.time() - 1
    identity = daemon.docker("create", "--name", name, *NONE, "-v", f"{volume}:/data:ro", BASE, "true").stdout.strip()
    daemon.docker("start", "-a", name)
    daemon.docker("rm", name)
    daemon.docker("volume", "rm", volume)
    words = ("events", "--since", f"{int(begin)}", "--until", f"{int(time.time()) + 1}", "-f", f"volume={volume}", "--format", "{{json .}}")
    told = [json.loads(line) for line in daemon.docker(*words).stdout.splitlines()]
    assert [each["Action"] for each in told] == ["create", "mount", "unmount", "destroy"]
    seen = told[1]["Actor"]["Attributes"]
    assert (seen["container"], seen["destination"], seen["read/write"], seen["driver"]) == (identity, "/data", "false", "local")
    assert told[2]["Actor"]["Attributes"]["container"] == identity


def test_a_filter_that_is_neither_yes_nor_no_is_refused(daemon: Daemon) -> None:
    assert "invalid filter 'dangling=x'" in daemon.docker("volume", "ls", "-f", "dangling=x", code=1).stderr
