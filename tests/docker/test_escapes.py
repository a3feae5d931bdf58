"""Published faults of dockerd and containerd that could apply here, tried through the API."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.layer.compression import zstd_deflater
from lamina.runtime import apparmor
from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, busybox_tar, eventually

NOBODY = 65534


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The overlay driver's, since its layers are directories on the host."""
    with serving(tmp_path_factory, "overlay") as daemon:
        yield daemon


def test_users_of_the_host_reach_nothing_of_an_images_files(daemon: Daemon) -> None:
    """CVE-2021-41091: set-user-ID programs of images lay where everybody could execute them."""
    assert stat.S_IMODE(os.stat(daemon.data).st_mode) & 0o007 == 0
    assert stat.S_IMODE(os.stat(daemon.socket).st_mode) & 0o007 == 0, "CVE-2014-3499: the socket was everybody's"
    script = f"ls {daemon.data}/layers {daemon.data}/containers {daemon.data}/volumes"
    for path in (daemon.root, *daemon.root.parents):
        if str(path).startswith("/tmp/") and os.stat(path).st_mode & 0o001 == 0:
            os.chmod(path, os.stat(path).st_mode | 0o001)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, user=NOBODY, group=NOBODY, extra_groups=[])
    assert done.returncode != 0 and done.stdout == ""


@pytest.mark.parametrize("path", ["/proc", "/proc/self/attr", "/../../../../../../etc/..", "/"])
def test_a_volume_of_an_image_that_lies_over_something_else_is_refused(daemon: Daemon, tmp_path: Path, path: str) -> None:
    """CVE-2019-16884: an image's volume over /proc took away the labels; CVE-2022-23648: one with .. was filled from the host."""
    daemon.docker("import", "-c", f"VOLUME {path}", str(busybox_tar(tmp_path / "busybox.tar")), "hostile:1")
    done = daemon.docker("run", "--rm", "hostile:1", "true", code=None)
    assert done.returncode == 125, done.stderr
    daemon.docker("rmi", "-f", "hostile:1")


def test_a_volume_outside_the_root_takes_nothing_of_the_host(daemon: Daemon, tmp_path: Path) -> None:
    """CVE-2022-23648."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("of the host")
    daemon.docker("import", "-c", f"VOLUME /../../../../../../..{secret}", str(busybox_tar(tmp_path / "busybox.tar")), "hostile:2")
    done = daemon.docker("run", "--rm", "hostile:2", "find", "/", "-xdev", "-name", "file", code=None)
    assert "secret" not in done.stdout
    daemon.docker("rmi", "-f", "hostile:2")


def test_copying_while_a_path_is_exchanged_stays_inside(daemon: Daemon, name: str, tmp_path: Path) -> None:
    """CVE-2018-15664: between resolving a path and using it, a directory became a link out of the container."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "file").write_text("of the host")
    (host / "file").chmod(0o640)
    (tmp_path / "file").write_text("copied")
    script = f"mkdir -p /w/real; ln -s /../../../../../../../..{host} /w/link; cd /w; while :; do mv real x; mv link real; mv real link; mv x real; done"
    daemon.docker("run", "-d", "--name", name, "--network", "none", BASE, "sh", "-c", script)
    for _ in range(30):  # a busy machine meets the moment rarely
        daemon.docker("cp", str(tmp_path / "file"), f"{name}:/w/real/file", code=None)
        daemon.docker("cp", f"{name}:/w/real/file", str(tmp_path / "out"), code=None)
        assert (host / "file").read_text() == "of the host"
        assert stat.S_IMODE((host / "file").stat().st_mode) == 0o640, "CVE-2021-41089"
        assert not (tmp_path / "out").is_file() or (tmp_path / "out").read_text() == "copied"


def test_copying_while_a_volumes_place_is_exchanged_mounts_nothing_outside(daemon: Daemon, name: str, tmp_path: Path) -> None:
    """CVE-2026-41568, CVE-2026-42306: cp made a volume's mount point by its path, and mounted there, while the container exchanged it."""
    host, volume = tmp_path / "host", tmp_path / "volume"
    for folder in (host, volume):
        folder.mkdir()
    (volume / "file").write_text("of the volume")
    script = f"ln -s /../../../../../../../..{host} /w/link; cd /w; while :; do mv a x; mv link a; mv a link; mv x a; done"
    mounts = ["-v", f"{tmp_path / 'shared'}:/w", "-v", f"{volume}:/w/a/b"]
    daemon.docker("create", "--name", name, "--network", "none", *mounts, BASE, "true")
    daemon.docker("run", "-d", "--name", f"{name}-other", "--network", "none", *mounts[:2], BASE, "sh", "-c", f"mkdir -p /w/a; {script}")
    try:
        for _ in range(12):
            daemon.docker("cp", f"{name}:/w/a/b/file", "-", code=None)
            daemon.docker("cp", str(volume / "file"), f"{name}:/w/a/b/other", code=None)
            assert list(host.iterdir()) == [] and str(host) not in Path("/proc/self/mountinfo").read_text()
    finally:
        daemon.docker("rm", "-f", f"{name}-other")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_copying_a_compressed_archive_runs_no_program_of_the_container(daemon: Daemon, name: str, tmp_path: Path, kind: str) -> None:
    """CVE-2026-41567: what unpacks it was looked for in the container, and ran as the host's root."""
    daemon.docker("run", "-d", "--name", name, "--network", "none", BASE, "sleep", "600")
    programs = "gzip gunzip unpigz pigz bzip2 xz unxz zstd unzstd tar"
    plant = f"for p in {programs}; do for d in /bin /usr/bin /usr/sbin; do mkdir -p $d; rm -f $d/$p; printf '#!/bin/sh\\n> {tmp_path}/ran\\n' > $d/$p; chmod 755 $d/$p; done; done"
    daemon.docker("exec", name, "sh", "-c", plant)
    (tmp_path / "file").write_text("copied")
    plain = subprocess.run(["tar", "-C", str(tmp_path), "-c", "file"], capture_output=True, check=True).stdout
    packed = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd_compressed}[kind](plain)
    done = subprocess.run(
        ["docker", "-H", f"unix://{daemon.socket}", "cp", "-", f"{name}:/"], input=packed, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert daemon.docker("exec", name, "cat", "/file").stdout == "copied" and not (tmp_path / "ran").exists()


def zstd_compressed(data: bytes) -> bytes:
    deflater = zstd_deflater(1, 1)
    return deflater.compress(data) + deflater.flush()


def test_a_working_directory_below_a_link_is_made_inside(daemon: Daemon, name: str, tmp_path: Path) -> None:
    """CVE-2026-55686: what is missing of an image's WORKDIR was made on the host."""
    (tmp_path / "host").mkdir()
    daemon.docker("run", "--name", name, "--network", "none", BASE, "sh", "-c", f"mkdir -p /in; ln -s /../../../..{tmp_path}/host /w")
    daemon.docker("commit", "-c", "WORKDIR /w/made", name, "hostile:3")
    done = daemon.docker("run", "--rm", "--network", "none", "hostile:3", "pwd", code=None)
    assert list((tmp_path / "host").iterdir()) == []
    assert done.returncode != 0 or done.stdout.strip() in ("/w/made", f"{tmp_path}/host/made")
    daemon.docker("rmi", "-f", "hostile:3")


def test_an_image_does_not_get_the_engines_environment(daemon: Daemon, tmp_path: Path) -> None:
    """CVE-2026-57231: a variable without a value in an image's configuration took the one of who ran it."""
    assert daemon.process is not None
    mine = {line.partition("=")[0] for line in Path(f"/proc/{daemon.process.pid}/environ").read_text().split("\0") if line}
    names = sorted(mine - {"PATH", "HOME", "HOSTNAME", "TERM"})
    assert names
    daemon.docker("save", "-o", str(tmp_path / "image.tar"), BASE)
    subprocess.run(["tar", "-C", str(tmp_path), "-xf", str(tmp_path / "image.tar")], check=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    config = json.loads((tmp_path / manifest[0]["Config"]).read_text())
    config["config"] = {**(config.get("config") or {}), "Env": [*names, "*", "=x", "SET=1"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "manifest.json").write_text(json.dumps([{**manifest[0], "Config": "config.json", "RepoTags": ["hostile:4"]}]))
    subprocess.run(
        ["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "hostile.tar"), "manifest.json", "config.json", *manifest[0]["Layers"]],
        check=True,
    )
    loaded = daemon.docker("load", "-i", str(tmp_path / "hostile.tar"), code=None)
    if loaded.returncode == 0:
        for run in (daemon.docker, daemon.lamina):
            done = run("run", "--rm", "--network", "none", "hostile:4", "env", code=None)
            assert not mine & {line.partition("=")[0] for line in done.stdout.splitlines()} - {"PATH", "HOME", "HOSTNAME", "TERM"}
        daemon.docker("rmi", "-f", "hostile:4")


def test_copying_uses_no_library_of_the_container(daemon: Daemon, name: str, tmp_path: Path) -> None:
    """CVE-2019-14271: the helper for cp loaded the container's name service."""
    daemon.docker("run", "-d", "--name", name, "--network", "none", BASE, "sleep", "600")
    for place in ("/lib", "/lib/x86_64-linux-gnu", "/usr/lib/python3", "/etc"):
        daemon.docker("exec", name, "mkdir", "-p", place)
    script = "for f in libnss_files.so.2 libnss_compat.so.2 libc.so.6; do echo no library > /lib/$f; echo no library > /lib/x86_64-linux-gnu/$f; done"
    daemon.docker("exec", name, "sh", "-c", f"{script}; echo 'passwd: files' > /etc/nsswitch.conf; echo 'ada:x:77:78::/:' > /etc/passwd")
    (tmp_path / "file").write_text("copied")
    daemon.docker("cp", "-a", str(tmp_path / "file"), f"{name}:/there")
    daemon.docker("cp", f"{name}:/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "copied"


@pytest.mark.parametrize("option", ["label=disable", "label=type:container_t", "apparmor=unconfined", "apparmor=no-such-profile"])
def test_labels_and_profiles_are_taken_as_docker_takes_them(daemon: Daemon, option: str) -> None:
    if option == "apparmor=no-such-profile" and apparmor.enabled():
        assert daemon.docker("run", "--rm", "--security-opt", option, BASE, "true", code=None).returncode in (125, 126, 127)
        return
    done = daemon.docker("run", "--rm", "--security-opt", option, BASE, "echo", "ran")
    assert done.stdout == "ran\n" and ("confines nothing" in done.stderr) == (option == "apparmor=no-such-profile")


def test_the_hosts_loopback_is_not_reached_by_routing_to_it(daemon: Daemon) -> None:
    """CVE-2020-8558: bridges take packets for 127.0.0.1 (route_localnet, for published ports), so a container could send some."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=_greet, args=(server,), daemon=True).start()
        with socket.create_connection(("127.0.0.1", port), 120) as control:
            assert control.recv(10) == b"mine"
        script = (
            "gateway=$(ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'); ip addr flush dev lo; "
            f"ip route add 127.0.0.0/8 via $gateway && nc -w 3 127.0.0.1 {port} < /dev/null; echo ended"
        )
        flags = ["--cap-add", "NET_ADMIN", "--sysctl", "net.ipv4.conf.all.route_localnet=1"]
        said = daemon.docker("run", "--rm", *flags, BASE, "sh", "-c", script)
        assert said.stdout == "ended\n" and "RTNETLINK" not in said.stderr


def _greet(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            connection.sendall(b"mine")
            connection.close()


def test_an_exec_is_unseen_by_who_shares_the_processes_and_may_trace(daemon: Daemon, name: str, tmp_path: Path) -> None:
    """CVE-2016-9962: what joins holds the host's files and capabilities until it executes."""
    (tmp_path / "secret").write_text("of the host")
    daemon.docker("run", "-d", "--name", name, "--network", "none", BASE, "sleep", "600")
    script = f"while :; do for p in /proc/[0-9]*; do [ -e $p/root{tmp_path}/secret ] && echo SEEN; done; done 2>/dev/null"
    flags = ["--network", "none", "--pid", f"container:{name}", "--cap-add", "SYS_PTRACE"]
    daemon.docker("run", "-d", "--name", f"{name}-spy", *flags, BASE, "sh", "-c", f"echo looking; {script}")
    try:
        eventually(lambda: "looking" in daemon.docker("logs", f"{name}-spy").stdout, "it does not look")
        for _ in range(20):
            assert daemon.docker("exec", name, "sh", "-c", "exit 3", code=None).returncode == 3
        assert "SEEN" not in daemon.docker("logs", f"{name}-spy").stdout
    finally:
        daemon.docker("rm", "-f", f"{name}-spy")
