"""Layers kept as trees: with their skeletons they are their tars, byte for byte, and whatever is wrong is found."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.image.layertar import TarPlace
from lamina.layer import tarwrite
from lamina.layer.errors import LayerDamaged
from lamina.layer.skeleton import SkeletonWriter, rebuilt
from lamina.layer.tar.member import Member
from tests.contracts.snapshotter import BASE, WHEN, Rig, directory, file, hardlink, symlink, tar

pytestmark = pytest.mark.root


@pytest.fixture
def rig(overlay_rig: Rig) -> Rig:
    return overlay_rig


def sparse(path: str, size: int, runs: list[tuple[int, int]]) -> bytes:
    header, stored = tarwrite.sparse_header(Member(path.encode(), 0o100644, 0, 0, size, WHEN), runs)
    return header + os.urandom(stored) + tarwrite.padding(stored)


ARCHIVES = {
    "empty": tar(),
    "no bytes at all": b"",
    "replaced": tar(
        file("a", b"first" * 1000), file("a", b"second"), file("a"), directory("d"), file("d/x", b"gone"), file("d", b"now a file")
    ),
    "replaced but linked": tar(file("a", b"kept by b" * 100), hardlink("b", "a"), file("a", b"other"), hardlink("c", "b")),
    "link to itself": tar(file("a", b"x"), hardlink("a", "a")),
    "whiteouts with content": tar(
        file("d/.wh.x", b"not empty"), file("d/.wh..wh..opq", b"neither"), file("d/.wh..wh.plnk/f", b"aufs" * 200)
    ),
    "through a link": tar(directory("usr"), directory("usr/bin"), symlink("bin", "usr/bin"), file("bin/sh", b"#!" * 300)),
    "sparse": sparse("s", 1 << 22, [(4096, 1000), (1 << 20, 70_000)]) + sparse("t", 999, [(3, 5)]) + tar(),
    "sparse replaced": sparse("s", 1 << 22, [(4096, 1000), (1 << 20, 70_000)]) + tar(file("s", b"dense")),
    "only holes": sparse("s", 1 << 30, [(1 << 30, 0)]) + tar(),
    "odd padding": tar(file("a", b"x" * 100))[:-1024].replace(bytes(412), b"\1" * 412) + tar(file("b", b"y")),
    "long names": tar(directory("d" * 200), file("d" * 200 + "/" + "e" * 250, b"z" * 5000)),
    "bytes after the end": tar(file("a", b"x")) + os.urandom(3000),
    "large": tar(file("large", os.urandom(3_500_001)), file("small", b"s")),
    "cut in the last block": tar(file("a", b"x" * 600))[:-1448],
}


@pytest.mark.parametrize("data", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_any_archive_is_had_back_byte_for_byte(rig: Rig, data: bytes) -> None:
    name = rig.publish(data)
    assert rig.exact(name) == data


def test_archives_of_many_small_files_and_of_every_block_size_are_had_back(rig: Rig) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(3000):
            info = tarfile.TarInfo(f"d{number % 50}/ü{number}")
            info.size = number * 7 % 2500
            archive.addfile(info, io.BytesIO(bytes([number % 255 + 1]) * info.size))
    assert rig.exact(rig.publish(out.getvalue())) == out.getvalue()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.binary(max_size=3000), st.tuples(st.binary(min_size=1, max_size=5000), st.booleans())), max_size=12))
def test_a_skeleton_and_its_contents_are_what_was_written(tmp_path: Path, parts: list[bytes | tuple[bytes, bool]]) -> None:
    tree = tmp_path / "tree"
    tree.mkdir(exist_ok=True)
    whole, contents = b"", []
    with (tmp_path / "skeleton").open("wb") as out:
        writer = SkeletonWriter(out.fileno())
        for part in parts:
            if isinstance(part, bytes):
                writer.literal(part)
                whole += part
            else:
                writer.content(len(part[0]))
                contents.append(part)
                whole += part[0]
        writer.table()
        for number, (content, lost) in enumerate(contents):
            if lost:
                writer.lost(len(content), [content[:10], content[10:]])
            else:
                (tree / str(number)).write_bytes(content)
                writer.file(str(number).encode())
        writer.finish()
    assert b"".join(rebuilt(str(tmp_path / "skeleton"), str(tree))) == whole


@pytest.mark.parametrize("damage", ["cut", "magic", "flipped", "missing", "shorter", "tree gone"])
def test_what_is_damaged_is_named_or_gives_other_bytes(rig: Rig, damage: str) -> None:
    data = tar(*BASE, file("etc/large", os.urandom(200_000)))
    name = rig.publish(data)
    parts = rig.snapshotter.rebuilt(name)
    assert parts is not None
    skeleton, tree = Path(parts.skeleton), Path(parts.tree)
    whole = skeleton.read_bytes()
    if damage == "cut":
        skeleton.write_bytes(whole[:-20])
    elif damage == "magic":
        skeleton.write_bytes(b"x" + whole[1:])
    elif damage == "flipped":
        skeleton.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    elif damage == "missing":
        (tree / "etc/large").unlink()
    elif damage == "shorter":
        os.truncate(tree / "etc/large", 100_000)
    else:
        tree.rename(tree.with_name("elsewhere"))
    with pytest.raises(LayerDamaged, match="damaged"):
        list(rebuilt(parts.skeleton, parts.tree, name))


def test_the_skeleton_goes_with_its_layer(rig: Rig) -> None:
    name = rig.publish(tar(*BASE))
    skeleton = rig.root / "layers" / f"{name}.skeleton"
    assert skeleton.exists() and rig.snapshotter.usage(name) > skeleton.stat().st_blocks * 512
    rig.snapshotter.remove(name)
    assert not skeleton.exists() and rig.snapshotter.rebuilt(name) is None
    skeleton.write_bytes(b"left by a killed daemon")
    rig.reopen().sweep()
    assert not skeleton.exists()


def test_contents_go_straight_to_their_files(rig: Rig) -> None:
    """The tar itself is never written; of a source that is kept, neither is a copy."""
    staged = rig.stage(tar(file("large", os.urandom(5_000_000))), kept=True)
    assert staged.blobs == ()
    assert sorted(name.partition("-")[0] for name in rig.left_over()) == ["metadata", "skeleton", "tree"]
    rig.snapshotter.discard(staged)
    assert rig.left_over() == []


def test_what_the_caller_hashes_is_not_hashed_again(rig: Rig) -> None:
    packed = gzip.compress(tar(*BASE))
    assert rig.stage(packed, verified=True).compressed is None
    assert rig.stage(packed).compressed is not None


def test_a_tar_that_is_put_together_is_cut_as_one_that_is_read(rig: Rig, tmp_path: Path) -> None:
    sizes = (1, 700_000, 1 << 20, 3_500_000, 0, 512, (1 << 20) - 1, 2 << 20)
    data = tar(*BASE, *(file(f"etc/file{number}", os.urandom(size)) for number, size in enumerate(sizes)))
    parts = rig.snapshotter.rebuilt(rig.publish(data))
    assert parts is not None
    (tmp_path / "tar").write_bytes(data)
    put_together = list(TarPlace.of("", parts).chunks())
    assert put_together == list(TarPlace("", str(tmp_path / "tar")).chunks())
    assert {len(chunk) for chunk in put_together[:-1]} == {1 << 20}
