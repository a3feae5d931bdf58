"""Stacks higher than the kernel takes: merged below, once, shared, and collected when nobody stands on them."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lamina.layer.tree import Limits
from lamina.layer.union import Union
from lamina.snapshot.erofs import ErofsSnapshotter, Ways
from lamina.snapshot.fdstore import MemoryFdStore
from lamina.snapshot.merging import Depth
from lamina.snapshot.native import NativeSnapshotter
from lamina.snapshot.overlay import OverlaySnapshotter
from lamina.snapshot.protocol import Snapshotter
from lamina.worker.workers import InlineWorkers
from tests.contracts.snapshotter import WHEN, Rig, directory, file, hardlink, listing, symlink, tar

LOW = Depth(most=6, step=3)
WAYS = ["erofs", "loop", "attached", "overlay", "native"]


@pytest.fixture(params=WAYS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Each driver in each of its ways, with a kernel that seems to stack six layers at most."""
    yield from rig_with(request, tmp_path, request.param, LOW)


def rig_with(request: pytest.FixtureRequest, path: Path, way: str, depth: Depth) -> Iterator[Rig]:
    fds = MemoryFdStore()
    (path / "scratch").mkdir()
    (path / "blobs").mkdir()

    def make(limits: Limits) -> Snapshotter:
        if way in ("overlay", "native"):
            return (OverlaySnapshotter if way == "overlay" else NativeSnapshotter)(str(path), InlineWorkers(), limits, depth)
        found: Ways = request.getfixturevalue("ways")
        ways = replace(found, loop=found.loop or way == "loop", descriptors=found.descriptors and way != "attached")
        return ErofsSnapshotter(str(path), lambda digest: str(path / "blobs" / digest), InlineWorkers(), fds, ways, limits, depth)

    rig = Rig(make(Limits()), path, path / "scratch", path / "blobs", make, lambda: make(Limits()))
    yield rig
    for name in rig.snapshotter.names():
        rig.snapshotter.remove(name)
    fds.close()


def stacks(rig: Rig) -> list[str]:
    """What was merged."""
    return sorted(path.stem for path in (rig.root / "stacks").glob("*.json"))


def fill(rig: Rig, count: int = 20) -> None:
    """Layers that change, delete and replace what is in others, near and far."""
    rig.publish(
        tar(
            directory("etc"),
            file("etc/x", b"base"),
            file("etc/gone", b"g"),
            directory("opt"),
            file("opt/a", b"a" * 5000),
            hardlink("opt/b", "opt/a"),
        )
    )
    for number in range(1, count):
        members = [
            directory("etc", 0o700 + number % 8), file(f"etc/f{number}", b"%d" % number * 700), file("etc/x", b"x%d" % number, uid=number),
            directory(f"d{number}"), symlink(f"d{number}/link", f"../etc/f{number}"), file(f"d{number}/empty"),
        ]  # fmt: skip
        if number == 4:
            members += [
                file("etc/.wh.gone"),
                directory("opt"),
                file("opt/.wh..wh..opq"),
                file("opt/c", b"c", xattrs=((b"user.note", b"v"),)),
            ]
        if number == 17:
            members += [file(".wh.d2"), directory("d3"), file("d3/.wh.link"), file("d5", b"a file now")]
        rig.publish(tar(*members))


@pytest.mark.root
class TestHighStacks:
    def test_a_merged_stack_shows_what_its_layers_say(self, rig: Rig) -> None:
        fill(rig)
        with rig.mounted() as top, Union.open([rig.snapshotter.index(name) for name in rig.published]) as union:
            shown = {os.fsencode(path): tuple(rest) for path, *rest in listing(top)}
            wanted = {entry.path: entry for _, entry in union.walk()}
            assert shown.keys() == wanted.keys()
            for path, entry in wanted.items():
                mode, uid, gid, mtime, _, _, _, xattrs = shown[path]
                assert (mode, uid, gid, mtime) == (entry.mode, entry.uid, entry.gid, entry.mtime_ns)
                assert tuple((os.fsencode(name), value) for name, value in xattrs) == entry.xattrs
            assert Path(top, "etc/x").read_bytes() == b"x19"
            assert Path(top, "etc/f3").read_bytes() == b"3" * 700
            assert os.listdir(f"{top}/opt") == ["c"]
            assert not os.path.exists(f"{top}/d2")
        assert len(stacks(rig)) == (0 if rig.snapshotter.name == "native" else 1)

    def test_hard_links_and_sparse_files_of_merged_layers_are_what_they_were(self, rig: Rig) -> None:
        rig.publish(tar(file("a", b"a" * 5000), hardlink("b", "a")))
        rig.publish(sparse_tar("aligned", 1 << 20, 4096 * 3))
        rig.publish(sparse_tar("copied", 1 << 20, 1234))
        ending = tar(file("end", b"e" * 700))
        rig.publish(ending[: ending.index(b"e" * 700) + 700])  # a tar that ends in the middle of a block
        for number in range(8):
            rig.publish(tar(file(f"f{number}", b"%d" % number)))
        with rig.mounted() as top:
            assert os.stat(f"{top}/a").st_ino == os.stat(f"{top}/b").st_ino
            for name, start in (("aligned", 4096 * 3), ("copied", 1234)):
                data = Path(top, name).read_bytes()
                assert len(data) == 1 << 20
                assert data[start : start + 1000] == b"s" * 1000
                assert not any(data[:start])
                assert not any(data[start + 1000 :])
            assert Path(top, "end").read_bytes() == b"e" * 700

    def test_it_is_made_once_and_shared(self, rig: Rig) -> None:
        if rig.snapshotter.name == "native":
            pytest.skip("nothing is stacked")
        fill(rig, 8)
        with rig.mounted(at=rig.root / "one") as one, rig.mounted(at=rig.root / "two", names=rig.published[:7]) as two:
            [key] = stacks(rig)
            made = os.stat(rig.root / "stacks" / f"{key}.json").st_mtime_ns
            assert os.stat(f"{one}/opt/c").st_ino == os.stat(f"{two}/opt/c").st_ino
            rig.publish(tar(file("more")))
            with rig.mounted(at=rig.root / "three") as three:
                assert os.path.exists(f"{three}/more")
            assert stacks(rig) == [key]
            assert os.stat(rig.root / "stacks" / f"{key}.json").st_mtime_ns == made
            rig.publish(tar(file("and/more")))
            with rig.mounted(at=rig.root / "four"):
                assert len(stacks(rig)) == 2

    def test_it_goes_when_nobody_stands_on_it_and_with_its_layers(self, rig: Rig) -> None:
        if rig.snapshotter.name == "native":
            pytest.skip("nothing is stacked")
        fill(rig, 12)
        for names in (rig.published, rig.published[:8]):
            with rig.mounted(at=rig.root / f"c{len(names)}", names=names):
                pass
        assert len(stacks(rig)) == 2
        rig.snapshotter.trim([rig.published[:8], rig.published[:3]])
        assert len(stacks(rig)) == 1
        with rig.mounted(at=rig.root / "again") as top:
            assert Path(top, "etc/x").read_bytes() == b"x11"
            rig.snapshotter.remove(rig.published[7])
            assert len(stacks(rig)) == 1
        rig.snapshotter.remove(rig.published[0])
        assert stacks(rig) == []
        assert sorted(os.listdir(rig.root / "stacks")) == []

    def test_a_clean_stop_lets_go_of_what_nobody_runs_on(self, rig: Rig) -> None:
        fill(rig, 12)
        with rig.mounted(at=rig.root / "one", names=rig.published[:8]) as one, rig.mounted(at=rig.root / "two") as two:
            place = rig.root / "run/layers"
            before = set(os.listdir(place)) if place.exists() else set()
            rig.snapshotter.release([rig.published[:8]])
            left = set(os.listdir(place)) if place.exists() else set()
            assert left <= before
            assert Path(one, "etc/x").read_bytes() == b"x7"
            assert Path(two, "etc/x").read_bytes() == b"x11"
            rig.snapshotter.release([])
            assert not place.exists() or os.listdir(place) == []
            assert str(rig.root) not in Path("/proc/self/mountinfo").read_text()
        with rig.mounted(at=rig.root / "again") as top:
            assert Path(top, "etc/x").read_bytes() == b"x11"

    def test_one_that_is_not_whole_is_made_again(self, rig: Rig) -> None:
        if rig.snapshotter.name == "native":
            pytest.skip("nothing is stacked")
        fill(rig, 8)
        with rig.mounted(at=rig.root / "one"):
            [key] = stacks(rig)
        record = rig.root / "stacks" / f"{key}.json"
        for damage in (record.unlink, lambda: record.write_text("{"), lambda: record.write_text(json.dumps({"names": ["x"]}))):
            damage()
            rig.snapshotter.sweep()
            with rig.mounted(at=rig.root / "again") as top:
                assert Path(top, "etc/x").read_bytes() == b"x7"
            assert stacks(rig) == [key]

    def test_damage_of_what_was_merged_is_told_and_mended(self, rig: Rig) -> None:
        fill(rig, 12)
        with rig.mounted(at=rig.root / "one"):
            assert list(rig.snapshotter.damaged_stacks()) == []
        if rig.snapshotter.name == "native":
            return
        [key] = stacks(rig)
        damage(rig, key)
        assert [each for each, _ in rig.snapshotter.damaged_stacks()] == [key]
        assert [each for each, _ in rig.snapshotter.damaged_stacks(rig.published)] == [key]
        assert list(rig.snapshotter.damaged_stacks(rig.published[:3])) == []
        rig.snapshotter.mend_stack(key)
        assert list(rig.snapshotter.damaged_stacks()) == []
        with rig.mounted(at=rig.root / "two") as top:
            assert (Path(top, "etc/f3").read_bytes(), os.path.exists(f"{top}/stray")) == (b"3" * 700, False)
        if rig.snapshotter.name == "erofs":
            damage(rig, key)
            rig.snapshotter.release([])
            with rig.mounted(at=rig.root / "three") as top:
                assert Path(top, "d3/empty").exists()
        (rig.root / "stacks" / f"{key}.json").write_text("{")
        assert [each for each, _ in rig.snapshotter.damaged_stacks()] == [key]
        rig.snapshotter.mend_stack(key)
        assert list(rig.snapshotter.damaged_stacks()) == []

    @pytest.mark.parametrize("lost", [False, True], ids=["a file damaged", "the tree lost"])
    def test_a_container_on_it_goes_on_when_one_of_its_layers_is_made_anew(self, rig: Rig, lost: bool) -> None:
        fill(rig, 3)
        data = tar(directory("fixed"), file("fixed/a", b"right"))
        name = rig.publish(data)
        for number in range(8):
            rig.publish(tar(file(f"f{number}", b"%d" % number)))
        with rig.mounted(at=rig.root / "one") as top:
            if (tree := rig.snapshotter.tree(name)) is not None:
                Path(tree, "fixed/a").write_bytes(b"wrong")
                if lost:
                    shutil.rmtree(tree)
            rig.snapshotter.replace(rig.stage(data), name, rig.published[:3])
            assert Path(top, "etc/f1").read_bytes() == b"1" * 700 and Path(top, "fixed/a").exists()
        with rig.mounted(at=rig.root / "two") as top:
            assert Path(top, "fixed/a").read_bytes() == b"right"
        assert list(rig.snapshotter.damaged_stacks()) == []


def damage(rig: Rig, key: str) -> None:
    """Hurt what was merged: a name that changes, or a file that is missing and one that does not belong there."""
    merged = rig.root / "stacks" / key
    if merged.is_dir():
        (merged / "etc/f3").unlink()
        (merged / "stray").touch()
        return
    image = merged.with_suffix(".erofs")
    data = image.read_bytes()
    at = data.rindex(b"empty")
    image.write_bytes(data[:at] + b"E" + data[at + 1 :])


@pytest.mark.root
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["erofs", "attached", "overlay", "native"])
def test_more_layers_than_overlayfs_has_places_for(request: pytest.FixtureRequest, tmp_path: Path, way: str) -> None:
    for rig in rig_with(request, tmp_path, way, Depth()):
        for number in range(510):
            rig.publish(tar(file(f"f{number}", b"%d" % number), file("last", b"%d" % number)))
        for count in (200, 201, 300, 500, 510):
            with rig.mounted(at=rig.root / f"c{count}", names=rig.published[:count]) as top:
                assert len(os.listdir(top)) == count + 1
                assert Path(top, "last").read_bytes() == b"%d" % (count - 1)
                assert Path(top, "f0").read_bytes() == b"0"
                Path(top, "written").write_bytes(b"w")


def sparse_tar(name: str, size: int, start: int) -> bytes:
    """An archive of one file that is a thousand bytes at `start` and holes (GNU's old sparse format)."""
    header = tarfile.TarInfo(name)
    header.type, header.size, header.mtime = b"S", 1000, WHEN // 10**9
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    for at, number in ((386, start), (398, 1000), (410, size), (422, 0), (483, size)):
        block[at : at + 12] = b"%011o\0" % number
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    out = io.BytesIO()
    out.write(bytes(block) + b"s" * 1000 + bytes(24) + bytes(1024))
    return out.getvalue()
