"""Sizes as people write them, and caps that this host cannot give."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.container import capping
from lamina.container.capping import InvalidSize, image_job, parsed_size, storage_options
from lamina.daemon.settings import parse
from lamina.errors import Exhausted, InvalidArgument, Unsupported
from tests.container.fakes import World, world

__all__ = ["world"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("10G", 10 << 30), ("10gb", 10 << 30), ("10GiB", 10 << 30), ("16m", 16 << 20), ("1073741824", 1 << 30), ("1 T", 1 << 40)],
)
def test_sizes_are_read_as_docker_reads_them(text: str, size: int) -> None:
    assert parsed_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "1.5G", "1X", "1GG", "0", "7M", "1" * 30])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidSize):
        parsed_size(text)


def test_the_engines_own_options_are_a_size_and_a_pool(tmp_path: Path) -> None:
    assert storage_options(["overlay2.size=10G", "pool=100G"]) == {"size": 10 << 30, "pool": 100 << 30}
    for word in ("dm.basesize=1G", "size", "size=x"):
        with pytest.raises(InvalidArgument):
            storage_options([word])
    config = tmp_path / "daemon.json"
    config.write_text('{"storage-opts": ["size=1G"]}')
    assert parse(["--config-file", str(config)])[0].storage_options == ("size=1G",)
    assert parse(["--storage-opt", "pool=1G"])[0].storage_options == ("pool=1G",)


def test_a_host_without_the_programs_says_so_and_nothing_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capping, "_PLACES", "/nowhere")
    monkeypatch.setattr("lamina.linux.projectquota.available", lambda path: False)
    with pytest.raises(Unsupported, match="mkfs"):
        world.containers.create({"Image": "base"}, {"StorageOpt": {"size": "16M"}}, name="it")
    assert [name for name in os.listdir(world.parts.root) if not name.startswith(".")] == []
    world.containers.create({"Image": "base"}, name="it")


def test_an_image_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image"
    with pytest.raises(Exhausted, match="no file system of 16777216 bytes could be made"):
        image_job({"path": str(path), "size": 16 << 20, "program": "/bin/false"}, [], lambda update: None)
    assert not path.exists()
    with pytest.raises(Exhausted):
        image_job({"path": str(tmp_path / "no/image"), "size": 16 << 20, "program": "/bin/true"}, [], lambda update: None)
