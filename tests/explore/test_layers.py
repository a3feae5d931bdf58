"""`layers`: what each layer adds, changes, deletes, and what of it later layers hide."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.errors import InvalidArgument
from lamina.explore.explorer import Explorer
from lamina.explore.levels import FILE, Level, UpperLevel, open_levels
from lamina.explore.model import LayerRow
from lamina.explore.stack import Stack
from lamina.explore.survey import surveyed
from lamina.image.model import AmbiguousId, ImageNotFound
from lamina.layer.erofs.writer import write
from lamina.layer.errors import InvalidArchive, LayerDamaged
from lamina.layer.tar.member import Member
from lamina.layer.tree import Tree
from lamina.layer.union import Union
from lamina.library.difference import Difference
from tests.contracts.snapshotter import directory, file, hardlink, symlink

from .conftest import Lab

BASE = [
    directory("etc"), file("etc/hosts", b"h" * 10), file("etc/old", b"o" * 20), directory("usr"), directory("usr/doc"),
    file("usr/doc/a", b"a" * 30), file("usr/doc/b", b"b" * 40), hardlink("usr/doc/c", "usr/doc/b"), symlink("lib", "usr"),
]  # fmt: skip
CHANGES = [directory("etc"), file("etc/hosts", b"H" * 15), file("etc/.wh.old"), directory("usr"), file("usr/.wh.doc"), file("srv", b"s")]
REPLACED = [directory("usr", mode=0o700), directory("usr/doc"), file("usr/doc/a", b"again"), file("etc", b"now a file")]


def counts(rows: list[LayerRow]) -> list[tuple[int, int, int, int, int]]:
    return [(row.added, row.modified, row.deleted, row.size, row.hidden) for row in rows]


def test_each_layer_tells_what_it_did_and_what_of_it_is_hidden(lab: Lab) -> None:
    lab.image("app", BASE, CHANGES, REPLACED)
    rows = list(lab.explorer.layers(lab.explorer.subject("app")))
    # A directory and all below it is deleted by one whiteout; links to one file are its bytes once; listing a directory again changes nothing.
    assert counts(rows) == [(9, 0, 0, 100, 100), (1, 1, 5, 16, 15), (2, 2, 1, 15, 0)]
    assert [row.facts.index for row in rows] == [0, 1, 2]
    assert [row.facts.instruction for row in rows] == ["Imported from -", "RUN app.1", "RUN app"]
    assert all(os.path.exists(row.facts.path) for row in rows)
    assert rows[0].facts.parent == ""
    assert rows[1].facts.parent == rows[0].facts.id


def test_an_opaque_directory_deletes_what_is_not_in_it_again(lab: Lab) -> None:
    opaque = [directory("usr"), directory("usr/doc"), file("usr/doc/.wh..wh..opq"), file("usr/doc/a", b"new"), file("usr/doc/z", b"z")]
    lab.image("app", BASE, opaque)
    assert counts(list(lab.explorer.layers(lab.explorer.subject("app"))))[1] == (1, 1, 2, 4, 0)


def test_an_opaque_root_deletes_all(lab: Lab) -> None:
    lab.image("app", BASE, [file(".wh..wh..opq"), file("only", b"1")])
    assert counts(list(lab.explorer.layers(lab.explorer.subject("app")))) == [(9, 0, 0, 100, 100), (1, 0, 9, 1, 0)]


@pytest.mark.root
def test_what_a_container_wrote_is_one_more_row(lab: Lab) -> None:
    upper = lab.container("box", lab.image("app", BASE, CHANGES))
    (upper / "etc").mkdir(mode=0o755, exist_ok=True)
    (upper / "etc").chmod(0o755)
    (upper / "etc/hosts").write_bytes(b"mine")
    (upper / "new").write_bytes(b"12345")
    lab.delete(upper, "srv")
    rows = list(lab.explorer.layers(lab.explorer.subject("box")))
    assert counts(rows)[2] == (1, 1, 1, 9, 0)
    assert rows[1].hidden == 16
    assert rows[2].facts.writable
    assert (rows[2].facts.path, rows[2].facts.instruction) == (str(upper), "container box")
    (upper / "new").unlink()
    assert counts(list(lab.explorer.layers(lab.explorer.subject("box"))))[2][3] == 4


@pytest.mark.root
def test_a_container_is_seen_after_its_image_was_removed(lab: Lab) -> None:
    image = lab.image("app", BASE, CHANGES)
    (lab.container("box", image) / "new").write_bytes(b"12345")
    before = list(lab.explorer.layers(lab.explorer.subject("box")))
    lab.store.images.leases.pin("container:box", image.layers)
    for name in ("app", "app.0"):
        lab.store.images.remove(name, force=True)
    subject = lab.explorer.subject("box")
    assert (subject.image, subject.image_id, subject.name) == (None, str(image.id), "box")
    assert list(lab.explorer.layers(subject)) == before
    assert lab.explorer.which(subject, "/etc/hosts")["versions"][0]["level"] == 1
    assert b'"/new"' in lab.explorer.blame(subject, "/new").read()
    told = json.loads(lab.explorer.diff(lab.explorer.subject(lab.image("app2", BASE).id.short), subject).read())
    assert "/new" in [change["path"] for change in told["changes"]] and told["config"] == {}
    with pytest.raises(InvalidArgument, match="a container cannot be squashed"):
        lab.explorer.squash(subject)


def test_what_lay_in_a_directory_that_is_a_link_now_was_deleted_by_the_layer_with_the_link(lab: Lab) -> None:
    image = lab.image("app", BASE, [symlink("usr", "etc")])
    lab.container("box", image)
    told, found = lab.explorer.which(lab.explorer.subject("box"), "/usr/doc/a"), lab.store.images.which("app", "/usr/doc/a")
    assert (told["path"], told["found"], told["deleted_by"]) == ("/usr/doc/a", False, 1)
    assert [each["level"] for each in told["versions"]] == [0]
    assert (found.path, found.layer, found.deleted_by and found.deleted_by.index) == ("/usr/doc/a", None, 1)
    assert [holder.index for holder in found.older] == [0]
    assert (
        lab.explorer.which(lab.explorer.subject("box"), "/usr/none")["path"]
        == lab.store.images.which("app", "/usr/none").path
        == "/etc/none"
    )


def test_a_containers_name_wins_over_the_beginning_of_an_images_id(lab: Lab) -> None:
    image = lab.image("app", BASE)
    lab.container(image.id.encoded[:6], image)
    assert lab.explorer.subject(image.id.encoded[:6]).container is not None
    assert lab.explorer.subject(image.id.encoded[:7]).container is None
    with pytest.raises(ImageNotFound, match="no such image or container: nothing"):
        lab.explorer.subject("nothing")
    with pytest.raises(ImageNotFound, match="no such image or container: nothing@one"):
        lab.explorer.subject("nothing@one")


def test_a_containers_name_wins_over_the_beginning_of_several_images_ids(lab: Lab) -> None:
    images = [lab.image(f"app{number}", [file("number", b"%d" % number)]) for number in range(17)]  # an ID begins with one of 16 digits
    begin = Counter(image.id.encoded[0] for image in images).most_common(1)[0][0]
    with pytest.raises(AmbiguousId):
        lab.explorer.subject(begin)
    lab.container(begin, images[0])
    assert lab.explorer.subject(begin).container is not None


def test_a_container_is_found_by_a_name_that_no_image_can_have(lab: Lab) -> None:
    image = lab.image("app", BASE)
    for name in ("Web", "a..b"):
        lab.container(name, image)
        assert lab.explorer.subject(name).facts[-1].instruction == f"container {name}"


def test_what_asks_for_images_alone_says_that_a_container_has_the_name(lab: Lab) -> None:
    for name in ("web", "Web"):
        lab.container(name, lab.image("app", BASE))
        with pytest.raises(ImageNotFound, match=f"{name} is a container, not an image"), lab.explorer.images_alone(name):
            lab.store.images.ls(name)
    with pytest.raises(ImageNotFound, match="No such image: nothing"), lab.explorer.images_alone("nothing"):
        lab.store.images.ls("nothing")


def test_it_is_counted_once_and_again_when_the_cache_is_gone(lab: Lab, tmp_path: Path) -> None:
    lab.image("app", BASE, CHANGES)
    first = lab.explorer.layers(lab.explorer.subject("app"))
    assert lab.explorer.layers(lab.explorer.subject("app")) == first
    assert lab.workers.jobs == ["lamina.explore.survey:job"]
    for path in (tmp_path / "cache/answers").iterdir():
        path.unlink()
    assert lab.explorer.layers(lab.explorer.subject("app")) == first
    assert len(lab.workers.jobs) == 2


def test_after_another_boot_of_the_machine_everything_is_asked_anew(lab: Lab, tmp_path: Path) -> None:
    lab.image("app", BASE, CHANGES)
    parts = (lab.store.images, lab.store.layers, lab.containers, lab.workers, str(tmp_path))
    first = Explorer(*parts, boot="one")  # type: ignore[arg-type]
    layers, found = first.layers(first.subject("app")), first.find("*").read()
    assert Explorer(*parts, boot="one").layers(first.subject("app")) == layers  # type: ignore[arg-type]
    asked = len(lab.workers.jobs)
    for path in (*(tmp_path / "cache/answers").iterdir(), *(tmp_path / "cache/paths").iterdir()):
        path.write_bytes(b"")
    again = Explorer(*parts, boot="two")  # type: ignore[arg-type]
    assert (again.layers(again.subject("app")), again.find("*").read()) == (layers, found)
    assert len(lab.workers.jobs) == asked + 2


def test_names_that_are_no_utf_8_are_found_by_every_question(lab: Lab) -> None:
    odd = "d\udcff/f\udcfe"
    lab.image("old", [file("x", b"1")])
    lab.image("app", [directory("d\udcff"), file(odd, b"1"), symlink("d\udcff/link", "f\udcfe")], [directory("d\udcff"), file(odd, b"2")])
    app, images = lab.explorer.subject("app"), lab.store.images
    assert lab.explorer.which(app, odd)["path"] == images.which("app", odd).path == f"/{odd}"
    assert [row.name for row in images.ls("app", "d\udcff")] == ["f\udcfe", "link"]
    assert json.loads(lab.explorer.blame(app, odd).read())["entries"] == [{"path": f"/{odd}", "type": "file", "layer": 1}]
    assert b"d\xff/" in lab.explorer.blame(app, form="text").read()
    for pattern, regex in (("f\udcfe", False), ("d\udcff/f*", False), ("d\udcff/f.$", True)):
        assert {row["path"] for row in json.loads(lab.explorer.find(pattern, regex=regex).read())["found"]} == {f"/{odd}"}
    told = Difference.of(lab.explorer.diff(lab.explorer.subject("old"), app))
    assert [change.path for change in told] == ["/d\udcff", f"/{odd}", "/d\udcff/link", "/x"]
    assert told.changes[2].b is not None and told.changes[2].b.target == "f\udcfe"
    told._repr_html_().encode()


NAMES = st.sampled_from([b"a", b"b", b"c" * 200, b"d" * 255, b".wh.a", b".wh.b", b".wh..wh..opq"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
KINDS = st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFDIR, stat.S_IFLNK])


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree = Tree()
    for _ in range(draw(st.integers(0, 10))):
        kind, path = draw(KINDS), draw(PATHS)
        size = draw(st.integers(0, 50)) if kind == stat.S_IFREG else 0
        try:
            tree.add(Member(path, kind | 0o755, 0, 0, size, 0, 512, b"a" if kind == stat.S_IFLNK else b""))
        except InvalidArchive:
            pass
    tree.finish()
    return tree


def opened(directory: Path, layers: list[Tree], closing: ExitStack) -> tuple[Stack, list[str]]:
    paths = [str(directory / f"{number}.erofs") for number in range(len(layers))]
    for path, tree in zip(paths, layers, strict=True):
        Path(path).write_bytes(write(tree, "a" * 64, 1 << 20, lambda offset, length: bytes(length)).data)
    described = [{"name": path, "index": path, "tar": ""} for path in paths]
    return Stack(open_levels(described, closing)), paths


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(trees(), min_size=1, max_size=4))
def test_a_stack_shows_what_the_union_shows_and_its_counts_add_up(tmp_path: Path, layers: list[Tree]) -> None:
    with ExitStack() as closing:
        stack, paths = opened(tmp_path, layers, closing)
        union = closing.enter_context(Union.open(paths))
        seen = sorted(
            (b"/".join(filter(None, (visit.path, entry.name))), entry.level)
            for visit in stack.walk(stack.root())
            for entry in visit.entries
        )
        assert seen == sorted((entry.path, level) for level, entry in union.walk())
        for path, level in seen:
            entry = stack.find(path)
            assert entry is not None and entry.level == level
        found = surveyed(stack)
        below = 0
        for number, each in enumerate(found, 1):
            with Union.open(paths[:number]) as prefix:
                now = sum(1 for _ in prefix.walk())
            assert now == below + each.added - each.deleted
            below = now
        visible = sum(entry.size for _, entry in union.walk() if entry.type == "file")
        assert sum(each.size - each.hidden for each in found) == visible


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(trees(), st.data())
def test_a_damaged_image_is_walked_or_refused_never_crashes(tmp_path: Path, tree: Tree, data: st.DataObject) -> None:
    raw = bytearray(write(tree, "a" * 64, 1 << 20, lambda offset, length: bytes(length)).data)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(2048, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "image"
    path.write_bytes(raw)
    try:
        with ExitStack() as closing:
            stack = Stack(open_levels([{"name": "x", "index": str(path)}], closing))
            for count, visit in enumerate(stack.walk(stack.root())):
                for entry in visit.entries:
                    if entry.kind == FILE:
                        stack.levels[0].size(entry.key)
                if count > 200:
                    break
    except LayerDamaged:
        pass


def test_links_are_followed_within_the_stack(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "etc").mkdir(parents=True)
    (upper / "etc/x").write_text("x")
    for name, target in {"abs": "/etc/x", "up": "../../../etc", "round": "round", "dangling": "no"}.items():
        (upper / name).symlink_to(target)
    level: Level = UpperLevel("c", str(upper))
    stack = Stack([level])
    for path in (b"abs", b"up/x", b"etc//./x", b"etc/../up/x"):
        assert stack.resolve(path, last=True) == b"etc/x"
    assert stack.resolve(b"abs", last=False) == b"abs"
    assert stack.resolve(b"dangling", last=True) == b"no"
    assert stack.levels[0].content(b"etc/x", b"etc/x", 10) == b"x"
