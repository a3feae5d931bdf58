"""`image find`: which images show a path, and which layer gives it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.errors import InvalidArgument
from lamina.explore.find import found
from lamina.explore.patterns import Pattern
from lamina.image.model import Image
from lamina.image.store import Images
from lamina.layer.erofs.writer import write
from lamina.layer.tree import Tree
from lamina.layer.union import Union
from tests.contracts.snapshotter import directory, file, symlink

from .conftest import Lab
from .test_layers import trees

BASE = [
    directory("usr"),
    directory("usr/bin"),
    file("usr/bin/Emacs"),
    file("usr/bin/sh"),
    file("etc.conf"),
    directory("opt"),
    file("opt/sh"),
]
TOP = [directory("usr"), directory("usr/bin"), file("usr/bin/.wh.Emacs"), symlink("usr/bin/sh", "x"), file("opt", b"now a file")]


def searched(lab: Lab, pattern: str, **more: Any) -> set[tuple[str, str, str, tuple[str, ...]]]:
    """Path, type, instruction of the layer, names of the images."""
    document = json.loads(lab.explorer.find(pattern, **more).read())
    return {
        (
            row["path"], row["type"], document["layers"][row["layer"]]["instruction"],
            tuple(sorted(document["images"][image]["names"][0] for image in row["images"])),
        )
        for row in document["found"]
    }  # fmt: skip


def test_each_image_that_shows_it_is_named_with_the_layer_that_gives_it(lab: Lab) -> None:
    lab.image("app", BASE, TOP)
    base = "app.0:latest"
    assert searched(lab, "sh") == {
        ("/usr/bin/sh", "file", "Imported from -", (base,)), ("/opt/sh", "file", "Imported from -", (base,)),
        ("/usr/bin/sh", "symlink", "RUN app", ("app:latest",)),
    }  # fmt: skip
    assert searched(lab, "emacs") == set()
    assert searched(lab, "emacs", fold=True) == {("/usr/bin/Emacs", "file", "Imported from -", (base,))}
    both = {("/etc.conf", "file", "Imported from -", ("app.0:latest", "app:latest"))}
    assert searched(lab, "*.conf") == searched(lab, "/etc*") == searched(lab, "nf$", regex=True) == both
    assert {row[0] for row in searched(lab, "bin")} == {"/usr/bin"}
    text = lab.explorer.find("*.conf", form="text").read().decode().splitlines()
    assert sorted(text[0].split(", ")) == ["app.0:latest", "app:latest"]
    assert text[1].endswith("Imported from -") and text[2] == "    /etc.conf"


def test_an_image_that_goes_after_it_was_listed_is_left_out(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.image("app", BASE, TOP)
    listed = Images.list

    def and_then_removed(images: Images) -> list[Image]:
        found = listed(images)
        images.remove("app")
        return found

    monkeypatch.setattr(Images, "list", and_then_removed)
    assert {row[3] for row in searched(lab, "*.conf")} == {("app.0:latest",)}


def test_patterns_are_refused_that_are_none(lab: Lab) -> None:
    for pattern, regex in (("", False), ("/", False), ("x" * 5000, False), ("(", True)):
        with pytest.raises(InvalidArgument):
            lab.explorer.find(pattern, regex=regex)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.py", b"/a/b.py", True), ("*.py", b"/a/b.pyc", False), ("b", b"/a/b", True), ("b", b"/b/a", False), ("/a/*", b"/a/b/c", False),
        ("/a/**", b"/a/b/c", True), ("a/b", b"/x/a/b", True), ("a/b", b"/xa/b", False), ("[!a]b", b"/cb", True), ("[a-c]?", b"/bz", True),
        ("**/c", b"/a/b/c", True), ("\\*", b"/*", True), ("\\*", b"/x", False), ("ä*", "/äb".encode(), True), ("dir/", b"/x/dir", True),
    ],
)  # fmt: skip
def test_patterns_match_as_in_a_shell(pattern: str, path: bytes, expected: bool) -> None:
    made = Pattern.glob(pattern)
    assert bool(made.expression.fullmatch(path)) == expected
    assert not expected or made.literal in path + b"\0"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(trees(), min_size=1, max_size=4), st.sampled_from(["*", "a", "b", "*/b", "/a/**", "c*", "?"]))
def test_what_is_found_is_what_the_union_shows(tmp_path: Path, layers: list[Tree], text: str) -> None:
    nodes, paths = [], []
    token = os.urandom(8).hex()
    (tmp_path / token).mkdir()
    for number, tree in enumerate(layers):
        paths.append(str(tmp_path / token / f"{number}.erofs"))
        Path(paths[-1]).write_bytes(write(tree, "a" * 64, 1 << 20, lambda offset, length: bytes(length)).data)
        level = {"name": str(number), "index": paths[-1]}
        nodes.append(
            {"level": level, "id": "", "instruction": "", "parent": number - 1, "images": [0] if number == len(layers) - 1 else []}
        )
    pattern = Pattern.glob(text)
    for _ in range(2):  # made, then read from its file
        rows = found(nodes, pattern, str(tmp_path / token))
        with Union.open(paths) as union:
            expected = {(b"/" + entry.path, level) for level, entry in union.walk() if pattern.expression.fullmatch(b"/" + entry.path)}
        assert {(path, giver) for path, _, giver, _ in rows} == expected
