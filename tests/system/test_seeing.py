"""Layers people can see, by the CLI: each command on a small image, for people and as JSON."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Daemon, script
from tests.system.conftest import BASE

NONE = ("--network", "none")


@pytest.fixture
def app(daemon: Daemon, tmp_path: Path) -> str:
    """An image whose layers add, change and delete."""
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo first > /changed\nRUN echo second > /changed; rm /etc/group; mkdir /srv\n")
    daemon.lamina("build", "-t", "app:1", *NONE, str(tmp_path))
    return "app:1"


def as_json(daemon: Daemon, *arguments: str) -> Any:
    return json.loads(daemon.lamina(*arguments, "--format", "json").stdout)


def test_layers_are_seen_by_every_command(daemon: Daemon, app: str, tmp_path: Path) -> None:
    daemon.lamina("run", "--name", "box", *NONE, app, "sh", "-c", "echo mine > /mine; rm /changed")
    rows = daemon.lamina("layers", "box").stdout.splitlines()
    assert "HIDDEN" in rows[0] and "echo second" in rows[3] and "+1 -1" in rows[4] and "container box" in rows[4]
    assert "containers/" in daemon.lamina("layers", "--no-trunc", "box").stdout.splitlines()[4]

    tree = daemon.lamina("blame", app).stdout
    assert "echo second" in next(line for line in tree.splitlines() if line.endswith("── changed"))
    assert {entry["path"]: entry["layer"] for entry in as_json(daemon, "blame", "box")["entries"]}["/mine"] == 3
    assert "\x1b" not in tree

    told = daemon.lamina("image", "diff", BASE, app).stdout
    assert "A /changed" in told and "D /etc/group" in told
    assert "-first\n" not in told and "+second\n" in daemon.lamina("image", "diff", "-N", BASE, app, "/changed").stdout
    assert [change["path"] for change in as_json(daemon, "image", "diff", app, "box")["changes"]] == ["/changed", "/mine"]

    assert "/changed" in daemon.lamina("image", "find", "chang*").stdout
    assert [row["path"] for row in as_json(daemon, "image", "find", "changed")["found"]] == ["/changed"]
    assert daemon.lamina("image", "find", "-q", "changed").stdout == "/changed\n"
    daemon.lamina("image", "find", "no-such-file", code=1)
    daemon.lamina("image", "find", "--format", "json", "no-such-file", code=1)
    assert daemon.lamina("ls", "--format", r"table {{.name}}\t{{.type}}", app).stdout.split()[:2] == ["NAME", "TYPE"]

    daemon.lamina("image", "squash", "-t", "flat:1", "--base", BASE, app)
    assert as_json(daemon, "image", "diff", app, "flat:1")["changes"] == []
    assert daemon.lamina("run", "--rm", *NONE, "flat:1", "cat", "/changed").stdout == "second\n"


def test_which_takes_a_container_whose_name_begins_like_an_images_id_and_whose_image_is_gone(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo gone > /gone\n")
    daemon.lamina("build", "-t", "gone:1", *NONE, str(tmp_path))
    name = daemon.lamina("images", "-q", BASE).stdout[:5]
    daemon.lamina("run", "--name", name, *NONE, "gone:1", "sh", "-c", "echo mine > /mine")
    daemon.lamina("rmi", "-f", "gone:1")
    assert f"container {name}" in daemon.lamina("which", name, "/mine").stdout
    assert "echo gone" in daemon.lamina("which", name, "/gone").stdout
    assert len(daemon.lamina("layers", name).stdout.splitlines()) == 4
    assert "A /gone" in daemon.lamina("image", "diff", BASE, name).stdout
    daemon.lamina("rm", name)


def test_names_that_are_no_utf_8_are_asked_for_and_shown_byte_by_byte(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"""FROM {BASE}\nRUN printf content > "$(printf '/bad\\377utf')"\n""")
    daemon.lamina("build", "-t", "odd:1", *NONE, str(tmp_path))
    odd = os.fsdecode(b"/bad\xffutf")
    assert "printf content" in daemon.lamina("which", "odd:1", odd).stdout
    assert "printf content" in daemon.lamina("blame", "odd:1", odd).stdout
    assert daemon.lamina("cat", f"odd:1:{odd}").stdout == "content"
    assert f"A {odd}" in daemon.lamina("image", "diff", BASE, "odd:1", odd).stdout.replace("\ufffd", "\udcff")
    for command in (["which", "odd:1", odd], ["ls", f"odd:1:{odd}"], ["blame", "odd:1", odd], ["image", "find", os.fsdecode(b"bad\xff*")]):
        assert json.dumps(odd[1:])[1:-1] in daemon.lamina(*command, "--format", "json").stdout
    daemon.lamina("create", "--name", "oddbox", *NONE, "odd:1", "true")
    daemon.lamina("cp", f"oddbox:{odd}", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "content"
    listed = subprocess.run([*script("lamina"), "ls", "odd:1"], env=daemon.environment(), capture_output=True, check=True)
    assert b"bad\xffutf\n" in listed.stdout


def test_a_mount_outlives_the_daemon_and_goes_when_it_is_told(daemon: Daemon, app: str, tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    daemon.lamina("image", "mount", app, str(place))
    try:
        assert (place / "changed").read_text() == "second\n"
        daemon.kill()
        daemon.start()
        assert (place / "changed").read_text() == "second\n"
        assert as_json(daemon, "image", "mount")["Reference"] == app
    finally:
        daemon.lamina("image", "unmount", str(place))
    assert not os.path.ismount(place)
    assert "nothing is mounted there" in daemon.lamina("image", "unmount", str(place), code=1).stderr
