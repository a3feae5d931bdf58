"""diff and export, of containers that run and that do not, with every driver."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.container.conftest import Box, received
from tests.container.test_archive import made

pytestmark = pytest.mark.root
Make = Callable[..., Box]
SCRIPT = "echo new > /tmp/new; rm /folder/file; echo more >> /etc/passwd; rm -r /stock; mkdir /stock; sync"


def changed(box: Box) -> list[tuple[str, int]]:
    """Paths and kinds: 0 modified, 1 added, 2 deleted."""
    return [(change.path, change.kind) for change in box.containers.changes(box.id)]


def finished(box: Box) -> Box:
    """Run to its end."""
    with box.containers.wait(box.id, "next-exit") as waiter:
        box.containers.start(box.id)
        result = waiter.result(60)
    assert result is not None and result.status_code == 0
    return box


def exported(box: Box) -> dict[str, tarfile.TarInfo]:
    """Members of its export, by name."""
    with tarfile.open(fileobj=io.BytesIO(received(lambda out: box.containers.export(box.id, out)))) as archive:
        return {member.name: member for member in archive}


def test_a_container_that_did_nothing_changed_nothing(box: Box) -> None:
    assert changed(box) == []


def test_the_engines_own_files_are_no_change(make: Make) -> None:
    assert changed(finished(make(config={"Cmd": ["true"]}))) == []


def test_what_it_wrote_and_deleted_is_told_by_path(make: Make) -> None:
    box = finished(make(config={"Cmd": ["sh", "-c", SCRIPT]}))
    found = changed(box)
    wanted = {("/etc", 0), ("/etc/passwd", 0), ("/folder", 0), ("/folder/file", 2), ("/stock", 0), ("/tmp", 0), ("/tmp/new", 1)}
    assert wanted <= set(found)
    assert found == sorted(found)


def test_what_is_copied_in_is_a_change(box: Box) -> None:
    box.write("/tmp", made(("x", b"y")))
    assert ("/tmp/x", 1) in changed(box)


def test_export_holds_every_file_with_its_owner_and_links(box: Box) -> None:
    found = exported(box)
    assert (found["folder/file"].mode, found["folder/file"].uid, found["folder/file"].gid) == (0o4751, 1000, 1001)
    assert found["folder/twin"].linkname == "folder/file" and found["folder/twin"].islnk()
    assert found["folder/fifo"].isfifo()
    assert found["stock"].mode == 0o2770
    assert found["out"].issym()
    assert found["proc"].isdir() and not [name for name in found if name.startswith("proc/")]


def test_export_is_the_same_of_a_container_that_runs_and_one_that_does_not(make: Make) -> None:
    assert sorted(exported(make(True))) == sorted(exported(make(False)))


def test_export_shows_what_was_written_and_leaves_mounts_out(make: Make, tmp_path: Path) -> None:
    (tmp_path / "inside").write_text("x")
    box = make(config={"Cmd": ["sh", "-c", SCRIPT]}, Binds=[f"{tmp_path}:/mnt"])
    found = exported(finished(box))
    assert "tmp/new" in found and "folder/file" not in found
    assert not [name for name in found if name.startswith("stock/")]
    assert "mnt" in found and "mnt/inside" not in found


def test_a_bound_directory_of_the_same_file_system_is_not_exported(make: Make, tmp_path: Path) -> None:
    (tmp_path / "inside").write_text("x")
    found = exported(make(True, Binds=[f"{tmp_path}:/folder/deep", "contents-volume:/data"]))
    assert "folder/deep/inside" not in found


def test_export_gives_a_tar_that_can_be_imported(make: Make) -> None:
    box = make()
    data = received(lambda out: box.containers.export(box.id, out))
    assert data.endswith(bytes(1024)) and len(data) % 512 == 0


def test_a_reader_that_goes_away_ends_the_export(box: Box) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(Exception):  # noqa: B017 - any error but a hang
            box.containers.export(box.id, writer)
    finally:
        os.close(writer)
