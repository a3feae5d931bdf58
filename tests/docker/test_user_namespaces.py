"""User namespaces by the real docker CLI: chosen, as the engine's default, and what files look like from everywhere."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, eventually

LINUX = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
SHARED_MEMORY = pytest.mark.skipif(LINUX < (6, 3), reason="memory cannot be shared between user namespaces before Linux 6.3")


@pytest.fixture(scope="module", params=["erofs", "overlay"])
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose containers have user namespaces of their own; a skip where this kernel cannot."""
    with serving(tmp_path_factory, request.param, options=["--userns", "auto"]) as daemon:
        tried = daemon.docker("run", "--rm", BASE, "true", code=None)
        if "user namespaces cannot be used here" in tried.stderr:
            pytest.skip(tried.stderr.strip())
        yield daemon


def test_each_container_has_ids_of_its_own_and_a_network(daemon: Daemon, name: str) -> None:
    first = daemon.docker("run", "--rm", BASE, "cat", "/proc/self/uid_map").stdout.split()
    daemon.docker("run", "-d", "--name", name, BASE, "sleep", "600")
    second = daemon.docker("exec", name, "cat", "/proc/self/uid_map").stdout.split()
    assert first[0] == second[0] == "0" and first[2] == second[2] == "65536" and first[1] != second[1] != "0"
    assert "name=userns" in daemon.docker("info", "--format", "{{.SecurityOptions}}").stdout
    assert daemon.docker("run", "--rm", "--userns", "host", BASE, "cat", "/proc/self/uid_map").stdout.split() == ["0", "0", "4294967295"]
    assert "inet " in daemon.docker("exec", name, "ip", "addr", "show", "eth0").stdout


def test_files_are_the_containers_from_everywhere(daemon: Daemon, name: str, tmp_path: Path) -> None:
    script = "touch /mine; touch /his; chown 33:34 /his; touch /volume/v; chown 5 /volume/v; echo ready; sleep 600"
    daemon.lamina("create", "--userns", "auto", "-v", f"{tmp_path}:/volume", "--name", name, BASE, "sh", "-c", script)
    daemon.docker("start", name)
    eventually(lambda: daemon.docker("logs", name).stdout == "ready\n", "it does not begin")
    assert daemon.docker("exec", name, "stat", "-c", "%u", "/volume/v").stdout == "5\n"
    upper = Path(json.loads(daemon.docker("inspect", name).stdout)[0]["GraphDriver"]["Data"]["UpperDir"])
    assert os.stat(upper / "mine").st_uid == 0 and os.stat(upper / "his").st_gid == 34 and os.stat(tmp_path / "v").st_uid == 5
    (tmp_path / "in").write_text("text")
    daemon.docker("cp", str(tmp_path / "in"), f"{name}:/copied")
    assert daemon.docker("exec", name, "stat", "-c", "%u:%g", "/copied", "/his").stdout == "0:0\n33:34\n"
    owners = archived(daemon, name)
    daemon.docker("stop", "-t", "0", name)
    assert owners == archived(daemon, name) and owners["his"] == (33, 34) and owners["mine"] == (0, 0)
    assert "A /his" in daemon.docker("diff", name).stdout
    daemon.docker("commit", name, "committed:1")
    assert daemon.docker("run", "--rm", "--userns", "host", "committed:1", "stat", "-c", "%u:%g", "/his").stdout == "33:34\n"
    daemon.docker("rmi", "committed:1")


def archived(daemon: Daemon, name: str) -> dict[str, tuple[int, int]]:
    """Owners of files in an export."""
    path = daemon.root / "export.tar"
    daemon.docker("export", "-o", str(path), name)
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
        return {member.name: (member.uid, member.gid) for member in tar if member.name in ("mine", "his", "bin/sh", "copied")}


def test_it_is_found_again_with_its_ids(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, BASE, "sleep", "600")
    before = daemon.docker("exec", name, "cat", "/proc/self/uid_map").stdout
    daemon.kill()
    daemon.start()
    assert daemon.docker("exec", name, "cat", "/proc/self/uid_map").stdout == before
    (daemon.root / "late").write_text("x")
    daemon.docker("cp", str(daemon.root / "late"), f"{name}:/late")
    assert daemon.docker("exec", name, "stat", "-c", "%u", "/late").stdout == "0\n"
    daemon.docker("restart", "-t", "0", name)
    assert daemon.docker("exec", name, "id", "-u").stdout == "0\n"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--privileged"], "privileged mode is incompatible with user namespaces"),
        (["--network", "host"], "cannot share the host's network namespace when user namespaces are enabled"),
        (["--pid", "host"], "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_what_cannot_be_with_it_is_refused_in_dockers_words(daemon: Daemon, flags: list[str], words: str) -> None:
    assert words in daemon.docker("run", "--rm", *flags, BASE, "true", code=125).stderr
    daemon.docker("run", "--rm", "--userns", "host", *flags, BASE, "true")


@SHARED_MEMORY
def test_who_shares_namespaces_shares_the_user_namespace_and_its_ids(daemon: Daemon, name: str) -> None:
    """As with dockerd's userns-remap: what is joined belongs to the user namespace of who has it."""
    daemon.docker("run", "-d", "--name", name, "--ipc", "shareable", BASE, "sh", "-c", "echo mine > /dev/shm/x; exec sleep 600")
    eventually(lambda: daemon.docker("exec", name, "cat", "/dev/shm/x", code=None).stdout == "mine\n", "it does not begin")
    look = "readlink /proc/self/ns/user; cat /proc/self/uid_map"
    theirs = daemon.docker("exec", name, "sh", "-c", look).stdout
    for kinds in (["network"], ["ipc"], ["pid"], ["network", "ipc", "pid"]):
        flags = [word for kind in kinds for word in (f"--{kind}", f"container:{name}")]
        script = f"{look}; touch /made; stat -c %u /made /bin/busybox; ls /proc/1 /sys/class/net > /dev/null && echo seen"
        assert daemon.docker("run", "--rm", *flags, BASE, "sh", "-c", script).stdout == f"{theirs}0\n0\nseen\n"
    joined = ["--network", f"container:{name}", "--ipc", f"container:{name}", "--pid", f"container:{name}", "--cap-add", "NET_ADMIN"]
    said = daemon.docker("run", "--rm", *joined, BASE, "sh", "-c", "ip addr add 127.9.9.9/8 dev lo; cat /dev/shm/x; ps").stdout
    assert said.startswith("mine\n") and "sleep 600" in said
    assert "127.9.9.9" in daemon.docker("exec", name, "ip", "addr", "show", "lo").stdout
    # A network of its own beside what it shares is its own user namespace's business no more.
    assert "inet " in daemon.docker("run", "--rm", "--pid", f"container:{name}", BASE, "ip", "addr", "show", "eth0").stdout


def test_who_has_none_shares_nothing_with_who_has_one(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, BASE, "sleep", "600")
    done = daemon.docker("run", "--rm", "--userns", "host", "--network", f"container:{name}", BASE, "true", code=125)
    assert "only one of the two has a user namespace" in done.stderr


def test_the_hosts_control_groups_are_shown_where_they_are_asked_for(daemon: Daemon) -> None:
    look = "cat /proc/self/cgroup; ls /sys/fs/cgroup; for f in $(find /sys/fs/cgroup -name cgroup.procs | head -20); do (echo 0 > $f) 2>/dev/null && echo WROTE; done; true"
    before = set(os.listdir("/sys/fs/cgroup"))
    said = daemon.docker("run", "--rm", "--cgroupns", "host", BASE, "sh", "-c", look).stdout
    # Of what others make there only what was there all the time counts.
    assert "lamina" in said and "WROTE" not in said and before & set(os.listdir("/sys/fs/cgroup")) <= set(said.split())
    assert "lamina" not in daemon.docker("run", "--rm", "--cgroupns", "private", BASE, "cat", "/proc/self/cgroup").stdout


def test_a_mode_that_is_none_is_refused(daemon: Daemon) -> None:
    assert "invalid user namespace mode: nosuch" in daemon.lamina("run", "--rm", "--userns", "nosuch", BASE, "true", code=125).stderr


@SHARED_MEMORY
def test_with_one_range_for_all_namespaces_are_shared_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(tmp_path_factory, "overlay", options=["--userns-remap", "default"]) as daemon:
        daemon.docker("run", "-d", "--name", "has", "--ipc", "shareable", BASE, "sh", "-c", "echo mine > /dev/shm/x; exec sleep 600")
        eventually(lambda: daemon.docker("exec", "has", "cat", "/dev/shm/x", code=None).stdout == "mine\n", "it does not begin")
        look = "readlink /proc/self/ns/user; cat /proc/self/uid_map; touch /made; stat -c %u /made"
        theirs = daemon.docker("exec", "has", "sh", "-c", look).stdout
        assert theirs.split()[1] == "0" != theirs.split()[2]
        for kinds in (["network"], ["ipc"], ["pid"], ["network", "ipc", "pid"]):
            flags = [word for kind in kinds for word in (f"--{kind}", "container:has")]
            assert daemon.docker("run", "--rm", *flags, BASE, "sh", "-c", look).stdout == theirs
        said = daemon.docker(
            "run", "--rm", "--ipc", "container:has", "--pid", "container:has", BASE, "sh", "-c", "cat /dev/shm/x; ps"
        ).stdout
        assert said.startswith("mine\n") and "sleep 600" in said
        mixed = daemon.docker("run", "--rm", "--userns", "host", "--pid", "container:has", BASE, "true", code=125)
        assert "only one of the two has a user namespace" in mixed.stderr
