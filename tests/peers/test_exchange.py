"""What Lamina saves, dockerd, podman, skopeo and umoci read, with the same config digest; and the other way round."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.harness import Daemon
from tests.peers.conftest import Dockerd, needs


def image_id(daemon: Daemon, name: str) -> str:
    return daemon.docker("images", "-q", "--no-trunc", name).stdout.strip()


def called(command: list[str], **options: object) -> str:
    """Run a peer; its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=os.environ, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture
def archive(daemon: Daemon, tmp_path: Path) -> Path:
    """app:1 as Lamina saves it."""
    path = tmp_path / "app.tar"
    daemon.docker("save", "-o", str(path), "app:1")
    return path


def test_dockerd_loads_and_runs_it_with_the_same_id(daemon: Daemon, dockerd: Dockerd, archive: Path) -> None:
    dockerd.docker("load", "-i", str(archive))
    assert image_id(dockerd, "app:1") == image_id(daemon, "app:1")
    assert dockerd.docker("run", "--rm", "--network", "none", "app:1").stdout == "exchanged\n"
    assert "group" not in dockerd.docker("run", "--rm", "--network", "none", "app:1", "ls", "/etc").stdout.split()
    dockerd.docker("rmi", "app:1")


def test_lamina_loads_what_dockerd_builds_and_saves(daemon: Daemon, dockerd: Dockerd, base: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        'FROM dock:base\nRUN echo from dockerd > /d; mkdir /deep; touch /deep/x; rm -r /root\nLABEL by=dockerd\nCMD ["cat", "/d"]\n'
    )
    dockerd.docker("import", str(base), "dock:base")
    dockerd.docker("build", "-q", "--network", "none", "-t", "dock:1", str(tmp_path))
    dockerd.docker("save", "-o", str(tmp_path / "dock.tar"), "dock:1")
    daemon.docker("load", "-i", str(tmp_path / "dock.tar"))
    assert image_id(daemon, "dock:1") == image_id(dockerd, "dock:1")
    assert daemon.docker("run", "--rm", "--network", "none", "dock:1").stdout == "from dockerd\n"
    assert "root" not in daemon.docker("run", "--rm", "--network", "none", "dock:1", "ls", "/").stdout.split()
    again = tmp_path / "again.tar"
    daemon.docker("save", "-o", str(again), "dock:1")
    dockerd.docker("rmi", "dock:1")
    dockerd.docker("load", "-i", str(again))
    assert image_id(daemon, "dock:1") == image_id(dockerd, "dock:1")


def test_podman_loads_it_and_lamina_loads_podmans(daemon: Daemon, podman: list[str], archive: Path, tmp_path: Path) -> None:
    called([*podman, "load", "-i", str(archive)])
    # Named docker.io/library/app by the layout, localhost/app by older podmans, which read the other manifest: app means either.
    facts = json.loads(called([*podman, "image", "inspect", "app:1"]))[0]
    assert f"sha256:{facts['Id']}" == image_id(daemon, "app:1")
    back = tmp_path / "podman.tar"
    called([*podman, "tag", "app:1", "docker.io/library/back:1"])
    called([*podman, "save", "--format", "docker-archive", "-o", str(back), "docker.io/library/back:1"])
    daemon.docker("load", "-i", str(back))
    assert image_id(daemon, "back:1") == image_id(daemon, "app:1")


def test_skopeo_reads_it_and_umoci_unpacks_it(daemon: Daemon, archive: Path, tmp_path: Path) -> None:
    config = json.loads(called([needs("skopeo"), "inspect", "--config", f"docker-archive:{archive}"]))
    assert config["config"]["Cmd"] == ["cat", "/exchanged"]
    layout = tmp_path / "layout"
    called(["skopeo", "copy", "-q", f"docker-archive:{archive}", f"oci:{layout}:1"])
    called([needs("umoci"), "unpack", "--image", f"{layout}:1", str(tmp_path / "bundle")])
    assert (tmp_path / "bundle/rootfs/exchanged").read_text() == "exchanged\n"
    assert not (tmp_path / "bundle/rootfs/etc/group").exists()


def test_lamina_runs_what_umoci_packed_with_archives_that_are_not_filled_up(daemon: Daemon, archive: Path, tmp_path: Path) -> None:
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    called([needs("skopeo"), "copy", "-q", f"docker-archive:{archive}", f"oci:{layout}:1"])
    called([needs("umoci"), "unpack", "--image", f"{layout}:1", str(bundle)])
    (bundle / "rootfs/exchanged").write_text("by umoci\n")
    called(["umoci", "repack", "--image", f"{layout}:2", str(bundle)])
    packed = tmp_path / "packed.tar"
    called(["skopeo", "copy", "-q", f"oci:{layout}:2", f"oci-archive:{packed}:umoci:2"])
    loaded = daemon.docker("load", "-i", str(packed)).stdout.rpartition("Loaded image")[2].partition(": ")[2].strip()
    assert daemon.docker("run", "--rm", "--network", "none", loaded).stdout == "by umoci\n"


def test_other_tools_read_the_store_as_an_oci_layout(daemon: Daemon) -> None:
    manifest = json.loads(called([needs("skopeo"), "inspect", "--raw", f"oci:{daemon.data}/content:docker.io/library/app:1"]))
    assert manifest["config"]["digest"] == image_id(daemon, "app:1")


def test_skopeo_copies_out_of_and_into_laminas_registry(daemon: Daemon, archive: Path, tmp_path: Path) -> None:
    import socket
    import sys

    from tests.harness import eventually

    needs("skopeo")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "lamina.registry", "--root", str(tmp_path / "registry"), "--listen", f"127.0.0.1:{port}"]
    )

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(answers, "the registry did not start", alive=server)
        called(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://127.0.0.1:{port}/by/skopeo:1"])
        daemon.docker("pull", f"127.0.0.1:{port}/by/skopeo:1")
        assert daemon.docker("run", "--rm", "--network", "none", f"127.0.0.1:{port}/by/skopeo:1").stdout == "exchanged\n"
        daemon.docker("tag", "app:1", f"127.0.0.1:{port}/by/lamina:1")
        daemon.docker("push", f"127.0.0.1:{port}/by/lamina:1")
        facts = json.loads(called(["skopeo", "inspect", "--tls-verify=false", "--config", f"docker://127.0.0.1:{port}/by/lamina:1"]))
        assert facts["config"]["Cmd"] == ["cat", "/exchanged"]
    finally:
        server.terminate()
        server.wait(10)
        daemon.docker("rmi", "-f", f"127.0.0.1:{port}/by/lamina:1", f"127.0.0.1:{port}/by/skopeo:1", code=None)
