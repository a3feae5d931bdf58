"""What `diff` says of a container's writable layer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.layer.diff import changes
from lamina.layer.errors import UnsupportedArchive
from lamina.layer.union import Union
from tests.contracts.snapshotter import BASE, Rig, tar


def listed(rig: Rig) -> list[str]:
    with Union.open([rig.snapshotter.index(name) for name in rig.published]) as union:
        return [f"{kind} {path.decode()}" for path, kind in changes(str(rig.root / "container/diff"), union)]


@pytest.mark.root
@pytest.mark.parametrize("driver", ["erofs", "overlay"])
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
        assert listed(rig) == ["M /opt", "A /opt/one"]

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
