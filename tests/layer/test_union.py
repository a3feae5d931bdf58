"""Layers seen through each other, by their indexes alone."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.layer.erofs.writer import write
from lamina.layer.errors import LayerDamaged
from lamina.layer.index import LayerIndex
from lamina.layer.tar.member import Member
from lamina.layer.tree import Tree, walk
from lamina.layer.union import Union
from tests.contracts.snapshotter import directory, file, symlink


def tree_of(members: Sequence[tuple[Member, bytes]]) -> Tree:
    tree = Tree()
    for member, _ in members:
        tree.add(member)
    tree.finish()
    return tree


def image_of(path: Path, members: Sequence[tuple[Member, bytes]]) -> str:
    path.write_bytes(write(tree_of(members), "a" * 64, 1 << 20, lambda offset, length: bytes(length)).data)
    return str(path)


@pytest.fixture
def union(tmp_path: Path) -> Union:
    layers = [
        [directory("etc"), file("etc/x", b"1"), file("etc/y"), directory("opt"), file("opt/old"), symlink("lib", "usr/lib"), directory("usr/lib"), file("usr/lib/so")],
        [directory("etc"), file("etc/x", b"22"), file("etc/.wh.y"), file("opt/.wh..wh..opq"), file("opt/new")],
        [file("etc/y", b"again"), file("etc/.wh.x"), file("usr", b"a file now")],
    ]  # fmt: skip
    return Union.open([image_of(tmp_path / str(i), layer) for i, layer in enumerate(layers)])


def test_the_first_hit_from_the_top_wins(union: Union) -> None:
    hit = union.lookup(b"etc/y")
    assert hit is not None and hit[0] == 2 and hit[1].size == 5
    assert union.lookup(b"etc/x") is None
    assert union.lookup(b"opt/old") is None
    assert union.lookup(b"opt/new") is not None
    assert union.lookup(b"nothing/at/all") is None


def test_a_file_over_a_directory_hides_what_was_in_it(union: Union) -> None:
    assert union.lookup(b"usr/lib/so") is None
    assert union.listdir(b"usr") == []


def test_a_listing_merges_what_is_visible(union: Union) -> None:
    assert [entry.path for _, entry in union.listdir(b"")] == [b"etc", b"lib", b"opt", b"usr"]
    assert [entry.path for _, entry in union.listdir(b"etc")] == [b"etc/y"]
    assert [entry.path for _, entry in union.walk()] == [b"etc", b"etc/y", b"lib", b"opt", b"opt/new", b"usr"]


def test_history_tells_every_layer_that_touched_a_path(union: Union) -> None:
    assert [(touch.level, touch.entry is not None) for touch in union.history(b"etc/x")] == [(2, False), (1, True), (0, True)]
    assert [(touch.level, touch.path, touch.entry is not None) for touch in union.history(b"opt/old")] == [
        (1, b"opt", False),
        (0, b"opt/old", True),
    ]
    assert [(touch.level, touch.path) for touch in union.history(b"usr/lib/so")] == [(2, b"usr"), (0, b"usr/lib/so")]
    assert union.history(b"never") == []


def test_a_path_may_have_more_parts_than_python_has_frames(union: Union) -> None:
    path = b"/".join([b"etc"] * 1300)
    assert (union.lookup(path), union.history(path), union.merged(path)) == (None, [], ())


def test_links_are_followed_within_the_stack_only(tmp_path: Path) -> None:
    layer = [
        directory("etc"), file("etc/x"), symlink("abs", "/etc/x"), symlink("up", "../../../etc"), symlink("round", "round"), symlink("dangling", "no"),
    ]  # fmt: skip
    union = Union.open([image_of(tmp_path / "one", layer)])
    for path in (b"abs", b"up/x", b"/etc//./x", b"etc/../up/x"):
        hit = union.resolve(path)
        assert hit is not None and hit[1].path == b"etc/x", path
    assert union.resolve(b"round") is None
    assert union.resolve(b"dangling") is None
    root = union.resolve(b"/")
    assert root is not None and root[1].directory


NAMES = st.sampled_from([b"a", b"b", b"c", b"d" * 200, b"e" * 255, b".wh.a", b".wh.b", b".wh..wh..opq"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)


@st.composite
def layers(draw: st.DrawFn) -> list[tuple[Member, bytes]]:
    found = []
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO]))
        link = draw(st.sampled_from([b"a", b"../b", b"/c", b"x" * 600, b"y" * 1000])) if kind == stat.S_IFLNK else b""
        xattrs = ((b"user.x", draw(st.binary(max_size=700))),) if draw(st.booleans()) else ()
        mode = kind | draw(st.integers(0, 0o7777))
        member = Member(
            draw(PATHS), mode, draw(st.integers(0, 1 << 20)), 0, 7 if kind == stat.S_IFREG else 0, draw(st.integers(-(10**18), 10**18)), 512, link, xattrs=xattrs
        )  # fmt: skip
        found.append((member, b""))
    return found


def accepted(members: list[tuple[Member, bytes]]) -> Tree:
    """The tree of those members that a layer may have."""
    from lamina.layer.errors import InvalidArchive

    tree = Tree()
    for member, _ in members:
        try:
            tree.add(member)
        except InvalidArchive:
            pass
    tree.finish()
    return tree


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers())
def test_reading_an_image_undoes_writing_it(tmp_path: Path, members: list[tuple[Member, bytes]]) -> None:
    tree = accepted(members)
    path = tmp_path / "image"
    path.write_bytes(write(tree, "a" * 64, 1 << 20, lambda offset, length: bytes(length)).data)
    expected = [
        (p, n.mode, n.uid, n.mtime_ns, n.link, n.xattrs, n.opaque, n.offset if stat.S_ISREG(n.mode) else 0) for p, n in walk(tree.root)
    ]  # fmt: skip
    with LayerIndex.open(str(path)) as index:
        found = [(e.path, e.mode, e.uid, e.mtime_ns, e.link, e.xattrs, e.opaque, e.offset) for e in index.walk()]
        assert found == expected
        for entry in list(index.walk()):
            assert index.lookup(entry.path) == entry
            parent = entry.path.rpartition(b"/")[0]
            assert entry in index.children(parent)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers(), st.data())
def test_a_damaged_image_is_read_or_refused_never_crashes(tmp_path: Path, members: list[tuple[Member, bytes]], data: st.DataObject) -> None:
    raw = bytearray(write(accepted(members), "a" * 64, 1 << 20, lambda offset, length: bytes(length)).data)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "image"
    path.write_bytes(raw)
    try:
        with LayerIndex.open(str(path)) as index:
            for count, entry in enumerate(index.walk()):
                index.lookup(entry.path)
                if count > 200:
                    break
    except LayerDamaged:
        pass
