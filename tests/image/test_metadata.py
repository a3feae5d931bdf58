"""metadata.db by itself."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lamina.image.metadata import Metadata
from lamina.spec.digest import Digest

IMAGES = [Digest.of(b"%d" % number) for number in range(100)]


def filled(path: Path) -> Metadata:
    """A database of some megabytes."""
    metadata = Metadata(str(path), pytest.fail)
    with metadata.transaction() as change:
        for image in IMAGES:
            change.put_image(image, b"{}", os.urandom(100_000), b"{}")
    return metadata


def pages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as other:
        return int(other.execute("PRAGMA page_count").fetchone()[0])


def test_what_is_removed_gives_its_space_back(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    metadata = filled(path)
    before = pages(path)
    for image in IMAGES[:-1]:
        with metadata.transaction() as change:
            change.delete_image(image)
    assert pages(path) < before / 4
    metadata.close()
    assert os.path.getsize(path) < 2 << 20
    with closing(Metadata(str(path), pytest.fail)) as again:
        assert again.images().keys() == {str(IMAGES[-1])}


def test_a_database_that_was_made_without_giving_back_does_so_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "metadata.db"
    filled(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("PRAGMA auto_vacuum=0")
        other.execute("VACUUM")
        other.execute("DELETE FROM images WHERE id != ?", (str(IMAGES[0]),))
    assert os.path.getsize(path) > 8 << 20
    Metadata(str(path), pytest.fail).close()
    assert os.path.getsize(path) < 2 << 20
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA auto_vacuum").fetchone() == (2,)
