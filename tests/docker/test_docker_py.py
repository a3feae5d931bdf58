"""The same daemon by docker-py."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator

import docker.errors
import pytest
from docker.utils.socket import frames_iter

import docker
from tests.docker.conftest import BASE
from tests.harness import Daemon, eventually


@pytest.fixture
def client(daemon: Daemon) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=daemon.host)
    yield client
    client.close()


def test_run_gives_output_or_an_error_with_the_code(client: docker.DockerClient) -> None:
    assert client.containers.run(BASE, ["echo", "hello"], remove=True, network_mode="none") == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as failed:
        client.containers.run(BASE, ["sh", "-c", "exit 3"], remove=True, network_mode="none")
    assert failed.value.exit_status == 3


def test_a_container_through_its_life(client: docker.DockerClient) -> None:
    container = client.containers.run(BASE, ["sh", "-c", "echo begun; sleep 1000"], detach=True, network_mode="none")
    try:
        assert container.exec_run(["sh", "-c", "echo inside; exit 2"]) == (2, b"inside\n")
        container.put_archive("/tmp", archive("put", b"content"))
        stream, stat = container.get_archive("/tmp/put")
        assert (stat["name"], stat["size"]) == ("put", 7)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
            assert tar.extractfile("put").read() == b"content"  # type: ignore[union-attr]
        assert {"Path": "/tmp/put", "Kind": 1} in container.diff()
        eventually(lambda: container.logs() == b"begun\n", "it does not begin")
        image = container.commit("made/by-docker-py", "1")
        assert client.containers.run(image.id, ["cat", "/tmp/put"], remove=True, network_mode="none") == b"content"
        container.stop(timeout=0)
        container.reload()
        assert container.status == "exited"
    finally:
        container.remove(force=True)
        client.images.remove("made/by-docker-py:1", force=True)


def test_a_commit_takes_changes_of_several_lines(client: docker.DockerClient) -> None:
    container = client.containers.create(BASE, "true", network_mode="none")
    image = container.commit(changes='ENV X=1\nCMD ["z"]')
    assert image.attrs["Config"]["Cmd"] == ["z"]
    assert "X=1" in image.attrs["Config"]["Env"]
    container.remove()
    client.images.remove(image.id)


def test_images_build_list_save_and_load(client: docker.DockerClient) -> None:
    dockerfile = io.BytesIO(f"FROM {BASE}\nLABEL made=py\n".encode())
    image, log = client.images.build(fileobj=dockerfile, tag="made/py-build:1", network_mode="none")
    assert any("Successfully built" in line.get("stream", "") for line in log)
    assert image.labels == {"made": "py"}
    assert "made/py-build:1" in [tag for found in client.images.list(filters={"label": "made=py"}) for tag in found.tags]
    saved = b"".join(image.save(named=True))
    client.images.remove("made/py-build:1")
    assert [loaded.id for loaded in client.images.load(saved)] == [image.id]
    assert client.images.get("made/py-build:1").id == image.id
    client.images.remove("made/py-build:1")


def test_errors_are_typed_and_the_system_answers(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("not/here:1")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("not-here")
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.51"
    assert client.info()["OSType"] == "linux"


def test_an_exec_with_a_terminal_is_framed_unless_its_start_asks_for_the_terminal(client: docker.DockerClient) -> None:
    container = client.containers.run(BASE, ["sleep", "1000"], detach=True, network_mode="none")
    try:
        command = ["sh", "-c", "test -t 1 && echo hello"]
        api = client.api
        assert api.exec_start(api.exec_create(container.id, command, tty=True)) == b"hello\r\n"
        assert api.exec_start(api.exec_create(container.id, command, tty=True), demux=True) == (b"hello\r\n", None)
        assert api.exec_start(api.exec_create(container.id, command, tty=True), tty=True) == b"hello\r\n"
        assert api.exec_start(api.exec_create(container.id, ["no-such"])).startswith(b"OCI runtime exec failed: exec failed: ")
    finally:
        container.remove(force=True)


def test_an_exec_ends_its_streams_upon_its_own_detach_keys(client: docker.DockerClient) -> None:
    container = client.containers.run(BASE, ["sleep", "1000"], detach=True, user="1:2", network_mode="none")
    try:
        made = client.api.exec_create(container.id, ["cat"], stdin=True, tty=True, detach_keys="ctrl-x,y")
        assert client.api.exec_inspect(made)["ProcessConfig"]["user"] == "1:2"
        stream = client.api.exec_start(made, tty=True, socket=True)._sock
        stream.settimeout(120)
        stream.sendall(b"typed\n\x18y")
        while stream.recv(4096):
            pass
        assert client.api.exec_inspect(made)["Running"]
        told = client.api.events(
            since=0, until=int(time.time()) + 60, filters={"container": container.id, "event": "exec_detach"}, decode=True
        )
        assert next(told)["Actor"]["Attributes"]["execID"] == made["Id"]
        told.close()
    finally:
        container.remove(force=True)


def test_a_variable_without_a_value_is_shown_and_not_set(client: docker.DockerClient) -> None:
    container = client.containers.create(BASE, ["env"], environment=["ONE=1", "PATHLESS"], network_mode="none")
    try:
        assert {"ONE=1", "PATHLESS"} <= set(container.attrs["Config"]["Env"])
        container.start()
        container.wait()
        assert b"ONE=1" in container.logs() and b"PATHLESS" not in container.logs()
        assert "PATHLESS" not in container.commit().attrs["Config"]["Env"]
    finally:
        container.remove()


def test_what_is_no_archive_is_a_load_error(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ImageLoadError, match="the archive is not a tar"):
        client.images.load(b"no archive")


def test_info_counts_the_images_that_all_lists(client: docker.DockerClient) -> None:
    client.images.build(fileobj=io.BytesIO(f"FROM {BASE}\nENV A=1\nENV B=2\n".encode()), tag="made/counted:1")
    assert client.info()["Images"] == len({image["Id"] for image in client.api.images(all=True)})
    client.images.remove("made/counted:1")


def archive(name: str, data: bytes) -> bytes:
    """A tar of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def test_the_old_log_is_attached_to_although_the_client_forgets_what_it_read_with_the_head(client: docker.DockerClient) -> None:
    container = client.containers.run(BASE, ["echo", "hello"], network_mode="none", detach=True)
    try:
        container.wait()
        assert [container.attach(stream=False, logs=True) for _ in range(20)] == [b"hello\n"] * 20
    finally:
        container.remove()


@pytest.mark.parametrize("more", [{}, {"logs": 1}, {"logs": 1, "stdin": 1, "stderr": 1}], ids=["stream", "logs", "all"])
def test_who_attaches_before_the_start_gets_all_of_it(client: docker.DockerClient, more: dict[str, int]) -> None:
    container = client.containers.create(BASE, ["echo", "hello"], network_mode="none")
    try:
        with client.api.attach_socket(container.id, {"stream": 1, "stdout": 1, **more}) as attached:
            container.start()
            assert list(frames_iter(attached, tty=False)) == [(1, b"hello\n")]
    finally:
        container.remove(force=True)
