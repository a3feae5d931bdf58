"""`lamina system check` against a running daemon."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.docker.conftest import BASE
from tests.harness import Daemon, overwrite

NONE = ("--network", "none")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(path, data)


def test_damage_is_a_line_an_exit_code_and_mended(daemon: Daemon) -> None:
    assert daemon.lamina("system", "check").stdout == "everything is sound\n"
    image = json.loads(daemon.docker("inspect", BASE).stdout)[0]["Id"].removeprefix("sha256:")
    config, record = daemon.data / "content/blobs/sha256" / image, daemon.data / "images" / f"{image}.json"
    before = config.read_bytes()
    flip(config)
    os.unlink(record)
    found = daemon.lamina("system", "check", code=1).stdout.splitlines()
    assert len(found) == 2
    assert all(line.startswith("repairable: image sha256:") and "--repair" in line for line in found)
    mended = daemon.lamina("system", "check", "--repair").stdout.splitlines()
    assert [line.split(":")[0] for line in mended] == ["repaired", "repaired"]
    assert config.read_bytes() == before
    assert daemon.lamina("system", "check").stdout == "everything is sound\n"


def test_the_database_a_container_and_a_volume_are_mended_without_a_restart(daemon: Daemon, name: str) -> None:
    daemon.docker("create", "--name", name, *NONE, "-v", f"{name}:/data", BASE, "true")
    identity = daemon.docker("inspect", "-f", "{{.Id}}", name).stdout.strip()
    told = len(daemon.log)
    os.unlink(daemon.data / "metadata.db")
    flip(daemon.data / "containers" / identity / "config.json")
    (daemon.data / "volumes" / name / "volume.json").write_text("")
    for words, code in ((("check",), 1), (("check", "--repair"), 0)):
        lines = daemon.lamina("system", *words, code=code).stdout.splitlines()
        assert code or all(line.startswith("repaired: ") for line in lines)
        named = [line.split(": ")[1] for line in lines]
        if "metadata.db" not in named:  # what the engine does by itself meanwhile notices it first
            assert "metadata.db" in daemon.log[told:]
        assert [each for each in named if each != "metadata.db"] == [f"volume {name}", f"container {name}"]
    assert daemon.lamina("system", "check").stdout == "everything is sound\n"
    os.unlink(daemon.data / "metadata.db")
    daemon.docker("tag", BASE, f"{name}:tagged")
    assert daemon.lamina("system", "check").stdout == "everything is sound\n", "a change notices it too"
    daemon.docker("rmi", f"{name}:tagged")
    daemon.docker("rm", "-v", name)
    daemon.docker("volume", "rm", name)


def test_a_damaged_tree_or_image_is_mended_under_a_running_container(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sleep", "1000")
    layer = daemon.docker("inspect", "-f", "{{index .RootFS.Layers 0}}", BASE).stdout.strip().removeprefix("sha256:")
    victim = daemon.data / "layers" / (f"{layer}/etc/passwd" if daemon.driver == "overlay" else f"{layer}.erofs")
    before = victim.read_bytes()
    daemon.lamina("system", "check")
    flip(victim)
    assert daemon.lamina("system", "check", code=1).stdout.count("\n") == 1
    daemon.lamina("system", "check", "--repair")
    assert victim.read_bytes() == before
    assert daemon.docker("exec", name, "cat", "/etc/passwd").stdout.startswith("root:")
    assert daemon.docker("run", "--rm", *NONE, BASE, "cat", "/etc/passwd").stdout.startswith("root:")
    assert daemon.lamina("system", "check").stdout == "everything is sound\n"


def test_a_start_that_verifies_names_the_damaged_layer_and_starts_nothing(daemon: Daemon) -> None:
    assert daemon.lamina("run", "--rm", "--verify", *NONE, BASE, "echo", "fine").stdout == "fine\n"
    layer = daemon.docker("inspect", "-f", "{{index .RootFS.Layers 0}}", BASE).stdout.strip()
    victim = daemon.data / "layers" / f"{layer.removeprefix('sha256:')}.erofs"
    before = victim.read_bytes()
    flip(victim)
    refused = daemon.lamina("run", "--rm", "--verify", *NONE, BASE, "echo", "fine", code=None)
    assert refused.returncode != 0
    assert "is damaged" in refused.stderr
    assert refused.stdout == ""
    daemon.lamina("system", "check", "--repair")
    assert victim.read_bytes() == before
    assert daemon.lamina("run", "--rm", "--verify", *NONE, BASE, "echo", "fine").stdout == "fine\n"
