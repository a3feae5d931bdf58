"""Overlays by descriptors and by names; no path of the host shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

SCRIPT = """
import ctypes, os, sys
from lamina.linux import mount, overlay
assert ctypes.CDLL(None, use_errno=True).unshare(0x20000) == 0
mount.mount("", "/", flags=mount.MS_REC | mount.MS_PRIVATE)
base, how, detached = sys.argv[1:]
if how == "names":
    overlay._by_descriptors = lambda *a, **k: (_ for _ in ()).throw(OSError(22, "not on this kernel"))
bottom = mount.open_tree(f"{base}/bottom")
if detached == "detached":
    try:
        os.close(mount.open_tree("", directory=bottom))
    except OSError:
        sys.exit("this kernel clones no mounts that are attached nowhere")
lowers = [(None, f"{base}/top"), (bottom, None) if detached == "detached" else (None, f"{base}/bottom")]
fd = overlay.mount_overlay(lowers, f"{base}/c/diff", f"{base}/c/work", f"{base}/scratch")
mount.move_mount(fd, f"{base}/target")
os.chdir(f"{base}/target")
print(sorted(os.listdir(".")), open("both").read(), open("low").read())
open("low", "a").write("+")
os.unlink("both")
print([line for line in open("/proc/self/mountinfo") if " overlay " in line and base.split("/")[-1] in line][-1].split(" - ")[1])
print(os.listdir(f"{base}/scratch"))
"""


@pytest.mark.parametrize("how", ["descriptors", "names"])
@pytest.mark.parametrize("detached", ["detached", "attached"])
def test_layers_are_stacked_and_no_path_shows(tmp_path: Path, how: str, detached: str) -> None:
    for name in ("top", "bottom", "c/diff", "c/work", "scratch", "target"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "top/both").write_text("top")
    (tmp_path / "bottom/both").write_text("bottom")
    (tmp_path / "bottom/low").write_text("low")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), how, detached]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if "attached nowhere" in done.stderr:
        pytest.skip(done.stderr.strip())  # Linux before 6.15; the driver attaches its layers there.
    assert done.returncode == 0, done.stderr
    listed, options, left = done.stdout.splitlines()[0], done.stdout.splitlines()[1], done.stdout.splitlines()[-1]
    assert listed == "['both', 'low'] top low"
    assert str(tmp_path) not in options
    assert left == "[]"
    assert (tmp_path / "c/diff/low").read_text() == "low+"
    assert os.stat(tmp_path / "c/diff/both").st_rdev == 0
    assert (tmp_path / "bottom/low").read_text() == "low"
    assert (tmp_path / "top/both").read_text() == "top"
