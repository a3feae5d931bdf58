"""openat2: below a directory as if it were the root."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from lamina.linux.openat2 import open_in_root


def test_a_rename_elsewhere_at_the_wrong_moment_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "root/b").write_text("found")
    (tmp_path / "elsewhere").mkdir()
    done = threading.Event()

    def rename() -> None:
        here, there = tmp_path / "elsewhere", tmp_path / "renamed"
        while not done.is_set():
            os.rename(here, there)
            here, there = there, here

    storm = threading.Thread(target=rename)
    storm.start()
    root = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(3000):
            os.close(open_in_root(root, "a/../../../b"))
    finally:
        done.set()
        storm.join()
        os.close(root)
