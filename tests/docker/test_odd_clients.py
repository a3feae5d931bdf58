"""What other clients than Docker's own do on the wire: requests by hand, one daemon."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.asking import asked
from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, busybox_tar, eventually, run


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon: storage drivers change nothing here."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


def _connected(daemon: Daemon) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(120)
    sock.connect(str(daemon.socket))
    return sock


def test_a_body_of_attach_is_no_input_of_the_container(daemon: Daemon) -> None:
    """As dockerode sends it: the options once more, as JSON."""
    made = daemon.docker("create", "-i", BASE, "cat").stdout.strip()
    body = json.dumps({"stream": True, "stdin": True, "hijack": True}).encode()
    head = (
        f"POST /containers/{made}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with _connected(daemon) as sock:
        sock.sendall(head.encode() + body[:10])
        sock.sendall(body[10:])
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += sock.recv(4096)
        assert seen.startswith(b"HTTP/1.1 101 ")
        sock.sendall(b"typed\n")
        sock.shutdown(socket.SHUT_WR)
        daemon.docker("start", made)
        output = seen.partition(b"\r\n\r\n")[2]
        while piece := sock.recv(4096):
            output += piece
    assert output == b"\x01\0\0\0\0\0\0\x06typed\n"
    daemon.docker("rm", made)


@pytest.mark.parametrize("sent", [b"", bytes(1024)])
def test_an_import_whose_client_goes_away_makes_no_image(daemon: Daemon, sent: bytes) -> None:
    def images() -> list[str]:
        return daemon.docker("images", "-aq", "--no-trunc").stdout.split()

    before = images()
    with _connected(daemon) as sock:
        sock.sendall(b"POST /images/create?fromSrc=-&repo=cut&tag=1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sock.sendall(b"%x\r\n%b\r\n" % (len(sent), sent) if sent else b"")
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := sock.recv(4096):
            answer += piece
    assert b" 200 OK" not in answer.partition(b"\r\n")[0] and images() == before


def test_an_archive_that_was_sent_whole_is_loaded_though_nobody_waits_for_the_answer(daemon: Daemon, tmp_path: Path) -> None:
    names = [f"unheard:{number}" for number in range(9)]
    root = busybox_tar(tmp_path / "tar")
    for name in names:
        daemon.docker("import", "-m", name, str(root), name)
    daemon.docker("save", "-o", str(tmp_path / "archive"), *names)
    daemon.docker("rmi", *names)
    archive = (tmp_path / "archive").read_bytes()
    with _connected(daemon) as sock:
        sock.sendall(f"POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: {len(archive)}\r\n\r\n".encode())
        sock.sendall(archive)
    eventually(lambda: len(daemon.docker("images", "-q", "unheard").stdout.split()) == len(names), "not all are loaded")
    daemon.docker("rmi", *names)


@pytest.mark.parametrize("part", [0.2, 0.7, 0.999])
@pytest.mark.parametrize("broken", [False, True])
def test_a_load_that_is_cut_or_whose_chunks_break_leaves_nothing(daemon: Daemon, tmp_path: Path, part: float, broken: bool) -> None:
    daemon.docker("import", "-m", "part", str(busybox_tar(tmp_path / "tar")), "part:1")
    daemon.docker("save", "-o", str(tmp_path / "archive"), "part:1")
    daemon.docker("rmi", "part:1")
    before = daemon.docker("images", "-aq", "--no-trunc").stdout.split()
    archive = (tmp_path / "archive").read_bytes()
    sent = archive[: int(len(archive) * part)]
    with _connected(daemon) as sock:
        sock.sendall(b"POST /images/load?quiet=1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(sent), 32768):
            piece = sent[at : at + 32768]
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        if broken:
            sock.sendall(b"not a size\r\n" + archive[len(sent) :][:1000])
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := sock.recv(4096):
            answer += piece
    assert not broken or b"a chunk's head names no size" in answer
    assert daemon.docker("images", "-aq", "--no-trunc").stdout.split() == before
    assert not list((daemon.data / "content/ingest").iterdir())
    assert daemon.docker("load", "-q", "-i", str(tmp_path / "archive")).stdout == "Loaded image: part:1\n"
    daemon.docker("rmi", "part:1")


@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("skopeo"), reason="no skopeo here")
def test_skopeo_takes_images_from_the_daemon_and_brings_them(daemon: Daemon, tmp_path: Path) -> None:
    def skopeo(*words: str) -> None:
        run(["skopeo", "--insecure-policy", *words], daemon.environment())

    host, layout = f"unix://{daemon.socket}", f"oci:{tmp_path}/layout:one"
    skopeo("copy", "--src-daemon-host", host, f"docker-daemon:{BASE}", layout)
    skopeo("copy", "--dest-daemon-host", host, layout, "docker-daemon:brought:1")
    assert daemon.docker("run", "--rm", "brought:1", "echo", "here").stdout == "here\n"
    daemon.docker("rmi", "brought:1")


def test_old_clients_see_images_without_names_and_prune_named_volumes(daemon: Daemon) -> None:
    """As Docker's CLI of 20.10: it shows no image without any name, and knows no filter `all`."""

    def asked(method: str, path: str) -> object:
        with _connected(daemon) as sock:
            sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        return json.loads(answer[answer.index(b"\r\n\r\n") :])

    made = daemon.docker("commit", daemon.docker("create", BASE, "true").stdout.strip()).stdout.strip()
    for version, named in (("1.42", (["<none>:<none>"], ["<none>@<none>"])), ("1.43", ([], []))):
        images = {image["Id"]: image for image in asked("GET", f"/v{version}/images/json")}  # type: ignore[attr-defined]
        assert (images[made]["RepoTags"], images[made]["RepoDigests"]) == named
    daemon.docker("volume", "create", "named")
    assert asked("POST", "/v1.42/volumes/prune")["VolumesDeleted"] == []  # type: ignore[index]
    assert asked("POST", "/v1.41/volumes/prune")["VolumesDeleted"] == ["named"]  # type: ignore[index]


@pytest.mark.parametrize("mode", ["", "default", "bridge"])
def test_a_container_is_on_the_networks_that_are_named_and_no_other(daemon: Daemon, mode: str) -> None:
    """As testcontainers for Go sends it: networks without a network mode."""
    daemon.docker("network", "create", "alone")
    for networks, shown in (
        (["alone"], ["alone"]),
        (["default"], ["bridge"]),
        ([], ["bridge"]),
        (["bridge", "alone"], ["alone", "bridge"]),
    ):
        body = {
            "Image": BASE,
            "Cmd": ["sleep", "1000"],
            "HostConfig": {"NetworkMode": mode},
            "NetworkingConfig": {"EndpointsConfig": {network: {} for network in networks}},
        }
        assert asked(daemon, "POST /containers/create?name=named", json.dumps(body))[0] == 201
        daemon.docker("start", "named")
        found = json.loads(daemon.docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", "named").stdout)
        assert sorted(found) == shown and all(endpoint["IPAddress"] for endpoint in found.values())
        daemon.docker("rm", "-f", "named")
    daemon.docker("network", "rm", "alone")
