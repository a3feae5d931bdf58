"""What `diff` says of a container's writable layer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.errors import Exhausted
from lamina.layer.errors import UnsupportedArchive
from lamina.linux import mount
from lamina.snapshot.native import COPIED
from lamina.snapshot.protocol import Own
from tests.contracts.snapshotter import BASE, WHEN, Rig, file, tar


def listed(rig: Rig) -> list[str]:
    upper = str(rig.root / "container/diff")
    found = [f"{kind} {path}" for path, kind in rig.snapshotter.changes(upper, rig.published)]
    if rig.snapshotter.name == "native":
        assert rig.snapshotter.changed(upper, rig.published) == bool(found)
    return found


@pytest.mark.root
@pytest.mark.parametrize("driver", ["erofs", "overlay", "native"])
class TestChanges:
    @pytest.fixture
    def rig(self, request: pytest.FixtureRequest, driver: str) -> Rig:
        rig: Rig = request.getfixturevalue(f"{driver}_rig")
        rig.publish(tar(*BASE))
        return rig

    def test_a_container_that_did_nothing_changed_nothing(self, rig: Rig) -> None:
        with rig.mounted() as top:
            os.listdir(top)
        assert listed(rig) == []

    def test_added_modified_and_deleted_with_the_directories_around_them(self, rig: Rig) -> None:
        with rig.mounted() as top:
            Path(top, "happiness.txt").write_text("yes")
            Path(top, "etc/x").write_text("changed")
            os.unlink(f"{top}/etc/y")
            os.makedirs(f"{top}/srv/deep")
            Path(top, "srv/deep/new").write_text("n")
        assert listed(rig) == ["M /etc", "M /etc/x", "D /etc/y", "A /happiness.txt", "A /srv", "A /srv/deep", "A /srv/deep/new"]

    def test_a_directory_copied_up_for_a_change_in_it_is_modified(self, rig: Rig) -> None:
        with rig.mounted() as top:
            os.chmod(f"{top}/var/lib/a", 0o600)
        assert listed(rig) == ["M /var", "M /var/lib", "M /var/lib/a"]

    def test_a_directory_made_anew_holds_only_what_was_added(self, rig: Rig) -> None:
        with rig.mounted() as top:
            for name in ("one", "two"):
                os.unlink(f"{top}/opt/{name}")
            os.rmdir(f"{top}/opt")
            os.mkdir(f"{top}/opt")
            Path(top, "opt/one").write_text("other")
        # Overlayfs knows that it is another directory; a comparison sees what became of the old one's names.
        compared = ["M /opt", "M /opt/one", "D /opt/two"]
        assert listed(rig) == (compared if rig.snapshotter.name == "native" else ["M /opt", "A /opt/one"])

    def test_a_file_made_and_deleted_again_is_no_change(self, rig: Rig) -> None:
        with rig.mounted() as top:
            Path(top, "tmp.txt").write_text("x")
            os.unlink(f"{top}/tmp.txt")
        assert listed(rig) == []

    def test_a_link_in_the_upper_directory_is_not_followed(self, rig: Rig) -> None:
        with rig.mounted() as top:
            os.symlink("/etc", f"{top}/host")
        assert listed(rig) == ["A /host"]

    def test_a_redirect_of_overlayfs_is_refused_by_name(self, rig: Rig) -> None:
        with rig.mounted() as top:
            Path(top, "moved").write_text("x")
        os.setxattr(rig.root / "container/diff/moved", "trusted.overlay.redirect", b"/etc")
        with pytest.raises(UnsupportedArchive, match="moved"):
            rig.snapshotter.stage_upper(str(rig.root / "container/diff"), rig.published, str(rig.scratch))
        assert rig.left_over() == []


@pytest.mark.root
class TestComparison:
    """What only a full copy makes hard."""

    @pytest.fixture
    def rig(self, native_rig: Rig) -> Rig:
        native_rig.publish(tar(*BASE))
        return native_rig

    def test_a_content_that_changed_under_the_same_size_and_time_is_seen(self, rig: Rig) -> None:
        with rig.mounted() as top:
            before = os.stat(f"{top}/etc/x")
            Path(top, "etc/x").write_bytes(b"esab")
            os.utime(f"{top}/etc/x", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert listed(rig) == ["M /etc", "M /etc/x"]

    def test_what_was_touched_and_put_back_is_no_change(self, rig: Rig) -> None:
        with rig.mounted() as top:
            before = os.stat(f"{top}/etc/x")
            os.chmod(f"{top}/etc/x", 0o600)
            os.chmod(f"{top}/etc/x", before.st_mode & 0o7777)
            os.setxattr(f"{top}/etc/y", "user.note", b"x")
            os.removexattr(f"{top}/etc/y", "user.note")
        assert listed(rig) == []

    def test_an_attribute_a_link_and_a_rename_are_seen(self, rig: Rig) -> None:
        with rig.mounted() as top:
            os.setxattr(f"{top}/etc/y", "user.note", b"x")
            os.link(f"{top}/var/lib/a", f"{top}/linked")
            os.rename(f"{top}/opt/one", f"{top}/opt/two")
        assert listed(rig) == [
            "M /etc",
            "M /etc/y",
            "A /linked",
            "M /opt",
            "D /opt/one",
            "M /opt/two",
            "M /var",
            "M /var/lib",
            "M /var/lib/a",
        ]

    def test_without_the_record_of_the_copying_everything_is_compared(self, rig: Rig) -> None:
        with rig.mounted() as top:
            Path(top, "etc/x").write_bytes(b"esab")
        (rig.root / "container" / COPIED).unlink()
        assert listed(rig) == ["M /etc", "M /etc/x"]

    def test_mount_points_that_the_copy_was_given_are_no_change_until_they_are_used(self, rig: Rig) -> None:
        init = rig.root / "init"
        for folder in ("proc", "etc", "var/lib/deep"):
            (init / folder).mkdir(parents=True)
        (init / "etc/hosts").touch()
        (init / "etc/mtab").symlink_to("/proc/mounts")
        upper = rig.root / "container/diff"
        upper.mkdir(parents=True)
        rig.snapshotter.prepare(Own(str(upper), "", str(init)), rig.published)
        assert (upper / "etc/mtab").is_symlink()
        assert (upper / "var/lib/deep").is_dir()
        assert (upper / "etc").stat().st_mtime_ns == WHEN
        assert listed(rig) == []
        (upper / "proc/file").touch()
        (upper / "etc/hosts").write_text("127.0.0.1 localhost")
        assert listed(rig) == ["M /etc", "A /etc/hosts", "A /proc", "A /proc/file"]

    def test_a_disk_that_fills_up_leaves_no_half_copy(self, rig: Rig) -> None:
        small = rig.root / "small"
        small.mkdir()
        rig.publish(tar(file("big", os.urandom(4 << 20))))
        mount.mount("tmpfs", str(small), "tmpfs", data="size=1m")
        try:
            (small / "diff").mkdir()
            with pytest.raises(Exhausted, match="no space left"):
                rig.snapshotter.prepare(Own(str(small / "diff"), ""), rig.published)
            assert os.listdir(small) == []
        finally:
            mount.unmount(str(small))
