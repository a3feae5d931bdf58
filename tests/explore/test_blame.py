"""`blame`: every entry with the layer that last touched it."""

from __future__ import annotations

import json

import pytest

from lamina.explore.blame import TEXT_WIDTH
from lamina.layer.errors import PathNotFound
from tests.contracts.snapshotter import directory, file, symlink

from .conftest import Lab

BASE = [directory("etc"), file("etc/hosts", b"1"), file("etc/old"), directory("usr"), file("usr/a"), symlink("lib", "usr")]
TOP = [directory("etc"), file("etc/hosts", b"2"), file("etc/.wh.old"), directory("usr", mode=0o700), file("usr/evil\x1b[2J\n")]


def test_the_tree_has_layer_and_instruction_before_each_entry(lab: Lab) -> None:
    lab.image("app", BASE, TOP)
    lines = lab.explorer.blame(lab.explorer.subject("app"), form="text").read().decode().splitlines()
    width = 1 + TEXT_WIDTH + 4
    assert [(line[:8].rstrip(), line[width:]) for line in lines] == [
        ("0  Impor", "/"),
        ("0  Impor", "├── etc/"),  # listed again as it was: not touched
        ("1  RUN a", "│   └── hosts"),
        ("0  Impor", "├── lib@"),
        ("1  RUN a", "└── usr/"),
        ("0  Impor", "    ├── a"),
        ("1  RUN a", "    └── evil\\x1b[2J\\x0a"),
    ]
    below = lab.explorer.blame(lab.explorer.subject("app"), "/lib", form="text", depth=1).read().decode().splitlines()
    assert [line[width:] for line in below] == ["/usr/", "├── a", "└── evil\\x1b[2J\\x0a"]
    with pytest.raises(PathNotFound, match="/etc/old"):
        lab.explorer.blame(lab.explorer.subject("app"), "/etc/old")


def test_a_link_to_no_directory_is_itself_what_is_blamed(lab: Lab) -> None:
    links = {"sh": "busybox", "dangling": "nothing", "round": "round"}
    lab.image("app", [file("busybox", b"1")], [symlink(name, target) for name, target in links.items()])
    for name in links:
        document = json.loads(lab.explorer.blame(lab.explorer.subject("app"), f"/{name}").read())
        assert document["entries"] == [{"path": f"/{name}", "type": "symlink", "layer": 1}]


def test_a_directory_that_was_removed_and_made_again_is_of_the_later_layer(lab: Lab) -> None:
    again = [directory("etc"), directory("etc/d"), file("etc/d/new")]
    base = [directory("etc"), directory("etc/d"), file("etc/d/old")]
    lab.image("opaque", base, [*again, file("etc/d/.wh..wh..opq")])
    lab.image("above", base, [*again, file("etc/.wh..wh..opq")])
    lab.image("between", base, [directory("etc"), file("etc/.wh.d")], again)
    lab.image("listed", base, again)
    lab.image("listed-later", base, [*again, file("etc/d/.wh..wh..opq")], again)
    for name, layer in (("opaque", 1), ("above", 1), ("between", 2), ("listed", 0), ("listed-later", 1)):
        subject = lab.explorer.subject(name)
        document = json.loads(lab.explorer.blame(subject, "/etc/d", depth=1).read())
        found = lab.store.images.which(name, "/etc/d").layer
        told = lab.explorer.which(subject, "/etc/d")["versions"][0]["level"]
        assert found is not None and (name, document["entries"][0]["layer"], found.index, told) == (name, layer, layer, layer)


def test_as_json_it_names_every_path_once_and_is_kept(lab: Lab) -> None:
    lab.image("app", BASE, TOP)
    document = json.loads(lab.explorer.blame(lab.explorer.subject("app")).read())
    assert {entry["path"]: (entry["type"], entry["layer"]) for entry in document["entries"]} == {
        "/": ("directory", 0), "/etc": ("directory", 0), "/etc/hosts": ("file", 1), "/lib": ("symlink", 0), "/usr": ("directory", 1),
        "/usr/a": ("file", 0), "/usr/evil\x1b[2J\n": ("file", 1),
    }  # fmt: skip
    assert [layer["instruction"] for layer in document["layers"]] == ["Imported from -", "RUN app"]
    assert json.loads(lab.explorer.blame(lab.explorer.subject("app")).read()) == document
    assert len(lab.workers.jobs) == 1
