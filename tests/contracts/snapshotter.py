"""What every snapshot driver does: `Snapshotter`'s contract, run against each by tests/snapshot."""

from __future__ import annotations

import ctypes
import gzip
import mmap
import os
import shutil
import stat
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lamina.layer import tarwrite
from lamina.layer.compression import inflater, zstd_deflater
from lamina.layer.errors import ArchiveTooLarge, InvalidArchive, LayerDamaged, TruncatedArchive
from lamina.layer.index import LayerIndex
from lamina.layer.skeleton import rebuilt
from lamina.layer.tar.member import HARDLINK, Member
from lamina.layer.tar.parser import BLOCK
from lamina.layer.tree import Limits
from lamina.layer.union import Union
from lamina.linux.overlay import mount_overlay_anywhere
from lamina.snapshot.protocol import LayerNotFound, Own, Snapshotter, Staged, TarSource
from lamina.spec.digest import Digest
from tests.harness import eventually

WHEN = 1_700_000_000_123_456_789


def directory(path: str, mode: int = 0o755, **more: object) -> tuple[Member, bytes]:
    return Member(os.fsencode(path), stat.S_IFDIR | mode, *_owner(more), 0, WHEN, **more), b""  # type: ignore[arg-type]


def file(path: str, content: bytes = b"", mode: int = 0o644, **more: object) -> tuple[Member, bytes]:
    return Member(os.fsencode(path), stat.S_IFREG | mode, *_owner(more), len(content), WHEN, **more), content  # type: ignore[arg-type]


def symlink(path: str, target: str) -> tuple[Member, bytes]:
    return Member(os.fsencode(path), stat.S_IFLNK | 0o777, 0, 0, 0, WHEN, link=os.fsencode(target)), b""


def hardlink(path: str, target: str) -> tuple[Member, bytes]:
    return Member(os.fsencode(path), HARDLINK, 0, 0, 0, 0, link=os.fsencode(target)), b""


def _owner(more: dict[str, object]) -> tuple[object, object]:
    return more.pop("uid", 0), more.pop("gid", 0)


def tar(*members: tuple[Member, bytes]) -> bytes:
    """An archive of these members."""
    pieces: list[bytes] = []
    writer = tarwrite.TarWriter(pieces.append)
    for member, content in members:
        writer.add(member, [content] if content else [])
    writer.finish()
    return b"".join(pieces)


@dataclass
class Rig:
    """A driver on a root of its own. `adopt` puts staged blobs where the driver looks for them."""

    snapshotter: Snapshotter
    root: Path
    scratch: Path
    blobs: Path
    make: Callable[[Limits], Snapshotter]
    reopen: Callable[[], Snapshotter]
    published: list[str] = field(default_factory=list)

    def stage(self, data: bytes, **source: object) -> Staged:
        path = self.scratch / "source"
        path.write_bytes(data)
        with path.open("rb") as opened:
            try:
                return self.snapshotter.stage(TarSource(opened.fileno(), **source), str(self.scratch))  # type: ignore[arg-type]
            finally:
                path.unlink()

    def adopt(self, staged: Staged) -> None:
        for blob in staged.blobs:
            os.rename(blob.path, self.blobs / blob.digest.encoded)

    def publish(self, data: bytes, name: str = "") -> str:
        """Stage an archive and publish it on top of what was published before."""
        staged = self.stage(data)
        self.adopt(staged)
        name = name or staged.diff_id.encoded
        self.snapshotter.publish(staged, name, self.published)
        self.published.append(name)
        return name

    def exact(self, name: str) -> bytes:
        """The tar of a published layer: a blob, or put together again."""
        parts = self.snapshotter.rebuilt(name)
        if parts is not None:
            return b"".join(rebuilt(parts.skeleton, parts.tree, name))
        with LayerIndex.open(self.snapshotter.index(name)) as index:
            return (self.blobs / index.diff_id).read_bytes()

    @contextmanager
    def mounted(self, *, upper: bool = True, names: list[str] | None = None, at: Path | None = None, init: str = "") -> Iterator[str]:
        """The published layers mounted, with an empty upper directory; gives a path that leads into them."""
        place = at or self.root / "container"
        for name in ("diff", "work", "scratch"):
            (place / name).mkdir(parents=True, exist_ok=True)
        below = self.published if names is None else names
        own = Own(str(place / "diff"), str(place / "work"), init)
        if not os.listdir(own.upper):
            self.snapshotter.prepare(own, below)
        root = self.snapshotter.root(own, below, writable=upper)
        fd = mount_overlay_anywhere([(lower.fd, lower.path) for lower in root.lowers], root.upper, root.work, str(place / "scratch"))
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)

    def left_over(self) -> list[str]:
        return sorted(os.listdir(self.scratch))


BASE = (
    directory("etc"),
    file("etc/x", b"base"),
    file("etc/y", b"base y"),
    directory("var", 0o711, uid=1000, gid=1000),
    directory("var/lib", 0o1777, uid=7, gid=8),
    file("var/lib/a", b"a"),
    directory("opt"),
    file("opt/one", b"1"),
    file("opt/two", b"2"),
)


@pytest.mark.root
class SnapshotterContract:
    """Subclass it where a `rig` fixture gives the driver."""

    def test_a_published_layer_shows_its_files(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        with rig.mounted() as top:
            assert Path(top, "etc/x").read_bytes() == b"base"
            status = os.stat(f"{top}/var/lib")
            assert (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns) == (stat.S_IFDIR | 0o1777, 7, 8, WHEN)

    @pytest.mark.parametrize("compress", [lambda: zlib.compressobj(wbits=31), lambda: zstd_deflater()], ids=["gzip", "zstd"])
    def test_compressed_archives_give_the_same_layer_and_their_own_digest(self, rig: Rig, compress: Callable[[], object]) -> None:
        data = tar(*BASE)
        deflater = compress()
        packed = deflater.compress(data) + deflater.flush()  # type: ignore[attr-defined]
        staged = rig.stage(packed)
        assert staged.diff_id == Digest.of(data)
        assert staged.tar_size == len(data)
        assert staged.compressed is not None
        assert (staged.compressed.digest, staged.compressed.size) == (Digest.of(packed), len(packed))
        rig.snapshotter.discard(staged)
        assert rig.left_over() == []

    def test_the_exact_tar_can_be_had_back(self, rig: Rig) -> None:
        data = tar(*BASE)
        staged = rig.stage(data)
        [blob] = staged.blobs
        kept = Path(blob.path).read_bytes()
        assert (Digest.of(kept), len(kept)) == (blob.digest, blob.size)
        stream = inflater("zstd" if blob.media_type.endswith("zstd") else "")
        assert b"".join(stream.feed(kept)) == data
        rig.snapshotter.discard(staged)

    def test_the_exact_tar_can_be_put_together_from_what_is_published(self, rig: Rig) -> None:
        data = tar(*BASE)
        assert rig.exact(rig.publish(data)) == data

    def test_a_pipe_is_as_good_as_a_file_and_read_to_its_length_only(self, rig: Rig) -> None:
        data = tar(*BASE)
        reader, writer = os.pipe()
        os.write(writer, data + b"next")
        staged = rig.snapshotter.stage(TarSource(reader, length=len(data)), str(rig.scratch))
        assert staged.diff_id == Digest.of(data)
        assert os.read(reader, 100) == b"next"
        os.close(reader)
        os.close(writer)
        rig.snapshotter.discard(staged)

    def test_a_range_of_a_file_leaves_its_position_alone(self, rig: Rig) -> None:
        data = tar(*BASE)
        staged = rig.stage(b"before" + data + b"after", offset=6, length=len(data))
        assert staged.diff_id == Digest.of(data)
        rig.snapshotter.discard(staged)

    def test_upper_layers_win_and_whiteouts_hide(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        rig.publish(
            tar(
                directory("etc"),
                file("etc/x", b"changed"),
                file("etc/.wh.y"),
                directory("opt"),
                file("opt/.wh..wh..opq"),
                file("opt/three", b"3"),
            )
        )
        for upper in (True, False):
            with rig.mounted(upper=upper) as top:
                assert Path(top, "etc/x").read_bytes() == b"changed"
                assert sorted(os.listdir(f"{top}/etc")) == ["x"]
                assert sorted(os.listdir(f"{top}/opt")) == ["three"]

    def test_a_layer_may_come_twice(self, rig: Rig) -> None:
        again = tar(directory("etc"), file("etc/x", b"again"), file("etc/.wh.y"))
        for layer in (tar(*BASE), again, tar(directory("etc"), file("etc/x", b"between"), file("etc/y"), file("z", b"z")), again):
            rig.publish(layer)
        for upper in (True, False):
            with rig.mounted(upper=upper) as top:
                assert sorted(os.listdir(f"{top}/etc")) == ["x"]
                assert Path(top, "etc/x").read_bytes() == b"again"
                assert Path(top, "z").read_bytes() == b"z"

    def test_a_whiteout_in_a_directory_that_one_layer_has_is_not_listed(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        rig.publish(tar(directory("new"), file("new/.wh.ghost"), file("new/here")))
        with rig.mounted() as top:
            assert os.listdir(f"{top}/new") == ["here"]

    def test_a_whiteout_beside_a_directory_of_its_layer_makes_it_opaque(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        rig.publish(tar(directory("opt"), file("opt/new", b"n"), file(".wh.opt"), file("etc/.wh.x"), file("etc/x", b"stays")))
        with rig.mounted() as top:
            assert os.listdir(f"{top}/opt") == ["new"]
            assert Path(top, "etc/x").read_bytes() == b"stays"

    def test_an_opaque_root_hides_all_below(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        rig.publish(tar(file(".wh..wh..opq"), file("only", b"me")))
        with rig.mounted() as top:
            assert os.listdir(top) == ["only"]

    def test_directories_a_tar_implies_look_like_the_ones_below(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        staged = rig.stage(tar(file("var/lib/b", b"b"), file("fresh/deep/c", b"c")))
        assert staged.contextual
        rig.adopt(staged)
        rig.snapshotter.publish(staged, "f" * 64, rig.published)
        rig.published.append("f" * 64)
        rig.snapshotter.check("f" * 64, deep=True)
        with rig.mounted() as top:
            status = os.stat(f"{top}/var/lib")
            assert (status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns) == (0o1777, 7, 8, WHEN)
            assert os.stat(f"{top}/var").st_uid == 1000
            assert os.stat(f"{top}/fresh/deep").st_mode & 0o7777 == 0o755
            assert sorted(os.listdir(f"{top}/var/lib")) == ["a", "b"]

    def test_mount_points_leave_the_images_etc_as_it_is(self, rig: Rig) -> None:
        init = rig.root / "init"
        (init / "etc").mkdir(parents=True)
        (init / "etc/hosts").touch()
        names = [rig.publish(tar(directory("etc", 0o711, uid=7, gid=8), file("etc/x")))]
        names += [rig.publish(tar(file("etc/y")))]
        plain = rig.publish(tar(*BASE))
        for place, below, looks in (("one", names, (0o711, 7, 8)), ("two", [plain], (0o755, 0, 0)), ("three", names, (0o711, 7, 8))):
            with rig.mounted(names=below, at=rig.root / place, init=str(init)) as top:
                Path(top, "etc/new").touch()
                status = os.stat(f"{top}/etc")
                assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == looks
                assert {"hosts", "new", "x"} <= set(os.listdir(f"{top}/etc"))

    def test_two_containers_change_the_same_file_and_neither_sees_the_other(self, rig: Rig) -> None:
        name = rig.publish(tar(*BASE))
        with rig.mounted(at=rig.root / "c1") as one, rig.mounted(at=rig.root / "c2") as two:
            Path(one, "etc/x").write_bytes(b"one")
            Path(two, "etc/x").write_bytes(b"two")
            os.unlink(f"{two}/etc/y")
            assert Path(one, "etc/x").read_bytes() == b"one"
            assert Path(two, "etc/x").read_bytes() == b"two"
            assert Path(one, "etc/y").read_bytes() == b"base y"
        with rig.mounted(at=rig.root / "c3") as three:
            assert Path(three, "etc/x").read_bytes() == b"base"
        rig.snapshotter.check(name, deep=True)

    def test_a_change_made_in_a_container_becomes_a_layer_that_shows_the_same(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        with rig.mounted() as top:
            Path(top, "etc/x").write_bytes(b"changed")
            os.unlink(f"{top}/etc/y")
            os.mkdir(f"{top}/srv")
            os.link(f"{top}/etc/x", f"{top}/srv/x2")
            os.symlink("../etc/x", f"{top}/srv/link")
            os.mkfifo(f"{top}/srv/pipe")
            os.unlink(f"{top}/opt/one")
            os.unlink(f"{top}/opt/two")
            os.rmdir(f"{top}/opt")
            os.mkdir(f"{top}/opt")
            Path(top, "opt/new").write_bytes(b"new")
            os.setxattr(f"{top}/etc/x", "user.note", b"kept")
            os.chown(f"{top}/etc/x", 100_000, 70_000)
            os.utime(f"{top}/etc/x", ns=(WHEN, WHEN + 1))
            before = listing(top)
        staged = rig.snapshotter.stage_upper(str(rig.root / "container/diff"), rig.published, str(rig.scratch))
        again = rig.snapshotter.stage_upper(str(rig.root / "container/diff"), rig.published, str(rig.scratch))
        assert again.diff_id == staged.diff_id
        rig.snapshotter.discard(again)
        rig.adopt(staged)
        rig.snapshotter.publish(staged, staged.diff_id.encoded, rig.published)
        rig.published.append(staged.diff_id.encoded)
        with rig.mounted(at=rig.root / "second") as top:
            assert listing(top) == before
            assert os.listdir(f"{top}/opt") == ["new"]
            assert os.stat(f"{top}/srv/x2").st_ino == os.stat(f"{top}/etc/x").st_ino

    def test_publishing_twice_changes_nothing(self, rig: Rig) -> None:
        name = rig.publish(tar(*BASE))
        staged = rig.stage(tar(*BASE))
        rig.snapshotter.publish(staged, name, [])
        for blob in staged.blobs:
            os.unlink(blob.path)
        assert rig.snapshotter.names() == [name]
        assert rig.left_over() == []

    def test_a_removed_layer_is_gone_and_removing_again_does_nothing(self, rig: Rig) -> None:
        name = rig.publish(tar(*BASE))
        with rig.mounted() as top:
            rig.snapshotter.remove(name)
            assert not rig.snapshotter.exists(name)
            if rig.snapshotter.name == "erofs":
                assert Path(top, "etc/x").read_bytes() == b"base"
        rig.snapshotter.remove(name)
        assert not [entry for entry in os.listdir(rig.root / "layers") if not entry.endswith(".removing")]
        eventually(lambda: os.listdir(rig.root / "layers") == [], "what was removed is never deleted")
        with pytest.raises(LayerNotFound, match=name):
            rig.snapshotter.lowers([name])

    def test_layers_are_read_only(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        rig.publish(tar(file("more")))
        with rig.mounted(upper=False) as top, pytest.raises(OSError, match="Read-only"):
            Path(top, "etc/x").write_bytes(b"no")

    @pytest.mark.parametrize("cut", [1, 511, 513, 1500, 2600])
    def test_a_truncated_archive_is_refused_and_leaves_nothing(self, rig: Rig, cut: int) -> None:
        with pytest.raises(TruncatedArchive):
            rig.stage(tar(file("a", b"x" * 2000), file("b"))[:cut])
        assert rig.left_over() == []

    @pytest.mark.parametrize("size", [1, 511, 600, 70_000, 5_000_001], ids=str)
    def test_an_archive_may_end_in_the_middle_of_its_last_files_block(self, rig: Rig, size: int) -> None:
        """As umoci writes them: the last block is not filled up."""
        content = os.urandom(1 << 16) * (size // (1 << 16) + 1)
        data = tar(*BASE, file("etc/last", content[:size]))
        rig.publish(data[: len(data) - 2 * BLOCK - -size % BLOCK])
        with rig.mounted() as top:
            assert Path(top, "etc/last").read_bytes() == content[:size]
            assert Path(top, "etc/x").read_bytes() == b"base"
        with LayerIndex.open(rig.snapshotter.index(rig.published[0])) as index:
            entry = index.lookup(b"etc/last")
            assert entry is not None and entry.size == size

    def test_a_sparse_file_may_be_the_last_of_an_archive_that_is_not_filled_up(self, rig: Rig) -> None:
        member = Member(b"holes", stat.S_IFREG | 0o644, 0, 0, 1 << 20, WHEN)
        header, stored = tarwrite.sparse_header(member, [(4096, 512), ((1 << 20) - 700, 700)])
        rig.publish(header + b"a" * 512 + b"x" * (stored - 512))
        with rig.mounted() as top:
            assert Path(top, "holes").read_bytes() == bytes(4096) + b"a" * 512 + bytes((1 << 20) - 700 - 4608) + b"x" * 700

    @pytest.mark.parametrize(
        "members",
        [
            [file("../escape")],
            [file("a/../../escape")],
            [hardlink("passwd", "/etc/passwd")],
            [hardlink("up", "../../etc/passwd")],
            [file("f"), file("f/inside")],
            [symlink("round", "round"), file("round/x")],
            [directory("d"), hardlink("link", "d")],
            [file(".wh.")],
            [file(".wh..")],
            [file(".wh...")],
            [file(".wh.dir/inside")],
        ],
        ids=lambda members: " ".join(member.path.decode() for member, _ in members),
    )
    def test_what_no_layer_may_do_is_refused_and_leaves_nothing(self, rig: Rig, members: list[tuple[Member, bytes]]) -> None:
        with pytest.raises(InvalidArchive):
            rig.stage(tar(*members))
        assert rig.left_over() == []

    def test_symbolic_links_lead_nowhere_but_into_the_layer(self, rig: Rig) -> None:
        name = f"inside-{uuid.uuid4().hex}"  # no file that anybody else has in the host's /tmp
        rig.publish(
            tar(
                symlink("out", "/tmp"),
                file(f"out/{name}", b"inside"),
                symlink("up", "../../.."),
                file("up/y", b"inside"),
                symlink("rel", "tmp"),
                file("rel/z", b"z"),
            )
        )
        assert not os.path.exists(f"/tmp/{name}")
        with rig.mounted() as top:
            assert sorted(os.listdir(f"{top}/tmp")) == [name, "z"]
            assert Path(top, "y").read_bytes() == b"inside"

    def test_later_entries_replace_earlier_ones(self, rig: Rig) -> None:
        rig.publish(
            tar(
                file("f", b"old"), hardlink("keeps", "f"), file("f", b"new"),
                directory("d"), file("d/x"), file("d", b"file now"),
                file("g"), directory("g"), file("g/inside", b"i"),
                directory("h"), file("h/stays", b"s"), directory("h", 0o700),
            )
        )  # fmt: skip
        with rig.mounted() as top:
            assert Path(top, "f").read_bytes() == b"new"
            assert Path(top, "keeps").read_bytes() == b"old"
            assert Path(top, "d").read_bytes() == b"file now"
            assert Path(top, "g/inside").read_bytes() == b"i"
            assert Path(top, "h/stays").read_bytes() == b"s"
            assert os.stat(f"{top}/h").st_mode & 0o777 == 0o700

    def test_forged_overlay_attributes_are_dropped_and_others_kept(self, rig: Rig) -> None:
        acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff"
        capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        given = (
            (b"trusted.overlay.redirect", b"/etc"), (b"trusted.overlay.opaque", b"y"), (b"user.overlay.opaque", b"y"), (b"trusted.x", b"1"),
            (b"user.note", b"hello\0there"), (b"security.capability", capability), (b"system.posix_acl_access", acl),
        )  # fmt: skip
        rig.publish(tar(file("f", b"x", mode=0o664, xattrs=given)))
        with rig.mounted() as top:
            found = {name: os.getxattr(f"{top}/f", name) for name in os.listxattr(f"{top}/f")}
        assert found == {"user.note": b"hello\0there", "security.capability": capability, "system.posix_acl_access": acl}

    def test_large_owners_and_old_and_late_times_are_kept(self, rig: Rig) -> None:
        members = [file("a", uid=4_000_000_000, gid=65_536), file("b")]
        members[1] = (members[1][0]._replace(mtime_ns=-1_500_000_001), b"")
        rig.publish(tar(*members))
        with rig.mounted() as top:
            status = os.stat(f"{top}/a")
            assert (status.st_uid, status.st_gid) == (4_000_000_000, 65_536)
            assert os.stat(f"{top}/b").st_mtime_ns == -1_500_000_001

    def test_a_bomb_stops_at_the_limit_and_leaves_nothing(self, rig: Rig) -> None:
        rig.snapshotter = rig.make(Limits(tar_size=1 << 20))
        packed = gzip.compress(tar(file("zeros", bytes(64 << 20))), 1)
        with pytest.raises(ArchiveTooLarge):
            rig.stage(packed)
        assert rig.left_over() == []

    def test_too_many_entries_are_refused(self, rig: Rig) -> None:
        rig.snapshotter = rig.make(Limits(entries=10))
        with pytest.raises(ArchiveTooLarge):
            rig.stage(tar(*(file(f"f{i}") for i in range(11))))

    def test_an_empty_archive_is_an_empty_layer(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        for data in (b"", tar()):
            rig.publish(data)
        with rig.mounted() as top:
            assert Path(top, "etc/x").read_bytes() == b"base"

    def test_a_directory_of_many_files_lists_them_all(self, rig: Rig) -> None:
        names = [f"{'n' * (i % 200)}{i}" for i in range(1000)]
        name = rig.publish(tar(*(file(f"many/{name}") for name in names), file("long/" + "x" * 255)))
        with rig.mounted() as top:
            assert sorted(os.listdir(f"{top}/many")) == sorted(names)
            assert all(os.path.exists(f"{top}/many/{name}") for name in names)
        with LayerIndex.open(rig.snapshotter.index(name)) as index:
            assert [child.decode() for child in index.names(b"many")] == sorted(names)
            assert all(index.lookup(f"many/{name}".encode()) for name in names)
            assert index.lookup(b"many/absent") is None

    def test_127_layers_stand_on_each_other(self, rig: Rig) -> None:
        for i in range(127):
            rig.publish(tar(file(f"f{i}", b"%d" % i), file("last", b"%d" % i)))
        with rig.mounted() as top:
            assert Path(top, "last").read_bytes() == b"126"
            assert len(os.listdir(top)) == 128
            assert Path(top, "f0").read_bytes() == b"0"

    def test_the_index_says_what_the_mount_shows(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        rig.publish(
            tar(
                file("etc/.wh.y"),
                directory("opt"),
                file("opt/.wh..wh..opq"),
                file("opt/three"),
                symlink("etc/link", "x"),
                hardlink("opt/hard", "opt/three"),
            )
        )
        with rig.mounted() as top, Union.open([rig.snapshotter.index(name) for name in rig.published]) as union:
            shown = sorted(path for path, *_ in listing(top))
            assert sorted(entry.path.decode() for _, entry in union.walk()) == shown
            for level, entry in union.walk():
                status = os.lstat(f"{top}/{entry.path.decode()}")
                assert (status.st_mode, status.st_uid, status.st_mtime_ns) == (entry.mode, entry.uid, entry.mtime_ns)
                assert level == (0 if entry.path in (b"etc/x", b"var", b"var/lib", b"var/lib/a") else 1)

    def test_a_damaged_metadata_image_is_named_and_never_mounted(self, rig: Rig) -> None:
        name = rig.publish(tar(*BASE))
        path = rig.snapshotter.index(name)
        good = Path(path).read_bytes()
        for bad, deep in (
            (good[:-512], False),
            (good[:1030] + b"!" + good[1031:], False),
            (b"", False),
            (good[:-3000] + b"!" + good[-2999:], True),
        ):
            Path(path).unlink()
            Path(path).write_bytes(bad)
            with pytest.raises(LayerDamaged, match=name):
                rig.snapshotter.check(name, deep=deep)
            if not deep:
                with pytest.raises(LayerDamaged, match=name):
                    rig.reopen().lowers([name])
        Path(path).write_bytes(good)
        rig.snapshotter.check(name, deep=True)

    def test_containers_share_a_layers_page_cache_also_after_a_restart(self, rig: Rig) -> None:
        size = 8 << 20
        name = rig.publish(tar(file("big", os.urandom(size))))
        with rig.mounted(at=rig.root / "c1") as one, rig.mounted(at=rig.root / "c2") as two:
            if rig.snapshotter.name == "erofs":
                assert resident(f"{two}/big") == 0
            Path(one, "big").read_bytes()
            assert resident(f"{two}/big") == size
            rig.snapshotter = rig.make(Limits())
            with rig.mounted(at=rig.root / "c3") as three:
                assert resident(f"{three}/big") == size
                assert os.stat(f"{three}/big").st_ino == os.stat(f"{one}/big").st_ino
        assert rig.snapshotter.usage(name) > 0

    def test_what_is_lost_of_a_layer_takes_no_room(self, rig: Rig) -> None:
        name = rig.publish(tar(file("big", os.urandom(1 << 20))))
        used = rig.snapshotter.usage(name)
        if (tree := rig.snapshotter.tree(name)) is not None:
            shutil.rmtree(tree)
            assert 0 < rig.snapshotter.usage(name) < used
        rig.snapshotter.remove(name)
        assert rig.snapshotter.usage(name) == 0

    def test_two_stacks_on_one_base_store_it_once(self, rig: Rig) -> None:
        base = rig.publish(tar(file("big", os.urandom(4 << 20))))
        used = disk_usage(rig.root)
        one, two = rig.publish(tar(file("one"))), rig.publish(tar(file("two")))
        assert disk_usage(rig.root) - used < 200_000
        with rig.mounted(names=[base, one]) as first, rig.mounted(names=[base, two], at=rig.root / "second") as second:
            assert sorted(os.listdir(first)) == ["big", "one"]
            assert sorted(os.listdir(second)) == ["big", "two"]

    def test_progress_is_told_and_an_error_in_it_stops_the_work(self, rig: Rig) -> None:
        data = tar(file("big", bytes(16 << 20)))
        path = rig.root / "big"
        path.write_bytes(data)

        def stop(done: int) -> None:
            raise InterruptedError(done)

        with path.open("rb") as source, pytest.raises(InterruptedError):
            rig.snapshotter.stage(TarSource(source.fileno()), str(rig.scratch), stop)
        assert rig.left_over() == []

    def test_no_path_of_the_host_shows_in_mountinfo(self, rig: Rig) -> None:
        rig.publish(tar(*BASE))
        rig.publish(tar(file("more")))
        place = rig.root / "container"
        for name in ("diff", "work", "scratch", "target"):
            (place / name).mkdir(parents=True)
        lowers = [(lower.fd, lower.path) for lower in rig.snapshotter.lowers(rig.published)]
        line = mountinfo_line(lowers, place)
        assert " overlay overlay " in line
        options = line.rpartition(" - ")[2]
        assert str(rig.root) not in options
        assert not any(name in line for name in rig.published)


def mountinfo_line(lowers: list[tuple[int | None, str | None]], place: Path) -> str:
    """What a process in a private namespace, where the layers are mounted, reads of that mount."""
    from lamina.linux import mount
    from lamina.linux.namespace import CLONE_NEWNS, unshare

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWNS)
            mount.mount("", "/", flags=mount.MS_REC | mount.MS_PRIVATE)
            fd = mount_overlay_anywhere(lowers, str(place / "diff"), str(place / "work"), str(place / "scratch"))
            mount.move_mount(fd, str(place / "target"))
            with open("/proc/self/mountinfo") as lines:
                os.write(writer, next(line for line in lines if f"{place}/target" in line).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return text


def resident(path: str) -> int:
    """How many bytes of a file are in the page cache, as seen through this path."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        pages = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
        libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
        libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, opened.fileno(), 0)
        assert libc.mincore(address, size, pages) == 0
        libc.munmap(address, size)
    return sum(page & 1 for page in pages) * mmap.PAGESIZE


def disk_usage(top: Path) -> int:
    """Bytes that everything below a directory takes on disk."""
    return sum(os.lstat(os.path.join(here, name)).st_blocks * 512 for here, _, names in os.walk(top) for name in names)


def listing(top: str) -> list[tuple[object, ...]]:
    """Everything below a directory that a layer has to give back."""
    found: list[tuple[object, ...]] = []
    for here, directories, files in os.walk(top):
        for name in sorted(directories + files):
            path = f"{here}/{name}"
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if kind == stat.S_IFREG:
                content = Path(path).read_bytes()
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            xattrs = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
            found.append(
                (
                    path[len(top) + 1 :], status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev,
                    status.st_nlink if kind != stat.S_IFDIR else 0, content, tuple(sorted(xattrs.items())),
                )
            )  # fmt: skip
    return sorted(found, key=lambda item: str(item[0]))
