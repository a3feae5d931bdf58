"""What the members of a tar amount to."""

from __future__ import annotations

import stat

import pytest

from lamina.layer.errors import InvalidArchive
from lamina.layer.tar.member import Member
from lamina.layer.tree import Tree, walk
from tests.contracts.snapshotter import directory, file, hardlink, symlink


def paths(*members: tuple[Member, bytes]) -> list[str]:
    tree = Tree()
    for member, _ in members:
        tree.add(member)
    tree.finish()
    return [path.decode() for path, _ in walk(tree.root)]


@pytest.mark.parametrize("spelled", ["a/b", "./a/b", "/a/b", "a//b", "a/./b", "././/a/b", "a/b/", "a/b/.", "a/b//", "a/b/./"])
def test_a_path_is_the_same_however_it_is_spelled(spelled: str) -> None:
    assert paths(directory(spelled), file("a/b/c"), file(spelled + "/d")) == ["a", "a/b", "a/b/c", "a/b/d"]


def test_the_first_entries_at_the_root_are_kept() -> None:
    assert paths(file("x"), file("y"), directory("."), file("z")) == ["x", "y", "z"]


@pytest.mark.parametrize("path", ["..", "../x", "a/../b", "/..", "./../x", "a/.."])
def test_a_path_that_climbs_is_refused(path: str) -> None:
    with pytest.raises(InvalidArchive, match="escapes"):
        paths(file(path))


def test_names_and_paths_longer_than_linux_allows_are_refused() -> None:
    assert paths(file("n" * 255))
    for path in ("n" * 256, "n" * 256 + "/x", "/".join("d" * 200 for _ in range(21))):
        with pytest.raises(InvalidArchive, match="too long"):
            paths(file(path))


def test_aufs_own_files_are_left_out() -> None:
    assert paths(directory(".wh..wh.plnk"), file(".wh..wh.plnk/12.34"), file(".wh..wh.aufs"), file("x")) == ["x"]


def test_a_whiteout_hides_nothing_of_its_own_layer_in_either_order() -> None:
    for members in ([file(".wh.x"), file("x")], [file("x"), file(".wh.x")]):
        assert paths(*members) == ["x"]


def test_a_character_device_of_zeros_is_a_whiteout() -> None:
    tree = Tree()
    tree.add(Member(b"x", stat.S_IFCHR | 0o600, 0, 0, 0, 0))
    tree.finish()
    [(path, node)] = walk(tree.root)
    assert (path, node.mode, node.rdev) == (b"x", stat.S_IFCHR, (0, 0))


@pytest.mark.parametrize("link", ["later", "missing", "d/missing", "../x", "file/under"])
def test_a_hard_link_needs_its_target_before_it(link: str) -> None:
    with pytest.raises(InvalidArchive):
        paths(directory("d"), file("file"), hardlink("l", link), file("later"))


def test_a_hard_link_to_a_symbolic_link_is_that_link() -> None:
    tree = Tree()
    for member, _ in (symlink("s", "nowhere"), hardlink("d/h", "s"), hardlink("d/h", "d/h")):
        tree.add(member)
    found = dict(walk(tree.root))
    assert found[b"s"] is found[b"d/h"]


@pytest.mark.parametrize(
    "change",
    [
        {"uid": -1},
        {"gid": 1 << 32},
        {"mtime_ns": 10**30},
        {"mode": stat.S_IFBLK, "major": 1 << 13},
        {"xattrs": ((b"user.x", bytes(70_000)),)},
    ],
)
def test_what_linux_cannot_hold_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidArchive):
        paths((file("x")[0]._replace(**change), b""))
