"""`image squash`: fewer layers that show the same."""

from __future__ import annotations

import json
import os

import pytest

from lamina.errors import Conflict, InvalidArgument
from lamina.layer import tarwrite
from lamina.spec.reference import Reference
from tests.contracts.snapshotter import directory, file, hardlink, symlink, tar
from tests.image.tars import child, imported

from .conftest import Lab

BASE = [
    directory("."), directory("etc"), file("etc/hosts", b"one"), file("etc/old", b"o"), directory("usr"), file("usr/a", b"a"),
    symlink("lib", "usr"), directory("turned"), file("turned/in", b"x"),
]  # fmt: skip
TOP = [
    directory("etc"), file("etc/hosts", b"two"), file("etc/.wh.old"), file("usr/.wh.a"), file("big", b"b" * 3_000_000),
    hardlink("linked", "big"), file("turned", b"a file", mode=0o600, uid=70000),
]  # fmt: skip
LAST = [file("new", b"n", xattrs=((b"user.k", b"v"),)), directory("usr"), file("usr/b", b"b")]


def same(lab: Lab, a: str, b: str) -> bool:
    document = json.loads(lab.explorer.diff(lab.explorer.subject(a), lab.explorer.subject(b), contents=False).read())
    return document["changes"] == [] and document["config"] == {}


def test_one_layer_shows_what_all_showed(lab: Lab) -> None:
    before = lab.image("app", BASE, TOP, LAST)
    image = lab.explorer.squash(lab.explorer.subject("app"), None, [Reference.parse("flat:1")])
    assert len(image.layers) == 1
    assert same(lab, "app", "flat:1")
    rows = lab.explorer.layers(lab.explorer.subject("flat:1"))
    assert (rows[0].modified, rows[0].deleted, rows[0].hidden, rows[0].size) == (0, 0, 0, 3 + 3_000_000 + 6 + 1 + 1)
    assert [step.empty_layer for step in image.config.history] == [True, True, True, False]
    assert image.config.history[-1].comment == f"squashed 3 layers of {before.id}"
    assert lab.explorer.squash(lab.explorer.subject("app")).id == image.id


def test_a_base_keeps_its_layers(lab: Lab) -> None:
    before = lab.image("app", BASE, TOP, LAST)
    image = lab.explorer.squash(lab.explorer.subject("app"), lab.explorer.subject("app.0"), [Reference.parse("less:1")])
    assert image.layers[0] == before.layers[0] and len(image.layers) == 2
    assert same(lab, "app", "less:1")
    with pytest.raises(Conflict, match="nothing to squash"):
        lab.explorer.squash(lab.explorer.subject("less:1"), lab.explorer.subject("app.0"))
    lab.image("other", LAST)
    with pytest.raises(InvalidArgument, match="not built on"):
        lab.explorer.squash(lab.explorer.subject("app"), lab.explorer.subject("other"))


def test_holes_of_files_stay_holes(lab: Lab) -> None:
    size = 8 << 20
    header, stored = tarwrite.sparse_header(file("log")[0]._replace(size=size), [(1 << 20, 4096), (4 << 20, 512), (size, 0)])
    hollow, _ = tarwrite.sparse_header(file("hollow")[0]._replace(size=size), [(size, 0)])
    below = imported(lab.store, "sparse", header + os.urandom(stored) + tarwrite.padding(stored) + hollow + tarwrite.END)
    child(lab.store, below, "app", tar(*LAST))
    image = lab.explorer.squash(lab.explorer.subject("app"), None, [Reference.parse("flat:1")])
    assert same(lab, "app", "flat:1")
    assert lab.store.layers.chain(image.layers[-1])[0].tar_size < 1 << 20
