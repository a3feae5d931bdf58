"""Removing trees, and measuring them, whoever filled them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.linux.diskusage import bytes_on_disk
from lamina.linux.removing import discard_tree, remove_tree


def deep(top: Path, levels: int) -> Path:
    """Directories in one another: far more than a path has room for, or a process descriptors."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    return top


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone after the test, however deep: pytest, which tidies up later, gives up on such trees."""
    yield tmp_path
    subprocess.run(["rm", "-rf", str(tmp_path)], check=True)


def test_directories_of_any_depth_are_removed_with_few_descriptors(place: Path) -> None:
    tree = deep(place / "tree", 6000)
    (tree / ".removing-0").write_text("a name that is taken")
    most = 0
    real = os.open

    def counted(*arguments: object, **named: object) -> int:
        nonlocal most
        fd = real(*arguments, **named)  # type: ignore[arg-type]
        most = max(most, fd)
        return fd

    os.open = counted  # type: ignore[assignment]
    try:
        remove_tree(str(tree))
    finally:
        os.open = real
    assert not tree.exists() and most < 1000


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside/below").mkdir(parents=True)
    (tmp_path / "outside/below/file").write_text("stays")
    (tmp_path / "tree/dir").mkdir(parents=True)
    (tmp_path / "tree/link").symlink_to("../outside")
    (tmp_path / "tree/dir/link").symlink_to("../../outside/below")
    remove_tree(str(tmp_path / "tree"))
    assert (tmp_path / "outside/below/file").read_text() == "stays" and not (tmp_path / "tree").exists()


def test_what_is_not_there_is_said_or_passed_over(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remove_tree(str(tmp_path / "nothing"))
    discard_tree(str(tmp_path / "nothing"))


def test_what_a_tree_takes_is_counted_once_for_each_inode(place: Path) -> None:
    tree = deep(place / "tree", 1500)
    before = bytes_on_disk(str(tree))
    (tree / "file").write_bytes(bytes(1 << 20))
    (tree / "twin").hardlink_to(tree / "file")
    assert before + (1 << 20) <= bytes_on_disk(str(tree)) < before + (2 << 20)
    assert bytes_on_disk(str(tree), itself=False) < bytes_on_disk(str(tree))
    remove_tree(str(tree))
