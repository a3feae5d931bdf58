"""The layer of mount points below every container's own."""

from __future__ import annotations

import os
from pathlib import Path

from lamina.runtime.initlayer import write_init_layer


def test_what_damage_put_in_the_place_of_its_files_is_replaced(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("of somebody else")
    init = tmp_path / "init"
    write_init_layer(str(init))
    (init / "etc/hostname").unlink()
    (init / "etc/hostname").mkdir()
    (init / "etc/hosts").unlink()
    (init / "etc/hosts").symlink_to(elsewhere)
    (init / "proc").rmdir()
    (init / "proc").write_text("a file")
    kept = os.stat(init / "etc/resolv.conf").st_ino
    write_init_layer(str(init))
    assert (init / "etc/hostname").read_text() == "" and not (init / "etc/hosts").is_symlink() and (init / "proc").is_dir()
    assert elsewhere.read_text() == "of somebody else"
    assert os.stat(init / "etc/resolv.conf").st_ino == kept
